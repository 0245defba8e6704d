"""A board becomes a meter, and stays the same one: keys, counters and secrets on its way.

The board is a unix build behind rawrepl.py; `wattveil board` reaches it by the real mpremote.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boardkit import (
    KEY,
    SETTINGS,
    boot_of,
    command,
    hello,
    make_fleet,
    on_board,
    powered,
    wipe,
)
from wattveil.boards import provision as provisioning
from wattveil.boards import repl
from wattveil.boards.provision import identity_of, provision_board
from wattveil.boards.repl import BoardError, RawRepl
from wattveil.boards.schema import find_board
from wattveil.fleet.emulated import EmulatedMeter
from wattveil.fleet.packages import BEGUN, LIVING, SEEDS_BIN, MeterKeys, MeterSeeds, load_package
from wattveil.fleet.provision import provision
from wattveil.fleet.renew import renew
from wattveil.fleet.settings import FleetSettings
from wattveil.paillier.keys import generate
from wattveil_meter.fields import pack, uint
from wattveil_meter.store import checked


@pytest.fixture
def power(tmp_path: Path) -> Iterator[Callable[..., EmulatedMeter]]:
    with powered(tmp_path) as start:
        yield start


@pytest.fixture(params=["micropython", "micropython-arm"])
def board(request: pytest.FixtureRequest, power) -> EmulatedMeter:
    return power(request.param)


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    return make_fleet(tmp_path)


# --- provision ---------------------------------------------------------------------------------


def test_a_meter_keeps_its_keys_and_counts_on_through_a_renewal(board, fleet, tmp_path, receive):
    assert on_board(board, fleet, "kitchen") == 0
    package = load_package(fleet / "meters" / "kitchen")
    assert package.number == 1
    assert not any((fleet / "meters" / "kitchen" / name).exists() for name in LIVING)  # moved
    assert json.loads((board.folder / "config.json").read_text())["sensor"]["kind"] == "simulated"
    first = hello(board.port, package, receive)
    assert on_board(board, fleet, "kitchen") == 0  # nothing to do: restarts it
    second = hello(board.port, package, receive)
    assert second > first >= 1
    (board.folder / "sensor.bin").write_bytes(b"registers")
    period = (board.folder / "period.bin").read_bytes()

    new = tmp_path / "new"
    renew(
        fleet, new, roster=["attic", "kitchen", "shed"], key=generate(256, insecure_test_key=True)
    )
    assert not any((new / "meters" / "kitchen" / name).exists() for name in LIVING)
    assert on_board(board, new, "kitchen") == 0
    renewed = load_package(new / "meters" / "kitchen")
    assert renewed.number == 2
    assert (board.folder / "record.bin").read_bytes() == renewed.files["record.bin"]
    assert (board.folder / "meter.bin").read_bytes() == renewed.files["meter.bin"]
    assert (board.folder / "period.bin").read_bytes() == period
    assert (board.folder / "sensor.bin").read_bytes() == b"registers"
    assert hello(board.port, renewed, receive) > second

    # the older record does not come back
    assert on_board(board, fleet, "kitchen") == 1


def test_a_board_moves_to_another_fleet_and_leaves_nothing_behind(power, fleet, tmp_path, capsys):
    board = power()
    other = tmp_path / "other"
    provision(other, KEY, ["kitchen", "y"], SETTINGS)
    settings, password = tmp_path / "s.toml", tmp_path / "wifi password"
    password.write_text("hunter2 hunter2")
    settings.write_text(
        '[sensor]\nkind = "simulated"\nseed = 3\n'
        '[link]\nkind = "serial"\n[link.wifi]\nssid = "x"\npassword_file = "wifi password"\n'
    )
    assert on_board(board, fleet, "kitchen", "--settings", str(settings)) == 0
    config = json.loads((board.folder / "config.json").read_text())
    assert config["sensor"]["seed"] == 3
    assert (
        board.folder / config["link"]["wifi"]["password_file"]
    ).read_text() == "hunter2 hunter2"
    (board.folder / "ready").mkdir()
    for name in ("period.bin", "ready/period.bin", "log.txt", "sensor.bin", "readings.csv"):
        (board.folder / name).write_bytes(b"of the household")
    keys = MeterKeys.read(load_package(fleet / "meters" / "kitchen").files)
    seeds = MeterSeeds.read((board.folder / SEEDS_BIN).read_bytes())

    assert on_board(board, other, "kitchen") == 1
    assert "--erase makes it give up those keys" in capsys.readouterr().err.replace("\n", " ")
    assert (board.folder / "period.bin").read_bytes() == b"of the household"
    assert on_board(board, other, "kitchen", "--erase") == 0
    left = b"".join(p.read_bytes() for p in board.folder.rglob("*") if p.is_file())
    for secret in (
        keys.link,
        keys.registration,
        keys.drbg,
        seeds.dealer.secret,
        seeds.center.secret,
    ):
        assert secret not in left
    assert b"hunter2" not in left and b"of the household" not in left

    # back again: its counters are gone with its keys, so those keys are never used again
    assert on_board(board, fleet, "kitchen", "--erase") == 1
    assert "draw new keys with --rekey" in capsys.readouterr().err.replace("\n", " ")
    assert on_board(board, fleet, "kitchen", "--erase", "--rekey") == 0
    again = MeterKeys.read(load_package(fleet / "meters" / "kitchen").files)
    assert again.link != keys.link and again.drbg != keys.drbg
    assert json.loads((fleet / "cloud" / "meters.json").read_text())["kitchen"] == {
        "link_key": again.link.hex()
    }


def test_one_package_never_goes_to_two_boards(power, fleet, capsys):
    one, two = power(), power()
    assert on_board(one, fleet, "shed", "--board", "rpi_pico") == 0
    config = json.loads((one.folder / "config.json").read_text())
    assert config["watchdog_ms"] == find_board("rpi_pico").reset.watchdog_ms
    assert on_board(two, fleet, "shed") == 1
    assert (
        "counters and seeds of meter 'shed' are on the board"
        in capsys.readouterr().err.replace("\n", " ")
    )
    assert not (two.folder / "meter.bin").exists()


class Unplugged(Exception):
    pass


def test_a_cable_pulled_at_any_moment_never_resets_a_used_counter(power, tmp_path, monkeypatch):
    """Provisioning is cut after its k-th order to the board, for every k, and repeated.

    A board that could start (meter.bin is there) has its counters; keys that were on a board with
    counters that are lost are never written again: that is refused, until --rekey.
    """
    board = power()
    small = FleetSettings(delta=100, gamma=2, tables=128, suite="compact", noise="discrete")
    provision(tmp_path / "small", KEY, ["kitchen", "shed"], small)
    folder = tmp_path / "small" / "meters" / "kitchen"
    run, ask = RawRepl.run, RawRepl.ask
    count = limit = 0

    def counted(original):
        def order(self, source):
            nonlocal count
            count += 1
            if limit and count > limit:
                raise Unplugged
            return original(self, source)

        return order

    monkeypatch.setattr(RawRepl, "run", counted(run))
    monkeypatch.setattr(RawRepl, "ask", counted(ask))
    refused, resumed, used = 0, 0, checked(pack(uint(7), uint(0)))
    seeds = (folder / SEEDS_BIN).read_bytes()
    done = provision_board(board.port, folder).deployed
    monkeypatch.setattr(provisioning, "deploy", lambda *_, **__: done)  # nothing more to copy
    board.kill()
    wipe(board.folder)
    board.start()
    begun = {**BEGUN, SEEDS_BIN: seeds}
    for name, data in begun.items():
        (folder / name).write_bytes(data)
    count = 0
    provision_board(board.port, folder)
    total = count
    assert total > 25
    for limit in range(1, total + 1):
        count = 0
        board.kill()  # the meter of the round before, if it got that far, writes no more
        wipe(board.folder)
        board.start()
        for name, data in begun.items():  # as before the first provisioning
            (folder / name).write_bytes(data)
        with contextlib.suppress(Unplugged):
            provision_board(board.port, folder)
        keys = identity_of((folder / "meter.bin").read_bytes()).keys
        here, there = (folder / "boot.bin").exists(), (board.folder / "boot.bin").exists()
        started = (board.folder / "meter.bin").exists()
        if started:
            assert there and not here
            board.kill()  # or a meter that is starting would write boot.bin over this
            (board.folder / "boot.bin").write_bytes(used)  # it may have run since
            board.start()
        at, limit = limit, 0
        why = ""
        try:
            provision_board(board.port, folder, erase=True)
        except BoardError as error:
            why = str(error)
        if why:
            assert "--rekey" in why and not started
            refused += 1
        else:
            resumed += 1
            assert identity_of((board.folder / "meter.bin").read_bytes()).keys == keys
            assert not (folder / "boot.bin").exists()
            if started:
                assert boot_of(board) >= 7
        limit = at
    # refused: cut between the counters and the keys
    assert 1 <= refused <= 6 < resumed, (total, refused)


def test_a_whole_bench_at_once(power, fleet, tmp_path, capsys, monkeypatch):
    one, two = power(), power()
    bench = tmp_path / "bench.toml"
    bench.write_text(
        f'fleet = "fleet"\n[[board]]\nname = "kitchen"\nport = "{one.port}"\n'
        f'[[board]]\nname = "garden"\nmeter = "shed"\nport = "{two.port}"\n'
    )
    assert command("provision", "--all", "--bench", bench) == 0
    said = capsys.readouterr().out
    assert "kitchen: is meter kitchen (new keys" in said
    assert "garden: is meter shed" in said
    assert identity_of((two.folder / "meter.bin").read_bytes()).id == "shed"
    two.kill()
    monkeypatch.setattr(repl, "ENTER_S", 3)  # of kitchen, for garden is not there
    assert command("doctor", "--all", "--bench", bench, "--json") == 1
    said = capsys.readouterr()
    assert set(json.loads(said.out)) == {"kitchen"}
    assert "garden: " in said.err and "no raw REPL" in said.err.replace("\n", " ")
    assert command("deploy", "garden", "--bench", bench) == 1
    monkeypatch.undo()
    assert command("deploy", "kitchen", "--bench", bench) == 0
