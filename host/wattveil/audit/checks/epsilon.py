"""Empirical ε: the best of many events on neighbouring fleets, as a lower bound with a confidence.

Neighbours differ by Δ in one reading, so the totals are the noise, and the noise moved by Δ. The noise is
drawn by the firmware's samplers, a share at a time, as meters do. On a first part of the draws the event is
chosen that bounds ε best, on the rest it is counted (Clopper and Pearson on both counts), so the choice costs
no confidence. h honest shares of a: the claim is law.epsilon_received. Discrete and gamma noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate

from wattveil.audit import stats
from wattveil.audit.bench import drbg
from wattveil.audit.finding import ALPHA, Check, Finding, Study, verdict
from wattveil.audit.svg import Bar, ranges
from wattveil.audit.weak import WEAKNESSES
from wattveil.fleet.settings import NOISES
from wattveil.privacy.law import epsilon_received
from wattveil_meter.noise import make_sampler

A, DELTA, EPSILON = 8, 1000, Fraction(1)
HONEST = (4, 6, 7, 8, 10)
GRID = 40  # candidate events of each kind, over one Δ on both sides

Event = tuple[str, float, float]  # what; both ends


def sums(noise: str, draws: int, seed: object) -> dict[int, list[int]]:
    """The summed noise of h meters, Wh, for each h in HONEST, who share the shares of a draw."""
    sampler = make_sampler(noise, A, EPSILON.numerator, EPSILON.denominator, DELTA)
    source = drbg(("epsilon", noise, seed))
    found: dict[int, list[int]] = {h: [] for h in HONEST}
    for _ in range(draws):
        running = list(accumulate(sampler.share(source) for _ in range(max(HONEST))))
        for h in HONEST:
            found[h].append(running[h - 1])
    return found


def events() -> list[Event]:
    """Tails and windows: what a distinguisher may ask of a total."""
    steps = [DELTA * (i - GRID) / GRID for i in range(2 * GRID + 1)]
    tails: list[Event] = [("below", -math.inf, at) for at in steps]
    widths = [DELTA / 2 ** (i / 2) for i in range(2, 20)]
    return tails + [("within", -w, w) for w in widths]


def bound(noise: Sequence[int]) -> tuple[float, Event]:
    """The lower bound on ε from these draws of the noise, and the event that gave it."""
    third = len(noise) // 3
    train = _best(noise[:third])
    here, there = _counts(noise[third : 2 * third], noise[2 * third :], train)
    return stats.ratio_bound(here, third, there, len(noise) - 2 * third), train


def _best(noise: Sequence[int]) -> Event:
    def value(event: Event) -> float:
        here, there = _counts(noise, noise, event)
        return stats.ratio_bound(here, len(noise), there, len(noise))

    return max(events(), key=value)


def _counts(here: Sequence[int], there: Sequence[int], event: Event) -> tuple[int, int]:
    """How often the event happens where the reading is 0, and where it is Δ."""
    _, low, high = event
    return (
        sum(low <= x <= high for x in here),
        sum(low <= x + DELTA <= high for x in there),
    )


def measured(draws: int, seed: object) -> dict[tuple[str, int], tuple[float, Event]]:
    """The bound by (noise, h)."""
    found = {}
    for noise in NOISES:
        for h, values in sums(noise, draws, seed).items():
            found[noise, h] = bound(values)
    return found


def claimed(noise: str, h: int) -> float:
    """The ε of h honest shares of a = A."""
    return epsilon_received(noise, A, h, EPSILON, DELTA, False)


def run(study: Study) -> Sequence[Finding]:
    """Both samplers at every h / a, and both with half the scale, which must be seen."""
    draws = study.tries(9_000, 240_000)
    found = measured(draws, "product")
    with WEAKNESSES["half-scale"].planted():
        broken = measured(draws // 3, "half")
    findings, bars = [], []
    for (noise, h), (low, event) in found.items():
        claim = claimed(noise, h)
        seen = broken[noise, 8][0] > claimed(noise, 8)
        told = f"{claim:.3f}" if math.isfinite(claim) else "none (∞)"
        bars.append(Bar(f"{noise}, h/a = {h}/{A}", low, claim))
        findings.append(
            Finding(
                claim=f"ε of {noise} noise with h/a = {h}/{A} honest shares",
                method=f"{draws} sums by the firmware's sampler, Δ = {DELTA} Wh, nominal ε = 1; best event: "
                f"{_words(event)}",
                claimed=f"at most {told}",
                measured=f"at least {low:.3f} (confidence {1 - ALPHA:.2%})",
                verdict=verdict(low <= claim, seen),
            )
        )
    findings[0] = replace(findings[0], chart=ranges(bars, "ε", "lower bound measured", "claimed"))
    for noise in NOISES:
        low, claim = broken[noise, 8][0], claimed(noise, 8)
        findings.append(
            Finding(
                claim=f"a {noise} sampler of half the scale is caught",
                method=f"{draws // 3} sums of {A} shares",
                claimed=f"a bound above {claim:.3f} (it is 2)",
                measured=f"at least {low:.3f}",
                verdict=verdict(True, low > claim),
            )
        )
    return findings


def _words(event: Event) -> str:
    what, _, high = event
    return f"a total below Σd {high:+.0f} Wh" if what == "below" else f"within {high:.0f} Wh of Σd"


CHECK = Check(
    "epsilon",
    "Empirical ε",
    "Two fleets that differ by Δ in one reading: how well can their totals be told apart? The bound is from "
    "below, so it cannot prove the claim; it would break a claim that is too small.",
    run,
    ("half-scale", "kwh-scale", "short-shares"),
)
