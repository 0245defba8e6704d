"""Pair arithmetic, combs and joint exponentiation against plain integers."""

import io

import support
from support import H_S, N2, NB, TABLE_H, TABLE_S, H, N
from wattveil_meter.cipher import Comb, power, window
from wattveil_meter.drbg import Drbg
from wattveil_meter.fields import Malformed
from wattveil_meter.kernels.portable import Portable


def finish(generator):
    try:
        while True:
            next(generator)
    except StopIteration as stop:
        return stop.value


def value(ring, x):
    """The element as an integer modulo n^2."""
    return support.from_pair(ring.finish(x, 0))


def element(ring, c):
    return ring.decode(support.to_pair(c))


def joint(ring, comb, exponent, *bases, columns=()):
    windows = [finish(window(ring, element(ring, c), e, bits)) for c, e, bits in bases]
    return value(ring, finish(power(ring, windows, comb, exponent, list(columns))))


def refuses(function, *args):
    try:
        function(*args)
    except Malformed:
        return True
    return False


def test_ring_against_integers():
    ring = Portable(N)
    drbg = Drbg(bytes(32))
    operands = [1, N - 1, N, N + 1, N2 - 1, N2 - N, (N - 1) * N]
    operands += [drbg.below(N2) for _ in range(8)]
    for a in operands:
        x = element(ring, a)
        assert value(ring, ring.square(ring.copy(x))) == a * a % N2
        assert support.from_pair(ring.finish(ring.copy(x), 0, True)) == -a % N2
        assert support.from_pair(ring.finish(ring.copy(x), -5)) == a * (1 - 5 * N) % N2
        for b in operands:
            assert value(ring, ring.times(ring.copy(x), element(ring, b))) == a * b % N2


def test_unreduced_operands_stay_exact():
    ring = Portable(N)
    x = y = element(ring, N2 - 3)
    plain = N2 - 3
    for _ in range(50):
        x = ring.times(ring.square(x), y)
        plain = plain * plain % N2 * (N2 - 3) % N2
    assert value(ring, x) == plain


def test_one_has_full_length_and_changes_nothing():
    ring = Portable(N)
    one = ring.one()
    assert value(ring, one) == 1
    assert min(one[0], one[1]) >> 254 and one[0] >> 280
    assert value(ring, ring.times(element(ring, 12345), one)) == 12345


def test_wire_form():
    ring = Portable(N)
    c = N2 - 12345
    assert value(ring, element(ring, c)) == c
    for bad in (
        bytes(2 * NB),
        bytes(2 * NB - 1),
        bytes(2 * NB + 1),
        N.to_bytes(NB, "little") + bytes(NB),
        bytes(NB) + N.to_bytes(NB, "little"),
    ):
        assert refuses(ring.decode, bad)


def test_combs_and_joint_power():
    ring = Portable(N)
    s = Comb(io.BytesIO(TABLE_S), ring, b"s")
    drbg = Drbg(b"2" * 32)
    for exponent in (0, 1, 2, (1 << 256) - 1, 1 << 255, drbg.bits(256)):
        assert joint(ring, s, exponent) == pow(H_S, exponent, N2)
    a, b = drbg.below(N2), drbg.below(N2)
    for e, f in ((0, 0), (1, 0), (21, 1 << 41), ((1 << 21) - 1, (1 << 42) - 1)):
        r = drbg.bits(256)
        wanted = pow(a, e, N2) * pow(b, f, N2) * pow(H_S, r, N2) % N2
        assert joint(ring, s, r, (a, e, 21), (b, f, 42)) == wanted


def test_columns_join_the_squarings():
    ring = Portable(N)
    s = Comb(io.BytesIO(TABLE_S), ring, b"s")
    drbg = Drbg(b"4" * 32)
    for count in (1, 5, 40):
        columns = [drbg.below(N2) for _ in range(count)]
        wanted = pow(H_S, 77, N2)
        for i in range(count):
            wanted = wanted * pow(columns[i], 1 << i, N2) % N2
        given = [element(ring, c) for c in columns]
        assert joint(ring, s, 77, columns=given) == wanted


def test_the_constant_is_h_to_the_n():
    ring = Portable(N)
    h = Comb(io.BytesIO(TABLE_H), ring, b"h")
    k = Drbg(b"3" * 32).bits(256)
    got = h.times_constant(finish(power(ring, [], h, k)))
    assert value(ring, got) == pow(H, N + k, N2)


def test_multiplications_do_not_depend_on_exponents():
    counts = []
    for e, f, r in ((0, 0, 0), ((1 << 21) - 1, (1 << 42) - 1, (1 << 256) - 1), (1 << 20, 5, 77)):
        ring = Portable(N)
        s = Comb(io.BytesIO(TABLE_S), ring, b"s")
        joint(ring, s, r, (3, e, 21), (5, f, 42))
        counts.append(ring.modmuls)
    assert counts[0] == counts[1] == counts[2]


def test_bad_tables_are_refused():
    ring = Portable(N)
    assert refuses(Comb, io.BytesIO(TABLE_S), ring, b"h")
    assert refuses(Comb, io.BytesIO(TABLE_S), Portable(N + 2), b"s")
    assert refuses(Comb, io.BytesIO(TABLE_S[:40]), ring, b"s")
    assert refuses(Comb, io.BytesIO(b"X" + TABLE_S[1:]), ring, b"s")
    assert refuses(Comb, io.BytesIO(TABLE_S[:-NB]), ring, b"s")
    assert refuses(Comb, io.BytesIO(TABLE_S[:5] + b"\2" + TABLE_S[6:]), ring, b"s")
    assert refuses(finish, power(ring, [], Comb(io.BytesIO(TABLE_S), ring, b"s"), 1 << 256))


def test_the_tables_of_the_tests_are_right():
    assert support.decrypt(1 + 5 * N) == 5
