"""The load a plan is held against: readings of a file, or the household model's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wattveil.importers.csv_file import read_csv
from wattveil.importers.households import DEFAULT_START, generate
from wattveil.importers.readings import LoadData
from wattveil.planning.compose import DAY_S

HOMES, DAYS, SEED = 300, 7, 1  # of the household model
STEP_S, USUAL_S = 300, 1800


@dataclass(frozen=True)
class Profile:
    """Per home and period, Wh. mean: over all readings. quiet: harmonic mean of the periods' means, the
    load to divide by for errors averaged over periods. by_time: start in the day (s UTC) -> mean.
    above: share of readings above hi; cut: Wh that clamping takes off the mean."""

    source: str
    homes: int
    readings: int
    period_s: int
    mean: float
    quiet: float
    by_time: Mapping[int, float]
    above: float
    cut: float


def from_file(
    path: Path, hi: int, stamp: Literal["start", "end"] = "start", skip_bad: bool = False
) -> Profile:
    """All meters and periods of a common CSV; DataError."""
    return profile(read_csv(path, stamp=stamp, skip_bad=skip_bad), hi)


def from_model(period_s: int, hi: int) -> Profile:
    """The household model's week. A period it cannot make gets its mean power, spread evenly."""
    fits = period_s % STEP_S == 0 and DAY_S % period_s == 0
    made = period_s if fits else USUAL_S
    data = generate(HOMES, DAYS * DAY_S // made, SEED, DEFAULT_START, made)
    if fits:
        return profile(data, hi)
    base, part = profile(data, hi), period_s / USUAL_S
    scaled = {at: wh * part for at, wh in base.by_time.items()}
    source = f"{base.source}, mean power"
    return Profile(
        source,
        HOMES,
        base.readings,
        period_s,
        base.mean * part,
        base.quiet * part,
        scaled,
        0.0,
        0.0,
    )


def profile(data: LoadData, hi: int) -> Profile:
    """What a plan needs of readings. ValueError when nothing was used in any period."""
    sums: dict[int, int] = defaultdict(int)
    counts: dict[int, int] = defaultdict(int)
    above = cut = 0
    for row in data.values.values():
        for start, wh in row.items():
            sums[start] += wh
            counts[start] += 1
            above += wh > hi
            cut += max(0, wh - hi)
    readings, total = sum(counts.values()), sum(sums.values())
    if total <= 0:
        raise ValueError(f"{data.source}: all readings are 0, so no error can be relative to them")
    at_time: dict[int, list[float]] = defaultdict(list)
    means = [sums[start] / counts[start] for start in sorted(sums)]
    for start, mean in zip(sorted(sums), means, strict=True):
        at_time[start % DAY_S].append(mean)
    inverse = sum(1 / mean if mean else float("inf") for mean in means) / len(means)
    return Profile(
        source=data.source,
        homes=len(data.meters),
        readings=readings,
        period_s=data.period_s,
        mean=total / readings,
        quiet=1 / inverse,
        by_time={at: sum(m) / len(m) for at, m in sorted(at_time.items())},
        above=above / readings,
        cut=cut / readings,
    )
