"""What a demo run will do: options checked, load data read, and who misses which period."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from wattveil.fleet.settings import SUITES, FleetSettings, exact, share_of, sorted_roster
from wattveil.importers.files import read_load
from wattveil.importers.households import generate
from wattveil.importers.readings import LoadData
from wattveil.paillier.keys import check_bits

RUNTIMES = ("micropython", "micropython-arm", "cpython")
LINKS = ("serial", "mqtt", "memory")
METERS, PERIODS = 12, 4  # when nothing is said
EVENING = 1767636000  # 2026-01-05T18:00:00Z, a Monday: made-up homes are shown awake


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """The command line of `wattveil demo`; decimals stay text so that they stay exact.

    meters, periods None: 12 and 4, or what the data hold. delta: Wh. deadline: seconds of wall
    time after a period's end. ports: of real boards, which stand for the last meters of the
    roster. noise None: the suite's own. runtime None: micropython, or cpython with the memory link.
    """

    meters: int | None = None
    periods: int | None = None
    suite: str = "yan2024"
    noise: str | None = None
    level: str = "short"
    tables: int = 384
    bits: int = 2048
    gamma: int = 8
    epsilon: str = "1.0"
    delta: int = 11500
    quorum: str = "0.7"
    colluding: int = 0
    drop: str = "0.0"
    data: tuple[Path, ...] = ()
    stamp: Literal["start", "end"] = "start"
    skip_bad: bool = False
    runtime: str | None = None
    ports: tuple[str, ...] = ()
    link: str = "serial"
    deadline: float = 5.0
    seed_data: int = 1
    insecure_test_key: bool = False
    row_check: bool = True
    own_noise: bool = False


@dataclass(frozen=True)
class Plan:
    """A checked run. readings: meter id -> start -> Wh, None where the meter will not report."""

    options: DemoOptions
    runtime: str
    settings: FleetSettings
    quorum_count: int
    data: LoadData
    roster: tuple[str, ...]
    starts: tuple[int, ...]
    readings: Mapping[str, Mapping[int, int | None]]
    warning: str | None

    @property
    def epsilon(self) -> Fraction:
        """Per released period, to each household in it."""
        return exact(self.settings.epsilon, "epsilon")

    def expected(self, start: int) -> list[int]:
        """Numbers of the meters that have a reading of this period."""
        return [n for n, i in enumerate(self.roster, 1) if self.readings[i][start] is not None]

    def clamped(self, number: int, start: int) -> int | None:
        """The reading as the meter encrypts it: in [lo, hi] Wh."""
        wh = self.readings[self.roster[number - 1]][start]
        return None if wh is None else min(max(wh, self.settings.lo), self.settings.hi)

    def was_clamped(self, number: int, start: int) -> bool:
        """Whether the meter had to cut this reading."""
        return self.clamped(number, start) != self.readings[self.roster[number - 1]][start]


def make_plan(options: DemoOptions, periods: int = PERIODS) -> Plan:
    """Check everything that can be checked before anything is started; ValueError (DataError).

    periods: how many when the options do not say.
    """
    runtime = options.runtime or ("cpython" if options.link == "memory" else "micropython")
    if options.link == "memory" and runtime != "cpython":
        raise ValueError(
            f"--link memory runs the meters in this process, so --runtime {runtime} cannot be: "
            "use --runtime cpython, or --link serial"
        )
    if options.link != "serial" and options.ports:
        raise ValueError("--port needs --link serial")
    if options.deadline <= 0:
        raise ValueError("--deadline: must be above 0 seconds")
    if options.meters is not None and options.meters < 2:
        raise ValueError(f"--meters: a fleet of {options.meters} hides nobody: use 2 or more")
    if options.periods is not None and options.periods < 1:
        raise ValueError("--periods: must be 1 or more")
    warning = check_bits(options.bits, options.insecure_test_key)
    data = _load(options, periods)
    if len(set(options.ports)) != len(options.ports) or len(options.ports) > len(data.meters):
        raise ValueError("--port: a port is named twice, or there are more ports than meters")
    settings = FleetSettings(
        delta=options.delta,
        epsilon=options.epsilon,
        quorum=options.quorum,
        colluding=options.colluding,
        gamma=options.gamma,
        suite=options.suite,
        noise=options.noise or SUITES.get(options.suite, "gamma"),
        level=options.level,
        tables=options.tables,
        bits=options.bits,
        row_check=options.row_check,
        own_noise=options.own_noise,
        period_s=data.period_s,
        phase_s=data.starts[0] % data.period_s,
        poll_ms=100,
    )
    roster = sorted_roster(data.meters)
    quorum_count = settings.check(len(roster))
    drops = share_of(options.drop, len(roster))
    readings: dict[str, dict[int, int | None]] = {name: {} for name in roster}
    for start in data.starts:
        dropped = _dropped(roster, start, drops, options.seed_data)
        for name in roster:
            readings[name][start] = None if name in dropped else data.get(name, start)
    return Plan(
        options, runtime, settings, quorum_count, data, roster, data.starts, readings, warning
    )


def _load(options: DemoOptions, default: int) -> LoadData:
    if not options.data:
        meters, periods = options.meters or METERS, options.periods or default
        return generate(meters, periods, options.seed_data, start=EVENING)
    data = read_load(
        options.data,
        stamp=options.stamp,
        meters=options.meters,
        periods=options.periods,
        skip_bad=options.skip_bad,
    )
    meters = options.meters or min(METERS, len(data.meters))
    return data.select(meters, options.periods or min(default, len(data.starts)))


def _dropped(roster: tuple[str, ...], start: int, count: int, seed: int) -> set[str]:
    """`count` meters of the roster, chosen by hash: the same on every machine."""
    order = {
        name: hashlib.sha256(f"drop {seed} {start} {name}".encode()).digest() for name in roster
    }
    return set(sorted(roster, key=order.__getitem__)[:count])
