"""Back-ups: a role put back from one opens and closes nothing that it may have forgotten."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

import pgserver
from plainmeter import PERIOD, START
from plainworld import Asker, World, opening
from wattveil import cli
from wattveil.operate import stores
from wattveil.runners import process
from wattveil.runners.clocks import ControlledClock, SystemClock
from wattveil.store import BaseStore, Row, Store, StoreError, open_store
from wattveil_meter.wire import CLOSE, CODES, OPEN, RELEASED, SHARE


def wattveil(*arguments: str | Path, status: int = 0) -> None:
    assert cli.main(["store", *map(str, arguments)]) == status


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the wall clock of the commands (UTC s)."""

    def set_(now: int) -> None:
        monkeypatch.setattr(stores.time, "time", lambda: now)

    return set_


def test_a_restored_dealer_cannot_close_a_spent_period_again(tmp_path: Path, at: Any) -> None:
    world = World(tmp_path)
    ask = Asker(world, "dealer")
    first, second, third = START, START + PERIOD, START + 2 * PERIOD
    world.end(first)
    assert ask(CLOSE, world.members(1, 2, 3, 4), first)[0] == SHARE  # type: ignore[index]
    wattveil("backup", "--state-dir", tmp_path / "dealer", tmp_path / "monday")  # while it runs
    assert (tmp_path / "monday").stat().st_mode & 0o777 == 0o600
    world.end(second)
    spent = ask(CLOSE, world.members(1, 2, 3, 4), second)
    assert spent is not None
    ask.store.close()  # the disk dies
    (tmp_path / "dealer").rename(tmp_path / "dead")
    at(second + PERIOD + 5)
    wattveil("restore", "--state-dir", tmp_path / "dealer", tmp_path / "monday")
    ask = Asker(world, "dealer", boot=2)
    assert ask.role.boot > 1 << 16
    # what the back-up knows is answered as ever, what it does not is refused as a whole
    assert ask(CLOSE, world.members(1, 2, 3, 4), first)[0] == SHARE  # type: ignore[index]
    assert ask.code(CLOSE, world.members(1, 2, 3), first) == CODES["closed"]
    world.end(third)
    for start in (second, third):  # the third had begun when the back-up was put back
        assert ask.code(CLOSE, world.members(1, 2, 3), start) == CODES["refused"]
    assert ask.role.status()["refused"] == {"closed": 1, "restored": 2}
    world.end(third + PERIOD)
    assert ask(CLOSE, world.members(1, 2), third + PERIOD)[0] == SHARE  # type: ignore[index]
    world.close()


def test_the_centre_comes_back_with_its_ledger(tmp_path: Path, at: Any) -> None:
    with Store(tmp_path / "center" / "state.db") as store:
        store.boot()
        store.apply([Row("spent", "meter-01", b"7/2")])
        wattveil("backup", "--state-dir", tmp_path / "center", tmp_path / "b")
    at(START)
    wattveil("restore", "--state-dir", tmp_path / "new", tmp_path / "b")
    with Store(tmp_path / "new" / "state.db") as store:
        assert store.get("spent", "meter-01") == b"7/2"
        assert store.get("floor", "") == START.to_bytes(8, "little")


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "dealer"
    with Store(folder / "state.db") as store:
        store.boot()
        wattveil("backup", "--state-dir", folder, tmp_path / "b")
        wattveil("backup", "--state-dir", folder, tmp_path / "b", status=1)
        assert "exists already" in capsys.readouterr().err
    wattveil("restore", "--state-dir", folder, tmp_path / "b", status=1)
    assert "goes into a new store" in capsys.readouterr().err
    wattveil("restore", "--state-dir", tmp_path / "new", tmp_path / "none", status=1)
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    wattveil("backup", "--state-dir", tmp_path / "nowhere", tmp_path / "c", status=1)
    assert not (tmp_path / "c").exists()


def test_from_postgresql_and_back(tmp_path: Path) -> None:
    with pgserver.server() as server:
        url, other = pgserver.schema(server, "a"), pgserver.schema(server, "b")
        with open_store(url) as store:
            store.boot()
            store.apply([Row("closing", "1", b"\0\xff")])
            wattveil("backup", "--store", url, tmp_path / "b")
        wattveil("restore", "--store", other, tmp_path / "b")
        with open_store(other) as store:
            assert store.get("closing", "1") == b"\0\xff"
            assert store.get("floor", "") is not None


def begun(store: BaseStore, now: int) -> None:
    process.begin(store, PERIOD, type("Clock", (SystemClock,), {"now": lambda self: now})())


def test_a_dealer_without_its_store_starts_as_if_restored(tmp_path: Path) -> None:
    """Only the folder is left: no period that has ended is closed again, the next one is."""
    world = World(tmp_path)
    ask = Asker(world, "dealer")
    world.end(START)
    assert ask(CLOSE, world.members(1, 2, 3, 4), START)[0] == SHARE  # type: ignore[index]
    ask.store.close()
    (tmp_path / "dealer" / "state.db").unlink()
    with contextlib.closing(Store(tmp_path / "dealer" / "state.db")) as store:
        begun(store, START + PERIOD + 10)
        begun(store, START + 9 * PERIOD)  # only once
    ask = Asker(world, "dealer", boot=2)
    assert ask.role.boot == (START + PERIOD + 10) // 60 + 1  # no nonce is used twice
    assert ask.code(CLOSE, world.members(1, 2, 3), START) == CODES["refused"]
    assert ask.role.status()["refused"] == {"restored": 1}
    world.end(START + PERIOD)  # was running when it came back: nobody can have closed it
    assert ask(CLOSE, world.members(1, 2), START + PERIOD)[0] == SHARE  # type: ignore[index]
    world.close()


def test_a_demonstrations_clock_is_not_believed(tmp_path: Path) -> None:
    with Store(tmp_path / "state.db") as store:
        process.begin(store, PERIOD, ControlledClock())
        assert store.fresh()


def test_an_interrupted_backup_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path / "dealer" / "state.db") as store:
        store.boot()
        monkeypatch.setattr(Store, "apply", lambda *a: (_ for _ in ()).throw(StoreError("full")))
        wattveil("backup", "--state-dir", tmp_path / "dealer", tmp_path / "b", status=1)
    assert not list(tmp_path.glob("b*"))


def test_a_stopped_fleet_goes_on_when_somebody_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from test_roles_center import encrypted, honest

    world = World(tmp_path)
    ask = Asker(world, "center")
    starts = [START + i * PERIOD for i in range(4)]
    world.end(starts[-1])
    for start in starts[:3]:
        payload = opening(world, (1, 2), encrypted(world, 1 << 200, 1), start)
        assert ask.code(OPEN, payload, start) == CODES["sum_invalid"]
    assert ask.code(OPEN, honest(world, start=starts[3]), starts[3]) == CODES["stopped"]
    arguments = ["unstop", "--state-dir", tmp_path / "center", "--reason", "meter 7 was faulty"]
    wattveil(*arguments, status=1)
    assert "in use by another process" in capsys.readouterr().err
    ask.store.close()
    wattveil(*arguments)
    wattveil(*arguments, status=2)
    assert "not stopped" in capsys.readouterr().err
    ask.restart()
    assert list(ask.store.load("restarted").values()) == [b"meter 7 was faulty"]
    assert ask(OPEN, honest(world, start=starts[3]), starts[3]) == (RELEASED, b"")
    world.close()
