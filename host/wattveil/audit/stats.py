"""Bounds with a confidence. SciPy is imported only here, where it is used."""

from __future__ import annotations

import math
from collections.abc import Sequence

from wattveil.audit.finding import ALPHA


def lower(hits: int, tries: int, alpha: float = ALPHA) -> float:
    """Clopper and Pearson (1934): the chance behind `hits` of `tries` is above this, but for alpha."""
    from scipy.special import betaincinv  # type: ignore[import-untyped]

    return 0.0 if hits == 0 else float(betaincinv(hits, tries - hits + 1, alpha))


def upper(hits: int, tries: int, alpha: float = ALPHA) -> float:
    """The same from above."""
    return 1 - lower(tries - hits, tries, alpha)


def above(hits: int, tries: int, chance: float) -> bool:
    """Whether the hits are more than `chance` explains."""
    return lower(hits, tries) > chance


def interval(hits: int, tries: int) -> str:
    """The share of hits in words, with both bounds."""
    low, high = lower(hits, tries), upper(hits, tries)
    return f"{hits / tries:.3f} ({low:.3f} to {high:.3f})"


def ratio_bound(hits: int, of: int, hits_other: int, of_other: int, delta: float = 0.0) -> float:
    """A lower bound on log((P - delta) / P') from two counts, each bound with ALPHA / 2; -inf when there is
    none."""
    low, high = lower(hits, of, ALPHA / 2) - delta, upper(hits_other, of_other, ALPHA / 2)
    return math.log(low / high) if low > 0 else -math.inf


def advantage(epsilon: float) -> float:
    """The most often a distinguisher of two equally likely cases is right under pure epsilon."""
    return 1.0 if math.isinf(epsilon) or epsilon > 700 else 1 / (1 + math.exp(-epsilon))


def accuracy(low: Sequence[float], high: Sequence[float], threshold: float) -> tuple[int, int]:
    """(right, tries) of "more than the threshold is the second case"."""
    right = sum(x <= threshold for x in low) + sum(x > threshold for x in high)
    return right, len(low) + len(high)


def best_threshold(low: Sequence[float], high: Sequence[float]) -> float:
    """The threshold that is right most often on these."""
    order = sorted([(x, -1) for x in high] + [(x, 1) for x in low])
    best, at, right = 0, order[0][0] - 1.0, 0
    for i, (x, step) in enumerate(order):
        right += step
        if right > best and (i + 1 == len(order) or order[i + 1][0] > x):
            best, at = right, x
    return at
