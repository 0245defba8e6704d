"""Least-squares lines with their confidence, in the few lines they take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.95


@dataclass(frozen=True)
class Line:
    """y = start + slope x. half: half-width of the slope's 95 % interval, nan for two points."""

    slope: float
    start: float
    half: float
    r2: float


def line(points: Sequence[tuple[float, float]]) -> Line:
    """The least-squares line. ValueError for fewer than two different x."""
    count = len(points)
    mean_x = math.fsum(x for x, _ in points) / count
    mean_y = math.fsum(y for _, y in points) / count
    spread = math.fsum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        raise ValueError("a line needs two different x")
    slope = math.fsum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    start = mean_y - slope * mean_x
    left = math.fsum((y - start - slope * x) ** 2 for x, y in points)
    whole = math.fsum((y - mean_y) ** 2 for _, y in points)
    half = math.nan
    if count > 2:
        half = student(count - 2) * math.sqrt(left / (count - 2) / spread)
    return Line(slope, start, half, 1 - left / whole if whole else 1.0)


def power(points: Sequence[tuple[float, float]]) -> Line:
    """The exponent of y ~ x^slope: the line through the logarithms."""
    return line([(math.log(x), math.log(y)) for x, y in points])


def student(freedom: int, level: float = LEVEL) -> float:
    """The t that a Student variable stays within (-t, t) of with this chance.

    P(|T| <= t) for theta = atan(t / sqrt(freedom)) is a finite sum (Abramowitz and Stegun 26.7.3-4).
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _inside(freedom, middle) > level else (middle, high)
    return math.sqrt(freedom) * math.tan(low)


def _inside(freedom: int, theta: float) -> float:
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = freedom % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= cosine * cosine * k / (k + 1)
    return (theta + sine * total) * 2 / math.pi if odd else sine * total
