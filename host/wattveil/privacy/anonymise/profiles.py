"""Many homes' readings on one grid: what is anonymised and what is attacked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wattveil.importers.readings import LoadData
from wattveil.privacy.contracts import Block

if TYPE_CHECKING:
    from numpy.typing import NDArray

Facts = Mapping[str, str]


@dataclass(frozen=True)
class Profiles:
    """`wh[i, t]`: home i's energy in [start + t * interval_s, ...); -1 where there is none.

    facts[i]: tariff, region, type of home i.
    """

    start: int
    interval_s: int
    wh: NDArray[np.int64]
    facts: Sequence[Facts]

    @property
    def homes(self) -> int:
        """How many."""
        return len(self.wh)


def of_load(data: LoadData, facts: Mapping[str, Facts] | None = None) -> Profiles:
    """From files, for a study of one's own."""
    wh = np.full((len(data.meters), len(data.starts)), -1, np.int64)
    for i, meter in enumerate(data.meters):
        row = data.values[meter]
        at = (np.fromiter(row.keys(), np.int64, len(row)) - data.starts[0]) // data.period_s
        wh[i, at] = np.fromiter(row.values(), np.int64, len(row))
    known = facts or {}
    return Profiles(data.starts[0], data.period_s, wh, [known.get(m, {}) for m in data.meters])


def of_blocks(
    blocks: Iterable[Block], facts: Mapping[str, Facts], start: int, interval_s: int
) -> Profiles:
    """From the vault; homes in an order that tells nothing."""
    parts, names = [], list[str]()
    for block in blocks:
        parts.append(np.where(block.present, block.wh, -1))
        names += block.pseudonyms
    order = np.random.default_rng().permutation(len(names))
    wh = np.concatenate(parts)[order]
    return Profiles(start, interval_s, wh, [facts.get(names[i], {}) for i in order.tolist()])


def coarsen(wh: NDArray[np.int64], steps: int) -> NDArray[np.int64]:
    """Sums over so many intervals; -1 where one of them is absent. The last axis is time, whose
    length `steps` divides."""
    cut = wh.reshape(*wh.shape[:-1], -1, steps)
    return np.where((cut < 0).any(axis=-1), -1, cut.sum(axis=-1))
