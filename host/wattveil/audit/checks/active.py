"""The active coalitions of PROTOCOL.md, section 17: what their rows get them, and what they must not."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from gmpy2 import mpz

from wattveil.audit import stats
from wattveil.audit.attacks import rows
from wattveil.audit.attacks.coalition import from_report
from wattveil.audit.bench import drbg
from wattveil.audit.finding import Finding, Study, verdict
from wattveil.audit.period import METERS, Laboratory, Period
from wattveil.privacy.law import epsilon_received

DIGIT = 60  # bits between what a row of big numbers tells apart
FRACTION = 3  # w of (1/w, ..., 1/w)


def cloud(suite: str, study: Study) -> list[Finding]:
    """Rows that are not one-hot: the odds of the row check."""
    tries = study.tries(60, 1000)
    zero = rows.zero_rows(suite, tries)
    passed, exact = rows.fractions(suite, FRACTION, tries)
    equal_passed, equal, same = rows.comparing(suite, tries)
    return [
        Finding(
            claim=f"cloud, active: must not learn a noise-free total ({suite})",
            method=f"{tries} rows of zeros",
            claimed="never",
            measured=str(zero),
            verdict=verdict(zero.hits == 0),
        ),
        Finding(
            claim=f"a row (1/w, …, 1/w) of an active cloud passes once in w ({suite})",
            method=f"{tries} rows with w = {FRACTION}",
            claimed=f"{1 / FRACTION:.3f}; the noise is then 1/w of what it should be",
            measured=stats.interval(passed, tries),
            verdict=verdict(exact and not stats.above(passed, tries, 1 / FRACTION)),
        ),
        Finding(
            claim=f"a row (1 − a, a, 0) of an active cloud passes only where two shares are equal ({suite})",
            method=f"{tries} rows, shape 1/20",
            claimed="passes exactly then",
            measured=f"{equal_passed} passed, {equal} of {tries} had equal shares",
            verdict=verdict(same),
        ),
    ]


def dealer_and_cloud(suite: str, study: Study) -> list[Finding]:
    """Rows without randomisers, so that what a meter sends has no other factor than its own h_s^r."""
    laboratory, tries = Laboratory(suite), study.tries(60, 1000)
    bench, right = laboratory.bench, 0
    row = [1 + bench.n] + [mpz(1)] * (bench.record.gamma - 1)
    for period in _periods(laboratory, [row] * METERS, tries, "bare"):
        guess = from_report(period.held(True, False, True, 0))
        right += (2 * guess > bench.record.delta) == (period.readings[0] > 0)
    return [
        Finding(
            claim=f"dealer + cloud, active: must not learn a d ({suite})",
            method=f"{tries} periods, rows (g, 1, 1) without randomisers",
            claimed="right in 0.5",
            measured=f"right in {stats.interval(right, tries)}",
            verdict=verdict(not stats.above(right, tries, 0.5)),
        )
    ]


def cloud_and_center(suite: str, study: Study) -> list[Finding]:
    """Rows of big numbers, without and with own noise."""
    tries = study.tries(60, 1000)
    plain = _big(Laboratory(suite), tries)
    own = _big(Laboratory(suite, own_noise=1), tries)
    method = f"{tries} periods, rows (M, M², M³) with M = 2^{DIGIT}"
    a, delta, epsilon = own.law
    bound = stats.advantage(epsilon_received(own.noise, a, METERS, epsilon, delta, False))
    return [
        Finding(
            claim=f"cloud + centre, active: Σd over S better than released ({suite})",
            method=method,
            claimed="admitted: γ noisy copies of the total instead of one",
            measured=f"all copies {plain.copied} of {tries} times; mean error of their median "
            f"{plain.median_wh:.0f} Wh, of one {plain.one_wh:.0f} Wh",
            verdict=verdict(plain.copied == tries),
            notes="Own noise is what stands against this.",
        ),
        Finding(
            claim=f"cloud + centre, active, with own noise: must not learn a d beyond ε ({suite})",
            method=f"{method}; Σd and the own noise of all meters, should no other noise be left",
            claimed=f"right in {bound:.3f} at most (ε = {epsilon})",
            measured=f"right in {stats.interval(own.bare_right, tries)}; mean error without any other "
            f"noise {own.own_wh:.0f} Wh, of the copies' median {own.median_wh:.0f} Wh",
            verdict=verdict(own.copied == tries and not stats.above(own.bare_right, tries, bound)),
        ),
        Finding(
            claim=f"cloud + centre, active: must not learn a d ({suite})",
            method=method,
            claimed="right in 0.5",
            measured=f"right in {stats.interval(plain.right, tries)}",
            verdict=verdict(not stats.above(plain.right, tries, 0.5)),
        ),
        Finding(
            claim=f"cloud + centre + Q − 1 meters, active: d of the one honest meter ({suite})",
            method=method,
            claimed="admitted: the boundary",
            measured=f"mean error {plain.alone_wh:.0f} Wh, where one share alone is off by "
            f"{plain.share_wh:.0f} Wh",
            verdict=verdict(plain.copied == tries),
        ),
    ]


@dataclass
class _Big:
    """copied: periods that gave all copies of Σ(d + own) + noise. right: of guesses from a single report;
    bare_right: from Σd + own noise. _wh: mean errors."""

    law: tuple[int, int, Fraction]
    noise: str
    copied: int
    right: int
    bare_right: int
    median_wh: float
    one_wh: float
    own_wh: float
    alone_wh: float
    share_wh: float


def _big(laboratory: Laboratory, tries: int) -> _Big:
    """One digit a slot: gamma noisy copies of one total, their noise seen apart."""
    record, bench = laboratory.bench.record, laboratory.bench
    gamma, delta = record.gamma, record.delta
    given = [
        bench.rows([1 << DIGIT * (j + 1) for j in range(gamma)], ("big", i)) for i in range(METERS)
    ]
    errors: dict[str, list[float]] = {
        name: [] for name in ("median", "one", "own", "alone", "share")
    }
    copied = right = bare_right = 0
    for period in _periods(laboratory, given, tries, "big"):
        copies = _copies(period, gamma)
        true, own = sum(period.readings), sum(meter.own for meter in period.meters)
        noise = [sum(meter.shares[j] for meter in period.meters) for j in range(gamma)]
        copied += copies == [true + own + wh for wh in noise]
        first, *others = period.meters
        known = [sum(m.reading + m.own + m.shares[j] for m in others) for j in range(gamma)]
        alone = statistics.median(c - k for c, k in zip(copies, known, strict=True))
        found = (statistics.median(copies) - true, noise[0] + own, own, alone - first.reading)
        for name, error in zip(errors, (*found, first.shares[0] + first.own), strict=True):
            errors[name].append(abs(error))
        guess = from_report(period.held(True, True, False, 0))
        right += (2 * guess > delta) == (first.reading == delta)
        bare_right += (2 * (first.reading + own) > delta) == (first.reading == delta)
    means = (statistics.fmean(errors[name]) for name in errors)
    epsilon = Fraction(record.epsilon_num, record.epsilon_den)
    law = (record.a, delta, epsilon)
    return _Big(law, record.noise, copied, right, bare_right, *means)


def _copies(period: Period, gamma: int) -> list[int]:
    """What cloud and centre read: gamma totals, each with the noise of one slot."""
    center = period.center
    opened = sum(center.key.decrypt(c) for c in center.opened) - sum(center.v)
    low, *digits = _digits(period.bench.signed(opened), gamma + 1)
    return [low + digit - METERS * period.bench.record.offset for digit in digits]


def _periods(
    laboratory: Laboratory, given: Sequence[Sequence[mpz]], tries: int, name: str
) -> list[Period]:
    """Periods with these rows; the first meter reads 0 or Δ, by a coin."""
    record = laboratory.bench.record
    coins, delta = drbg((name, record.suite, record.own_noise)), record.delta
    return [
        laboratory.play(
            10_000 + i,
            [delta * coins.bits(1), *(coins.below(delta + 1) for _ in range(METERS - 1))],
            given,
        )
        for i in range(tries)
    ]


def _digits(value: int, count: int) -> list[int]:
    """Balanced digits of DIGIT bits, lowest first."""
    digits, rest = [], mpz(value)
    for _ in range(count):
        low = int(rest % (1 << DIGIT))
        low -= (low >> DIGIT - 1) << DIGIT
        digits.append(low)
        rest = (rest - low) >> DIGIT
    return digits
