"""Empirical ε of every mechanism of the privacy gateway, through the code that answers a query.

Neighbours are two groups that differ in one meter, over its whole range (replacement). Technique `dp` answers
both; what it hands to the noise, the exact vector and the mechanism it chose, is kept, for the pair of meters
that moves the vector most. From there the same mechanism draws again and again. On a first third of the draws
the event is chosen that bounds ε best, on the rest it is counted: ε ≥ log((P - δ) / P').
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np

from wattveil.audit import stats
from wattveil.audit.finding import ALPHA, Check, Finding, Study, verdict
from wattveil.audit.svg import Bar, ranges
from wattveil.audit.weak import Weakness, less_noise, under_calibrated
from wattveil.privacy.contracts import Block
from wattveil.privacy.query import dp, noise
from wattveil.privacy.query.ask import Query
from wattveil.privacy.refusals import Refused
from wattveil.privacy.techniques import Group

INTERVAL_S, CLIP_WH, INTERVALS = 1800, 1000, 4
EPSILON = Fraction(1)
DELTA = Fraction(1, 100)  # so large that the events it allows for are seen
OF_QUANTILE, QUANTILE_CLIP_WH = Fraction(3), 3  # three choices at ε = 1 each, among few candidates
# What one meter may have recorded: nothing, and anything a broken or hostile one may.
METERS: tuple[Callable[[Query], Sequence[int] | None], ...] = (
    lambda query: None,
    lambda query: [0] * query.intervals,
    lambda query: [query.clip_wh] * query.intervals,
    lambda query: [-50 * query.clip_wh] * query.intervals,
    lambda query: [50 * query.clip_wh] * query.intervals,
    lambda query: [query.clip_wh * (i % 2) for i in range(query.intervals)],
)

CALIBRATION = Weakness("half-calibrated", "calibrated for half the sensitivity", under_calibrated)
EIGHTH = Weakness("eighth-noise", "noise for an eighth of the sensitivity", less_noise(8))

Scores = Any  # a vector of floats
Drawn = Callable[[int], Scores]  # so many scores


@dataclass(frozen=True)
class Case:
    """One mechanism in use. claim: its ε and δ."""

    name: str
    query: Query
    claim: tuple[Fraction, Fraction]


def _case(name: str, kind: str, delta: Fraction = Fraction(0), **rest: Any) -> Case:
    whole = INTERVALS * INTERVAL_S
    query = Query(
        kind, 0, whole, INTERVAL_S, CLIP_WH, "audit", epsilon=EPSILON, delta=delta, resolution_s=whole
    )  # fmt: skip
    return Case(name, replace(query, **rest), (EPSILON, delta))


def cases() -> list[Case]:
    """Every kind of answer with noise, and every mechanism."""
    edges = (0, CLIP_WH // 2, CLIP_WH)
    two = INTERVALS // 2 * INTERVAL_S  # resolution of a curve of two steps
    third = OF_QUANTILE / dp.PARTS
    return [
        _case("sum, Laplace", "sum"),
        _case("sum, Gaussian", "sum", DELTA),
        _case("mean, Laplace", "mean"),
        _case("count of meters that report, Laplace", "count"),
        _case("count above a threshold, Gaussian", "count", DELTA, above=CLIP_WH),
        _case("histogram, Laplace", "histogram", edges=edges),
        _case("curve, Laplace", "curve", resolution_s=two),
        _case("curve, Gaussian", "curve", DELTA, resolution_s=two),
        replace(
            _case("quantile, permute-and-flip", "quantile", epsilon=OF_QUANTILE,
                  clip_wh=QUANTILE_CLIP_WH),
            claim=(third, Fraction(0)),
        ),
    ]  # fmt: skip


def answered(query: Query, readings: Sequence[int] | None) -> list[tuple[Any, ...]]:
    """What the noise is asked for, call by call, while technique `dp` answers about a group with one meter
    of these readings. Refused, when the guard stops it."""
    wh = np.zeros((2, query.intervals), dtype=np.int64)  # the other one's are known
    present = np.ones(wh.shape, dtype=np.bool_)
    wh[1], present[1] = (0, False) if readings is None else (readings, True)
    technique, group = dp.DP(), Group(2, 2, Fraction(1))
    technique.check(query, group)
    calls: list[tuple[Any, ...]] = []
    with _kept(calls):
        technique.run(query, group, [Block(["a", "b"], wh, present)])
    return calls


@contextmanager
def _kept(calls: list[tuple[Any, ...]]) -> Iterator[None]:
    draw, choose = noise.Mechanism.draw, dp._choose

    def drawing(self: noise.Mechanism, vector: list[int]) -> list[int]:
        calls.append((self, tuple(vector)))
        return draw(self, vector)

    def choosing(ranked: list[int], sensitivity: int, epsilon: Fraction) -> int:
        calls.append((choose, tuple(ranked), sensitivity, epsilon))
        return choose(ranked, sensitivity, epsilon)

    noise.Mechanism.draw, dp._choose = drawing, choosing  # type: ignore[method-assign]
    try:
        yield
    finally:
        noise.Mechanism.draw, dp._choose = draw, choose  # type: ignore[method-assign]


def neighbours(query: Query) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """The calls of the two groups whose vectors are farthest apart."""
    played = [answered(query, meter(query)) for meter in METERS]
    return max(combinations(played, 2), key=lambda pair: max(map(_apart, zip(*pair, strict=True))))


def _apart(calls: tuple[tuple[Any, ...], tuple[Any, ...]]) -> int:
    """How far a call's vector is from the neighbour's, in L1."""
    return sum(abs(a - b) for a, b in zip(calls[0][1], calls[1][1], strict=True))


def _samplers(case: Case) -> tuple[Drawn, Drawn]:
    """Scores of either neighbour's answers; a higher score speaks for the second."""
    first, second = neighbours(case.query)
    if case.query.kind == "quantile":
        one, other = max(zip(first, second, strict=True), key=_apart)
        return _chosen(one, one), _chosen(other, one)
    (mechanism, here), (_, there) = first[0], second[0]
    low, high = np.array(here, dtype=float), np.array(there, dtype=float)

    def drawn(vector: tuple[int, ...]) -> Drawn:
        def scores(count: int) -> Scores:
            flat = np.array(mechanism.draw(list(vector) * count), dtype=float)
            rows = flat.reshape(count, len(vector))
            if mechanism.name == "discrete Laplace":
                return (np.abs(rows - low) - np.abs(rows - high)).sum(axis=1)
            return (rows * (high - low)).sum(axis=1)

        return scores

    return drawn(here), drawn(there)


def _chosen(call: tuple[Any, ...], first: tuple[Any, ...]) -> Drawn:
    """1 where the choice is other than the best of the first neighbour's candidates."""
    choose, ranked, sensitivity, epsilon = call
    top = first[1].index(max(first[1]))

    def scores(count: int) -> Scores:
        picks = [choose(list(ranked), sensitivity, epsilon) for _ in range(count)]
        return (np.array(picks) != top).astype(float)

    return scores


def bound(first: Scores, second: Scores, delta: Fraction) -> float:
    """A lower bound on ε from scores of the two neighbours' answers."""
    third = len(first) // 3
    chosen = second[:third], first[:third]  # more of the event; less of it
    edges = np.unique(np.quantile(np.concatenate(chosen), np.linspace(0.005, 0.995, 80)))

    def of(event: tuple[bool, float], more: Scores, less: Scores) -> float:
        above, at = event
        if not above:  # low scores speak for the first
            more, less = -less, -more
            at = -at
        counts = int((more >= at).sum()), len(more), int((less >= at).sum()), len(less)
        return stats.ratio_bound(*counts, float(delta))

    events = [(above, float(at)) for above in (True, False) for at in edges]
    event = max(events, key=lambda one: of(one, *chosen))
    return of(event, second[third:], first[third:])


def measured(case: Case, draws: int) -> float:
    """A lower bound on a case's ε by so many draws for each neighbour; -∞ when nothing is answered."""
    try:
        first, second = _samplers(case)
    except Refused:
        return -math.inf
    values = len(case.query.spans())
    count = max(300, (draws // 6 if case.query.kind == "quantile" else draws) // values)
    return bound(first(count), second(count), case.claim[1])


def run(study: Study) -> Sequence[Finding]:
    """Each mechanism, then with an eighth of its noise, which must be seen; and the guard."""
    draws = study.tries(4_000, 150_000)
    found = {case: measured(case, draws) for case in cases()}
    with EIGHTH.planted():
        broken = {case: measured(case, draws // 4) for case in cases()}
    findings, bars = [], []
    for case, low in found.items():
        epsilon, delta = (float(value) for value in case.claim)
        bars.append(Bar(case.name, max(low, 0.0), epsilon))
        findings.append(
            Finding(
                claim=f"ε of the gateway's {case.name}",
                method=f"{draws} values of two groups that differ in one meter, by technique dp itself; "
                f"δ = {delta:g}; with an eighth of the noise at least {broken[case]:.3f}",
                claimed=f"at most {epsilon:g}"
                + (", each of its three choices" if case.query.kind == "quantile" else ""),
                measured=f"at least {low:.3f} (confidence {1 - ALPHA:.2%})",
                verdict=verdict(low <= epsilon, broken[case] > epsilon),
            )
        )
    findings[0] = replace(findings[0], chart=ranges(bars, "ε", "lower bound measured", "claimed"))
    return [*findings, _guard()]


def _guard() -> Finding:
    """Every mechanism that is calibrated for half its sensitivity is refused before it sees readings."""
    noisy = [case for case in cases() if case.query.kind != "quantile"]
    with CALIBRATION.planted():
        stopped = sum(_stopped(case) for case in noisy)
    return Finding(
        claim="a mechanism calibrated for half the sensitivity answers nothing",
        method="calibration for half the sensitivity; the sensitivity worked out by hand is untouched",
        claimed=f"refused as scale_too_small, all {len(noisy)}",
        measured=f"{stopped} of {len(noisy)}",
        verdict=verdict(stopped == len(noisy)),
    )


def _stopped(case: Case) -> bool:
    try:
        answered(case.query, [0] * case.query.intervals)
    except Refused as refused:
        return refused.reason == "scale_too_small"
    return False


CHECK = Check(
    "gateway",
    "The privacy gateway's noise",
    "Two groups that differ in one meter's whole range, whatever it recorded: how well can the gateway's "
    "answers tell them apart? The bound is from below, as above.",
    run,
    ("half-noise", "no-guard"),
)
