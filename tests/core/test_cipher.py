"""Pair arithmetic, combs and joint exponentiation against plain integers."""

import io

import support
from support import H_S, N2, NB, TABLE_H, TABLE_S, H, N
from wattveil_meter.cipher import Comb, Ring, power
from wattveil_meter.drbg import Drbg
from wattveil_meter.fields import Malformed


def finish(generator):
    try:
        while True:
            next(generator)
    except StopIteration as stop:
        return stop.value


def value(ring, pair):
    x0, x1 = ring.reduce(pair)
    assert 0 <= x0 < N and 0 <= x1 < N
    return x0 + x1 * N


def pair(c):
    return c % N, c // N


def refuses(function, *args):
    try:
        function(*args)
    except Malformed:
        return True
    return False


def test_ring_against_integers():
    ring = Ring(N)
    drbg = Drbg(bytes(32))
    operands = [0, 1, N - 1, N, N + 1, N2 - 1, N2 - N, (N - 1) * N]
    operands += [drbg.below(N2) for _ in range(8)]
    for a in operands:
        assert value(ring, ring.sqr(pair(a))) == a * a % N2
        assert value(ring, ring.negate(pair(a))) == -a % N2
        assert value(ring, ring.mul_g(pair(a), -5)) == a * (1 - 5 * N) % N2
        for b in operands:
            assert value(ring, ring.mul(pair(a), pair(b))) == a * b % N2
            assert value(ring, ring.mul_integer(pair(a), b % N)) == a * (b % N) % N2


def test_unreduced_operands_stay_exact():
    ring = Ring(N)
    x = y = pair(N2 - 3)
    plain = N2 - 3
    for _ in range(50):
        x = ring.mul(ring.sqr(x), y)
        plain = plain * plain % N2 * (N2 - 3) % N2
    assert value(ring, x) == plain


def test_wire_form():
    ring = Ring(N)
    c = N2 - 12345
    assert value(ring, ring.decode(ring.encode(pair(c)))) == c
    for bad in (
        bytes(2 * NB),
        bytes(2 * NB - 1),
        bytes(2 * NB + 1),
        N.to_bytes(NB, "little") + bytes(NB),
        bytes(NB) + N.to_bytes(NB, "little"),
    ):
        assert refuses(ring.decode, bad)


def test_combs_and_joint_power():
    ring = Ring(N)
    s = Comb(io.BytesIO(TABLE_S), ring, b"s")
    drbg = Drbg(b"2" * 32)
    for exponent in (0, 1, 2, (1 << 256) - 1, 1 << 255, drbg.bits(256)):
        assert value(ring, finish(power(ring, [], s, exponent))) == pow(H_S, exponent, N2)
    a, b = drbg.below(N2), drbg.below(N2)
    for e, f in ((0, 0), (1, 0), (21, 1 << 41), ((1 << 21) - 1, (1 << 42) - 1)):
        r = drbg.bits(256)
        got = finish(power(ring, [(pair(a), e, 21), (pair(b), f, 42)], s, r))
        assert value(ring, got) == pow(a, e, N2) * pow(b, f, N2) * pow(H_S, r, N2) % N2


def test_the_constant_is_h_to_the_n():
    ring = Ring(N)
    h = Comb(io.BytesIO(TABLE_H), ring, b"h")
    k = Drbg(b"3" * 32).bits(256)
    got = h.times_constant(ring, finish(power(ring, [], h, k)))
    assert value(ring, got) == pow(H, N + k, N2)


def test_multiplications_do_not_depend_on_exponents():
    counts = []
    for e, f, r in ((0, 0, 0), ((1 << 21) - 1, (1 << 42) - 1, (1 << 256) - 1), (1 << 20, 5, 77)):
        ring = Ring(N)
        s = Comb(io.BytesIO(TABLE_S), ring, b"s")
        finish(power(ring, [((3, 4), e, 21), ((5, 6), f, 42)], s, r))
        counts.append(ring.modmuls)
    assert counts[0] == counts[1] == counts[2]


def test_bad_tables_are_refused():
    ring = Ring(N)
    assert refuses(Comb, io.BytesIO(TABLE_S), ring, b"h")
    assert refuses(Comb, io.BytesIO(TABLE_S), Ring(N + 2), b"s")
    assert refuses(Comb, io.BytesIO(TABLE_S[:40]), ring, b"s")
    assert refuses(Comb, io.BytesIO(b"X" + TABLE_S[1:]), ring, b"s")
    short = Comb(io.BytesIO(TABLE_S[:-NB]), ring, b"s")
    assert refuses(finish, power(ring, [], short, (1 << 256) - 1))
    assert refuses(finish, power(ring, [], Comb(io.BytesIO(TABLE_S), ring, b"s"), 1 << 256))


def test_the_tables_of_the_tests_are_right():
    assert support.decrypt(1 + 5 * N) == 5
