"""What many answers cost together, by composition theorems that beat the plain sum.

It is shown beside the sum and never decides: limits hold on the sum. Both numbers are at one delta
that comes on top of none: the deltas of the answers are within it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

Json = dict[str, Any]
LARGE = 300  # of epsilon: it protects nothing, and a loss distribution of it fills the memory


def compose(events: Sequence[Json], delta: float) -> Json:
    """Epsilon of all answers together at `delta`, by RDP and by PLD (Google's dp-accounting).

    An answer with delta 0 counts as the worst epsilon-private mechanism there is, randomised
    response; a discrete Gaussian in RDP by its rho, in PLD as the worst (epsilon, delta) one.
    math.inf is None, and so is what would take too long beyond a sum of LARGE. ValueError for a delta
    that is none.
    """
    if not 0 < delta < 1:
        raise ValueError("dp-delta: between 0 and 1")
    shown: Json = {"answers": len(events), "delta": delta, "rdp": 0.0, "pld": 0.0}
    if not events:
        return shown
    shown["sum"] = float(sum(Fraction(event["epsilon"]) for event in events))
    if shown["sum"] > LARGE:
        return shown | {"rdp": None, "pld": None}
    shown["rdp"], shown["pld"] = _finite(_rdp(events, delta)), _finite(_pld(events, delta))
    return shown


def _rdp(events: Sequence[Json], delta: float) -> float:
    import dp_accounting
    from dp_accounting.rdp import RdpAccountant

    relation = dp_accounting.NeighboringRelation.REPLACE_ONE

    accountant = RdpAccountant(neighboring_relation=relation)
    for event in events:
        if "rho" in event:
            one = dp_accounting.GaussianDpEvent(1 / math.sqrt(2 * event["rho"]))
        else:
            epsilon = float(Fraction(event["epsilon"]))
            one = dp_accounting.RandomizedResponseDpEvent(2 / (1 + math.exp(epsilon)), 2)
        accountant.compose(one)
    return float(accountant.get_epsilon(delta))


def _pld(events: Sequence[Json], delta: float) -> float:
    from dp_accounting.pld import common, privacy_loss_distribution

    counts: dict[tuple[str, str], int] = {}
    for event in events:
        cost = event["epsilon"], event["delta"]
        counts[cost] = counts.get(cost, 0) + 1
    total = privacy_loss_distribution.identity()
    for (epsilon, own), count in counts.items():
        parameters = common.DifferentialPrivacyParameters(
            float(Fraction(epsilon)), float(Fraction(own))
        )
        one = privacy_loss_distribution.from_privacy_parameters(parameters)
        total = total.compose(one.self_compose(count))
    return float(total.get_epsilon_for_delta(delta))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
