"""Seeded model of household electricity use, for any number of meters and periods.

It is there so that wattveil can be tried without anybody's real readings.  The same seed gives
the same readings on every machine and Python version: all arithmetic is on integers, and all
chance comes from SHA-256 of ``wattveil-household-1|seed|home|day|counter``.  A reading depends
on the seed, the home and the interval alone, so a smaller or shorter set is the beginning of a
larger one, and half-hours add up to the hours of the same seed.

One home is drawn once (all figures are per home unless they say otherwise):

=====================  =======================================================================
occupants              1: 30 %, 2: 34 %, 3: 16 %, 4: 14 %, 5: 6 %
size                   small, medium, large: 30, 45, 25 %
base load              15 W + 10 W per occupant + 20 W per size step + 0..50 W, always on
fridge-freezer         75..130 W, on for 15..25 minutes of every 40..60
routine                the day shifted by -60..+60 minutes
out at work            60 % of homes are quiet on weekdays from 9 to 16
electric shower        45 % of homes, 7.5..9.5 kW; electric oven 75 %, 2.0..2.6 kW;
                       dishwasher 45 %; tumble dryer 35 %; electric car 5 %, 7.2 kW
=====================  =======================================================================

Each day then brings: lights, screens and electronics of 65 W + 85 W per occupant + 50 W per size
step times the share of the hour in ``_WEEKDAY`` or ``_WEEKEND`` times 50..150 %; a kettle of
2.8 kW for 2..4 minutes, 1..3 times per occupant; a shower of 4..9 minutes for 75 % of occupants,
mostly in the morning; hob and oven for 20..60 minutes in the evening on 80 % of days; a washing
machine (2 kW for 20 minutes, then 250 W for an hour) on 15 % of days per occupant, followed in
homes with a dryer by 2.3 kW for 40..70 minutes; a dishwasher on 60 % of days; a car that charges
for 1..5 hours late in the evening on 45 % of days.  On 3 % of days nobody is at home.  A home
never draws more than 22.9 kW, a little under a 100 A fuse at 230 V (11,450 Wh per half-hour).

The figures are illustrative: rounded from what appliance labels and general statistics of
British homes commonly give, and tuned so that the mean is near 200 Wh per half-hour (about 10 kWh
a day).  They are not fitted to any data set, there is no season, no electric heating and no
solar generation, and clock time is UTC all year.  Nothing about a real population follows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from struct import unpack

from .readings import MAX_PERIODS, LoadData

DEFAULT_START = 1_767_571_200
"""2026-01-05T00:00:00Z, a Monday."""

MAX_METERS = 100_000
_CELL_S = 300  # the model's own step: five minutes
_CELLS = 86_400 // _CELL_S
_LIMIT_W = 22_900

# Share of the active load by hour of the day, in percent.
# fmt: off
_WEEKDAY = (
    10, 7, 5, 5, 6, 14, 38, 62, 55, 42, 38, 38,
    42, 40, 38, 45, 60, 82, 96, 100, 94, 80, 52, 24,
)
_WEEKEND = (
    14, 9, 6, 5, 5, 8, 18, 36, 56, 66, 66, 66,
    70, 68, 62, 62, 70, 84, 94, 98, 94, 84, 62, 32,
)
# fmt: on


class _Chance:
    """Counter-mode SHA-256 as a stream of 32-bit numbers."""

    def __init__(self, *key: int) -> None:
        self._key = "|".join(["wattveil-household-1", *map(str, key)]) + "|"
        self._counter = 0
        self._words: list[int] = []

    def below(self, n: int) -> int:
        """A number from 0 to n - 1 (n is small: the bias is under n / 2**32)."""
        if not self._words:
            block = sha256(f"{self._key}{self._counter}".encode("ascii")).digest()
            self._words.extend(unpack(">8I", block))
            self._counter += 1
        return self._words.pop() * n >> 32

    def between(self, low: int, high: int) -> int:
        return low + self.below(high - low + 1)

    def percent(self, share: int) -> bool:
        return self.below(100) < share

    def weighted(self, weights: tuple[int, ...]) -> int:
        """An index, each with its weight in percent."""
        at = self.below(100)
        for index, weight in enumerate(weights):
            at -= weight
            if at < 0:
                return index
        return len(weights) - 1


@dataclass(frozen=True)
class Home:
    """What is fixed about one home; powers in W, 0 where it has no such appliance."""

    occupants: int
    size: int
    base: int
    active: int
    fridge: int
    fridge_on: int  # minutes
    fridge_cycle: int  # minutes
    fridge_phase: int  # minutes
    routine: int  # minutes
    out_at_work: bool
    shower: int
    oven: int
    dishwasher: int
    dryer: int
    car: int

    @classmethod
    def draw(cls, seed: int, number: int) -> Home:
        """Home ``number`` (from 1) of ``seed``."""
        chance = _Chance(seed, number)
        occupants = 1 + chance.weighted((30, 34, 16, 14, 6))
        size = chance.weighted((30, 45, 25))
        return cls(
            occupants=occupants,
            size=size,
            base=15 + 10 * occupants + 20 * size + chance.between(0, 50),
            active=65 + 85 * occupants + 50 * size,
            fridge=chance.between(75, 130),
            fridge_on=chance.between(15, 25),
            fridge_cycle=chance.between(40, 60),
            fridge_phase=chance.below(60),
            routine=chance.between(-60, 60),
            out_at_work=chance.percent(60),
            shower=chance.percent(45) * chance.between(7500, 9500),
            oven=chance.percent(75) * chance.between(2000, 2600),
            dishwasher=chance.percent(45) * 1800,
            dryer=chance.percent(35) * 2300,
            car=chance.percent(5) * 7200,
        )


def _appliances(
    home: Home, chance: _Chance, weekend: bool, use: Callable[[int, int, int], None]
) -> None:
    """Call ``use(minute of the day, minutes, W)`` for everything that is switched on."""
    late = home.routine + (75 if weekend else 0)

    def moment(first_hour: int, last_hour: int) -> int:
        return chance.between(first_hour * 60, last_hour * 60) + late

    for _ in range(home.occupants):
        for _ in range(chance.between(1, 3)):
            use(moment(*((6, 9), (12, 16), (16, 21))[chance.below(3)]), chance.between(2, 4), 2800)
        if chance.percent(75):
            morning = chance.percent(70)
            at = moment(6, 8) if morning else moment(19, 22)
            use(at, chance.between(4, 9), home.shower)
    if chance.percent(80):
        at, minutes = moment(17, 19), chance.between(20, 60)
        use(at, minutes // 2, 1500)
        use(at, minutes, home.oven * 6 // 10)  # the thermostat's share
    if chance.percent(15 * home.occupants):
        at = moment(8, 13) if weekend else moment(17, 20)
        use(at, 20, 2000)
        use(at + 20, 60, 250)
        use(at + 90, chance.between(40, 70), home.dryer)
    if chance.percent(60):
        at = moment(19, 22)
        use(at, 18, home.dishwasher)
        use(at + 18, 40, home.dishwasher // 18)
        use(at + 58, 15, home.dishwasher)
    if chance.percent(45):
        use(moment(19, 23), chance.between(60, 300), home.car)


def _day(home: Home, seed: int, number: int, day: int, spill: list[int]) -> list[int]:
    """W x minutes in each cell of ``day``; ``spill`` passes what runs past midnight on."""
    chance = _Chance(seed, number, day)
    weekend = (day + 3) % 7 >= 5  # day 0, 1 January 1970, was a Thursday
    cells = spill + [0] * (2 * _CELLS - len(spill))
    spill.clear()

    def use(at: int, minutes: int, watts: int) -> None:
        minute, end = max(at, 0), max(at, 0) + minutes
        while watts and minute < end:
            step = min(end, minute // 5 * 5 + 5) - minute
            cells[minute // 5] += watts * step
            minute += step

    away = chance.percent(3)
    if not away:
        _appliances(home, chance, weekend, use)
    spill.extend(cells[_CELLS:])

    shares = _WEEKEND if weekend else _WEEKDAY
    quiet = home.out_at_work and not weekend
    steady = [0] * 48
    for half in range(48):
        hour = (half * 30 - home.routine) // 60 % 24
        share = 8 if away or (quiet and 9 <= hour < 16) else shares[hour]
        steady[half] = home.base + home.active * share * chance.between(50, 150) // 10_000
    minute = day * 1440 + home.fridge_phase
    for cell in range(_CELLS):
        watts = steady[cell // 6]
        if (minute + cell * 5) % home.fridge_cycle < home.fridge_on:
            watts += home.fridge
        cells[cell] = min(cells[cell] + watts * 5, _LIMIT_W * 5)
    return cells[:_CELLS]


def generate(
    meters: int,
    periods: int,
    seed: int,
    start: int = DEFAULT_START,
    period_s: int = 1800,
) -> LoadData:
    """``meters`` homes ("home-0001"...) over ``periods`` intervals from ``start``, none absent.

    ``period_s`` is a multiple of 300 that divides a day, and ``start`` lies on its grid.
    """
    if not 1 <= meters <= MAX_METERS:
        raise ValueError(f"meters must be 1 to {MAX_METERS}, not {meters}")
    if not 1 <= periods <= MAX_PERIODS:
        raise ValueError(f"periods must be 1 to {MAX_PERIODS}, not {periods}")
    if period_s < _CELL_S or period_s % _CELL_S or 86_400 % period_s:
        raise ValueError(f"period_s must be a multiple of 300 that divides a day, not {period_s}")
    if start < 0 or start % period_s:
        raise ValueError(f"start must be a multiple of period_s ({period_s}), not {start}")
    starts = tuple(range(start, start + periods * period_s, period_s))
    first_day, last_day = starts[0] // 86_400, starts[-1] // 86_400
    skip = (start - first_day * 86_400) // period_s
    group = period_s // _CELL_S
    width = max(4, len(str(meters)))
    values: dict[str, dict[int, int]] = {}
    for number in range(1, meters + 1):
        home = Home.draw(seed, number)
        spill: list[int] = []
        _day(home, seed, number, first_day - 1, spill)  # for what runs past midnight
        readings: list[int] = []
        for day in range(first_day, last_day + 1):
            cells = _day(home, seed, number, day, spill)
            register = before = 0  # as a meter does: readings are steps of a whole-Wh register
            for at in range(0, _CELLS, group):
                register += sum(cells[at : at + group])
                readings.append(register // 60 - before)
                before = register // 60
        values[f"home-{number:0{width}}"] = dict(
            zip(starts, readings[skip : skip + periods], strict=True)
        )
    return LoadData(
        tuple(values), period_s, starts, values, source=f"household model, seed {seed}"
    )
