"""Technique `dp`: answers with noise, private with respect to one meter over the whole range."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from wattveil.privacy.config import show
from wattveil.privacy.contracts import Json
from wattveil.privacy.gateway import Blocks
from wattveil.privacy.query import statistic
from wattveil.privacy.query.ask import UNITS, Query
from wattveil.privacy.query.noise import LEVEL, Mechanism, calibrate, guard, library
from wattveil.privacy.refusals import Refused
from wattveil.privacy.techniques import Cost, Group

CANDIDATES = 256  # of a quantile, evenly over [0, clip]
PARTS = 3  # of a quantile's epsilon: the value, and both ends of its interval


class DP:
    """See `Technique`."""

    name = "dp"

    def check(self, query: Query, group: Group) -> Cost:
        """Epsilon and delta as asked; ValueError for what no mechanism here can do."""
        epsilon = _epsilon(query)
        if query.kind == "quantile":
            if query.delta:
                raise ValueError("a quantile needs no delta: leave --dp-delta out")
            return Cost(epsilon, Fraction(0), {"mechanism": "permute-and-flip"})
        mechanism = calibrate(statistic.norms(query), epsilon, query.delta)
        return Cost(epsilon, query.delta, mechanism.event)

    def preview(self, query: Query, group: Group) -> Json:
        """The error of one value, from scale, range and group minimum alone."""
        if query.kind == "quantile":
            raise Refused("no_preview", "a quantile's error depends on the readings")
        mechanism = calibrate(statistic.norms(query), _epsilon(query), query.delta)
        share = query.intervals * group.group_min if query.kind == "mean" else 1
        expected: Json = {
            "unit": UNITS[query.kind],
            "mean_abs_error": mechanism.mean_abs / share,
            "standard_error": mechanism.sd / share,
            "half_width_95": mechanism.half_width / share,
        }
        if share > 1:
            expected["for_members"] = group.group_min
        return _noise_fields(query, mechanism) | {"preview": expected}

    def run(self, query: Query, group: Group, blocks: Blocks) -> Json:
        """Noise, once, after the spend; the guard comes before the data."""
        epsilon = _epsilon(query)
        if query.kind == "quantile":
            return _quantile(query, group, epsilon, blocks)
        mechanism = calibrate(statistic.norms(query), epsilon, query.delta)
        guard(mechanism, statistic.norms_by_hand(query), epsilon, query.delta)
        noisy = [float(value) for value in mechanism.draw(statistic.total(query, blocks))]
        wide = float(mechanism.half_width)
        fields = _noise_fields(query, mechanism)
        if query.kind == "mean":  # membership is public, so its size may divide
            share = query.intervals * group.members
            noisy, wide = [value / share for value in noisy], wide / share
        else:
            noisy, wide = [int(value) for value in noisy], int(wide)
        bands = [(value, value - wide, value + wide) for value in noisy]
        if query.consistent:
            bands, fields["post_processing"] = _consistent(query, group, bands)
        return fields | {"values": _values(query, bands)}


def _epsilon(query: Query) -> Fraction:
    if query.epsilon is None:
        raise ValueError("technique dp needs an epsilon")
    return query.epsilon


def _noise_fields(query: Query, mechanism: Mechanism) -> Json:
    laplace = mechanism.name == "discrete Laplace"
    norms = mechanism.norms
    unit = "Wh" if query.kind in ("sum", "mean", "curve") else "meters"
    length = norms.l1 if laplace else math.sqrt(norms.l2_squared)
    return {
        "mechanism": mechanism.name,
        "scale": mechanism.scale,
        "scale_unit": unit,
        "norm": {"kind": "L1" if laplace else "L2", "bound": length, "unit": unit},
        "interval_level": LEVEL,  # of each value by itself, around the clipped truth
    }


def _values(query: Query, bands: list[tuple[float, float, float]]) -> list[Json]:
    spans = query.spans()
    return [
        span | {"value": value, "low": low, "high": high}
        for span, (value, low, high) in zip(spans, bands, strict=True)
    ]


def _consistent(
    query: Query, group: Group, bands: list[tuple[float, float, float]]
) -> tuple[list[tuple[float, float, float]], list[str]]:
    """Post-processing costs no privacy; it biases small values upwards, so it is asked for."""
    done = ["non-negative"]
    values = [value for value, _, _ in bands]
    if query.kind == "histogram":
        done.append("bins add up to the members, who are public")
        values = _simplex(values, group.members)
    if query.kind == "count":
        done.append("at most the members, who are public")
        values = [min(value, group.members) for value in values]
    top = group.members if query.kind in ("histogram", "count") else math.inf
    return [
        (max(0, value), min(max(0, low), top), min(max(0, high), top))
        for value, (_, low, high) in zip(values, bands, strict=True)
    ], done


def _simplex(values: list[float], total: int) -> list[float]:
    """The nearest non-negative vector of this sum (Euclidean projection)."""
    descending = np.sort(np.array(values))[::-1]
    excess = (np.cumsum(descending) - total) / np.arange(1, len(values) + 1)
    shift = excess[np.nonzero(descending > excess)[0][-1]]
    return [float(value) for value in np.maximum(np.array(values) - shift, 0)]


def _quantile(query: Query, group: Group, epsilon: Fraction, blocks: Blocks) -> Json:
    """Three choices among public candidates, each with a third of epsilon.

    A candidate's score is minus how far its rank is from the one wanted, in units of 1/den of a
    member for the quantile num/den: minus |(den - num) * below - num * above|. Replacing one
    member moves it by at most den. Choosing by permute-and-flip (McKenna and Sheldon, 2020) with
    noise 2 den / epsilon is epsilon-private and misses the best score by more than
    scale * ln(candidates / beta) with chance at most beta: so the interval's ends aim that many
    ranks lower and higher, and one candidate further.
    """
    part = epsilon / PARTS
    step = -(-query.clip_wh // CANDIDATES)
    candidates = list(range(0, query.clip_wh + step, step))
    held = np.sort(statistic.means(query, blocks))
    ranks = math.log(len(candidates) * 2 / (1 - LEVEL)) * float(2 / part)
    margin = Fraction(math.ceil(ranks), max(1, group.members))
    chosen = {}
    for name, at in (("low", query.at - margin), ("value", query.at), ("high", query.at + margin)):
        wanted = min(max(at, Fraction(0)), Fraction(1))
        chosen[name] = _choose(scores(held, candidates, wanted), wanted.denominator, part)
    low, high = max(chosen["low"] - 1, 0), min(chosen["high"] + 1, len(candidates) - 1)
    ends = sorted((candidates[low], candidates[high]))
    value = float(candidates[chosen["value"]])
    bands = [(value, float(min(ends[0], value)), float(max(ends[1], value)))]
    return {
        "mechanism": "permute-and-flip",
        "scale": float(2 / part),
        "scale_unit": "ranks",
        "norm": {"kind": "rank", "bound": 1, "unit": "members"},
        "interval_level": LEVEL,
        "quantile": show(query.at),
        "interval_paid": f"two thirds of epsilon; the value has {show(part)}",
        "values": _values(query, bands),
    }


def scores(held: statistic.Vector, candidates: list[int], wanted: Fraction) -> list[int]:
    """How good each candidate is as this quantile of sorted values, 0 at best."""
    num, den = wanted.numerator, wanted.denominator
    below = np.searchsorted(held, candidates, side="left").astype(np.int64)
    above = len(held) - np.searchsorted(held, candidates, side="right").astype(np.int64)
    return [-abs(int(score)) for score in (den - num) * below - num * above]


def _choose(ranked: list[int], sensitivity: int, epsilon: Fraction) -> int:
    """The index of a high score; Refused("scale_too_small") if the noise were not enough."""
    dp = library()
    scale = float(2 * sensitivity / epsilon)
    while Fraction(scale) * epsilon < 2 * sensitivity:
        scale = math.nextafter(scale, math.inf)
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.linf_distance(T="i64")
    choose = dp.m.make_noisy_max(*space, dp.max_divergence(), scale)
    while Fraction(float(choose.map(sensitivity))) > epsilon:  # it rounds up in floats
        scale = math.nextafter(scale, math.inf)
        choose = dp.m.make_noisy_max(*space, dp.max_divergence(), scale)
    if Fraction(scale) * epsilon < 2 * sensitivity:
        raise Refused("scale_too_small", "permute-and-flip")
    return int(choose(ranked))
