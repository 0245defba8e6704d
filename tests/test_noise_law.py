"""The law of the shares and of their sums against exact laws: no reference here is simulated.

Discrete noise is compared with the exact probabilities of differences of Polya variables. Gamma
noise is compared with the law of shares rounded one by one: the variance-gamma distribution by
quadrature, cut at half-integers, convolved by FFT. Seeds are fixed, so a test either always passes
or never does.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import fft, special, stats

from wattveil_meter import noise
from wattveil_meter.drbg import Drbg

P_MIN = 1e-4
Pmf = np.ndarray  # over -n..n, its middle is 0


def generator(*label: object) -> Drbg:
    return Drbg(b"wattveil: law of the noise, seed", repr(label).encode())


def sums(kind: str, a: int, scale: int, m: int, count: int) -> np.ndarray:
    """`count` sums of m shares of shape 1/a, epsilon = 1, delta = scale."""
    drbg = generator(kind, a, scale, m)
    share = noise.make_sampler(kind, a, 1, 1, scale).share
    return np.array([sum(share(drbg) for _ in range(m)) for _ in range(count)])


def power(pmf: Pmf, m: int) -> Pmf:
    """The law of a sum of m; the range is wide enough that what wraps around does not matter."""
    spectrum = fft.rfft(fft.ifftshift(pmf))
    return fft.fftshift(fft.irfft(spectrum**m, len(pmf)))


def polya_difference(shape: float, scale: int, reach: int) -> Pmf:
    """N1 - N2, N ~ Polya(shape, e^(-1/scale)), from its characteristic function."""
    q, size = math.exp(-1 / scale), 2 * reach + 1
    half_angle = np.pi * np.arange(reach + 1) / size
    values = (1 + 4 * q * (np.sin(half_angle) / (1 - q)) ** 2) ** -shape
    return fft.fftshift(fft.irfft(values, size))


def gamma_difference_cdf(shape: float, x: np.ndarray) -> np.ndarray:
    """P(G1 - G2 <= x) for scale 1: sqrt(2 V) times a normal, V ~ Gamma(shape), over log V."""
    tau = np.arange(-13, 13, 1 / 64)
    v = np.sinh(tau)
    with np.errstate(over="ignore", divide="ignore"):
        weights = np.exp(shape * v - np.exp(v) - special.gammaln(shape)) * np.cosh(tau) / 64
        keep = weights > 1e-18
        slopes = np.exp(-v[keep] / 2) / 2
        below = [float(weights[keep] @ special.erf(point * slopes)) for point in np.abs(x)]
    return 0.5 + np.sign(x) * np.array(below) / 2


def rounded_share(a: int, scale: int, reach: int) -> Pmf:
    cuts = gamma_difference_cdf(1 / a, (np.arange(reach + 1) + 0.5) / scale)
    half = np.diff(cuts)
    return np.concatenate([half[::-1], [2 * cuts[0] - 1], half])


def p_value(samples: np.ndarray, pmf: Pmf, bins: int = 40) -> float:
    """Chi-square over runs of integers of about equal chance; a heavy point is a bin by itself."""
    assert abs(pmf.sum() - 1) < 1e-6
    heavy = np.flatnonzero(pmf > 1 / bins)
    light = pmf.copy()
    light[heavy] = 0
    cuts = np.searchsorted(np.cumsum(light) / light.sum(), np.arange(1, bins) / bins) + 1
    starts = np.unique([0, *cuts, *heavy, *(heavy + 1)])
    while (chance := np.add.reduceat(pmf, starts)).min() * len(samples) < 8:
        starts = np.delete(starts, max(1, int(chance.argmin())))  # joins the bin before it
    assert len(starts) >= 5
    place = np.clip(samples + len(pmf) // 2, 0, len(pmf) - 1)
    observed = np.bincount(np.searchsorted(starts, place, side="right") - 1, minlength=len(starts))
    return float(stats.chisquare(observed, chance / chance.sum() * len(samples)).pvalue)


# --- the tests test something --------------------------------------------------------------------


def test_reference_laws_agree_with_closed_forms() -> None:
    k = np.arange(-300, 301)
    q = math.exp(-1 / 5)
    np.testing.assert_allclose(
        polya_difference(1, 5, 300), (1 - q) / (1 + q) * q ** abs(k), rtol=1e-9, atol=1e-16
    )
    shares = polya_difference(1 / 3, 5, 300)
    np.testing.assert_allclose(power(shares, 3), polya_difference(1, 5, 300), atol=1e-14)
    one = stats.nbinom.pmf(np.arange(301), 1 / 3, 1 - q)
    np.testing.assert_allclose(np.convolve(one, one[::-1])[300:420], shares[300:420], atol=1e-14)
    x = np.linspace(-8, 8, 33)
    np.testing.assert_allclose(gamma_difference_cdf(1, x), stats.laplace.cdf(x), atol=1e-12)
    tails = stats.laplace.cdf([-300.5 / 5, -299.5 / 5])
    assert rounded_share(1, 5, 300)[0] == pytest.approx(tails[1] - tails[0], abs=1e-15)


def test_a_wrong_law_is_noticed() -> None:
    samples = sums("discrete", 3, 5, 3, 8000)
    assert p_value(samples, polya_difference(0.8, 5, 400)) < 1e-6
    assert p_value(samples, polya_difference(1, 6, 400)) < 1e-6


# --- laws ----------------------------------------------------------------------------------------

CASES = [  # a, scale, shares in a sum, sums: single shares, full noise, and shapes above 1
    (1, 5, 1, 6000),
    (100, 5, 1, 20000),
    (3, 5, 3, 4000),
    (100, 5, 100, 3000),
    (10, 5, 25, 2000),
    (1, 1000, 1, 3000),
    (2, 1000, 1, 4000),
    (1000, 1000, 1, 40000),
    (3, 1000, 3, 3000),
    (100, 1000, 100, 2500),
    (40, 1000, 100, 2000),
]


@pytest.mark.parametrize(("a", "scale", "m", "count"), CASES)
def test_discrete_law(a: int, scale: int, m: int, count: int) -> None:
    pmf = polya_difference(m / a, scale, 60 * scale)
    p = p_value(sums("discrete", a, scale, m, count), pmf)
    print(f"p = {p:.3f}")
    assert p > P_MIN


@pytest.mark.parametrize(
    ("a", "m", "count"), [(1, 1, 2000), (3, 3, 2000), (100, 100, 2000), (40, 100, 1500)]
)
def test_discrete_law_at_a_large_scale(a: int, m: int, count: int) -> None:
    pmf = polya_difference(m / a, 100_000, 3**14 // 2)  # a length that FFTs like
    p = p_value(sums("discrete", a, 100_000, m, count), pmf)
    print(f"p = {p:.3f}")
    assert p > P_MIN


@pytest.mark.parametrize(("a", "scale", "m", "count"), CASES)
def test_gamma_law(a: int, scale: int, m: int, count: int) -> None:
    pmf = power(rounded_share(a, scale, 60 * scale if scale == 5 else 20 * scale), m)
    p = p_value(sums("gamma", a, scale, m, count), pmf)
    print(f"p = {p:.3f}")
    assert p > P_MIN


@pytest.mark.parametrize(
    ("a", "m", "count"), [(1, 1, 4000), (3, 3, 3000), (100, 100, 2000), (40, 100, 1500)]
)
def test_gamma_law_at_a_large_scale(a: int, m: int, count: int) -> None:
    """Kolmogorov-Smirnov; at this scale rounding is far below what the samples can show."""
    samples = sums("gamma", a, 100_000, m, count) / 100_000
    p = float(stats.kstest(samples, lambda x: gamma_difference_cdf(m / a, np.asarray(x))).pvalue)
    print(f"p = {p:.3f}")
    assert p > P_MIN


# --- single precision ----------------------------------------------------------------------------


class Single(float):
    """An IEEE single: every result is rounded through struct, overflow and NaN are errors."""

    def __new__(cls, value: float) -> Single:
        (rounded,) = struct.unpack("f", struct.pack("f", value))
        assert math.isfinite(rounded)
        return super().__new__(cls, rounded)


def _rounded(function: Callable[..., float]) -> Callable[..., float]:
    def wrapper(*arguments: float) -> float:
        result = function(*(float(x) if isinstance(x, float) else x for x in arguments))
        return result if result is NotImplemented else Single(result)

    return wrapper


for _name in ("add", "sub", "mul", "truediv"):
    for _side in ("", "r"):
        setattr(Single, f"__{_side}{_name}__", _rounded(getattr(float, f"__{_side}{_name}__")))
Single.__neg__ = _rounded(float.__neg__)  # type: ignore[method-assign,assignment]


@pytest.fixture
def single_precision(monkeypatch: pytest.MonkeyPatch) -> Callable[..., noise.GammaSampler]:
    """Makes gamma samplers that compute as a board does."""
    names = ("log", "exp", "sqrt", "cos", "ldexp")
    shim = SimpleNamespace(pi=Single(math.pi), floor=math.floor)
    for name in names:
        setattr(shim, name, _rounded(getattr(math, name)))
    monkeypatch.setattr(noise, "math", shim)
    monkeypatch.setattr(noise, "LN2", Single(math.log(2)))

    def make(*parameters: int) -> noise.GammaSampler:
        sampler = noise.GammaSampler(*parameters)
        for name, value in vars(sampler).items():
            if isinstance(value, float):
                setattr(sampler, name, Single(value))
        return sampler

    return make


def test_single_precision_is_emulated(single_precision: Callable[..., noise.GammaSampler]) -> None:
    e = noise.exponential(generator("type"))
    assert type(e) is type(e * 2) is type(1 - e) is type(2 / 3 * e) is type(-3 * e) is Single
    assert Single(1) + 1e-9 == 1
    assert type(single_precision(3, 1, 1, 5)._gamma_above_one(generator("type"))) is Single


@pytest.mark.parametrize(
    ("a", "scale", "m", "count"), [(1, 5, 1, 2000), (1000, 1000, 1, 15000), (3, 1000, 3, 700)]
)
def test_gamma_law_in_single_precision(
    single_precision: Callable[..., noise.GammaSampler], a: int, scale: int, m: int, count: int
) -> None:
    share, drbg = single_precision(a, 1, 1, scale).share, generator("single", a, scale)
    samples = np.array([sum(share(drbg) for _ in range(m)) for _ in range(count)])
    p = p_value(samples, power(rounded_share(a, scale, (60 if scale == 5 else 20) * scale), m))
    print(f"p = {p:.3f}")
    assert p > P_MIN


def test_single_precision_gives_the_same_shares(
    single_precision: Callable[..., noise.GammaSampler],
) -> None:
    """Draw for draw, a board's shares are the host's, up to one Wh and a few last bits."""
    for a in (1, 2, 50, 100_000):
        for scale in (1, 1000, 280_000):
            singles, doubles = generator("same", a, scale), generator("same", a, scale)
            sampler = single_precision(a, 1, 1, scale)
            values = [sampler.share(singles) for _ in range(60)]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(noise, "math", math)
                patch.setattr(noise, "LN2", math.log(2))
                sampler = noise.GammaSampler(a, 1, 1, scale)
                expected = [sampler.share(doubles) for _ in range(60)]
            assert singles.bits(32) == doubles.bits(32)
            np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1 + scale * 1e-5)


@pytest.mark.parametrize("a", [1, 3, 1000, 100_000])
def test_single_precision_never_overflows(
    single_precision: Callable[..., noise.GammaSampler], a: int
) -> None:
    for scale in (1, 10_000_000):
        sampler, drbg = single_precision(a, 1, 1, scale), generator("range", a, scale)
        assert all(abs(sampler.share(drbg)) < 60 * scale for _ in range(300))


def test_single_precision_tail_reaches_far(
    single_precision: Callable[..., noise.GammaSampler],
) -> None:
    """A run of 90 heads, which a 24-bit uniform cannot give, still makes a finite, larger draw."""

    class Lucky(Drbg):
        run = 0

        def bits(self, count: int) -> int:
            if count == 1 and self.run:
                self.run -= 1
                return 1
            return 0 if count == 24 else super().bits(count)  # angle 0: the normal's far side

    drbg = Lucky(b"wattveil: law of the noise, seed")
    draws = []
    for drbg.run in (0, 24, 90):
        x = noise.math.sqrt(2 * noise.exponential(drbg))
        sampler = single_precision(1000, 1, 1, 1000)
        draws.append(sampler.d * (1 + sampler.c * x) ** 3)
    assert draws[1] > 20 > draws[0]
    assert 100 < draws[2] < 200
