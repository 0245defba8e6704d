"""Shares of noise, the same on every runtime; their law is tested in test_noise_law.py."""

from wattveil_meter import noise
from wattveil_meter.drbg import Drbg
from wattveil_meter.fields import bit_length
from wattveil_meter.noise import clamp, exponent_bits, make_sampler, offset

ENTROPY = b"wattveil core tests, 32 bytes..."

# (a, epsilon_num, epsilon_den, delta), how many shares, {index: share} of those that are not 0,
# and the next 16 bits of the generator: with it the whole path of draws is pinned.
DISCRETE = (
    (
        (1, 1, 1, 5),
        12,
        {0: -3, 1: 6, 2: 25, 3: -7, 4: -6, 5: 11, 6: 1, 7: 5, 8: -9, 9: 2, 10: 1, 11: -9},
        9576,
    ),
    (
        (3, 1, 2, 1000),
        12,
        {
            0: -812,
            1: 310,
            2: -923,
            3: 67,
            4: 27,
            5: 59,
            6: -2788,
            7: -89,
            8: -257,
            9: -741,
            10: 198,
            11: -306,
        },
        39345,
    ),
    (
        (100, 1, 1, 1000),
        60,
        {7: 209, 22: 306, 23: 2, 28: 37, 31: -2, 32: 2, 33: 4, 53: 1, 54: -6},
        25875,
    ),
    ((1000, 1, 10, 10000), 200, {29: -4911, 47: 151, 117: 604, 182: 48}, 58818),
)

GAMMA = (
    (
        (1, 1, 1, 5),
        12,
        {1: -3, 2: 16, 3: 9, 4: -4, 5: 1, 6: -2, 7: -1, 8: 10, 9: 2, 10: -8, 11: -2},
        50079,
    ),
    (
        (100, 1, 1, 1000),
        40,
        {3: -7, 9: 217, 11: 5, 12: -145, 15: -657, 19: -3, 21: -7, 22: -45, 24: -2, 28: 3},
        25729,
    ),
    ((1000, 1, 10, 10000), 200, {83: -61, 171: 50, 175: -1093, 181: -103, 193: -823}, 57959),
)


def refused(*arguments):
    try:
        make_sampler(*arguments)
    except ValueError:
        return True
    return False


def test_discrete_known_answers():
    for parameters, count, shares, after in DISCRETE:
        generator = Drbg(ENTROPY, b"%d" % parameters[0])
        sampler = make_sampler("discrete", *parameters)
        assert [sampler.share(generator) for _ in range(count)] == [
            shares.get(i, 0) for i in range(count)
        ]
        assert generator.bits(16) == after


def test_gamma_known_answers():
    """Floats of any port: within 1 Wh and what the last bits of a single can move."""
    for parameters, count, shares, after in GAMMA:
        generator = Drbg(ENTROPY, b"%d" % parameters[0])
        sampler = make_sampler("gamma", *parameters)
        for i in range(count):
            expected = shares.get(i, 0)
            assert abs(sampler.share(generator) - expected) <= 1 + abs(expected) / 100000
        assert generator.bits(16) == after


def test_gamma_extremes():
    """No overflow, no underflow into an error, no NaN, and integers as results."""
    for a in (1, 2, 1000, 100000):
        for parameters in ((a, 1, 1, 1), (a, 1, 1, 10000000), (a, 1, 1000, 10000), (a, 10, 1, 3)):
            generator = Drbg(ENTROPY)
            sampler = make_sampler("gamma", *parameters)
            limit = offset(*parameters[1:])
            for _ in range(4):
                xi = sampler.share(generator)
                assert isinstance(xi, int)
                assert -limit <= xi <= limit


def test_discrete_extremes():
    for parameters in (
        (1, 1, 1, 1),
        (2, 1, 1000, 10000),
        (100000, 1, 1, 10000000),
        (1, 200, 1, 1),
    ):
        generator = Drbg(ENTROPY)
        sampler = make_sampler("discrete", *parameters)
        assert all(abs(sampler.share(generator)) < 1 << (sampler.blocks + 6) for _ in range(4))


class Fixed:
    """A generator that answers with a fixed list, then zeros."""

    def __init__(self, answers):
        self.answers = answers

    def bits(self, count):
        value = self.answers.pop(0) if self.answers else 0
        assert value >> count == 0
        return value


def test_exponential_is_fine_at_both_ends():
    # no heads, 40 zeros, significand 1.0: E = V = 2^-42; floats of 24 bits keep it
    tiny = noise.exponential(Fixed([0] + [0] * 40 + [1, 0]))
    assert abs(tiny * (1 << 42) - 1) < 1e-6
    # 120 heads: far beyond the 17 at which -log of a 24-bit uniform ends
    assert 83 < noise.exponential(Fixed([1] * 120 + [0, 1, 0])) < 84
    # V at its largest, just below 1/2
    assert abs(noise.exponential(Fixed([0, 1, (1 << 23) - 1])) - 0.6931471) < 1e-6


def test_rounding_is_half_up():
    class Steps(noise.GammaSampler):
        def _gamma(self, drbg):
            return drbg.pop(0)

    sampler = Steps(1, 1, 1, 1000)
    cases = ((0.5, 0.0, 1), (0.0, 0.5, 0), (0.0, 1.5, -1), (2.25, 0.0, 2), (0.0, 0.75, -1))
    for g1, g2, expected in cases:
        assert sampler.share([g1, g2]) == expected
    assert sampler.share([16777216.0, 0.0]) == 16777216
    assert sampler.share([0.0, 8388607.0]) == -8388607
    assert sampler.share([0.0, 1e-30]) == 0


def test_coins():
    generator = Drbg(ENTROPY)
    assert noise.bernoulli_exp(generator, 0, 1)
    count = 300
    hits = sum(generator.chance(3, 10) for _ in range(count))
    assert abs(hits - 90) < 40
    hits = sum(noise.bernoulli_exp(generator, 3, 2) for _ in range(count))  # 0.223
    assert abs(hits - 67) < 37
    total = sum(noise.poisson(generator, 5, 2) for _ in range(count))
    assert abs(total - 750) < 140


def test_offset():
    assert offset(1, 1, 1000) == 60000
    assert offset(1, 3, 1000) == 180000
    assert offset(7, 10, 1000) == 85715
    assert offset(1, 10, 10000) == 6000000
    assert offset(1000, 1, 1) == 1


def test_exponent_bits():
    assert exponent_bits(60000) == 17
    assert exponent_bits(1 << 19) == 21
    assert exponent_bits((1 << 19) - 1) == 20
    for limit in (1, 85715, 6000000):
        assert bit_length(clamp(10**9, limit) + limit) == exponent_bits(limit)


def test_clamp():
    assert [clamp(xi, 10) for xi in (-11, -10, 0, 10, 11)] == [-10, -10, 0, 10, 10]


def test_parameters_are_checked():
    assert refused("laplace", 1, 1, 1, 1000)
    for parameters in ((0, 1, 1, 1), (1, 0, 1, 1), (1, 1, 0, 1), (1, 1, 1, 0), (-1, 1, 1, 1)):
        assert refused("gamma", *parameters)
        assert refused("discrete", *parameters)
