"""Every coalition of PROTOCOL.md, section 17, as a program that holds what the coalition holds, and tries.

The game: the first meter reads 0 or Δ, by a coin; everybody knows all other readings. A coalition says which.
It may be right half the time where it must learn nothing, and as often as ε lets anyone be where it sees a
total. What it does learn of a total, d and the noise it cannot take away, is held exactly against the shares
that were drawn, and its width against the law. Active coalitions are in `active`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from gmpy2 import jacobi

from wattveil.audit import stats
from wattveil.audit.attacks import coalition as attack
from wattveil.audit.bench import SUITE_NAMES, drbg
from wattveil.audit.checks import active
from wattveil.audit.finding import Check, Finding, Study, verdict
from wattveil.audit.period import METERS, Held, Laboratory, Period
from wattveil.privacy.law import epsilon_received, noise_sd

SIGMAS = 4.5  # of a sample's standard deviation: one in 10^5 is further off
NOTHING, EPSILON, SHARE, SHOWN = "nothing", "epsilon", "share", "shown"


@dataclass(frozen=True)
class Coalition:
    """row: of the protocol's table. must: NOTHING (right half the time), EPSILON (no more than ε lets
    anyone), SHARE (exactly d + xi: a boundary), SHOWN (no claim)."""

    row: str
    who: str
    cloud: bool
    center: bool
    dealer: bool
    meters: int
    attack: Callable[[Held], float]
    must: str
    what: str

    def held(self, period: Period) -> Held:
        """Its view."""
        return period.held(self.cloud, self.center, self.dealer, self.meters)


FEW = "≤ c meters, with or without the cloud"
MANY = "up to m − 1 meters, no cloud (5.2.2)"
CLOUD = "cloud (5.2.3)"
LAST = "cloud + Q − 1 meters (5.2.4)"
CENTER = "centre, centre + ≤ c meters"
CENTER_LAST = "centre + |S| − 1 meters"
BOTH = "cloud + centre, also active"
BOTH_LAST = "cloud + centre + Q − 1 meters or ghosts"
DEALER_CLOUD = "dealer + cloud, also active"
DEALER_CENTER = "dealer + centre"
ALL = "dealer + cloud + centre"
PASSIVE = (
    Coalition(FEW, "c meters", False, False, False, 1, attack.without_slots, EPSILON, "an honest d"),
    Coalition(FEW, "c meters and the cloud", True, False, False, 1, attack.from_total, EPSILON,
              "an honest d"),
    Coalition(FEW, "c meters and the cloud", True, False, False, 1, attack.from_report, NOTHING,
              "d from its ciphertexts"),
    Coalition(MANY, "all other meters, no cloud (5.2.2)", False, False, False, 2, attack.without_slots,
              SHOWN, "d"),
    Coalition(CLOUD, "cloud (5.2.3)", True, False, False, 0, attack.from_report, NOTHING,
              "d from its ciphertexts"),
    Coalition(CLOUD, "cloud (5.2.3)", True, False, False, 0, attack.from_closed_sum, NOTHING,
              "d from Σ(d − x − s + v)"),
    Coalition(CLOUD, "cloud", True, False, False, 0, attack.from_total, EPSILON, "d"),
    Coalition(LAST, "cloud + Q − 1 meters (5.2.4)", True, False, False, 2, attack.from_total, SHARE,
              "d + ξ"),
    Coalition(CENTER, "centre", False, True, False, 0, attack.from_total, EPSILON, "d"),
    Coalition(CENTER, "centre", False, True, False, 0, attack.from_parts, NOTHING, "d from D(C2)"),
    Coalition(CENTER, "centre + c meters", False, True, False, 1, attack.from_total, EPSILON,
              "an honest d"),
    Coalition(CENTER, "centre + c meters", False, True, False, 1, attack.from_parts, NOTHING,
              "d from D(C2)"),
    Coalition(CENTER_LAST, "centre + |S| − 1 meters", False, True, False, 2, attack.from_total, SHARE,
              "d + ξ"),
    Coalition(BOTH, "cloud + centre", True, True, False, 0, attack.from_total, EPSILON, "d"),
    Coalition(BOTH, "cloud + centre", True, True, False, 0, attack.from_report, NOTHING,
              "d from its report"),
    Coalition(BOTH_LAST, "cloud + centre + Q − 1 meters, which may be ghosts", True, True, False, 2,
              attack.from_total, SHARE, "d + ξ"),
    Coalition(DEALER_CLOUD, "dealer + cloud", True, False, True, 0, attack.from_report, NOTHING,
              "d from its report"),
    Coalition(DEALER_CENTER, "dealer + centre", False, True, True, 0, attack.from_total, EPSILON, "d"),
    Coalition(DEALER_CENTER, "dealer + centre", False, True, True, 0, attack.from_parts, NOTHING,
              "d from D(C2)"),
    Coalition(ALL, "dealer + cloud + centre", True, True, True, 0, attack.from_report, SHARE, "d + ξ"),
)  # fmt: skip
PARTS = (attack.from_parts, attack.from_closed_sum)  # compact has none
ACTIVE = {
    "cloud, active": active.cloud,
    BOTH: active.cloud_and_center,
    DEALER_CLOUD: active.dealer_and_cloud,
}


def run(study: Study) -> Sequence[Finding]:
    """All coalitions, both suites."""
    findings: list[Finding] = []
    for suite in SUITE_NAMES:
        laboratory = Laboratory(suite)
        periods = _periods(laboratory, suite, study.tries(400, 6000))
        findings += [
            _judge(coalition, periods, suite)
            for coalition in PASSIVE
            if suite == "yan2024" or coalition.attack not in PARTS
        ]
        findings += [_slots(periods, suite), *_seen_by_the_cloud(periods, suite)]
        for play in ACTIVE.values():
            findings += play(suite, study)
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
    record, tries = periods[0].bench.record, len(periods)
    guesses = [coalition.attack(coalition.held(period)) for period in periods]
    delta, pairs = record.delta, list(zip(guesses, periods, strict=True))
    right = sum((2 * guess > delta) == (period.readings[0] == delta) for guess, period in pairs)
    measured = f"right in {stats.interval(right, tries)} of {tries} periods"
    verb = "must not learn"
    if coalition.must == NOTHING:
        held, claimed = not stats.above(right, tries, 0.5), "right in 0.5"
    elif coalition.must == SHARE:
        bare = sum(guess == period.readings[0] for guess, period in pairs)
        exact, words = _left(coalition, pairs)
        verb, held = "learns", exact
        claimed = "d + ξ every time: the boundary the paper admits"
        measured = f"{words}; it is d itself {bare} times; {measured}"
    else:
        epsilon = Fraction(record.epsilon_num, record.epsilon_den)
        law = (record.a, METERS - coalition.meters, epsilon, delta, bool(record.own_noise))
        bound = stats.advantage(epsilon_received(record.noise, *law))
        held, claimed = not stats.above(right, tries, bound), f"right in {bound:.3f} at most"
        if coalition.must == SHOWN:
            verb, claimed = "learns", f"no ε is claimed; {claimed} by the law of what is left"
        else:
            verb, claimed = "must not learn beyond ε", f"{claimed} (ε = {epsilon})"
        if coalition.attack is attack.from_total:
            exact, words = _left(coalition, pairs)
            held, measured = held and exact, f"{measured}; {words}"
    return Finding(
        claim=f"{coalition.who}: {verb} {coalition.what} ({suite})",
        method=f"{tries} periods of {METERS} meters; the coalition says whether d is 0 or Δ",
        claimed=claimed,
        measured=measured,
        verdict=verdict(held),
    )


def _left(coalition: Coalition, pairs: Sequence[tuple[float, Period]]) -> tuple[bool, str]:
    """Whether what it learns is d and the noise of all meters that are not in it, drawn by the law."""
    record, tries = pairs[0][1].bench.record, len(pairs)
    alone = coalition.attack is attack.from_report
    honest = 1 if alone else METERS - coalition.meters
    exact = sum(guess == p.readings[0] + sum(p.noise[:honest]) for guess, p in pairs)
    sd = math.sqrt(sum((guess - p.readings[0]) ** 2 for guess, p in pairs) / tries)
    epsilon = Fraction(record.epsilon_num, record.epsilon_den)
    law = noise_sd(honest, record.a, epsilon, record.delta, bool(record.own_noise))
    shape = (2 if record.own_noise else 1) * honest / record.a
    error = SIGMAS * math.sqrt((2 + 3 / shape) / (4 * tries))  # kurtosis 3 + 3 / shape
    words = (
        f"what it has is d and {honest} of {METERS} shares, exactly, {exact} times; their standard "
        f"deviation {sd:,.0f} Wh (law {law:,.0f} ± {error:.0%} by chance)"
    )
    return exact == tries and abs(sd / law - 1) <= error, words


def _slots(periods: Sequence[Period], suite: str) -> Finding:
    """5.2.2: which of gamma slots is added. By the symbols of the pairs, the odd one out."""
    bench, right, tries = periods[0].bench, 0, 0
    n, gamma = bench.n, bench.record.gamma
    for period in periods:
        for meter, hot in zip(period.meters, period.cloud.hot, strict=True):
            symbols = [jacobi(c % n, n) for c in meter.rows]
            rare = 1 if symbols.count(1) <= symbols.count(-1) else -1
            guess = symbols.index(rare) if rare in symbols else 0
            right, tries = right + (guess == hot), tries + 1
    return Finding(
        claim=f"meters without the cloud: must not learn which slot is added ({suite})",
        method=f"{tries} rows; the pair whose Jacobi symbol is the rarer one",
        claimed=f"right in 1/{gamma}",
        measured=f"right in {stats.interval(right, tries)}",
        verdict=verdict(not stats.above(right, tries, 1 / gamma)),
    )


def _seen_by_the_cloud(periods: Sequence[Period], suite: str) -> list[Finding]:
    """5.2.3: the sum it can read in yan2024 and what it must not: a share, or its parity."""
    tries, offset = len(periods), periods[0].bench.record.offset
    views = [period.held(True, False, False, 0) for period in periods]
    read, right = [], 0
    for period, view in zip(periods, views, strict=True):
        bit, slots = attack.parity_read(view)
        if slots:
            read.append(bit)
            right += bit == sum(period.meters[0].shares[j] + offset for j in slots) % 2
    findings = [
        Finding(
            claim=f"cloud (5.2.3): must not learn the parity of ξ ({suite})",
            method=f"{len(read)} uploads; the Jacobi symbol, where that of B is −1",
            claimed="right in 0.5",
            measured=f"right in {stats.interval(right, len(read))}",
            verdict=verdict(not stats.above(right, len(read), 0.5)),
        )
    ]
    if suite == "compact":
        return findings
    sums = sum(
        attack.closed_sum(view) == period.center.key.decrypt(period.center.opened[1])
        for period, view in zip(periods, views, strict=True)
    )
    shares = sum(attack.share_of(view, 1) is not None for view in views)
    return [
        *findings,
        Finding(
            claim=f"cloud (5.2.3): learns Σ(d − x − s + v) ({suite})",
            method=f"{tries} periods; C2 without h^(n |S|), which is public, is a power of g",
            claimed="admitted: every time, and uniform by x",
            measured=f"{sums} of {tries}",
            verdict=verdict(sums == tries),
        ),
        Finding(
            claim=f"cloud (5.2.3): must not learn a share ξ ({suite})",
            method=f"{tries} slots; e_ij without B_ij^O as a power of g",
            claimed="never",
            measured=f"{shares} of {tries}",
            verdict=verdict(shares == 0),
        ),
    ]


CHECK = Check(
    "coalitions",
    "Every coalition of the protocol, played",
    "The first meter reads 0 or Δ, by a coin, and everybody knows all other readings. A coalition that must "
    "learn nothing is right half the time; one that sees a total, as often as ε lets anyone be.",
    run,
    ("no-u", "no-noise", "kwh-scale"),
    keyed=True,
)
