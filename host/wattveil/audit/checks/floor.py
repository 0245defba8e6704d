"""The noise that is left when f of m meters are dishonest and add none, and what one share hides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate

from wattveil.audit.bench import drbg
from wattveil.audit.finding import Check, Finding, Study, verdict
from wattveil.audit.stats import above, interval
from wattveil.audit.svg import Line, lines
from wattveil.fleet.settings import NOISES
from wattveil.privacy.law import epsilon_received, noise_sd
from wattveil_meter.noise import make_sampler

A, DELTA, EPSILON = 20, 11_500, Fraction(1)  # |S| = Q = a = 20
DISHONEST = (0, 2, 4, 6, 8, 10)
LARGE = 350  # a of a fleet of 500
SIGMAS = 4.5  # of a sample's standard deviation: one in 10^5 is further off


def run(study: Study) -> Sequence[Finding]:
    """The measured width by f, beside the law's, and how often one share is 0."""
    draws = study.tries(4000, 40_000)
    findings: list[Finding] = []
    for noise in NOISES:
        rows = _width(noise, draws)
        curve = [Line("law", [(f, sd) for f, _, sd in rows])]
        curve.append(Line(f"{noise}, measured", [(f, got) for f, got, _ in rows], dots=True))
        part = [_finding(noise, draws, *row) for row in rows]
        part[0] = replace(
            part[0], chart=lines(curve, "dishonest meters of 20", "standard deviation, Wh")
        )
        findings += part
    findings += [_one_share(noise, draws) for noise in NOISES]
    return findings


def _width(noise: str, draws: int) -> list[tuple[int, float, float]]:
    """(f, standard deviation measured, by the law), Wh."""
    sampler = make_sampler(noise, A, EPSILON.numerator, EPSILON.denominator, DELTA)
    source, squares = drbg(("floor", noise)), dict.fromkeys(DISHONEST, 0)
    for _ in range(draws):
        running = [0, *accumulate(sampler.share(source) for _ in range(A))]
        for f in DISHONEST:
            squares[f] += running[A - f] ** 2
    return [
        (f, math.sqrt(squares[f] / draws), noise_sd(A - f, A, EPSILON, DELTA, False))
        for f in DISHONEST
    ]


def _finding(noise: str, draws: int, f: int, got: float, sd: float) -> Finding:
    epsilon = epsilon_received(noise, A, A - f, EPSILON, DELTA, False)
    kurtosis = 3 + 3 * A / (A - f)
    error = sd * math.sqrt((kurtosis - 1) / (4 * draws))
    bound = f"{epsilon:.2f}" if math.isfinite(epsilon) else "no bound"
    return Finding(
        claim=f"{f} of {A} meters add no {noise} noise: what is left",
        method=f"{draws} sums of {A - f} shares by the firmware's sampler, Δ = {DELTA} Wh",
        claimed=f"standard deviation {sd:,.0f} Wh; ε = {bound} instead of {EPSILON}",
        measured=f"{got:,.0f} Wh (± {SIGMAS * error:,.0f} by chance)",
        verdict=verdict(abs(got - sd) <= SIGMAS * error),
    )


def _one_share(noise: str, draws: int) -> Finding:
    """The boundary of 5.2.4: one share of a large fleet."""
    sampler = make_sampler(noise, LARGE, EPSILON.numerator, EPSILON.denominator, DELTA)
    source = drbg(("one share", noise))
    zeros, tries = sum(sampler.share(source) == 0 for _ in range(4 * draws)), 4 * draws
    return Finding(
        claim=f"one {noise} share of a fleet with a = {LARGE} hides little: it is mostly 0 (5.2.4)",
        method=f"{tries} shares, Δ = {DELTA} Wh, ε = {EPSILON}",
        claimed="admitted: 0 more often than not",
        measured=f"0 in {interval(zeros, tries)}",
        verdict=verdict(above(zeros, tries, 0.5)),
    )


CHECK = Check(
    "floor",
    "The floor of the noise",
    "Nobody can tell a meter that adds no noise from one that drew 0. The totals of a set in which f meters "
    "add none keep the shares of the others.",
    run,
    ("half-scale", "short-shares"),
)
