"""Technique `aggregate`: exact values of large, even groups; the industry's 15/15 rule.

The policy keeps the first half, at least 15 members. The second half, no member above 15 % of a
value, depends on the readings: a refusal tells that somebody dominates. It is no differential
privacy, has no epsilon, and says nothing about what others know; see docs/POLICY.md.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from wattveil.privacy.config import show
from wattveil.privacy.contracts import Json
from wattveil.privacy.gateway import Blocks
from wattveil.privacy.query.ask import Query
from wattveil.privacy.query.statistic import contributions
from wattveil.privacy.refusals import Refused
from wattveil.privacy.techniques import Cost, Group

KINDS = ("sum", "mean", "curve")


class Aggregate:
    """See `Technique`."""

    name = "aggregate"

    def check(self, query: Query, group: Group) -> Cost:
        """No epsilon. ValueError for other than sums."""
        if query.kind not in KINDS:
            raise ValueError(f"technique aggregate answers {', '.join(KINDS)}, not {query.kind}")
        return Cost(Fraction(0))

    def preview(self, query: Query, group: Group) -> Json:
        """Exact values have no error."""
        raise Refused("no_preview", "exact values have no error to expect")

    def run(self, query: Query, group: Group, blocks: Blocks) -> Json:
        """Every value, or none when one member makes up too much of one value."""
        total, largest = 0, 0
        for block in blocks:
            part = contributions(query, block.wh, block.present)
            total = total + part.sum(axis=0)
            largest = np.maximum(largest, part.max(axis=0))
        share = group.dominance
        wholes = [int(value) for value in np.atleast_1d(total)]
        tops = [int(value) for value in np.atleast_1d(largest)]
        if any(top > share * whole for top, whole in zip(tops, wholes, strict=True)):
            raise Refused("dominant_member", f"above {float(share):.0%} of one value")
        parts = query.intervals * group.members if query.kind == "mean" else 1
        values = [whole if parts == 1 else whole / parts for whole in wholes]
        return {
            "mechanism": "none: exact",
            "dominance": show(share),
            "values": [
                span | {"value": value, "low": value, "high": value}
                for span, value in zip(query.spans(), values, strict=True)
            ],
        }
