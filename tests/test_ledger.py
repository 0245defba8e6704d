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
    OtherKey,
    OverLimit,
    audit,
    enter,
    entries,
    spending,
)
from wattveil.privacy.subjects import Subjects
from wattveil.roles.common import ConfigError
from wattveil.roles.folders import load_center
from wattveil.store import Row, Store, open_store
from wattveil_meter.wire import CODES, OPEN, RELEASED

SUBJECTS = Subjects(bytes(range(32)))
HOMES = ("home-1", "home-2", "home-3")
THIRD = Fraction(1, 3)


def charge(name: str, *numbers: int, epsilon: Fraction = THIRD, day: int = 7) -> Charge:
    return Charge(name, day, epsilon, HOMES, bitmap(numbers or (1, 2, 3), 3), SUBJECTS.check)


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
    "table",
    [{"day": 1}, {"day": "0"}, {"day": "-1"}, {"day": "x"}, {"week": "1"}, {"day": "1/0"},
     {"day": "1e999999999"}, {"day": "1e-999999999"}, {"day": "nan"}, {"day": "\u0661"}],
)  # fmt: skip
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
        start.wait(240)
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
    results = [granted.get(timeout=240) for _ in range(RACERS * TRIES)]
    for racer in racers:
        racer.join(240)
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
        where = pgserver.schema(url, "center")
        with open_store(where, "NORMAL") as store:
            store.boot()
            race(where)


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
    spent = spending(ask.store.load)
    assert spent[world.subjects.name("meter-01")] == 1
    assert world.subjects.name("meter-04") not in spent
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
    """A centre's: meters 1 and 2 of its roster, and one that has left."""
    world = World(tmp_path, size=2)
    world.write_folders()
    names = world.subjects.names(("meter-01", "meter-02", "gone"))
    with Store(tmp_path / "center" / "state.db") as store:
        ledger = Ledger(store, Limits())
        for name, numbers, day in (("total 1", (1, 2, 3), 7), ("total 2", (1, 3), 8)):
            members = bitmap(numbers, 3)
            ledger.debit(Charge(name, day, THIRD, names, members, world.subjects.check))
    (tmp_path / "center" / "limits.json").write_text('{"day": "1.5"}')
    return tmp_path / "center"


def test_show_export_check(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def out(*arguments: str, status: int = 0) -> str:
        assert (
            cli.main(["ledger", arguments[0], "--state-dir", str(folder), *arguments[1:]])
            == status
        )
        return capsys.readouterr().out

    one, two, gone = Subjects.read(folder / "accountant.key").names(
        ("meter-01", "meter-02", "gone")
    )
    shown = json.loads(out("show", "--json"))
    assert shown["limits"] == {"day": "3/2", "lifetime": None}
    assert shown["day"] == "1970-01-09"
    assert shown["spent"][one] == {"day": "1/3", "lifetime": "2/3"}
    assert shown["spent"][two] == {"day": "0", "lifetime": "1/3"}
    assert set(shown["spent"]) == {one, two, gone}
    assert list(json.loads(out("show", "--json", "--meter", "gone"))["spent"]) == [gone]
    assert "meter-02" in out("show", "--ids", "--day", "1970-01-08")
    assert "meter" not in out("show") + out("export") + out("export", "--json")
    rows = list(csv.DictReader(io.StringIO(out("export", "--ids"))))
    assert [row["households"] for row in rows] == [
        f"meter-01 meter-02 {gone}", f"meter-01 {gone}"
    ]  # fmt: skip
    assert json.loads(out("export", "--json"))[1]["epsilon"] == "1/3"
    out("export", "--ids", "--out", str(folder / "ledger.csv"))
    assert list(csv.DictReader((folder / "ledger.csv").open())) == rows
    assert "are those" in out("check")
    for damage in (b"9", b"1e999999999", b"-1", b"1/0", b"0.5"):
        with Store(folder / "state.db") as store:
            store.apply([Row("spent", one, damage)])
        found = "9 stored" if damage == b"9" else "damaged"
        assert f"spent of {one}: {found}, 2/3 entered" in out("check", status=1)
    for wrong in (["show"], ["show", "--day", "8.1.1970"], ["show", "--meter", "nobody"]):
        out(*wrong, status=2)
    (folder / "accountant.key").unlink()
    out("show", "--ids", status=2)
    with pytest.raises(ConfigError, match="no other will do"):
        load_center(folder)


# --- the key -------------------------------------------------------------------------------------


def test_names_tell_nothing_and_the_logs_are_others() -> None:
    names = SUBJECTS.names(HOMES)
    assert names == SUBJECTS.names(HOMES) and len(set(names)) == 3
    logged = [SUBJECTS.logged(name) for name in names]
    assert not {*names, *logged} & {*Subjects(bytes(32)).names(HOMES)}
    assert len({*names, *logged, SUBJECTS.check.hex()}) == 7
    assert SUBJECTS.key.hex() not in repr(SUBJECTS) and repr(SUBJECTS.key) not in repr(SUBJECTS)
    with pytest.raises(ValueError, match="32 bytes"):
        Subjects(b"short")


def test_a_ledger_has_one_key(tmp_path: Path) -> None:
    """Who would name households otherwise is denied; a centre does not even start."""
    store = MemoryStore()
    put(store, charge("a"))
    before = dict(store.rows)
    other = Charge("b", 7, THIRD, HOMES, b"\x01", Subjects(bytes(32)).check)
    with pytest.raises(OtherKey):
        put(store, other)
    assert store.rows == before
    world = World(tmp_path, disk=False)
    world.role("center")
    assert world.stores["center"].get("accountant", "") == world.subjects.check
    world.subjects = Subjects(bytes(32))
    with pytest.raises(ConfigError, match="begun with"):
        world.role("center")


def test_no_meter_id_is_in_the_centres_store(tmp_path: Path) -> None:
    world = World(tmp_path, changes={"suite": "compact", "noise": "discrete"})
    net, meters = world.net(), list(world.meters.values())
    for meter in meters:
        meter.register().prepare(START)
    net.settle(meters)
    world.end()
    for meter in meters:
        meter.report(START, 100)
    net.settle(meters)
    assert net.roles["center"].status()["releases"][START]["total_wh"] is not None
    assert len(world.stores["center"].load("tau")) == len(meters)
    world.close()
    stores = {name: tmp_path / name / "state.db" for name in ("center", "cloud")}
    held = {name: path.read_bytes() for name, path in stores.items()}
    assert b"meter-0" in held["cloud"] and b"meter-0" not in held["center"]
    assert world.subjects.name("meter-01").encode() in held["center"]


@pytest.mark.parametrize("epsilon", [0.5, 1, "1/2", Fraction(0), Fraction(-1, 2)])
def test_a_charge_is_exact_and_above_nothing(epsilon: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="epsilon"):
        charge("a", epsilon=epsilon)
    with pytest.raises(ValueError, match="no set"):
        Charge("a", 7, THIRD, HOMES, b"\0", SUBJECTS.check)  # nobody pays
