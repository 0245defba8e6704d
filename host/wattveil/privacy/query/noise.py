"""Discrete noise for integer vectors, through OpenDP's core measurements, behind a guard.

The vectors are sums over members of what each contributes; neighbouring data differ in one
member's readings, all of them (replacement). OpenDP draws the noise and checks its own map; how
large the noise has to be is worked out here, by hand, in exact arithmetic, and compared. A
library that was told the wrong thing about the data once released exact sums without a word.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

from wattveil.privacy.policy.engine import MISSING
from wattveil.privacy.refusals import Refused

LEVEL = 0.95  # of every interval
MAX_SCALE = 2.0**50  # noise and sum stay far from 64 bits


@dataclass(frozen=True)
class Norms:
    """How far one member can move a vector: exactly in L1, and the exact square in L2."""

    l1: int
    l2_squared: int


@dataclass(frozen=True)
class Mechanism:
    """Noise ready to be drawn. scale: b of discrete Laplace, sigma of discrete Gaussian."""

    name: str
    scale: float
    norms: Norms

    @property
    def half_width(self) -> int:
        """Half-width of the interval that holds one value's noise with chance LEVEL."""
        if self.name == "discrete Laplace":
            q = math.exp(-1 / self.scale)
            return max(0, math.ceil(-self.scale * math.log((1 - LEVEL) * (1 + q) / 2) - 1))
        if self.scale > 20:
            return math.ceil(1.959963984540054 * self.scale)
        mass = self._gauss()
        inside, width = mass[0], 0
        while inside < LEVEL * (mass[0] + 2 * sum(mass[1:])):
            width += 1
            inside += 2 * mass[width]
        return width

    @property
    def mean_abs(self) -> float:
        """Mean absolute value of one value's noise."""
        if self.name == "discrete Laplace":
            q = math.exp(-1 / self.scale)
            return 2 * q / -math.expm1(-2 / self.scale)
        if self.scale > 20:
            return self.scale * math.sqrt(2 / math.pi)
        mass = self._gauss()
        return 2 * sum(k * p for k, p in enumerate(mass)) / (mass[0] + 2 * sum(mass[1:]))

    @property
    def sd(self) -> float:
        """Standard deviation of one value's noise."""
        if self.name == "discrete Laplace":
            return math.sqrt(2 * math.exp(-1 / self.scale)) / -math.expm1(-1 / self.scale)
        if self.scale > 20:
            return self.scale
        mass = self._gauss()
        return math.sqrt(2 * sum(k * k * p for k, p in enumerate(mass)) /
                         (mass[0] + 2 * sum(mass[1:])))  # fmt: skip

    def _gauss(self) -> list[float]:
        return [
            math.exp(-k * k / (2 * self.scale**2)) for k in range(math.ceil(12 * self.scale) + 2)
        ]

    @property
    def event(self) -> dict[str, Any]:
        """For the accounts beside the sum: rho of zero-concentrated privacy, if that is known."""
        if self.name == "discrete Gaussian":
            rho = self.norms.l2_squared / (2 * Fraction(self.scale) ** 2)
            return {"mechanism": self.name, "rho": float(rho)}
        return {"mechanism": self.name}

    def draw(self, vector: list[int]) -> list[int]:
        """The vector with noise."""
        noisy: list[int] = measurement(self.name, self.scale)(vector)
        return noisy


@lru_cache(maxsize=256)
def calibrate(norms: Norms, epsilon: Fraction, delta: Fraction) -> Mechanism:
    """The least noise that keeps (epsilon, delta): Laplace when delta is 0, else Gaussian."""
    if delta == 0:
        scale = _up(Fraction(norms.l1) / epsilon)
        while _bounded(scale) and _map("discrete Laplace", scale, norms, delta) > epsilon:
            scale = math.nextafter(scale, math.inf)  # OpenDP's map rounds up in floats
        return Mechanism("discrete Laplace", scale, norms)
    low, high = 0.0, math.sqrt(norms.l2_squared)
    while _bounded(high) and _map("discrete Gaussian", high, norms, delta) > epsilon:
        low, high = high, high * 2
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        if _map("discrete Gaussian", middle, norms, delta) <= epsilon:
            high = middle
        else:
            low = middle
    return Mechanism("discrete Gaussian", high, norms)


def guard(mechanism: Mechanism, by_hand: Norms, epsilon: Fraction, delta: Fraction) -> None:
    """Refused("scale_too_small") unless the noise is enough for a sensitivity worked out anew.

    Laplace: b >= L1 / epsilon, exactly. Gaussian: rho = L2^2 / (2 sigma^2) is enough when
    rho-zero-concentrated privacy gives (epsilon, delta) by the conversion of Canonne, Kamath and
    Steinke, "The discrete Gaussian for differential privacy" (2020), proposition 12: for some
    alpha > 1, delta >= e^((alpha - 1)(alpha rho - epsilon)) (1 - 1/alpha)^alpha / (alpha - 1).
    What OpenDP says of its own measurement has to agree.
    """
    scale = Fraction(mechanism.scale)
    if mechanism.name == "discrete Laplace":
        enough = delta >= 0 and scale * epsilon >= by_hand.l1
    else:
        rho = float(by_hand.l2_squared / (2 * scale**2)) if scale > 0 else math.inf
        enough = rho < math.inf and _delta_of(rho, float(epsilon)) <= float(delta) * (1 + 1e-6)
    # Only then is OpenDP asked: its map overflows where there is next to no noise.
    if not enough or _map(mechanism.name, mechanism.scale, by_hand, delta) > epsilon:
        raise Refused("scale_too_small", f"{mechanism.name} of scale {mechanism.scale:g}")


def _delta_of(rho: float, epsilon: float) -> float:
    """The delta at which rho-zCDP gives epsilon: least over alpha, by golden section on its log."""

    def log_delta(log_excess: float) -> float:
        excess = math.exp(log_excess)  # alpha - 1
        alpha = 1 + excess
        power = -alpha * math.log1p(math.exp(-log_excess))  # log of (1 - 1/alpha)^alpha
        return excess * (alpha * rho - epsilon) + power - log_excess

    low, high, ratio = -40.0, 40.0, (math.sqrt(5) - 1) / 2
    for _ in range(200):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, b) if log_delta(a) < log_delta(b) else (a, high)
    return math.exp(min(0.0, log_delta((low + high) / 2)))


def _map(name: str, scale: float, norms: Norms, delta: Fraction) -> float:
    """The epsilon OpenDP gives its measurement, at this delta; inf where its floats overflow."""
    from opendp.mod import OpenDPException

    made = measurement(name, scale)
    try:
        if name == "discrete Laplace":
            return float(made.map(norms.l1))
        converted = library().c.make_zCDP_to_approxDP(made)
        return float(converted.map(_root_up(norms.l2_squared)).epsilon(float(delta)))
    except OpenDPException:
        return math.inf


def _bounded(scale: float) -> bool:
    if scale > MAX_SCALE:
        raise ValueError(
            "so small an epsilon gives noise beyond 64 bits: ask for more, or for less"
        )
    return True


def measurement(name: str, scale: float) -> Any:
    """OpenDP's core measurement on vectors of 64-bit integers."""
    dp = library()
    domain = dp.vector_domain(dp.atom_domain(T="i64"))
    if name == "discrete Laplace":
        return dp.m.make_laplace(domain, dp.l1_distance(T="i64"), scale=scale)
    return dp.m.make_gaussian(domain, dp.l2_distance(T="f64"), scale=scale)


@cache
def library() -> Any:
    """OpenDP; ValueError with what to install."""
    try:
        import opendp.prelude as dp
    except ImportError:
        raise ValueError(MISSING) from None
    dp.enable_features("contrib")
    return dp


def _up(value: Fraction) -> float:
    """The nearest float that is not below."""
    near = float(value)
    return near if Fraction(near) >= value else math.nextafter(near, math.inf)


def _root_up(square: int) -> float:
    root = math.isqrt(square)
    if root * root == square:
        return _up(Fraction(root))
    near = math.sqrt(square)
    while Fraction(near) ** 2 < square:
        near = math.nextafter(near, math.inf)
    return near
