"""k-anonymity and l-diversity by generalisation and suppression (Sweeney 2002; Machanavajjhala
2007).

A record is one home in one window of days (a new pseudonym each window). What an outsider may know
(quasi-identifiers) is all of it but the sensitive fact: the coarsened and banded readings, and the
other facts. Each of these is made coarser in steps until, after leaving out the records that are
still too rare, every combination belongs to at least k homes with at least l values of the
sensitive fact. Of the grids that do, the one whose readings are nearest to the true ones is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from wattveil.privacy.anonymise.profiles import Profiles, coarsen

if TYPE_CHECKING:
    from numpy.typing import NDArray

DAY_S = 86_400
HOURS = (1, 2, 3, 4, 6, 8, 12, 24)  # of a coarse interval, then the whole window
BANDS = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)  # Wh
ANY = "*"


@dataclass(frozen=True)
class Grid:
    """How coarse. steps: intervals summed; band: width in Wh; kept: facts not generalised to ANY."""

    steps: int
    band: int
    kept: tuple[str, ...]


@dataclass(frozen=True)
class Release:
    """Records [record, coarse interval]: the lower end of the band in Wh, or -1 where absent.

    home, window: whose and of when each record is (never exported); shown: not suppressed.
    """

    grid: Grid
    window_steps: int  # intervals of a window, uncoarsened
    bands: NDArray[np.int64]
    home: NDArray[np.int64]
    window: NDArray[np.int64]
    facts: list[tuple[str, ...]]
    shown: NDArray[np.bool_]

    @property
    def suppressed(self) -> float:
        """Share of the records that are left out."""
        return float(1 - self.shown.mean()) if len(self.shown) else 0.0


def grids(interval_s: int, window_s: int, facts: Sequence[str]) -> list[Grid]:
    """All that may be tried, of each length and band those that keep more facts first."""
    lengths = [h * 3600 for h in HOURS if h * 3600 >= interval_s and h * 3600 < window_s]
    subsets = [tuple(f for f, keep in zip(facts, bits, strict=True) if keep)
               for bits in product((True, False), repeat=len(facts))]  # fmt: skip
    subsets.sort(key=len, reverse=True)
    return [Grid(length // interval_s, band, kept)
            for length in [*lengths, window_s] if length % interval_s == 0 and window_s % length == 0
            for band in BANDS for kept in subsets]  # fmt: skip


def error(profiles: Profiles, grid: Grid, window_s: int) -> float:
    """Mean absolute error, Wh a reading, of a home's curve drawn from the middles of its bands."""
    window = window_s // profiles.interval_s
    wh = profiles.wh[:, : profiles.wh.shape[1] // window * window]
    summed = coarsen(wh, grid.steps)
    middle = (summed // grid.band * grid.band + grid.band / 2) / grid.steps
    drawn = np.repeat(middle, grid.steps, axis=1)
    known = (wh >= 0) & np.repeat(summed >= 0, grid.steps, axis=1)
    return float(np.abs(drawn - wh)[known].mean()) if known.any() else 0.0


def coarse(profiles: Profiles, grid: Grid, window_s: int, facts: Sequence[str]) -> Release:
    """The records on a grid, none suppressed but those with a reading missing."""
    window = window_s // profiles.interval_s
    count = profiles.wh.shape[1] // window
    cut = profiles.wh[:, : count * window].reshape(-1, window)
    summed = coarsen(cut, grid.steps)
    bands = np.where(summed < 0, -1, summed // grid.band * grid.band)
    kept = [
        tuple(str(home.get(f, "")) if f in grid.kept else ANY for f in facts)
        for home in profiles.facts
    ]
    home = np.repeat(np.arange(profiles.homes), count)
    number = np.tile(np.arange(count), profiles.homes)
    whole = np.all(bands >= 0, axis=1).reshape(-1)
    return Release(grid, window, bands, home, number, [kept[i] for i in home.tolist()], whole)


def classes(release: Release) -> NDArray[np.int64]:
    """The class of each record: the same window, readings and facts."""
    codes = {fact: i for i, fact in enumerate(dict.fromkeys(release.facts))}
    facts = np.array([codes[fact] for fact in release.facts], np.int64)
    table = np.column_stack([release.window, facts, release.bands])
    return np.unique(table, axis=0, return_inverse=True)[1].ravel()


def suppress(release: Release, sensitive: Sequence[str], k: int, l_diverse: int) -> Release:
    """Leave out every record whose class has fewer than k homes or l values of `sensitive`.

    sensitive: of each home.
    """
    member = classes(release)
    shown = release.shown
    counts = np.bincount(member[shown], minlength=member.max(initial=-1) + 1)
    codes = {value: i for i, value in enumerate(dict.fromkeys(sensitive))}
    values = np.array([codes[v] for v in sensitive], np.int64)[release.home]
    pairs = np.unique(np.column_stack([member[shown], values[shown]]), axis=0)
    diverse = np.bincount(pairs[:, 0], minlength=len(counts))
    good = shown & (counts[member] >= k) & (diverse[member] >= l_diverse)
    return Release(release.grid, release.window_steps, release.bands, release.home,
                   release.window, release.facts, good)  # fmt: skip


def anonymise(
    profiles: Profiles,
    *,
    k: int,
    l_diverse: int,
    window_s: int,
    most_suppressed: float,
    facts: Sequence[str] = ("tariff", "region"),
    sensitive: str = "type",
) -> Release:
    """The finest release in which at most such a share of records is suppressed; ValueError when
    there is none."""
    if not 2 <= k <= profiles.homes or l_diverse < 1:
        raise ValueError(f"k must be 2 to the {profiles.homes} homes, and l at least 1")
    if window_s % DAY_S or not 1 <= window_s // profiles.interval_s <= profiles.wh.shape[1]:
        raise ValueError("the window is a whole number of days within the range")
    secret = [str(home.get(sensitive, "")) for home in profiles.facts]
    candidates = grids(profiles.interval_s, window_s, facts)
    errors = {(g.steps, g.band): 0.0 for g in candidates}
    errors = {at: error(profiles, Grid(*at, ()), window_s) for at in errors}
    for grid in sorted(candidates, key=lambda g: errors[g.steps, g.band]):
        release = coarse(profiles, grid, window_s, facts)
        incomplete = 1 - release.shown.mean()
        release = suppress(release, secret, k, l_diverse)
        if release.suppressed - incomplete <= most_suppressed and release.shown.any():
            return release
    raise ValueError(
        f"no grid gives k = {k}, l = {l_diverse} with {most_suppressed:.0%} suppressed: allow more "
        "suppression, a smaller l, or a shorter window"
    )
