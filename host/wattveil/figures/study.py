"""What the figures share: sizes, keys, and runs that more than one of them shows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from wattveil.baselines import wav
from wattveil.baselines.group import Group
from wattveil.bench.meter import Plan, run_meter
from wattveil.bench.records import Record
from wattveil.bench.rig import make_key
from wattveil.figures.errors import Spread, spread
from wattveil.figures.fleet import FleetTimes, time_fleet
from wattveil.figures.schemes import (
    Times,
    time_access,
    time_aggregation,
    time_dg_aped,
    time_plain,
)
from wattveil.fleet.runtime import RuntimeMissing
from wattveil.importers.households import generate
from wattveil.paillier.keys import PrivateKey
from wattveil.planning.load import Profile, from_file, from_model

DELTA = 11_500  # Wh: a 100 A connection at 230 V for half an hour
EPSILON = Fraction(1)
PERIOD_S = 1800
FIG5_GAMMA, FIG6_USERS = 4, 500  # the paper's
TABLE_USERS = 1000

Made = TypeVar("Made")


@dataclass(frozen=True)
class Sizes:
    """How much is measured. bits: of the product's key in Figs. 5 and 6; small: of the runs "at the
    paper's scale". computed: users whose uploads are computed where not all are."""

    bits: int
    small: int
    fig5_users: Sequence[int]
    fig6_gammas: Sequence[int]
    fig6_users: int
    periods: int
    meter_periods: int
    compare_bits: Sequence[int]
    compare_users: Sequence[int]
    table_users: int
    computed: int
    runs: int
    suites: Sequence[str] = ("yan2024", "compact")


FULL = Sizes(
    bits=2048, small=512, fig5_users=range(100, 1001, 100), fig6_gammas=range(2, 21, 2),
    fig6_users=FIG6_USERS, periods=1, meter_periods=3, compare_bits=(512, 2048),
    compare_users=(100, 200, 400, 800, 1000, 1200, 1600, 2000),
    table_users=TABLE_USERS, computed=30, runs=600,
)  # fmt: skip
QUICK = Sizes(  # the ends of every curve and something between, on a key a quarter as dear
    bits=1024, small=512, fig5_users=(100, 400, 1000), fig6_gammas=(2, 8, 20),
    fig6_users=FIG6_USERS, periods=1, meter_periods=1, compare_bits=(512,),
    compare_users=(100, 400, 1000, 2000), table_users=TABLE_USERS, computed=30, runs=200,
    suites=("yan2024",),
)  # fmt: skip


@dataclass
class Study:
    """Sizes, load data (None: the household model), and a place to say what is going on.

    progress(text, done, of): of None where the amount is not known.
    """

    sizes: Sizes
    data: Path | None = None
    progress: Callable[[str, int, int | None], None] = lambda text, done, of: None
    _kept: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def once(self, what: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` gave the first time."""
        if what not in self._kept:
            self._kept[what] = make()
        made: Made = self._kept[what]
        return made

    def key(self, bits: int, number: int = 0) -> PrivateKey:
        """A key of this size; others by number."""

        def make() -> PrivateKey:
            self.progress(f"a key of {bits} bits", 0, None)
            return make_key(bits)

        return self.once(("key", bits, number), make)

    @property
    def load(self) -> Profile:
        """Of the load data."""

        def make() -> Profile:
            self.progress("reading load data", 0, None)
            if not self.data:
                return from_model(PERIOD_S, DELTA)
            load = from_file(self.data, DELTA)
            if load.period_s != PERIOD_S:
                raise ValueError(f"{load.source}: its period is {load.period_s} s, not {PERIOD_S}")
            return load

        return self.once("load", make)

    def fleet(self, bits: int, suite: str, users: int, gamma: int) -> FleetTimes:
        """Whole periods of the product in memory."""
        text = f"{suite}, {bits} bits: {users} meters, γ = {gamma}"
        return self.once(
            ("fleet", bits, suite, users, gamma),
            lambda: time_fleet(
                self.key(bits), suite, users, gamma, self.sizes.periods,
                lambda done, of: self.progress(text, done, of),
            ),
        )  # fmt: skip

    def micropython(self, gammas: Sequence[int]) -> dict[int, Record]:
        """The firmware under unix MicroPython, by slots; empty when there is none here."""
        want = sorted({FIG5_GAMMA, *gammas})

        def make() -> dict[int, Record]:
            sizes = self.sizes
            plan = Plan(
                suites=("yan2024",), bits=(sizes.bits,), gammas=want, runtimes=("micropython",),
                repeats=sizes.meter_periods, budget_s=1.0, heap_step=0,
            )  # fmt: skip
            try:
                done = run_meter(plan, lambda text: self.progress(text, 0, None))
            except RuntimeMissing:
                return {}
            return {one.record["gamma"]: one.record for one in done}

        return self.once(("micropython", tuple(want)), make)

    def scheme(self, name: str, bits: int, users: int) -> Times:
        """One of access, aggregation, dg_aped, plain."""

        def make() -> Times:
            self.progress(f"{name}, {bits} bits: {users} users", 0, None)
            readings = self._readings(min(self.sizes.computed, users))
            if name == "access":
                return time_access(readings, users)
            if name == "aggregation":
                keys = [self.key(bits, number) for number in range(wav.LEVELS + 1)]
                return time_aggregation(keys, readings, users)
            if name == "dg_aped":
                group = self.once(("group", bits), lambda: Group.of(bits))
                return time_dg_aped(group, readings, users, DELTA)
            return time_plain(self.key(bits), readings, users, FIG5_GAMMA, DELTA)

        return self.once((name, bits, users), make)

    def error(self, scheme: str, users: int) -> Spread:
        """The spread of a scheme's released sums."""

        def make() -> Spread:
            self.progress(f"noise of {scheme}: {users} users", 0, None)
            return spread(scheme, users, self.sizes.runs, DELTA, EPSILON, self.load.mean)

        return self.once(("error", scheme, users), make)

    def _readings(self, users: int) -> list[list[int]]:
        data = self.once(("readings", users), lambda: generate(users, wav.READINGS, 1))
        return [[row[start] for start in data.starts] for row in data.values.values()]
