"""Every coalition of PROTOCOL.md, section 17, as a program that holds what the coalition holds, and tries.

The game: the first meter reads 0 or Δ, by a coin; everybody knows all other readings. A coalition says which.
It may be right half the time where it must learn nothing, and as often as ε lets anyone be where it sees a
total. Where the paper itself admits a boundary (5.2.4), what is learned is shown.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

from gmpy2 import jacobi, mpz

from wattveil.audit import stats
from wattveil.audit.attacks import rows as active
from wattveil.audit.bench import SUITE_NAMES, drbg
from wattveil.audit.finding import Check, Finding, Study, verdict
from wattveil.audit.period import METERS, Held, Laboratory, Period, single
from wattveil.privacy.law import epsilon_received

NEAR = 1 << 24  # a value that may be a reading with noise
DIGIT = 60  # bits between what a row of big numbers tells apart
Attack = Callable[[Held], float]


def from_total(held: Held) -> float:
    """d + the noise that the coalition cannot take away."""
    return held.total - held.others - sum(_own_noise(held))


def _own_noise(held: Held) -> list[int]:
    """The chosen shares of the colluding meters, as far as somebody knows the slots."""
    known = []
    for i, meter in (held.meters or {}).items():
        if held.cloud:
            known.append(meter.shares[held.cloud.hot[i]])
        elif held.center:  # the key holder reads the rows these meters were given
            bits = [held.center.key.decrypt(c) for c in meter.rows]
            known.append(meter.shares[bits.index(mpz(1))])
    return known


def without_slots(held: Held) -> float:
    """The same without the cloud: the choice of slots that brings the total nearest to 0 or Δ."""
    sums = [sum(shares) for shares in product(*(m.shares for m in (held.meters or {}).values()))]
    delta = held.bench.record.delta
    rest = [held.total - held.others - total for total in sums]
    return min(rest, key=lambda x: min(abs(x), abs(x - delta)))


def from_report(held: Held) -> float:
    """The first meter's own ciphertexts; where they open to nothing near a reading, a guess from them."""
    opened = single(held)
    if opened is not None and abs(opened) < NEAR:
        return opened
    assert held.cloud is not None
    guess = opened if opened is not None else int(held.cloud.reports[0] % held.bench.n)
    return float(guess & 1) * int(held.bench.record.delta)


def from_parts(held: Held) -> float:
    """D(C2) = Σ(d - x - s + v) alone: a guess where it is nothing near a reading."""
    assert held.center is not None
    bench, center = held.bench, held.center
    opened = center.key.decrypt(center.opened[1]) - sum(center.v)
    left = bench.signed(opened - held.others)
    return left if abs(left) < NEAR else float(left & 1) * int(bench.record.delta)


@dataclass(frozen=True)
class Coalition:
    """must: "nothing" (right half the time), "epsilon" (no more than ε lets anyone), "share" (exactly
    d + xi: a boundary), "shown" (no claim)."""

    who: str
    cloud: bool
    center: bool
    dealer: bool
    meters: int
    attack: Attack
    must: str
    what: str


PASSIVE = (
    Coalition("c meters and the cloud", True, False, False, 1, from_total, "epsilon", "an honest d"),
    Coalition("c meters and the cloud", True, False, False, 1, from_report, "nothing",
              "d from its ciphertexts"),
    Coalition("all other meters, no cloud (5.2.2)", False, False, False, 2, without_slots, "shown", "d"),
    Coalition("cloud (5.2.3)", True, False, False, 0, from_report, "nothing", "d from its ciphertexts"),
    Coalition("cloud", True, False, False, 0, from_total, "epsilon", "d"),
    Coalition("cloud + Q − 1 meters (5.2.4)", True, False, False, 2, from_total, "share", "d + ξ"),
    Coalition("centre + c meters", False, True, False, 1, from_total, "epsilon", "an honest d"),
    Coalition("centre + c meters", False, True, False, 1, from_parts, "nothing", "d from D(C2)"),
    Coalition("centre + |S| − 1 meters", False, True, False, 2, from_total, "share", "d + ξ"),
    Coalition("cloud + centre", True, True, False, 0, from_report, "nothing", "d from its report"),
    Coalition("dealer + cloud", True, False, True, 0, from_report, "nothing", "d from its report"),
    Coalition("dealer + centre", False, True, True, 0, from_total, "epsilon", "d"),
    Coalition("dealer + centre", False, True, True, 0, from_parts, "nothing", "d from D(C2)"),
    Coalition("dealer + cloud + centre", True, True, True, 0, from_report, "share", "d + ξ"),
)  # fmt: skip


def run(study: Study) -> Sequence[Finding]:
    """All coalitions, both suites."""
    findings: list[Finding] = []
    for suite in SUITE_NAMES:
        laboratory = Laboratory(suite)
        periods = _periods(laboratory, suite, study.tries(400, 6000))
        findings += [
            _judge(coalition, periods, suite)
            for coalition in PASSIVE
            if suite == "yan2024" or coalition.attack is not from_parts  # compact has no parts
        ]
        findings.append(_slots(laboratory, periods, suite))
        findings += _active_cloud(suite, study)
        findings += _active_with_key(laboratory, suite, study)
    return findings


def _periods(laboratory: Laboratory, suite: str, count: int) -> list[Period]:
    coins, delta = drbg(("coins", suite)), laboratory.bench.record.delta
    return [
        laboratory.play(
            i, [delta * coins.bits(1), *(coins.below(delta + 1) for _ in range(METERS - 1))]
        )
        for i in range(count)
    ]


def _judge(coalition: Coalition, periods: Sequence[Period], suite: str) -> Finding:
    record, who = periods[0].bench.record, coalition
    delta, right, exact, bare = record.delta, 0, 0, 0
    for period in periods:
        guess = coalition.attack(period.held(who.cloud, who.center, who.dealer, who.meters))
        right += (2 * guess > delta) == (period.readings[0] == delta)
        exact += guess == period.readings[0] + period.noise[0]
        bare += guess == period.readings[0]
    tries = len(periods)
    measured = f"right in {stats.interval(right, tries)} of {tries} periods"
    verb = "must not learn"
    if coalition.must == "share":
        verb, held = "learn", exact == tries
        claimed = "d + ξ every time: the boundary the paper admits"
        measured = f"{exact} of {tries} times exactly; it is d itself {bare} times; {measured}"
    elif coalition.must == "nothing":
        held, claimed = not stats.above(right, tries, 0.5), "right in 0.5"
    else:
        epsilon = Fraction(record.epsilon_num, record.epsilon_den)
        law = (record.a, METERS - coalition.meters, epsilon, delta, bool(record.own_noise))
        bound = stats.advantage(epsilon_received(record.noise, *law))
        held, claimed = not stats.above(right, tries, bound), f"right in {bound:.3f} at most"
        if coalition.must == "shown":
            verb, claimed = "learn", f"no ε is claimed; {claimed} by the law of what is left"
        else:
            verb, claimed = "must not learn beyond ε", f"{claimed} (ε = {epsilon})"
    return Finding(
        claim=f"{coalition.who} {verb} {coalition.what} ({suite})",
        method=f"{tries} periods of {METERS} meters; the coalition says whether d is 0 or Δ",
        claimed=claimed,
        measured=measured,
        verdict=verdict(held),
    )


def _slots(laboratory: Laboratory, periods: Sequence[Period], suite: str) -> Finding:
    """5.2.2: which of gamma slots is added. By the symbols of the pairs, the odd one out."""
    n, gamma, right, tries = laboratory.bench.n, laboratory.bench.record.gamma, 0, 0
    for period in periods:
        for meter, hot in zip(period.meters, period.cloud.hot, strict=True):
            symbols = [jacobi(c % n, n) for c in meter.rows]
            rare = 1 if symbols.count(1) <= symbols.count(-1) else -1
            guess = symbols.index(rare) if rare in symbols else 0
            right, tries = right + (guess == hot), tries + 1
    return Finding(
        claim=f"meters without the cloud must not learn which slot is added ({suite})",
        method=f"{tries} rows; the pair whose Jacobi symbol is the rarer one",
        claimed=f"right in 1/{gamma}",
        measured=f"right in {stats.interval(right, tries)}",
        verdict=verdict(not stats.above(right, tries, 1 / gamma)),
    )


def _active_cloud(suite: str, study: Study) -> list[Finding]:
    tries, w = study.tries(60, 1000), 3
    passed, exact = active.fractions(suite, w, tries)
    equal_passed, equal, same = active.comparing(suite, tries)
    return [
        Finding(
            claim=f"a row (1/w, …, 1/w) of an active cloud passes once in w ({suite})",
            method=f"{tries} rows with w = {w}",
            claimed=f"{1 / w:.3f}; the noise is then 1/w of what it should be",
            measured=f"{stats.interval(passed, tries)}",
            verdict=verdict(exact and not stats.above(passed, tries, 1 / w)),
        ),
        Finding(
            claim=f"a row (1 − a, a, 0) of an active cloud passes only where two shares are equal ({suite})",
            method=f"{tries} rows, shape 1/20",
            claimed="passes exactly then",
            measured=f"{equal_passed} passed, {equal} of {tries} had equal shares",
            verdict=verdict(same),
        ),
    ]


def _active_with_key(laboratory: Laboratory, suite: str, study: Study) -> list[Finding]:
    """Rows of big numbers, one digit a slot: gamma noisy copies of one total, their noise seen apart."""
    bench, tries = laboratory.bench, study.tries(60, 1000)
    gamma, delta = bench.record.gamma, bench.record.delta
    rows = [
        bench.rows([1 << DIGIT * (j + 1) for j in range(gamma)], ("big", i)) for i in range(METERS)
    ]
    coins, plain, seen, one, share = drbg(("big", suite)), [], [], [], []
    copied = single_right = 0
    for i in range(tries):
        readings = [delta * coins.bits(1), *(coins.below(delta + 1) for _ in range(METERS - 1))]
        period = laboratory.play(10_000 + i, readings, rows)
        center, key = period.center, period.center.key
        opened = bench.signed(sum(key.decrypt(c) for c in center.opened) - sum(center.v))
        low, *digits = _digits(opened, gamma + 1)
        copies = [low + digit - METERS * bench.record.offset for digit in digits]
        noise = [sum(m.shares[j] for m in period.meters) for j in range(gamma)]
        copied += copies == [sum(readings) + wh for wh in noise]
        seen.append(abs(statistics.median(copies) - sum(readings)))
        plain.append(abs(noise[0]))
        others = period.meters[1:]
        alone = [
            copy - sum(m.reading + m.shares[j] for m in others) for j, copy in enumerate(copies)
        ]
        one.append(statistics.median(alone) - readings[0])
        share.append(abs(period.meters[0].shares[0]))
        guess = from_report(period.held(True, True, False, 0))
        single_right += (2 * guess > delta) == (readings[0] == delta)
    rounds = f"{tries} periods, rows (M, M², M³) with M = 2^{DIGIT}"
    return [
        Finding(
            claim=f"cloud + centre, active: Σd over S better than released ({suite})",
            method=rounds,
            claimed="admitted: γ noisy copies of the total instead of one",
            measured=f"{gamma} copies {copied} of {tries} times; mean error of their median "
            f"{statistics.fmean(seen):.0f} Wh, of one {statistics.fmean(plain):.0f} Wh",
            verdict=verdict(copied == tries),
            notes="Own noise is what stands against this.",
        ),
        Finding(
            claim=f"cloud + centre, active, must not learn a d ({suite})",
            method=rounds,
            claimed="right in 0.5",
            measured=f"right in {stats.interval(single_right, tries)}",
            verdict=verdict(not stats.above(single_right, tries, 0.5)),
        ),
        Finding(
            claim=f"cloud + centre + Q − 1 meters, active: d of the one honest meter ({suite})",
            method=rounds,
            claimed="admitted: the boundary",
            measured=f"mean error {statistics.fmean(map(abs, one)):.0f} Wh, where one share alone is off by "
            f"{statistics.fmean(share):.0f} Wh",
            verdict=verdict(copied == tries),
        ),
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


CHECK = Check(
    "coalitions",
    "Every coalition of the protocol, played",
    "The first meter reads 0 or Δ, by a coin, and everybody knows all other readings. A coalition that must "
    "learn nothing is right half the time; one that sees a total, as often as ε lets anyone be.",
    run,
    ("no-u", "no-noise", "kwh-scale"),
)
