"""What totals tell of one home: a boiled kettle, a week away, a home that joined. Against chance.

Each trial is one of two cases, the same home and the same time: with and without the kettle, at home and
away (its lowest readings), in the total and not (its reading 0: who is in S is public). The attacker looks at
the home's readings, at a noise-free total or at a released one, knowing all other readings or only the
fleet's mean profile, and decides by the threshold that was best on other trials. No attacker on a released
total can be right more often than 1 / (1 + e^-ε'), ε' = ε · (Wh between the cases) / Δ, summed over periods.
"""

from __future__ import annotations

import csv
import gzip
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from wattveil.audit import stats
from wattveil.audit.bench import dice, drbg
from wattveil.audit.finding import Check, Finding, Study, verdict
from wattveil.audit.svg import Bar, ranges
from wattveil.importers.csv_file import read_csv
from wattveil.importers.households import generate
from wattveil_meter.noise import make_sampler

DELTA, EPSILON, A = 11_500, 1, 10  # the noise of |S| = a meters: its law depends on |S| / a only
DAY, WEEK = 48, 336  # half hours
KETTLE_WH, LEAST_WH = 140, 50  # 2.8 kW for 3 minutes; a boil that counts
MODEL_HOMES, MODEL_SEED = 30, 1

REFIT, LCL = "*refit*1min*.csv*", ("*sample*.csv", "*30min_winter4w.csv*")  # quick, long


@dataclass(frozen=True)
class Home:
    """Half-hourly Wh, and what of it a kettle used; the latter None where nobody knows."""

    wh: Sequence[int]
    kettle: Sequence[int] | None = None


@dataclass(frozen=True)
class Homes:
    """targets: whom the attacker is after. others: half-hourly Wh of homes around them."""

    targets: Sequence[Home]
    others: Sequence[Sequence[int]]
    source: str


@dataclass(frozen=True)
class Trial:
    """Sums over the trial's periods, Wh: the home's in both cases; at: its first half hour."""

    without: int
    event: int
    at: int
    periods: int

    @property
    def apart(self) -> int:
        """Wh between the cases."""
        return self.event - self.without


Draw = Callable[[Home, random.Random], Trial]


def kettle(home: Home, rng: random.Random) -> Trial:
    """A half hour with the kettle, as the appliance's own record has it, or with one boil added."""
    if home.kettle is None:
        at = rng.randrange(len(home.wh))
        return Trial(home.wh[at], home.wh[at] + KETTLE_WH, at, 1)
    at = rng.choice([t for t, wh in enumerate(home.kettle) if wh >= LEAST_WH])
    return Trial(home.wh[at] - home.kettle[at], home.wh[at], at, 1)


def vacation(home: Home, rng: random.Random) -> Trial:
    """A week at home is the event; away, every half hour is as the lowest tenth."""
    at = rng.randrange(len(home.wh) - WEEK + 1)
    base = sorted(home.wh)[len(home.wh) // 10]
    there = home.wh[at : at + WEEK]
    return Trial(sum(min(wh, base) for wh in there), sum(there), at, WEEK)


def joined(home: Home, rng: random.Random) -> Trial:
    """A day of readings that are in the totals, or are 0."""
    at = rng.randrange(len(home.wh) - DAY + 1)
    return Trial(0, sum(home.wh[at : at + DAY]), at, DAY)


EVENTS: dict[str, tuple[str, Draw]] = {
    "a boiled kettle": ("one half hour", kettle),
    "a week away": ("a week of half hours", vacation),
    "an added household": ("a day of half hours", joined),
}


def load(study: Study) -> Homes:
    """From the data folder what is there; the project's household model for the rest."""
    refit, lcl = _find(study.data, REFIT), _find(study.data, LCL[study.long])
    names = []
    if lcl:
        data = read_csv(lcl)
        rows = [[row.get(t, 0) for t in data.starts] for row in data.values.values()]
        names.append(lcl.name)
    else:
        data = generate(MODEL_HOMES, 2 * WEEK, MODEL_SEED)
        rows = [[row[t] for t in data.starts] for row in data.values.values()]
        names.append(data.source)
    targets = [Home(row) for row in rows[:20] if len(row) >= WEEK]
    if refit:
        targets = [_refit(refit)]
        names.insert(0, refit.name)
    return Homes(targets, rows, " and ".join(names))


def _find(folder: Path | None, pattern: str) -> Path | None:
    found = sorted(folder.glob(pattern)) if folder else []
    return found[0] if found else None


def _refit(path: Path) -> Home:
    """Half hours of a file of minutes: columns aggregate_w, kettle_w in W."""
    whole, boiled = [0.0], [0.0]
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        for i, row in enumerate(csv.DictReader(file)):
            if i and i % 30 == 0:
                whole.append(0.0)
                boiled.append(0.0)
            whole[-1] += float(row["aggregate_w"]) / 60
            boiled[-1] += float(row["kettle_w"]) / 60
    pairs = [(round(a), round(min(a, k))) for a, k in zip(whole, boiled, strict=True)]
    return Home([a for a, _ in pairs], [k for _, k in pairs])


class Fleet:
    """The other homes of a total of m, and the noise of a release."""

    def __init__(self, homes: Homes, draws: int) -> None:
        self._sums = [[0, *accumulate(row)] for row in homes.others]
        self._mean = [sum(at) / len(self._sums) for at in zip(*self._sums, strict=True)]
        sampler, source = make_sampler("gamma", A, EPSILON, 1, DELTA), drbg("inference")
        self._noise = [sum(sampler.share(source) for _ in range(A)) for _ in range(draws)]

    def unknown(self, trial: Trial, m: int, rng: random.Random) -> float:
        """What m - 1 other homes use beyond the mean profile, over the periods of a trial."""
        length = len(self._mean) - 1
        at = trial.at % (length - trial.periods + 1)
        end = at + trial.periods
        mean = self._mean[end] - self._mean[at]
        homes = rng.choices(self._sums, k=m - 1)
        return float(sum(row[end] - row[at] for row in homes) - (m - 1) * mean)

    def noise(self, periods: int, rng: random.Random) -> int:
        """The noise of so many releases, from the draws of the firmware's sampler."""
        return sum(rng.choices(self._noise, k=periods))


def run(study: Study) -> Sequence[Finding]:
    """Every event, for fleets of several sizes."""
    homes = load(study)
    fleet, tries = Fleet(homes, study.tries(6000, 60_000)), study.tries(1200, 20_000)
    sizes = (20, 100, 600) if study.long else (20, 100)
    return [
        finding
        for name, (span, draw) in EVENTS.items()
        for finding in _judge(name, span, draw, homes, fleet, tries, sizes)
    ]


def _judge(
    name: str,
    span: str,
    draw: Draw,
    homes: Homes,
    fleet: Fleet,
    tries: int,
    sizes: Sequence[int],
) -> list[Finding]:
    rng = dice(name)
    trials = [draw(rng.choice(homes.targets), rng) for _ in range(2 * tries)]
    bound = sum(stats.advantage(EPSILON * t.apart / DELTA) for t in trials) / len(trials)

    def right(look: Callable[[Trial], float]) -> tuple[int, int]:
        seen = [(look(t), t) for t in trials]
        low = [x + t.without for x, t in seen[::2]]
        high = [x + t.event for x, t in seen[1::2]]
        half = len(low) // 2
        at = stats.best_threshold(low[:half], high[:half])
        return stats.accuracy(low[half:], high[half:], at)

    alone = right(lambda t: 0.0)
    bars = [Bar("the home's readings", alone[0] / alone[1], 0.5)]
    known = right(lambda t: fleet.noise(t.periods, rng))
    findings = [
        Finding(
            claim=f"{name} in released totals, all other readings known",
            method=f"{tries} trials, {span}, Δ = {DELTA} Wh, ε = {EPSILON} a half hour; {homes.source}",
            claimed=f"right in {bound:.3f} at most (chance 0.5)",
            measured=f"right in {stats.interval(*known)}; from the home's own readings "
            f"{alone[0] / alone[1]:.3f}",
            verdict=verdict(not stats.above(*known, bound)),
        )
    ]
    for m in sizes:
        plain = right(lambda t, m=m: fleet.unknown(t, m, rng))  # type: ignore[misc]
        noisy = right(
            lambda t, m=m: fleet.unknown(t, m, rng) + fleet.noise(t.periods, rng)  # type: ignore[misc]
        )
        bars.append(Bar(f"noise-free total of {m}", plain[0] / plain[1], 0.5))
        bars.append(Bar(f"released total of {m}", noisy[0] / noisy[1], 0.5))
        findings.append(
            Finding(
                claim=f"{name} in released totals of {m} homes, only their mean profile known",
                method=f"{tries} trials, {span}; {homes.source}",
                claimed=f"right in {bound:.3f} at most (chance 0.5)",
                measured=f"right in {stats.interval(*noisy)}; from noise-free totals "
                f"{plain[0] / plain[1]:.3f}",
                verdict=verdict(not stats.above(*noisy, bound)),
            )
        )
    bars.insert(1, Bar("released, all others known", known[0] / known[1], bound))
    picture = ranges(bars, "share of right answers", f"{name}: right", "chance, or the claim", 1.0)
    return [replace(findings[0], chart=picture), *findings[1:]]


CHECK = Check(
    "inference",
    "What totals tell of one home",
    "Two cases by a coin, the same home at the same time. The threshold is chosen on half of the trials and "
    "counted on the other half.",
    run,
    ("kwh-scale",),
)
