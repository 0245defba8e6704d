"""Kernel code on emulated ARM against plain integers: operands, a model of the corrections, a runner."""

from __future__ import annotations

import random
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gmpy2 import invert, mpz

from kernels import thumb1_source, thumb2_source
from wattveil.fleet.runtime import find_runtime
from wattveil_meter.kernels.montgomery import context

PROGRAM = Path(__file__).parent.parent / "hil_tests" / "armkernel.py"
SOURCES = {"thumb1": thumb1_source, "thumb2": thumb2_source}
WAYS = 5  # armkernel.py: fresh result, result in x, result in y, square in place, square

Operand = tuple[int, int]  # the halves of a pair
Record = tuple[Operand, Operand, int]


def moduli(bits: int, seed: int) -> list[int]:
    """Odd, exactly `bits` bits: edges of size, runs of ones and zeros, random."""
    rng = random.Random(seed)
    top = 1 << bits
    long_runs = 0
    while long_runs.bit_length() < bits:
        long_runs = long_runs << 32 | rng.choice((0, 0xFFFFFFFF, 0xFFFF0000, 0x80000000, 1))
    return [
        top - 1,
        top - 105,
        (top >> 1) + 1,
        (top >> 1) + (1 << 64) - 1,
        (long_runs | top >> 1 | 1) % top,
        top - (1 << bits // 2) + 1,
        rng.getrandbits(bits) | top >> 1 | 1,
        rng.getrandbits(bits) | top >> 1 | top >> 2 | 1,
    ]


def halves(n: int, rng: random.Random) -> Iterator[int]:
    """Numbers below n without end: edges, runs of ones and zeros, random."""
    bits = n.bit_length()
    edges = [0, 1, 2, n - 1, n - 2, n >> 1, (n >> 1) + 1, (1 << bits) - n, (1 << bits - 1) - 1]
    edges += [(1 << bits // 2) - 1, 1 << bits // 2, (1 << bits // 2) + 1, n - (1 << bits // 2)]
    words = (0, 1, 0xFFFF, 0x10000, 0xFFFF0000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
    while True:
        kind = rng.randrange(4)
        if kind == 0:
            yield rng.choice(edges) % n
        elif kind == 1:
            value = 0
            for _ in range(bits // 32):
                value = value << 32 | rng.choice(words)
            yield value % n
        else:
            yield rng.randrange(n)


def records(n: int, count: int, seed: int) -> list[Record]:
    rng = random.Random(seed)
    source = halves(n, rng)
    work = [((next(source), next(source)), (next(source), next(source)), rng.randrange(WAYS))
            for _ in range(count)]  # fmt: skip
    R = 1 << n.bit_length()
    c = R - n + 1 & -2  # 2 x0 x1 = R^2 - c^2 below: only -m carries it above R^2
    if 4 * c * c < R:
        x = (R // 2 + c // 2, R - c)
        work[:WAYS] = [(x, x, way) for way in range(WAYS)]
    return work


def run(code: bytes, n: int, work: list[Record], timeout: float = 280) -> list[bytes]:
    """The kernel's answers, from micropython-arm; fewer than asked for when it crashed or hung."""
    nb = n.bit_length() // 8
    sent = b"".join(
        b"".join(half.to_bytes(nb, "little") for half in (*x, *y)) + bytes((way,))
        for x, y, way in work
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "code").write_bytes(code)
        (folder / "ctx").write_bytes(context(n, nb, 7))
        argv = [*find_runtime("micropython-arm").argv, str(PROGRAM)]
        try:
            done = subprocess.run(
                [*argv, str(folder / "code"), str(folder / "ctx")],
                input=sent,
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return []
    out = done.stdout
    return [out[at : at + 2 * nb] for at in range(0, len(out), 2 * nb)]


def wrong(code: bytes, n: int, work: list[Record], timeout: float = 280) -> list[int]:
    """The records that the kernel gets wrong, or does not answer."""
    nb = n.bit_length() // 8
    n_ = mpz(n)
    n2 = n_ * n_
    back = invert(mpz(1) << 8 * nb, n2)
    bad = []
    answers = run(code, n, work, timeout)
    answers += [b""] * (len(work) - len(answers))
    for at, ((x, y, way), answer) in enumerate(zip(work, answers, strict=False)):
        c = x[0] + x[1] * n_
        d = c if way >= 3 else y[0] + y[1] * n_
        z = c * d * back % n2
        want = int(z % n_).to_bytes(nb, "little") + int(z // n_).to_bytes(nb, "little")
        if answer != want:
            bad.append(at)
    return bad


def corrections(n: int, x: Operand, y: Operand, square: bool) -> set[str]:
    """Which of the rare steps a multiplication needs, by a model in plain integers."""
    bits = n.bit_length()
    R = 1 << bits
    k = -int(invert(mpz(n), mpz(R))) % R
    y = x if square else y
    t = x[0] * y[0]
    m = t * k % R
    z0 = (t + m * n) >> bits
    j = int(z0 >= n)
    u0 = x[0] * y[1] + x[1] * y[0]
    u = u0 + 2 * n - m + j * R
    found = {f"j={j}", f"reduction of T carries={z0 >> bits}", f"2x0x1 carries={u0 >> 2 * bits}"}
    middle = 2 * n - m
    low = (u0 % R) + middle % R
    found.add(f"into upper half={(low >> bits) + (middle >> bits) + j}")
    found.add(f"U above R^2={u >> 2 * bits}")
    if u >> 2 * bits > u0 >> 2 * bits:
        found.add("U above R^2 by -m")
    found.add(f"U-nR={int(u >= n * R)}")
    if u >= n * R:
        u -= n * R
    r = (u + u * k % R * n) >> bits
    found |= {f"reduction of U carries={r >> bits}", f"z1-n={int(r >= n)}"}
    if x[0] * y[0] == 0:
        found.add("T zero")
    return found


ALL_CORRECTIONS = {
    *(f"{name}={bit}" for bit in (0, 1) for name in (
        "j", "reduction of T carries", "2x0x1 carries", "U above R^2", "U-nR",
        "reduction of U carries", "z1-n",
    )),
    *(f"into upper half={count}" for count in range(4)),
    "T zero",
    "U above R^2 by -m",
}  # fmt: skip
