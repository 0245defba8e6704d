"""The scheme as the paper prints it (Yan et al., BDMA 7(1), 2024, Eq. 15-28), by its formulas."""

from __future__ import annotations

from collections.abc import Callable

from gmpy2 import invert, mpz, powmod

from wattveil.audit.attacks.score import Score
from wattveil.audit.bench import Bench, drbg
from wattveil.paillier import group

METERS = 4


def totals(exponent: Callable[[Bench, int], int], common: bool, tries: int) -> Score:
    """How often Eq. 20, 27 give back the sum of the readings.

    exponent(bench, k): R_i (the paper: gamma + k_i). common: one h for all, or H(id_i || t_i) for each.
    """
    bench, source, outcomes = Bench(), drbg(("paper", common)), []
    n, n2 = bench.n, bench.n2
    for t in range(tries):
        readings = [source.below(1001) for _ in range(METERS)]
        ks = [source.bits(256) for _ in readings]
        bases = [bench.h if common else _base(bench, i, t) for i in range(METERS)]
        product = mpz(1)
        for wh, k, h in zip(readings, ks, bases, strict=True):  # Eq. 18
            product = product * (1 + wh * n) * powmod(h, exponent(bench, k), n2) % n2
        closing = bases[0] if not common else bench.h  # the third party's K = -sum k_i (Eq. 17)
        product = product * powmod(invert(closing, n2), sum(ks), n2) % n2
        outcomes.append(bench.key.decrypt(product) == sum(readings))
    return Score.of(outcomes)


def _base(bench: Bench, meter: int, t: int) -> mpz:
    return group.group_element(bench.n, b"%08d" % (1000 * t + meter), 1)


def as_printed(tries: int) -> Score:
    """R_i = gamma + k_i."""
    return totals(lambda bench, k: bench.record.gamma + k, True, tries)


def own_bases(tries: int) -> Score:
    """R_i = n + k_i, but a base for each meter (Eq. 18, 4.2.2)."""
    return totals(lambda bench, k: int(bench.n) + k, False, tries)


def corrected(tries: int) -> Score:
    """R_i = n + k_i and a common base."""
    return totals(lambda bench, k: int(bench.n) + k, True, tries)
