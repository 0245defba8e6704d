"""The privacy ledger: exact sums, limits by name, and processes that race for the last of a budget."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pgserver
from plainmeter import PERIOD, START, bitmap, material
from plainworld import Asker, MemoryStore, World, combine, opening
from wattveil import cli
from wattveil.privacy.ledger import (
    Charge,
    Conflict,
    Ledger,
    Limits,
    OverLimit,
    audit,
    enter,
    entries,
    spending,
)
from wattveil.store import Row, Store, open_store
from wattveil_meter.wire import CODES, OPEN, RELEASED

HOMES = ("home-1", "home-2", "home-3")
THIRD = Fraction(1, 3)


def charge(name: str, *numbers: int, epsilon: Fraction = THIRD, day: int = 7) -> Charge:
    return Charge(name, day, epsilon, HOMES, bitmap(numbers or (1, 2, 3), 3))


def put(store: MemoryStore, one: Charge, limits: Limits = Limits()) -> None:  # noqa: B008
    store.transact(lambda rows: enter(rows, one, limits))


def test_sums_are_exact_and_limits_are_inclusive() -> None:
    store = MemoryStore()
    limits = Limits(day=Fraction(1), lifetime=Fraction(4, 3))
    for i in range(3):
        put(store, charge(f"day 7: {i}"), limits)
    before = dict(store.rows)
    with pytest.raises(OverLimit, match="day limit of epsilon 1 would") as caught:
        put(store, charge("one more", 2), limits)
    assert (caught.value.reason, caught.value.subjects) == ("over_day_limit", ["home-2"])
    assert store.rows == before
    put(store, charge("next day", 1, 2, day=8), limits)
    with pytest.raises(OverLimit) as caught:
        put(store, charge("next day again", day=8), limits)
    assert (caught.value.reason, caught.value.subjects) == (
        "over_lifetime_limit",
        ["home-1", "home-2"],
    )
    put(store, charge("next day for one", 3, day=8), limits)
    assert spending(store.load) == dict.fromkeys(HOMES, Fraction(4, 3))
    assert spending(store.load, 7) == dict.fromkeys(HOMES, Fraction(1))
    assert audit(store.load) == []


def test_the_same_charge_again_costs_nothing_and_another_is_refused() -> None:
    store = MemoryStore()
    put(store, charge("a"))
    put(store, charge("a"))
    assert spending(store.load)["home-1"] == THIRD
    for other in (charge("a", 1), charge("a", epsilon=Fraction(1, 2)), charge("a", day=8)):
        with pytest.raises(Conflict):
            put(store, other)


@given(
    st.lists(
        st.tuples(
            st.sets(st.integers(1, 3), min_size=1),
            st.fractions(Fraction(1, 50), 2, max_denominator=60),
            st.integers(0, 3),
        ),
        max_size=25,
    ),
    st.fractions(Fraction(1, 2), 5, max_denominator=7),
    st.fractions(Fraction(1, 2), 5, max_denominator=7),
)
@settings(max_examples=60, deadline=None)
def test_never_above_a_limit_and_never_refused_below(
    wanted: list[tuple[set[int], Fraction, int]], per_day: Fraction, lifetime: Fraction
) -> None:
    store, limits = MemoryStore(), Limits(per_day, lifetime)
    spent: dict[Any, Fraction] = {}
    for i, (numbers, epsilon, day) in enumerate(wanted):
        one = charge(str(i), *numbers, epsilon=epsilon, day=day)
        fits = all(
            spent.get(key, 0) + epsilon <= most
            for n in numbers
            for key, most in (((n, day), per_day), (n, lifetime))
        )
        try:
            put(store, one, limits)
            assert fits
            for n in numbers:
                for key in ((n, day), n):
                    spent[key] = spent.get(key, Fraction(0)) + epsilon
        except OverLimit:
            assert not fits
    assert audit(store.load) == []
    assert spending(store.load) == {
        HOMES[n - 1]: total for n, total in spent.items() if isinstance(n, int)
    }
    assert all(total <= lifetime for total in spending(store.load).values())


def test_an_audit_finds_what_was_changed() -> None:
    store = MemoryStore()
    put(store, charge("a"))
    store.rows["spent", "home-2"] = b"1/4"
    assert audit(store.load) == ["spent of home-2: 1/4 stored, 1/3 entered"]


@pytest.mark.parametrize(
    "table", [{"day": 1}, {"day": "0"}, {"day": "-1"}, {"day": "x"}, {"week": "1"}, {"day": "1/0"}]
)
def test_limits_that_are_none(table: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="limit"):
        Limits.parse(table)
    assert Limits.parse({"day": "1.5"}) == Limits(day=Fraction(3, 2))


# --- racing --------------------------------------------------------------------------------------

RACERS, TRIES, GRANTED = 8, 12, 40


def _race(where: str, number: int, start: Any, granted: Any) -> None:
    limits = Limits(lifetime=GRANTED * THIRD)
    with open_store(where, "NORMAL", shared=True) as store:
        ledger = Ledger(store, limits)
        start.wait(60)
        for i in range(TRIES):
            try:
                ledger.debit(charge(f"{number}:{i}"))
                granted.put(1)
            except OverLimit:
                granted.put(0)


def race(where: str) -> None:
    """8 processes want 96 charges; there is budget for 40."""
    context = multiprocessing.get_context("spawn")
    start, granted = context.Barrier(RACERS), context.Queue()
    racers = [
        context.Process(target=_race, args=(where, n, start, granted)) for n in range(RACERS)
    ]
    for racer in racers:
        racer.start()
    results = [granted.get(timeout=120) for _ in range(RACERS * TRIES)]
    for racer in racers:
        racer.join(60)
        assert racer.exitcode == 0
    assert sum(results) == GRANTED
    with open_store(where, shared=True) as store:
        assert spending(store.load) == dict.fromkeys(HOMES, GRANTED * THIRD)
        assert len(list(entries(store.load))) == GRANTED
        assert audit(store.load) == []
        assert Ledger(store, Limits()).spent("home-1") == GRANTED * THIRD
        assert Ledger(store, Limits()).spent("home-1", 8) == 0


def test_eight_processes_race_for_the_last_of_the_budget(tmp_path: Path) -> None:
    with Store(tmp_path / "state.db", "NORMAL") as store:  # and the centre holds its own open
        store.boot()
        race(str(tmp_path / "state.db"))


def test_eight_processes_race_in_postgresql() -> None:
    with pgserver.server() as url:
        race(pgserver.schema(url, "center"))


# --- the centre ----------------------------------------------------------------------------------


def limited(tmp_path: Path, limits: Limits) -> tuple[World, Asker]:
    world = World(tmp_path, changes={"suite": "compact", "noise": "discrete"}, limits=limits)
    return world, Asker(world, "center")


def _payload(world: World, numbers: tuple[int, ...], start: int) -> bytes:
    given_ = [(i, material(world.meters[i], start, 100 * i)) for i in numbers]
    return opening(world, numbers, combine(world, given_, start), start)


def test_the_centre_stops_at_a_limit(tmp_path: Path) -> None:
    """Epsilon is 1/2 a period: two periods of home 1, then the day's budget is spent."""
    world, ask = limited(tmp_path, Limits(day=Fraction(1)))
    starts = [START + i * PERIOD for i in range(3)]
    world.end(starts[-1])
    for start in starts[:2]:
        assert ask(OPEN, _payload(world, (1, 2, 3), start), start) == (RELEASED, b"")
    decrypted: list[int] = []
    real = ask.role.suite
    ask.role.suite = type("Watched", (type(real),), {"total": lambda *a: decrypted.append(1)})()
    last = _payload(world, (1, 4), starts[2])
    assert ask.code(OPEN, last, starts[2]) == CODES["over_limit"]
    assert not decrypted
    assert ask.role.status()["refused"] == {"over_day_limit": 1}
    ask.restart()
    assert starts[2] not in ask.role.status()["releases"]
    assert spending(ask.store.load)["meter-01"] == 1
    assert "meter-04" not in spending(ask.store.load)
    # others, who have budget left, may still be asked about; then the period is closed for good
    assert ask(OPEN, _payload(world, (4,), starts[2]), starts[2])[0] == 0x7F  # type: ignore[index]
    assert ask.role.status()["epsilon_limits"] == {"day": "1", "lifetime": None}
    assert audit(ask.store.load) == []
    world.close()


def test_a_limit_ends_the_period_at_the_cloud(tmp_path: Path) -> None:
    world = World(tmp_path, disk=False, limits=Limits(lifetime=Fraction(1, 2)))
    net = world.net()
    meters = list(world.meters.values())
    for start in (START, START + PERIOD):
        world.clock.utc = start + 10
        for meter in meters:
            meter.register().prepare(start)
        net.settle(meters)
        world.end(start)
        for meter in meters:
            meter.report(start, 100)
        net.settle(meters)
    periods = net.roles["cloud"].status()["periods"]
    assert [periods[s]["outcome"] for s in (START, START + PERIOD)] == ["released", "over_limit"]


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Store(tmp_path / "state.db") as store:
        ledger = Ledger(store, Limits())
        ledger.debit(charge("total 1"))
        ledger.debit(charge("total 2", 1, 3, day=8))
    (tmp_path / "limits.json").write_text('{"day": "1.5"}')
    return tmp_path


def test_show_export_check(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def out(*arguments: str, status: int = 0) -> str:
        assert (
            cli.main(["ledger", arguments[0], "--state-dir", str(folder), *arguments[1:]])
            == status
        )
        return capsys.readouterr().out

    shown = json.loads(out("show", "--json"))
    assert shown["limits"] == {"day": "3/2", "lifetime": None}
    assert shown["day"] == "1970-01-09"
    assert shown["spent"]["home-1"] == {"day": "1/3", "lifetime": "2/3"}
    assert shown["spent"]["home-2"] == {"day": "0", "lifetime": "1/3"}
    assert "home-3" in out("show", "--day", "1970-01-08")
    assert list(json.loads(out("show", "--json", "--household", "home-2"))["spent"]) == ["home-2"]
    rows = list(csv.DictReader(io.StringIO(out("export"))))
    assert [row["households"] for row in rows] == ["home-1 home-2 home-3", "home-1 home-3"]
    assert json.loads(out("export", "--json"))[1]["epsilon"] == "1/3"
    out("export", "--out", str(folder / "ledger.csv"))
    assert list(csv.DictReader((folder / "ledger.csv").open())) == rows
    assert "are those" in out("check")
    with Store(folder / "state.db") as store:
        store.apply([Row("spent", "home-1", b"9")])
    assert "spent of home-1: 9 stored, 2/3 entered" in out("check", status=1)
    for wrong in (["show", "--day", "8.1.1970"], ["show", "--household", "nobody"]):
        out(*wrong, status=2)
