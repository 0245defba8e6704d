"""Shares of Laplace noise: what one meter adds so that the sum over a quorum is private.

A share has shape 1/a and scale L = delta / epsilon (Wh), with a = the number of honest shares that
are surely summed. The Laplace law is infinitely divisible: in Yan et al. 2024, Lemma 1, with the
shape 1/m that Eq. 14 misprints as m, Lap(L) = sum over i = 1..m of G1(1/m, L) - G2(1/m, L), and in
Eq. 24 each xi_i is one such term, not a whole Lap(L). A sum over more than a meters has shape
above 1: wider noise, the same epsilon. The same split holds in the integers with Polya (negative
binomial) variables in the place of gamma ones and gives the discrete Laplace law. Both splits are
compared with others in Goryczka and Xiong, "A comprehensive comparison of multiparty secure
additions with differential privacy", IEEE TDSC 14(5), 2017.

Neither sampler runs in constant time: shares are drawn before the request that uses them arrives.
"""

import math

from wattveil_meter.fields import bit_length

TAIL = 60  # the offset leaves room for |xi| up to this many scales; beyond, chance e^-60 per share
LN2 = math.log(2)


def make_sampler(noise, a, epsilon_num, epsilon_den, delta):
    """The sampler of one share, `.share(drbg)` -> xi in Wh.

    noise: "gamma" or "discrete"; a >= 1: shares that make up one full noise; epsilon_num and
    epsilon_den: epsilon as a fraction; delta >= 1: the largest change one household can make, Wh.
    """
    if a < 1 or epsilon_num < 1 or epsilon_den < 1 or delta < 1:
        raise ValueError("noise parameters must be positive")
    if noise == "gamma":
        return GammaSampler(a, epsilon_num, epsilon_den, delta)
    if noise == "discrete":
        return DiscreteSampler(a, epsilon_num, epsilon_den, delta)
    raise ValueError("unknown noise")


def offset(epsilon_num, epsilon_den, delta):
    """The public offset O = ceil(60 delta / epsilon) in Wh that keeps exponents xi + O >= 0."""
    return -(-TAIL * delta * epsilon_den // epsilon_num)


def exponent_bits(limit):
    """Bits of the largest exponent 2 O, for the offset O = limit."""
    return bit_length(2 * limit)


def clamp(xi, limit):
    """xi moved into [-limit, limit]."""
    return max(-limit, min(limit, xi))


def exponential(drbg):
    """Exp(1) as a float that is fine, to 24 bits, both near 0 and in the far tail.

    Memoryless: E = k ln 2 - log(1 - V), with k the heads before the first tail and V uniform in
    (0, 1/2). V is a 24-bit significand below a geometric exponent, so it can be as small as a
    float can; Kahan's quotient takes log(1 - V) without losing it. About 27 random bits.
    """
    heads = _run(drbg, 1) * LN2
    zeros = _run(drbg, 0)
    v = math.ldexp(float((1 << 23) + drbg.bits(23)), -25 - zeros)
    return heads + _minus_log1p(v)


def _run(drbg, bit):
    """How many bits are `bit` before the first that is not."""
    length = 0
    while drbg.bits(1) == bit:
        length += 1
    return length


def _minus_log1p(v):
    """-log(1 - v) for small v, to all digits of a float (Kahan)."""
    rest = 1.0 - v
    return v if rest == 1.0 else math.log(rest) * v / (rest - 1.0)


class GammaSampler:
    """xi = G1 - G2, G ~ Gamma(1/a, L), rounded half up to whole Wh: one rounding per share.

    A shape of 1/a is far below 1, where U^a underflows. So log G(1/a) = log G(1 + 1/a) - a E with
    E exponential (Stuart), G(1 + 1/a) by Marsaglia and Tsang, ACM TOMS 26(3), 2000, here with a
    normal from Box and Muller. Nothing in it over- or underflows an IEEE single for a <= 100,000,
    L <= 1e7.

    Its guarantee is (epsilon, δ), measured and not proved. Plain 24-bit uniforms would end the
    normal at 5.8 and G at about 25 L; here every tail comes from `exponential`, which reaches as
    far as floats do (the cut is below 2^-100). What is left, per share: a single is coarser than
    1 Wh above 2^24 Wh, so some totals cannot occur, δ <= 2 e^(-2^24 / L) (L = 280,000: e^-59;
    L = 1,000,000: 1e-7; L = 10,000,000: void, take "discrete" there); a factor below 1e-12 counts
    as 0, δ <= 2^-38; and relative errors near 2^-22, which differ between ports' math libraries.
    """

    def __init__(self, a, epsilon_num, epsilon_den, delta):
        self.a = a
        self.scale = delta * epsilon_den / epsilon_num
        self.d = 2 / 3 + 1 / a  # Marsaglia and Tsang's d = shape - 1/3, c = 1 / sqrt(9 d)
        self.c = 1 / math.sqrt(9 * self.d)

    def share(self, drbg):
        """One share, in Wh."""
        x = self._gamma(drbg) - self._gamma(drbg)
        whole = math.floor(x)
        return whole + 1 if x - whole >= 0.5 else whole

    def _gamma(self, drbg):
        """Gamma(1/a, L); most draws are 0 to any precision and end at the first step."""
        factor = self.scale * math.exp(-self.a * exponential(drbg))
        if factor < 1e-12:
            return 0.0
        return factor * self._gamma_above_one(drbg)

    def _gamma_above_one(self, drbg):
        """Gamma(1 + 1/a, 1)."""
        d = self.d
        while True:
            angle = 2 * math.pi * math.ldexp(float(drbg.bits(24)), -24)
            x = math.sqrt(2 * exponential(drbg)) * math.cos(angle)
            v = 1 + self.c * x
            if v > 0:
                v = v * v * v
                if exponential(drbg) > d * (v - 1 - math.log(v)) - x * x / 2:
                    return d * v


class DiscreteSampler:
    """xi = N1 - N2, N ~ Polya(1/a, e^-s), s = epsilon / delta: exact, with integers only.

    The Polya law is compound Poisson: points j >= 1 arrive at rates e^(-s j) / (a j) and N is
    their sum. They are drawn by thinning: Poisson(B / a) candidates; each picks a block b uniform
    in 0..B-1 and j = 2^b + r uniform in [2^b, 2^(b+1)), a rate of 2^-b / a, and is kept with chance
    2^b / j times e^(-s j). e^(-s 2^b) is tried before r is drawn: it ends most of the high blocks.
    With 2^B s >= 128 the points never drawn, j >= 2^B, are a total variation below e^-128 per
    share; all else is exact. Bernoulli(e^-x) is Algorithm 1 of Canonne, Kamath and Steinke, "The
    discrete Gaussian for differential privacy", 2020; Poisson is a geometric proposal kept with
    chance 1 / k!.
    """

    def __init__(self, a, epsilon_num, epsilon_den, delta):
        self.a = a
        self.s_num = epsilon_num
        self.s_den = epsilon_den * delta
        blocks = 0
        while (self.s_num << blocks) < 128 * self.s_den:
            blocks += 1
        self.blocks = blocks
        self._block_bits = bit_length(max(blocks, 1) - 1)

    def share(self, drbg):
        """One share, in Wh."""
        return self._polya(drbg) - self._polya(drbg)

    def _polya(self, drbg):
        total = 0
        for _ in range(poisson(drbg, self.blocks, self.a)):
            total += self._point(drbg)
        return total

    def _point(self, drbg):
        """A candidate if it is kept, else 0. Few locals, as in `poisson`: see there."""
        b = self.blocks
        while b >= self.blocks:  # drbg.below, which would count the bits of the limit each time
            b = drbg.bits(self._block_bits)
        if not bernoulli_exp(drbg, self.s_num << b, self.s_den):
            return 0
        j = drbg.bits(b)
        if bernoulli_exp(drbg, self.s_num * j, self.s_den):
            j |= 1 << b
            if drbg.chance(1 << b, j):
                return j
        return 0


def bernoulli_exp(drbg, num, den):
    """True with chance e^(-num / den), num / den >= 0."""
    while num > den:
        if not _bernoulli_exp_below_one(drbg, 1, 1):
            return False
        num -= den
    return _bernoulli_exp_below_one(drbg, num, den)


def _bernoulli_exp_below_one(drbg, num, den):
    """The same for num / den in [0, 1]: the first failure among Bernoulli(x / k) has odd k."""
    k = 1
    while drbg.chance(num, den * k):
        k += 1
    return k & 1 == 1


def poisson(drbg, num, den):
    """Poisson(num / den), as a sum of equal parts with means below 1/2.

    MicroPython takes a function's frame from the heap once locals and stack pass 11 words; finding
    room there costs more than all a share needs otherwise, so frames are kept small here.
    """
    parts = 1 + 2 * num // den
    den *= parts
    total = 0
    while parts:
        k = _poisson_try(drbg, num, den)
        if k is not None:
            total += k
            parts -= 1
    return total


def _poisson_try(drbg, num, den):
    """A geometric k, chance (num/den)^k, kept with chance 1 / k!; None when it is not."""
    k = 0
    while drbg.chance(num, den):
        k += 1
    i = 2
    while i <= k:
        if not drbg.chance(1, i):
            return None
        i += 1
    return k


class Drawn:
    """Shares drawn ahead of use, each handed out once: a sampler whose `share` takes no time.

    How long sampling takes depends on the shares, so a meter does it while it waits for something
    else, never between an answer and the request that follows it.
    """

    def __init__(self, sampler, drbg, count):
        self._shares = [sampler.share(drbg) for _ in range(count)]

    def share(self, drbg):
        """The next of them; IndexError when all have been used."""
        return self._shares.pop(0)
