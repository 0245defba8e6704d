"""The kernels' common interface, and Montgomery's class around a multiplication in plain integers."""

import sys

from support import NB, N, inverse
from wattveil_meter import kernels
from wattveil_meter.fields import Malformed
from wattveil_meter.kernels.montgomery import Montgomery, context
from wattveil_meter.kernels.portable import Portable

N2 = N * N
R_INVERSE = inverse(1 << (8 * NB), N2)
VALUES = (1, 2, N - 1, N, N + 1, N2 - 1, 3**150 % N2, 5**170 % N2, (N - 1) * N, 1 << 500)


def value(pair, n=N, nb=NB):
    return int.from_bytes(pair[:nb], "little") + int.from_bytes(pair[nb:], "little") * n


def pair(c):
    return (c % N).to_bytes(NB, "little") + (c // N).to_bytes(NB, "little")


def multiply(out, x, y, ctx):
    """What the machine code does, from what it is given."""
    nb = int.from_bytes(ctx[:4], "little")
    n = int.from_bytes(ctx[16 : 16 + nb], "little")
    assert nb == NB and n == N
    out[:] = pair(value(x) * value(y) * R_INVERSE % N2)


def rings():
    return Portable(N), Montgomery(N, "plain", multiply)


def test_decode_and_finish_are_inverse():
    for ring in rings():
        for c in VALUES:
            wire = pair(c)
            assert ring.finish(ring.decode(wire), 0) == wire


def test_decode_refuses_what_is_no_ciphertext():
    n = N.to_bytes(NB, "little")
    bad = (bytes(2 * NB), n + bytes(NB), bytes(NB) + n, pair(5) + b"\0", pair(5)[:-1], b"")
    for ring in rings():
        for wire in bad:
            try:
                ring.decode(wire)
            except Malformed:
                continue
            raise AssertionError("accepted")


def test_products_and_squares():
    for ring in rings():
        for c in VALUES:
            for d in (1, N, N2 - 1, 5**170 % N2):
                x = ring.decode(pair(c))
                y = ring.decode(pair(d))
                product = ring.times(ring.copy(x), y)
                assert ring.finish(ring.times(product, ring.square(x)), 0) == pair(c**3 * d % N2)
                assert ring.finish(y, 0) == pair(d)  # times() left it as it was


def test_finish_multiplies_by_a_power_of_g():
    for ring in rings():
        for c in VALUES:
            for a in (0, 1, -1, N, N - 1, -(1 << 300), 1 << 300):
                want = c * (1 + a % N * N) % N2
                assert ring.finish(ring.decode(pair(c)), a) == pair(want)
                assert ring.finish(ring.decode(pair(c)), a, True) == pair(N2 - want)


def test_one_is_fresh():
    for ring in rings():
        one = ring.one()
        x = ring.decode(pair(7))
        ring.times(one, x)
        assert ring.finish(ring.one(), 0) == pair(1)
        assert ring.finish(ring.times(ring.one(), x), 0) == pair(7)


def test_a_table_entry_is_multiplied_from_its_buffer():
    ring = rings()[1]
    buffer = bytearray(pair((11 << (8 * NB)) % N2))
    entry = ring.entry(buffer)
    x = ring.start(entry)
    assert ring.finish(ring.times(ring.times(x, entry), entry), 0) == pair(11**3)
    assert value(buffer) == (11 << (8 * NB)) % N2  # neither start() nor times() wrote to it


def test_an_entry_of_another_length_is_refused():
    for size in (0, 2 * NB - 1, 2 * NB + 1):
        try:
            rings()[1].entry(bytearray(size))
        except Malformed:
            continue
        raise AssertionError("accepted")


def test_modmuls_are_counted():
    for ring in rings():
        before = ring.modmuls
        x = ring.times(ring.one(), ring.one())
        ring.finish(ring.square(x), 0)
        assert ring.modmuls == before + 3


def test_context_layout():
    ctx = context(N, NB, 7)
    assert len(ctx) == 16 + 9 * NB
    assert int.from_bytes(ctx[:4], "little") == NB
    assert (int.from_bytes(ctx[4:12], "little") * N + 1) % (1 << 64) == 0
    assert int.from_bytes(ctx[16 : 16 + NB], "little") == N
    assert int.from_bytes(ctx[16 + NB : 16 + 2 * NB], "little") == 2 * N - (1 << (8 * NB))
    assert not any(ctx[16 + 2 * NB :])


def test_moduli_that_the_code_cannot_take_are_refused():
    for n in (N + 1, N >> 1 | 1, N >> 8 | 1, N << 8 | 1, N << 128 | 1):
        try:
            Montgomery(n, "plain", multiply)
        except ValueError:
            continue
        raise AssertionError("accepted")


def test_check_accepts_the_right_kernel_and_starts_the_count_again():
    ring = rings()[1]
    ticks = []
    kernels.check(ring, lambda: ticks.append(1))
    assert len(ticks) > 30
    assert ring.modmuls == 0


def wrong_kernels():
    def nothing(out, x, y, ctx):
        pass

    def unreduced(out, x, y, ctx):
        multiply(out, x, y, ctx)
        low = int.from_bytes(out[:NB], "little")
        if low < (1 << (8 * NB)) - N:
            out[:NB] = (low + N).to_bytes(NB, "little")

    def once_in_ten(out, x, y, ctx):
        multiply(out, x, y, ctx)
        if out[NB] % 10 == 0:
            out[NB] ^= 1

    def squares_wrong(out, x, y, ctx):
        same = x is y
        multiply(out, x, y, ctx)
        if same:
            out[0] ^= 1

    def strange(out, x, y, ctx):
        raise TypeError("function takes 11 positional arguments but 4 were given")

    return nothing, unreduced, once_in_ten, squares_wrong, strange


def test_check_refuses_wrong_kernels():
    for wrong in wrong_kernels():
        try:
            kernels.check(Montgomery(N, "wrong", wrong))
        except (ValueError, TypeError):
            continue
        raise AssertionError("accepted")


class FakeModule:
    SCRATCH = 7

    def __init__(self, kernel):
        self.multiply = kernel


def with_modules(modules, wanted="auto"):
    """What `choose` takes when these modules are there."""

    def load(name):
        if name not in modules:
            raise ValueError("not for this chip")
        return FakeModule(modules[name])

    kept = kernels._load
    kernels._load = load
    try:
        return kernels.choose(N, wanted)
    finally:
        kernels._load = kept


def test_choose_takes_the_first_that_is_right():
    assert with_modules({"thumb2": multiply, "thumb1": multiply}).name == "thumb2"
    assert not kernels.reasons
    assert with_modules({"thumb1": multiply}).name == "thumb1"
    assert kernels.reasons == {"thumb2": "ValueError: not for this chip"}
    assert with_modules({"thumb2": multiply, "thumb1": multiply}, "thumb1").name == "thumb1"
    assert with_modules({"thumb1": multiply}, "thumb2").name == "portable"
    assert list(kernels.reasons) == ["thumb2"]
    assert with_modules({"thumb1": multiply}, "portable").name == "portable"
    assert not kernels.reasons


def test_choose_passes_over_every_wrong_kernel():
    for wrong in wrong_kernels():
        ring = with_modules({"thumb2": wrong, "thumb1": wrong})
        assert ring.name == "portable" and ring.form == 1
        assert sorted(kernels.reasons) == ["thumb1", "thumb2"]
        assert ring.finish(ring.decode(pair(5)), 0) == pair(5)


def test_choose_here_is_portable_and_says_why():
    if sys.platform == "rp2":  # a board: a kernel may run
        return
    assert kernels.choose(N).name == "portable"
    assert sorted(kernels.reasons) == ["thumb1", "thumb2"]
    try:
        kernels.choose(N, "fast")
    except ValueError:
        return
    raise AssertionError("accepted")
