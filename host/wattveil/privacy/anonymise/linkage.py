"""The linkage attack: how many of p known half-hours identify a home in an export?

The attacker knows p readings of one home, scattered in time or in a row from some midnight on (a
display watched, a bill, a device that reports), and looks for the records they fit. A coarse
interval fits when what is known of it is not above the top of its band, and, where all of it is
known, lies in the band. A home counts as identified when a single record of some window fits and it
is that home's; `exposed` is the share of its shown time so identified. A single fit that is somebody
else is a false claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wattveil.privacy.anonymise.kanonymity import DAY_S, Grid, Release, anonymise, coarse
from wattveil.privacy.anonymise.profiles import Profiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

KNOWN = (1, 2, 3, 4, 6, 8, 12, 24, 48, 96)
ATTACKERS = ("scattered", "in a row")


@dataclass(frozen=True)
class Outcome:
    """Shares of the attacked homes. known: p."""

    step: str
    attacker: str
    known: int
    identified: float
    exposed: float
    false_claims: float
    suppressed: float


def attack(
    profiles: Profiles, release: Release, step: str, known: Sequence[int], targets: int, seed: int
) -> list[Outcome]:
    """Attack some of the homes with each p, as either attacker. The same seed knows the same
    readings of the same homes, and more with a larger p."""
    random = np.random.default_rng(seed)
    present = profiles.wh >= 0
    complete = np.flatnonzero(present.sum(axis=1) >= max(known))
    chosen = random.permutation(complete)[:targets]
    days = DAY_S // profiles.interval_s
    order: dict[tuple[str, int], NDArray[np.int64]] = {}
    for t in chosen.tolist():
        there = np.flatnonzero(present[t])
        midnights = there[(there % days == 0) & (there <= there[-max(known)])]
        begin = random.choice(midnights) if len(midnights) else there[0]
        order["scattered", t] = random.permutation(there)
        order["in a row", t] = there[there >= begin]
    found = []
    for attacker, p in product(ATTACKERS, known):
        hits = [_one(profiles, release, t, order[attacker, t][:p]) for t in chosen.tolist()]
        table = np.array(hits, float).reshape(-1, 3)
        identified, exposed, wrong = table.mean(axis=0) if len(table) else (0.0, 0.0, 0.0)
        found.append(Outcome(step, attacker, p, float(identified), float(exposed), float(wrong),
                             release.suppressed))  # fmt: skip
    return found


def _one(
    profiles: Profiles, release: Release, target: int, at: NDArray[np.int64]
) -> tuple[bool, float, bool]:
    """Whether the home is identified, what share of its records, and whether another is named."""
    window_steps, steps, band = release.window_steps, release.grid.steps, release.grid.band
    own = (release.home == target) & release.shown
    right, wrong = 0, False
    for window in np.unique(at // window_steps).tolist():
        inside = at[at // window_steps == window]
        place, index = np.unique((inside % window_steps) // steps, return_inverse=True)
        sums = np.bincount(index.ravel(), weights=profiles.wh[target, inside]).astype(np.int64)
        whole = np.bincount(index.ravel()) == steps
        rows = np.flatnonzero(release.shown & (release.window == window))
        low = release.bands[np.ix_(rows, place)]
        fits = ((low + band > sums) & (~whole | (low <= sums))).all(axis=1)
        if fits.sum() == 1:
            mine = bool(own[rows[fits][0]])
            right += mine
            wrong |= not mine
    return right > 0, right / max(1, int(own.sum())), wrong


def study(
    profiles: Profiles,
    *,
    targets: int = 200,
    seed: int = 1,
    k: int = 5,
    l_diverse: int = 2,
    known: Sequence[int] = KNOWN,
) -> dict[str, Any]:
    """What each step buys: pseudonyms alone, coarser time, bands, rotation, and k-anonymity."""
    step, days = profiles.interval_s, profiles.wh.shape[1] * profiles.interval_s // DAY_S
    all_s = days * DAY_S
    plan = [
        ("pseudonyms only", step, 1, all_s),
        ("hourly", 3600, 1, all_s),
        ("6 h", 6 * 3600, 1, all_s),
        ("daily", DAY_S, 1, all_s),
        ("hourly, 500 Wh bands", 3600, 500, all_s),
        ("daily, 2 kWh bands", DAY_S, 2000, all_s),
        ("new pseudonym weekly", step, 1, min(7, days) * DAY_S),
        ("new pseudonym daily", step, 1, DAY_S),
        ("daily, 2 kWh bands, new pseudonym daily", DAY_S, 2000, DAY_S),
    ]
    outcomes: list[Outcome] = []
    for name, length, band, window_s in plan:
        if length % step or length < step:
            continue
        release = coarse(profiles, Grid(length // step, band, ()), window_s, ())
        # Records with a gap are shown here: the attack is on what is there.
        outcomes += attack(profiles, _with_gaps(release), name, known, targets, seed)
    grids = {}
    for days_of_window in (1, 7):
        if days_of_window > days:
            continue
        name = f"k = {k}, l = {l_diverse}, new pseudonym every {days_of_window} d"
        try:
            release = anonymise(profiles, k=k, l_diverse=l_diverse, window_s=days_of_window * DAY_S,
                                most_suppressed=0.1)  # fmt: skip
        except ValueError as error:
            grids[name] = str(error)
            continue
        length = release.grid.steps * step
        grids[name] = (
            f"{length // 3600} h, bands of {release.grid.band} Wh, facts {release.grid.kept}"
        )
        outcomes += attack(profiles, release, name, known, targets, seed)
    return {
        "homes": profiles.homes,
        "days": days,
        "interval_s": step,
        "targets": targets,
        "seed": seed,
        "grids": grids,
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }


def _with_gaps(release: Release) -> Release:
    """All records; an absent interval fits nothing that is known of it."""
    bands = np.where(release.bands < 0, -(1 << 40), release.bands)
    return Release(release.grid, release.window_steps, bands, release.home, release.window,
                   release.facts, np.ones(len(bands), bool))  # fmt: skip


def plot(result: dict[str, Any], path: Path) -> None:
    """Share of homes identified over p, a line for each step, as PNG or SVG by the file's name."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, both = pyplot.subplots(1, 2, figsize=(12, 5.5), layout="constrained", sharey=True)
    styles = ("-", "--", "-.", ":")
    for attacker, axes in zip(ATTACKERS, both, strict=True):
        outcomes = [o for o in result["outcomes"] if o["attacker"] == attacker]
        for number, step in enumerate(dict.fromkeys(o["step"] for o in outcomes)):
            rows = [o for o in outcomes if o["step"] == step]
            axes.plot(
                [o["known"] for o in rows], [100 * o["identified"] for o in rows],
                styles[number % 4], marker="o", markersize=3, label=step,
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_xticks(KNOWN, [str(p) for p in KNOWN])
        axes.set_xlabel(f"known readings of one home (p), {attacker}")
        axes.grid(alpha=0.3)
    both[0].set_ylabel("homes identified, %")
    both[1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(f"Linkage among {result['homes']} homes, {result['days']} days")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
