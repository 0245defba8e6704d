"""epsilon, bounds and widths against the protocol's figures, scipy, and every shift by force."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, special, stats

import support
from wattveil.privacy import law
from wattveil_meter import noise

ONE = Fraction(1)


def polya_ratios(s: float, q: float, reach: int) -> np.ndarray:
    """P(0..reach) up to a constant, by the three-term recurrence of its generating function.

    (1 - q x)^-s (1 - q / x)^-s = sum of P(k) x^k obeys q (k + 1 - s) P(k + 1) = (1 + q^2) k P(k) -
    q (k - 1 + s) P(k - 1). P is its falling solution, so the recurrence runs downwards (Miller).
    """
    start = reach + int(40 / -math.log(q)) + 2
    values = np.zeros(start + 2)
    values[start] = 1e-300
    for k in range(start, 0, -1):
        values[k - 1] = ((1 + q * q) * k * values[k] - q * (k + 1 - s) * values[k + 1]) / (
            q * (k - 1 + s)
        )
        if values[k - 1] > 1e250:
            values *= 1e-250
    return values[: reach + 1]


# --- epsilon of the set received -----------------------------------------------------------------


@pytest.mark.parametrize(("honest", "published"), [(90, 1.19), (75, 1.6), (50, 3.1)])
def test_published_figures(honest: int, published: float) -> None:
    digits = 2 if published < 1.5 else 1
    assert (
        round(law.epsilon_received("discrete", 100, honest, ONE, 1000, False), digits) == published
    )


def test_enough_honest_shares_keep_epsilon() -> None:
    for kind in ("gamma", "discrete"):
        for honest in (10, 11, 1000):
            assert law.epsilon_received(kind, 10, honest, Fraction(1, 3), 5000, False) == 1 / 3
        assert law.epsilon_received(kind, 10, 5, ONE, 5000, True) == 1
        assert law.epsilon_received(kind, 10, 4, ONE, 5000, True) == law.epsilon_received(
            kind, 10, 8, ONE, 5000, False
        )


def test_no_honest_share_no_privacy() -> None:
    for kind in ("gamma", "discrete"):
        assert law.epsilon_received(kind, 10, 0, ONE, 1000, True) == math.inf


def test_gamma_peak_is_infinite_at_half() -> None:
    assert law.epsilon_received("gamma", 10, 5, ONE, 1000, False) == math.inf
    assert law.epsilon_received("gamma", 10, 4, ONE, 1000, False) == math.inf
    assert 2 < law.epsilon_received("gamma", 1000, 501, ONE, 1000, False) < 10


@pytest.mark.parametrize("honest", [1, 20, 50, 75, 90, 99])
@pytest.mark.parametrize(
    ("epsilon", "delta"),
    [(ONE, 1), (ONE, 7), (ONE, 300), (Fraction(1, 10), 40), (Fraction(5), 60)],
)
def test_discrete_epsilon_is_the_worst_log_ratio(
    honest: int, epsilon: Fraction, delta: int
) -> None:
    """Brute force: every total and every shift up to delta."""
    p = np.log(polya_ratios(honest / 100, math.exp(-epsilon / delta), 6 * delta))
    p = np.concatenate([p[:0:-1], p])
    worst = max(np.max(np.abs(p[shift:] - p[:-shift])) for shift in range(1, delta + 1))
    found = law.epsilon_received("discrete", 100, honest, epsilon, delta, False)
    assert found == pytest.approx(worst, rel=1e-9)


@pytest.mark.parametrize("s", [0.1, 0.5, 0.75])
def test_discrete_epsilon_from_the_hypergeometric_law(s: float) -> None:
    """P(k) = (1 - q)^(2s) q^k (s)_k / k! 2F1(s, s + k; k + 1; q^2), in scipy."""
    q, delta = math.exp(-1 / 50), 50
    k = np.array([0, delta])
    p = (1 - q) ** (2 * s) * q**k * special.poch(s, k) / special.factorial(k)
    p *= special.hyp2f1(s, s + k, k + 1, q * q)
    found = law.epsilon_received("discrete", 100, round(100 * s), ONE, delta, False)
    assert found == pytest.approx(math.log(p[0] / p[1]), rel=1e-9)
    ratios = polya_ratios(s, q, delta)
    assert ratios[0] / ratios[-1] == pytest.approx(p[0] / p[1], rel=1e-9)


@pytest.mark.parametrize("s", [0.51, 0.6, 0.75, 0.9, 0.999])
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0])
def test_gamma_epsilon_from_the_density(s: float, epsilon: float) -> None:
    """f(x) ~ |x|^(s - 1/2) K_(s - 1/2)(|x|) and its limit at 0; no other pair is worse."""

    def log_f(x: np.ndarray) -> np.ndarray:
        nu = s - 0.5
        return nu * np.log(x) + np.log(special.kve(nu, x)) - x

    peak = (s - 1.5) * math.log(2) + math.lgamma(s - 0.5)
    found = law.epsilon_received(
        "gamma", 1000, round(1000 * s), Fraction(epsilon).limit_denominator(100), 10**6, False
    )
    assert found == pytest.approx(peak - float(log_f(np.array([epsilon]))[0]), rel=1e-9)
    x = np.geomspace(1e-9, 20, 400)
    for shift in np.linspace(0.01, 1, 7) * epsilon:
        assert np.max(log_f(x) - log_f(x + shift)) <= found
        inside = x[x < shift]
        assert np.max(log_f(inside) - log_f(shift - inside)) <= found


def test_discrete_epsilon_tends_to_the_gamma_one() -> None:
    """A finer unit; beyond shape 1/2 the limit is finite."""
    limit = law.epsilon_received("gamma", 4, 3, ONE, 1, False)
    gaps = [
        limit - law.epsilon_received("discrete", 4, 3, ONE, 10**k, False) for k in (2, 4, 6, 9)
    ]
    assert gaps == sorted(gaps, reverse=True)
    assert 0 < gaps[-1] < 1e-4


@settings(max_examples=60, deadline=None)
@given(
    a=st.integers(1, 100_000),
    share=st.floats(0, 1),
    epsilon=st.fractions(Fraction(1, 100), 10, max_denominator=100),
    delta=st.integers(1, 10**7),
)
@example(a=100_000, share=1e-5, epsilon=Fraction(1, 100), delta=10**7)
@example(a=100_000, share=0.99999, epsilon=Fraction(10), delta=10**7)
def test_epsilon_is_finite_ordered_and_above_nominal(
    a: int, share: float, epsilon: Fraction, delta: int
) -> None:
    honest = max(1, min(a, round(a * share)))
    discrete = law.epsilon_received("discrete", a, honest, epsilon, delta, False)
    gamma = law.epsilon_received("gamma", a, honest, epsilon, delta, False)
    assert float(epsilon) - 1e-9 <= discrete <= gamma * (1 + 1e-9)
    assert math.isfinite(discrete)
    more = law.epsilon_received("discrete", a, honest + 1, epsilon, delta, False)
    assert more <= discrete * (1 + 1e-9)


def test_dishonest_table() -> None:
    rows = law.dishonest_table("discrete", 90, 100, ONE, 1000, False, 60)
    assert [f for f, _ in rows] == list(range(61))
    values = [epsilon for _, epsilon in rows]
    assert values[:11] == [1.0] * 11
    assert values == sorted(values)
    assert values[10] < values[11] == law.epsilon_received("discrete", 90, 89, ONE, 1000, False)
    assert law.dishonest_table("gamma", 2, 3, ONE, 1000, False, 9)[-1] == (3, math.inf)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="laplace"):
        law.epsilon_received("laplace", 10, 9, ONE, 1000, False)
    for a, honest, epsilon, delta in (
        (0, 1, ONE, 1),
        (1, -1, ONE, 1),
        (1, 1, -ONE, 1),
        (1, 1, ONE, 0),
    ):
        with pytest.raises(ValueError, match="must be"):
            law.epsilon_received("discrete", a, honest, epsilon, delta, False)
    with pytest.raises(ValueError, match="level"):
        law.noise_band(1, 1, ONE, 1000, False, 1.0)


# --- bounds --------------------------------------------------------------------------------------


def test_bounds_by_hand() -> None:
    assert law.sum_bounds(100, 0, 1000, 100, ONE, False) == (-60_000, 160_000)
    assert law.sum_bounds(50, 0, 1000, 100, ONE, False) == (
        -60_000,
        110_000,
    )  # never below one noise
    assert law.sum_bounds(400, -10, 990, 100, ONE, False) == (-4_000 - 120_000, 396_000 + 120_000)
    assert law.sum_bounds(2, 0, 1, 1, ONE, False) == (
        -85,
        87,
    )  # 60 sqrt 2 = 84.85, rounded outward
    assert law.sum_bounds(1, 0, 1, 1, ONE, True) == (-85, 86)


@given(
    size=st.integers(0, 10**6),
    a=st.integers(1, 10**6),
    delta=st.integers(1, 10**7),
    epsilon=st.fractions(Fraction(1, 1000), 100, max_denominator=10**6),
    own=st.booleans(),
)
def test_bound_is_the_least_integer_above_the_formula(
    size: int, a: int, delta: int, epsilon: Fraction, own: bool
) -> None:
    bound = law.noise_bound(size, a, epsilon, delta, own)
    exact = (60 * delta / epsilon) ** 2 * max(Fraction(1), Fraction((1 + own) * size, a))
    assert (bound - 1) ** 2 < exact <= bound**2
    low, high = law.sum_bounds(size, 3, 3 + delta, a, epsilon, own)
    assert (low, high) == (3 * size - bound, (3 + delta) * size + bound)


@given(
    size=st.integers(2, 10**6),
    quorum=st.integers(2, 10**6),
    delta=st.integers(1, 10**7),
    epsilon=st.fractions(Fraction(1, 1000), 100, max_denominator=10**6),
    own=st.booleans(),
)
def test_the_meters_row_check_covers_every_total_the_centre_accepts(
    size: int, quorum: int, delta: int, epsilon: Fraction, own: bool
) -> None:
    quorum = min(quorum, size)
    record = support.record(
        roster_size=size,
        quorum_count=quorum,
        lo=3,
        hi=3 + delta,
        epsilon_num=epsilon.numerator,
        epsilon_den=epsilon.denominator,
        offset=noise.offset(epsilon.numerator, epsilon.denominator, delta),
        own_noise=int(own),
    )
    low, high = law.sum_bounds(size, 3, 3 + delta, quorum, epsilon, own)
    assert record.check_bits == max(40, 20 + (high - low).bit_length())
    assert (high - low) << 20 < 1 << record.check_bits


def test_offset_is_the_bound_of_one_full_noise() -> None:
    assert noise.TAIL == law.TAIL
    for epsilon in (ONE, Fraction(7, 10), Fraction(3)):
        offset = noise.offset(epsilon.numerator, epsilon.denominator, 1000)
        assert law.noise_bound(5, 5, epsilon, 1000, False) == offset


# --- widths --------------------------------------------------------------------------------------


def test_standard_deviation() -> None:
    assert law.noise_sd(10, 10, ONE, 1000, False) == pytest.approx(math.sqrt(2) * 1000)
    assert law.noise_sd(10, 10, ONE, 1000, True) == pytest.approx(2000)
    assert law.noise_sd(30, 10, Fraction(1, 2), 1000, False) == pytest.approx(math.sqrt(6) * 2000)


def test_standard_deviation_of_the_discrete_law() -> None:
    for scale, shape in ((1, 1), (5, 2), (1000, 1)):
        q = math.exp(-1 / scale)
        gap = law.noise_sd(shape, 1, ONE, scale, False) ** 2 - shape * 2 * q / (1 - q) ** 2
        assert 0 < gap <= shape / 6 + 1e-6


def test_laplace_band() -> None:
    assert law.noise_band(10, 10, ONE, 1000, False) == pytest.approx(2302.585, abs=1e-3)
    assert law.noise_band(7, 7, ONE, 10, False, 0.5) == pytest.approx(
        stats.laplace(scale=10).ppf(0.75)
    )


@pytest.mark.parametrize(
    "shape", [Fraction(1, 5), Fraction(3, 4), Fraction(6, 5), Fraction(2), Fraction(9)]
)
@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_band_from_the_density(shape: Fraction, level: float) -> None:
    """scipy integrates the Bessel-function density and solves for the level."""
    s = float(shape)

    def density(x: float) -> float:
        return float(
            2 * (x / 2) ** (s - 0.5) * special.kv(s - 0.5, x) / math.sqrt(math.pi) / math.gamma(s)
        )

    def missing(w: float) -> float:
        return float(integrate.quad(density, w, math.inf, epsabs=1e-13)[0]) - (1 - level)

    expected = float(optimize.brentq(missing, 1e-5, 60, xtol=1e-12))
    found = law.noise_band(shape.numerator, shape.denominator, ONE, 1, False, level)
    assert found == pytest.approx(expected, rel=1e-6)


def test_band_limits() -> None:
    near = [law.noise_band(n, 100_000, ONE, 1000, False) for n in (99_999, 100_000, 100_001)]
    assert near == sorted(near)
    assert near[2] - near[0] < 0.05
    wide = law.noise_band(10**6, 10, ONE, 1000, False)
    assert wide == pytest.approx(1.644854 * law.noise_sd(10**6, 10, ONE, 1000, False), rel=1e-4)
    assert law.noise_band(0, 10, ONE, 1000, False) == 0
    assert (
        0 <= law.noise_band(1, 1000, ONE, 1000, False) < 1e-3
    )  # 90 % of single shares are nearly 0
