"""What each member contributes to an answer: an integer vector of bounded length, and their sum.

A reading is clipped into [0, clip]; an absent one counts 0. The bounds come from the query alone,
so they are public; how far a member can move the sum follows from them (`norms`), and again from
the function itself, applied to the two most different members there can be (`norms_by_hand`).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from wattveil.privacy.contracts import Block
from wattveil.privacy.query.ask import Query
from wattveil.privacy.query.noise import Norms

Vector = NDArray[np.int64]


def contributions(query: Query, wh: Vector, present: NDArray[np.bool_]) -> Vector:
    """[members, values] of [members, intervals] readings, 0 where absent; numpy does the bounding."""
    clipped = np.clip(wh, 0, query.clip_wh)
    if query.kind == "curve":
        members, steps = clipped.shape[0], query.steps
        if steps == query.intervals:
            return clipped
        curve: Vector = clipped.reshape(members, steps, -1).sum(axis=2)
        return curve
    total: Vector = np.asarray(clipped.sum(axis=1))
    if query.kind in ("sum", "mean"):
        return total.reshape(-1, 1)
    if query.kind == "count":
        counted = present.any(axis=1) if query.above is None else total > query.above
        return np.asarray(counted, dtype=np.int64).reshape(-1, 1)
    if query.kind == "histogram":
        # The mean is compared as a sum, in whole numbers: total >= edge * intervals.
        edges = np.array(query.edges[1:-1], dtype=np.int64) * query.intervals
        place = np.searchsorted(edges, total, side="right")
        bins: Vector = np.zeros((len(total), len(query.edges) - 1), dtype=np.int64)
        bins[np.arange(len(total)), place] = 1
        return bins
    raise ValueError(f"{query.kind} is no sum over members")


def total(query: Query, blocks: Iterable[Block]) -> list[int]:
    """The vector of the whole group: exact, secret."""
    added: Vector | None = None
    for block in blocks:
        part = contributions(query, block.wh, block.present).sum(axis=0)
        added = part if added is None else added + part
    if added is None:
        return [0] * width(query)
    return [int(value) for value in added]


def means(query: Query, blocks: Iterable[Block]) -> Vector:
    """Every member's mean reading in Wh, rounded down: for quantiles; secret."""
    parts = [np.clip(b.wh, 0, query.clip_wh).sum(axis=1) // query.intervals for b in blocks]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def width(query: Query) -> int:
    """How many values an answer has."""
    if query.kind == "curve":
        return query.steps
    return len(query.edges) - 1 if query.kind == "histogram" else 1


def norms(query: Query) -> Norms:
    """The sensitivity to one member, by formula: T intervals of at most c, k of them a step."""
    if query.kind == "count":
        return Norms(1, 1)
    if query.kind == "histogram":
        return Norms(2, 2)  # out of one bin, into another
    whole = query.intervals * query.clip_wh
    if query.kind == "curve":
        step = query.resolution_s // query.interval_s * query.clip_wh
        return Norms(whole, query.steps * step**2)
    return Norms(whole, whole**2)


def norms_by_hand(query: Query) -> Norms:
    """The same from the function: a member with nothing against one with more than all."""
    shape = (1, query.intervals)
    nothing, all_there = np.zeros(shape, dtype=np.int64), np.ones(shape, dtype=np.bool_)
    far = np.full(shape, max(2 * query.clip_wh, (query.above or 0) + 1), dtype=np.int64)
    least = contributions(query, nothing, ~all_there)[0]
    most = contributions(query, far, all_there)[0]
    apart = [abs(int(a) - int(b)) for a, b in zip(most, least, strict=True)]
    return Norms(sum(apart), sum(d * d for d in apart))
