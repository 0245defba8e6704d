"""Kernels: who multiplies modulo n^2.

Every kernel is a *ring* with the same members, so that the rest of the core does not know which:

    name, n, nb              nb: bytes of n
    form                     of the table entries it reads: 1 `portable`, 2 Montgomery pairs
    modmuls                  multiplications, squarings and conversions so far
    one() copy(x)            elements
    keep(x)                  x in no more memory than it needs, for long; x is consumed
    decode(data)             element from the wire form c mod n | c div n; Malformed if it is none
    bare(data)               the same of c / u for the kernel's own constant u, and no multiplication
    powers                   u^0, u^1 ... u^15; empty where u is 1
    mend(x, count)           x u^count; x is consumed
    times(x, y) square(x)    x is consumed; y stays, and may be an entry
    product(x, y)            both stay
    reuse(elements)          they are not needed any more: make the next ones of their memory
    entry(buffer) start(e)   table entry from a buffer, valid until the buffer changes; its element
    finish(x, a, negative)   wire form of (-) x g^a; x is consumed

`choose` believes no kernel: it has to multiply like plain integers, with this n, on this board, now.
What does not load, does not run or does not agree is passed over, and `reasons` says why.
"""

import gc
import sys
from hashlib import sha256

from wattveil_meter.kernels.montgomery import Montgomery
from wattveil_meter.kernels.portable import Portable

NAMES = ("thumb2", "thumb1", "portable")  # in the order of preference
reasons = {}  # name -> why the last `choose` passed it over


def _architecture():
    """MicroPython's number of the native architecture: 4 armv6m, 5 armv7m, 6 to 8 armv7em."""
    return getattr(sys.implementation, "_mpy", 0) >> 10 & 15


def _load(name):
    """The module of a machine-code kernel. Never executes what the chip may not have."""
    architecture = _architecture()
    if not (6 if name == "thumb2" else 4) <= architecture <= 8:
        raise ValueError("not for this chip")
    if name == "thumb2":
        from wattveil_meter.kernels import thumb2 as module
    else:
        from wattveil_meter.kernels import thumb1 as module
    # Builds without an inline assembler load a compiled kernel silently and take it for bytecode;
    # how many parameters that has is chance. The probe's bytes look like a function of five, so
    # that its call raises "takes 5 positional arguments": no other may be called before it.
    if module.probe(41) != 42:
        raise ValueError("no inline assembler")
    return module


def _operands(n, nb):
    """Elements c R mod n^2 to test with: edges, then pseudo-random ones."""
    top = n - 1
    yield top, top
    yield 0, top
    yield top, 0
    yield 1, top
    seed = sha256(n.to_bytes(nb, "little")).digest()
    for _ in range(12):
        digest = b""
        while len(digest) < 2 * nb:
            seed = sha256(seed).digest()
            digest += seed
        x0 = int.from_bytes(digest[:nb], "little") % n
        yield x0, int.from_bytes(digest[nb : 2 * nb], "little") % n


def check(ring, tick=None):
    """Compare a Montgomery ring with plain integers; ValueError names the first that differs.

    tick: called before each comparison (a watchdog).
    """
    n, nb = ring.n, ring.nb
    n2 = n * n
    shift = 8 * nb

    def same(what, got, product):
        if tick:
            tick()
        z0 = int.from_bytes(got[:nb], "little")
        z1 = int.from_bytes(got[nb:], "little")
        if z0 >= n or z1 >= n or (((z0 + z1 * n) << shift) - product) % n2:
            raise ValueError("wrong " + what)

    d = 1
    y = ring.one()
    for x0, x1 in _operands(n, nb):
        c = x0 + x1 * n
        x = ring._pair(x0, x1)
        same("square", ring.square(ring.copy(x)), c * c)
        if d != 1:
            same("product", ring.times(y, x), c * d)
        y, d = x, c
        gc.collect()
    if tick:
        tick()
    got = ring.finish(ring.decode(bytes(y)), -5, True)  # any pair is a wire form
    z = int.from_bytes(got[:nb], "little") + int.from_bytes(got[nb:], "little") * n
    if (z + d * (1 - 5 * n)) % n2:
        raise ValueError("wrong conversion")
    ring.modmuls = 0


def choose(n, wanted="auto", tick=None):
    """The fastest ring that works here: "auto", or only a named kernel, else `portable`."""
    if wanted != "auto" and wanted not in NAMES:
        raise ValueError("no kernel " + wanted)
    reasons.clear()
    for name in NAMES[:-1]:
        if wanted not in ("auto", name):
            continue
        try:
            module = _load(name)
            ring = Montgomery(n, name, module.multiply, module.SCRATCH)
            check(ring, tick)
            return ring
        except Exception as error:
            reasons[name] = "%s: %s" % (type(error).__name__, error)
            module = None  # its memory
            globals().pop(name, None)
            sys.modules.pop("wattveil_meter.kernels." + name, None)
            gc.collect()
    return Portable(n)
