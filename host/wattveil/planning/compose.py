"""What many releases cost one household together.

A household's periods of one day are different readings, each in one release: releases compose
sequentially. `basic` holds for every law and is exact. `optimal` is the exact answer of Kairouz, Oh
and Viswanath, "The composition theorem for differential privacy", ICML 2015, Theorem 3.3: the
smallest epsilon' that k adaptive releases of *any* pure epsilon-private kind can promise up to
delta. It needs pure epsilon each time: the discrete law, or the gamma law before rounding, with
honest shares h / a >= 1; below, put in the epsilon received.
"""

from __future__ import annotations

import math
from fractions import Fraction

DAY_S = 86_400


def releases_a_day(period_s: int) -> Fraction:
    """How many periods a day has, on average."""
    if period_s < 1:
        raise ValueError("period: at least 1 s")
    return Fraction(DAY_S, period_s)


def basic(epsilon: Fraction, releases: Fraction) -> Fraction:
    """Their sum, exactly."""
    return epsilon * releases


def optimal_delta(epsilon: float, releases: int, target: float) -> float:
    """The delta at which k releases of epsilon each promise `target`.

    The worst case is k randomised responses; with l of them "wrong", the two likelihoods are
    C(k, l) e^((k - l) epsilon) and C(k, l) e^(l epsilon), over (1 + e^epsilon)^k. All in logarithms.
    """
    k, log_all = releases, releases * math.log1p(math.exp(-epsilon))
    total = 0.0
    for wrong in range(k // 2 + 1):  # beyond, the first likelihood is the smaller one
        gap = (2 * wrong - k) * epsilon + target  # log of e^target q / p
        if gap < 0:
            choose = math.lgamma(k + 1) - math.lgamma(wrong + 1) - math.lgamma(k - wrong + 1)
            total += math.exp(choose - wrong * epsilon - log_all) * -math.expm1(gap)
    return total


def optimal(epsilon: float, releases: int, delta: float) -> float:
    """The smallest total epsilon that holds up to delta, to ten digits; never above the sum."""
    if epsilon <= 0 or releases < 1 or not 0 <= delta < 1:
        raise ValueError("epsilon > 0, at least one release, 0 <= delta < 1")
    low, high = 0.0, releases * epsilon
    if delta == 0 or optimal_delta(epsilon, releases, low) <= delta:
        return high if delta == 0 else low
    while high - low > 1e-10 * releases * epsilon:
        middle = (low + high) / 2
        if optimal_delta(epsilon, releases, middle) <= delta:
            high = middle
        else:
            low = middle
    return high
