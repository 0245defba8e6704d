"""The aggregation rule, 15/15 by default: sums over at least 15 homes, none above 15 % of one.

An industry rule, not the CPUC's, and no differential privacy: see docs/VAULT.md. The groups are a
partition, and no sum over several of them is given, so that nothing can be subtracted; a group that
is too small goes into a pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from wattveil.privacy.anonymise.profiles import Facts, Profiles, coarsen

if TYPE_CHECKING:
    from numpy.typing import NDArray

POOL = "other"


class Sums(NamedTuple):
    """One group: sum of each interval, -1 where the rule forbids it."""

    name: str
    wh: NDArray[np.int64]


def aggregate(
    profiles: Profiles, by: Sequence[str], steps: int, least: int, share: Fraction
) -> list[Sums]:
    """Sums over the groups that the facts `by` make, `steps` intervals at a time."""
    wh = coarsen(profiles.wh, steps)
    groups = grouped(profiles.facts, by, least)
    return [Sums(name, sums(wh[members], least, share)) for name, members in groups.items()]


def grouped(facts: Sequence[Facts], by: Sequence[str], least: int) -> dict[str, list[int]]:
    """Homes by the facts `by`, small groups pooled: by public facts alone, so that who is in a
    group does not depend on readings."""
    names: dict[str, list[int]] = {}
    for i, home in enumerate(facts):
        names.setdefault(",".join(f"{key}={home.get(key, '')}" for key in by), []).append(i)
    return partition(names, least)


def partition(groups: dict[str, list[int]], least: int) -> dict[str, list[int]]:
    """Groups below `least` pooled; a pool still too small takes the smallest group in."""
    large = {name: who for name, who in sorted(groups.items()) if len(who) >= least}
    pool = [i for name, who in groups.items() if name not in large for i in who]
    if 0 < len(pool) < least and large:
        pool += large.pop(min(large, key=lambda name: (len(large[name]), name)))
    return large | ({POOL: sorted(pool)} if len(pool) >= least else {})


def sums(wh: NDArray[np.int64], least: int, share: Fraction) -> NDArray[np.int64]:
    """Of [home, interval]; -1 where fewer than `least` have a reading or one is above the share."""
    present = wh >= 0
    values = np.where(present, wh, 0)
    total, most = values.sum(axis=0), values.max(axis=0, initial=0)
    return np.where(permitted(total, most, present.sum(axis=0), least, share), total, -1)


def permitted(
    total: NDArray[np.int64],
    most: NDArray[np.int64],
    homes: NDArray[np.int64],
    least: int,
    share: Fraction,
) -> NDArray[np.bool_]:
    """Where the rule lets a sum be given. most: of one home."""
    return (homes >= least) & (most * share.denominator <= total * share.numerator)
