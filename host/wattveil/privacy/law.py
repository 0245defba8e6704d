"""The law of the summed noise: its epsilon, its width, and the bounds a total must keep.

A released total carries the noise of the set S that reported: the difference of two gamma
("gamma") or Polya ("discrete") variables of shape s = kappa |S| / a and scale delta / epsilon,
kappa = 2 with own noise, else 1. Only s = 1 is Laplace. Energies are Wh, epsilon is an exact
rational, and delta = hi - lo is the largest change one household can make.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

# Meters that add their shares; a planner's may be no whole number.
Count = int | Fraction

# Scales, as in wattveil_meter.noise: |noise| is larger with a chance of some e^-60.
TAIL = 60


def shape(size: Count, a: int, own_noise: bool) -> Fraction:
    """The shape of the summed noise of `size` meters; 1 is one full (Laplace) noise."""
    if size < 0 or a < 1:
        raise ValueError("size must be >= 0 and a >= 1")
    return Fraction((2 if own_noise else 1) * size, a)


def epsilon_received(
    noise: str, a: int, honest: Count, epsilon: Fraction, delta: int, own_noise: bool
) -> float:
    """The epsilon of the set received, in which `honest` meters drew their shares and keep them.

    With shape s >= 1 it is the nominal one. Below, with q = e^(-epsilon / delta), Euler's
    integral turns

        P(k) = (1 - q)^(2s) q^k (s)_k / k! 2F1(s, s + k; k + 1; q^2)      (discrete)

    into q^k J(k) up to a constant,

        J(k) = integral over (0, 1) of t^(s + k - 1) ((1 - t) (1 - q^2 t))^-s.

    J is a moment sequence, so J(k) / J(k + delta) falls with k, and the log-ratio of two totals
    delta apart is largest at k = 0: epsilon + log(J(0) / J(delta)). Gamma noise, before rounding,
    has the variance-gamma density e^-x H(x), x in scales,

        H(x) = integral over (0, inf) of e^(-x y) (y (y + 2))^-s,

    which gives epsilon + log(H(0) / H(epsilon)); the peak H(0) is infinite for s <= 1/2.
    """
    _check(epsilon, delta)
    if noise not in ("gamma", "discrete"):
        raise ValueError(f"unknown noise {noise!r}")
    received = shape(honest, a, own_noise)
    nominal = float(epsilon)
    if received >= 1:
        return nominal
    if received == 0 or (noise == "gamma" and received <= Fraction(1, 2)):
        return math.inf
    if noise == "gamma":
        return nominal + _log_h(received, 0.0) - _log_h(received, nominal)
    step = float(epsilon / delta)
    return nominal + _log_j(received, step, 0) - _log_j(received, step, delta)


def dishonest_table(
    noise: str,
    a: int,
    size: int,
    epsilon: Fraction,
    delta: int,
    own_noise: bool,
    most: int,
) -> list[tuple[int, float]]:
    """Rows (f, epsilon): what a sum over `size` meters keeps when f = 0..most add no noise."""
    return [
        (f, epsilon_received(noise, a, size - f, epsilon, delta, own_noise))
        for f in range(min(most, size) + 1)
    ]


def noise_bound(size: int, a: int, epsilon: Fraction, delta: int, own_noise: bool) -> int:
    """B = 60 (delta / epsilon) sqrt(max(1, kappa size / a)) in Wh, rounded up, exactly."""
    _check(epsilon, delta)
    square = (TAIL * delta / epsilon) ** 2 * max(Fraction(1), shape(size, a, own_noise))
    root = math.isqrt(math.floor(square))
    return root if root * root == square else root + 1


def sum_bounds(
    size: int, lo: int, hi: int, a: int, epsilon: Fraction, own_noise: bool
) -> tuple[int, int]:
    """The closed interval, in Wh, outside of which a total of `size` readings is refused."""
    bound = noise_bound(size, a, epsilon, hi - lo, own_noise)
    return size * lo - bound, size * hi + bound


def noise_sd(size: Count, a: int, epsilon: Fraction, delta: int, own_noise: bool) -> float:
    """Standard deviation of the summed noise in Wh: sqrt(2 shape) delta / epsilon.

    Exact for gamma noise before rounding, which moves it by at most sqrt(size) / 2; the variance
    of the discrete law is smaller by at most shape / 6.
    """
    _check(epsilon, delta)
    return math.sqrt(2 * shape(size, a, own_noise)) * float(delta / epsilon)


def noise_mean_abs(size: Count, a: int, epsilon: Fraction, delta: int, own_noise: bool) -> float:
    """Mean absolute value of the summed noise in Wh: scale 2 Gamma(s + 1/2) / (sqrt(pi) Gamma(s)).

    The noise is sqrt(2 V) times a standard normal, V ~ Gamma(s), so E|noise| = E sqrt(V) sqrt(4/pi)
    scales; one scale where s = 1. As exact as `noise_sd`.
    """
    _check(epsilon, delta)
    received = float(shape(size, a, own_noise))
    if received == 0:
        return 0.0
    ratio = math.exp(math.lgamma(received + 0.5) - math.lgamma(received))
    return 2 * ratio / math.sqrt(math.pi) * float(delta / epsilon)


def noise_band(
    size: Count, a: int, epsilon: Fraction, delta: int, own_noise: bool, level: float = 0.9
) -> float:
    """Half-width in Wh of the central band that holds the noise with chance `level`.

    Laplace, shape 1: scale * -log(1 - level). Otherwise the noise is sqrt(2 V) times a standard
    normal, V ~ Gamma(shape): P(|noise| <= w scales) = E[erf(w / (2 sqrt(V)))] by quadrature over
    log V, solved for w by bisection. Integer rounding is left out: give or take 1 Wh.
    """
    _check(epsilon, delta)
    if not 0 < level < 1:
        raise ValueError("level must lie between 0 and 1")
    scale, received = float(delta / epsilon), shape(size, a, own_noise)
    if received == 0:
        return 0.0
    if received == 1:
        return -scale * math.log1p(-level)
    low, high = -745.0, 40.0  # bisection for log w: the band of a small shape is tiny
    while high - low > 1e-12:
        middle = (low + high) / 2
        if _outside(received, middle) > 1 - level:
            low = middle
        else:
            high = middle
    return scale * math.exp(high)


def noise_tail(
    size: Count, a: int, epsilon: Fraction, delta: int, own_noise: bool, wh: float
) -> float:
    """P(|noise| > wh), wh > 0 in Wh: the chance that `noise_band` solves for, as exact as it is."""
    _check(epsilon, delta)
    scales, received = wh / float(delta / epsilon), shape(size, a, own_noise)
    if scales <= 0:
        raise ValueError("wh must be > 0")
    if received == 0:
        return 0.0
    return math.exp(-scales) if received == 1 else _outside(received, math.log(scales))


def _check(epsilon: Fraction, delta: int) -> None:
    if epsilon <= 0 or delta < 1:
        raise ValueError("epsilon must be > 0 and delta >= 1 Wh")


def _outside(received: Fraction, log_w: float) -> float:
    """P(|noise| > e^log_w scales)."""
    s = float(received)

    def log_f(v: float) -> float:  # of erfc(w / (2 sqrt(V))) and V's density, at log V = v
        log_ratio = log_w - v / 2 - math.log(2)
        tail = math.erfc(math.exp(min(log_ratio, 4.0)))
        return (math.log(tail) if tail else -math.inf) + s * v - _exp(v) - math.lgamma(s)

    return math.exp(_log_integral(log_f, math.log(s), min(1.0, 1 / math.sqrt(s))))


def _log_j(received: Fraction, step: float, k: int) -> float:
    """log J(k) for q = e^-step, over v = log(t / (1 - t)): 1 - t keeps its digits near t = 1."""
    s, rest = float(received), float(1 - received)
    z, gap = math.exp(-2 * step), -math.expm1(-2 * step)  # q^2 and 1 - q^2

    def log_f(v: float) -> float:
        log_t, log_u = -_softplus(-v), -_softplus(v)  # u = 1 - t
        return (s + k) * log_t + rest * log_u - s * math.log(gap + z * math.exp(log_u))

    return _log_integral(log_f, 0.0, 1.0)


def _log_h(received: Fraction, x: float) -> float:
    """log H(x), over v = log y; closed form 2^(1-2s) Beta(1 - s, 2s - 1) at x = 0."""
    s, rest = float(received), float(1 - received)
    if x == 0:
        spread = float(2 * received - 1)
        return -spread * math.log(2) + math.lgamma(rest) + math.lgamma(spread) - math.lgamma(s)

    def log_f(v: float) -> float:
        log_sum = math.log(2) + _softplus(v - math.log(2))  # log(y + 2)
        return rest * v - s * log_sum - x * _exp(v)

    return _log_integral(log_f, 0.0, 1.0)


def _softplus(v: float) -> float:
    """log(1 + e^v) without overflow."""
    return max(v, 0.0) + math.log1p(math.exp(-abs(v)))


def _exp(v: float) -> float:
    """e^v, infinite instead of an overflow."""
    return math.exp(v) if v < 709 else math.inf


def _log_integral(log_f: Callable[[float], float], centre: float, unit: float) -> float:
    """log of the integral of e^log_f(v) over the real line, by the trapezoid rule in tau.

    v = centre + unit sinh(tau): exponential tails become doubly exponential ones, which the
    trapezoid rule likes best; step 1/64 gives ten digits and more (tests compare with scipy). The
    integrands rise and fall once, so each side is left where it has fallen by e^-45.
    """
    step, peak, logs = 1 / 64, -math.inf, []
    for sign in (1, -1):
        for i in range(0 if sign > 0 else 1, 64 * 40):
            tau = sign * i * step
            value = log_f(centre + unit * math.sinh(tau)) + math.log(unit * step * math.cosh(tau))
            logs.append(value)
            peak = max(peak, value)
            if value < peak - 45:
                break
    return peak + math.log(math.fsum(math.exp(value - peak) for value in logs))
