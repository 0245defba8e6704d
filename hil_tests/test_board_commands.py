"""`wattveil board deploy, provision, doctor, console, monitor` by the real mpremote, on whatever answers.

The board is one of the unix builds behind rawrepl.py; those marked so, an emulated Pico too.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boardkit import (
    KEY,
    PATIENCE_S,
    command,
    make_fleet,
    on_board,
    powered,
)
from wattveil.boards import deploy
from wattveil.boards.flash import Step, flash
from wattveil.boards.repl import RawRepl
from wattveil.boards.schema import find_board
from wattveil.fleet.emulated import EmulatedMeter
from wattveil.fleet.packages import MeterKeys, load_package
from wattveil.fleet.pico import PicoEmulator
from wattveil.fleet.provision import provision
from wattveil.fleet.renew import renew
from wattveil.fleet.runtime import RuntimeMissing
from wattveil.fleet.settings import FleetSettings
from wattveil.paillier.keys import generate
from wattveil_meter.record import Record


def eventually(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


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


# --- deploy ------------------------------------------------------------------------------------


def test_deploy_compiles_copies_what_differs_and_removes_what_shadows(board, capsys):
    package = board.folder / "wattveil_meter"
    for folder in (package / "links", board.folder / "lib" / "wattveil_meter"):
        folder.mkdir(parents=True)
        (folder / "serial.py").write_text("raise RuntimeError('old')\n")
    (package / "gone.mpy").write_bytes(b"of an older version")
    assert command("deploy", "--port", board.port) == 0
    said = capsys.readouterr().out
    assert "3 removed" in said and "KiB of flash" in said and "heap" in said
    on_it = {
        p.relative_to(board.folder).as_posix() for p in board.folder.rglob("*") if p.is_file()
    }
    arm = board.runtime == "micropython-arm"
    assert ("wattveil_meter/kernels/thumb2.mpy" in on_it) == arm
    python = [name for name in on_it if name.endswith(".py")]
    assert python == ["main.py"]
    assert (package / "wire.mpy").read_bytes()[:2] == b"M\x06"
    assert command("deploy", "--port", board.port) == 0
    assert "0 files copied (0 bytes), 0 removed" in capsys.readouterr().out
    (package / "wire.mpy").write_bytes(b"half")
    assert command("deploy", "--port", board.port) == 0
    assert "1 files copied" in capsys.readouterr().out


def test_tables_that_do_not_fit_are_refused(power, capsys, monkeypatch):
    board = power()
    monkeypatch.setattr(deploy, "RESERVE", 0)
    assert command("deploy", "--port", board.port, "--tables", 128) == 0
    monkeypatch.setattr(deploy, "table_bytes", lambda kib: kib << 40)
    assert command("deploy", "--port", board.port, "--tables", 128) == 1
    assert "tables of 128 KiB do not fit" in capsys.readouterr().err.replace("\n", " ")


# --- doctor ------------------------------------------------------------------------------------


def test_doctor_says_what_is_wrong_and_what_to_do(board, fleet, capsys):
    def look(status: int, *more: object) -> dict:
        assert command("doctor", "--port", board.port, "--json", *more) == status
        (report,) = json.loads(capsys.readouterr().out).values()
        return report

    report = look(1)
    assert report["facts"]["program"] == "none"
    assert ["there is no meter program", "wattveil board deploy"] in report["wrong"]
    command("deploy", "--port", board.port)
    capsys.readouterr()
    report = look(1)
    assert report["wrong"] == [["it is no meter yet", "wattveil board provision"]]
    assert on_board(board, fleet, "kitchen") == 0
    capsys.readouterr()
    eventually((board.folder / "log.txt").exists)  # the meter has started
    report = look(0, "--fleet", fleet)
    record = Record.parse((fleet / "cloud" / "record.bin").read_bytes())
    facts = report["facts"]
    assert "as here" in facts["program"] and ".mpy 6.3" in facts["MicroPython"]
    assert facts["meter"].startswith("'kitchen', number 1")
    assert facts["record"].startswith(record.fingerprint.hex()[:16])
    assert facts["key"].startswith(KEY.public.fingerprint.hex()[:16])
    assert facts["tables"] == "set of 384 KiB, form 1 (portable)"
    assert facts["link"] == "serial" and facts["sensor"] == "simulated"
    assert "KiB" in facts["flash free"] and "left with the program loaded" in facts["heap"]
    assert any(" start " in line for line in report["log"])
    keys = MeterKeys.read(load_package(fleet / "meters" / "kitchen").files)
    for secret in (keys.link, keys.registration, keys.drbg):
        assert secret.hex() not in json.dumps(report)

    board.kill()  # a meter that is starting would write boot.bin again
    (board.folder / "s.tab").write_bytes(b"WVT1")
    (board.folder / "boot.bin").write_bytes(bytes(30))
    (board.folder / "wattveil_meter" / "wire.mpy").rename(board.folder / "wattveil_meter" / "x.py")
    (board.folder / "config.json").write_text("{")
    (board.folder / "log.txt").write_text("- 3 crash ValueError:meter.py:1\n")
    board.start()
    wrong = dict(look(1)["wrong"])
    assert wrong["its tables are not the record's"] == "wattveil board provision"
    assert wrong["boot.bin is lost or damaged: the meter cannot start"].endswith("--rekey")
    assert wrong["the program crashed"] == "see the log below"
    assert "config.json is damaged" in wrong
    assert any(what.startswith("the program differs") for what in wrong)


def test_doctor_for_people(power, capsys):
    board = power()
    assert command("doctor", "--port", board.port) == 1
    said = capsys.readouterr().out
    assert "WRONG: there is no meter program. To do: wattveil board deploy" in said


# --- console and monitor -------------------------------------------------------------------------


@contextlib.contextmanager
def terminal(*words: str) -> Iterator[Callable[..., bytes]]:
    """A `wattveil board` command on a terminal of its own: talk(send, until) -> what it showed."""
    master, slave = pty.openpty()
    argv = [sys.executable, "-m", "wattveil", "board", *words]
    process = subprocess.Popen(
        argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    seen = b""

    def talk(send: bytes, until: bytes) -> bytes:
        nonlocal seen
        seen = b""
        os.write(master, send)
        sent = time.monotonic()
        end = sent + PATIENCE_S
        while until not in seen:
            assert time.monotonic() < end, seen
            if time.monotonic() - sent > 3:  # mpremote had not taken the terminal over yet
                os.write(master, send)
                sent = time.monotonic()
            if select.select([master], [], [], 0.2)[0]:
                try:
                    seen += os.read(master, 4096)
                except OSError:  # it has ended
                    break
        return seen

    talk.process = process  # type: ignore[attr-defined]
    try:
        yield talk
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(master)


def test_console_reaches_the_repl_with_ctrl_c(power, fleet):
    board = power()
    assert on_board(board, fleet, "kitchen") == 0  # main.py runs, the meter says HELLO
    with terminal("console", "--port", board.port) as talk:
        talk(b"", b"Ctrl-]")
        said = talk(b"\x03", b">>> ")
        assert b"KeyboardInterrupt" in said
        talk(b"\x1d", b"\0 never")
        assert talk.process.wait(PATIENCE_S) == 0


def test_monitor_shows_headers_and_sends_nothing(power, fleet):
    board = power()
    assert on_board(board, fleet, "kitchen") == 0
    hint = Record.parse((fleet / "cloud" / "record.bin").read_bytes()).fingerprint[:8].hex()
    with terminal("monitor", "--port", board.port) as talk:
        said = talk(b"", b"HELLO")
        while said.count(b"\n") < 1:
            said += talk(b"", b"\n")
        assert b"from meter 1" in said and hint.encode() in said


# --- the emulated Pico -----------------------------------------------------------------------------


def test_a_pico_is_deployed_provisioned_renewed_and_examined(tmp_path, capsys):
    try:
        pico = PicoEmulator(tmp_path)
    except RuntimeMissing as missing:
        pytest.skip(str(missing))
    fleet = tmp_path / "fleet"
    key = generate(512, insecure_test_key=True)
    provision(fleet, key, ["kitchen", "shed"], FleetSettings(delta=100, gamma=2, tables=128))
    with pico as board:
        # a watchdog that nobody can stop, as main.py starts one: it must not bite while we copy
        with RawRepl(board.port) as raw:
            raw.run("import machine\nmachine.WDT(timeout=8000)")
            board_said = deploy.deploy(raw)
        assert board_said.board is not None and board_said.board.id == "rpi_pico"
        assert board_said.heap > 200_000 and board_said.heap_used < 100_000
        where = ("--port", board.port)
        assert command("provision", *where, "--fleet", fleet, "--meter", "kitchen") == 0
        assert "kernel thumb1" in capsys.readouterr().out
        assert command("provision", *where, "--fleet", fleet, "--meter", "shed") == 1
        new = tmp_path / "new"
        renew(fleet, new, roster=["attic", "kitchen", "shed"])
        assert command("provision", *where, "--fleet", new, "--meter", "kitchen") == 0
        assert "same keys, counters go on" in capsys.readouterr().out
        assert command("doctor", *where, "--fleet", new, "--json") == 0
        (report,) = json.loads(capsys.readouterr().out).values()
        facts = report["facts"]
        assert facts["board"] == "Raspberry Pi Pico (rpi_pico)"
        assert facts["tables"] == "set of 128 KiB, form 2 (machine code)"
        assert facts["watchdog"] == "8000 ms" and facts["meter"].startswith("'kitchen', number 2")
        with terminal("console", *where) as talk:
            talk(b"", b"Ctrl-]")
            talk(b"\x03", b">>> ")
            assert b"42" in talk(b"print(6*7)\r", b"42\r\n>>> ")
            talk(b"\x1d", b"\0 never")


def test_a_pico_forgets_its_files(tmp_path):
    """`board flash --erase`: what is left of deleted secrets in the flash goes too."""
    try:
        pico = PicoEmulator(tmp_path)
    except RuntimeMissing as missing:
        pytest.skip(str(missing))
    secret = b"a secret of sixteen bytes or more"
    with pico as board:
        with RawRepl(board.port) as raw:
            raw.run(f"with open('s', 'wb') as f: f.write({secret!r} * 200)\nos.remove('s')")
        image = tmp_path / "flash.bin"
        assert secret in image.read_bytes()  # deleting is not erasing
        flash(find_board("rpi_pico"), [Step(erase=board.port)], say=lambda _: None)
        assert secret not in image.read_bytes()
        with RawRepl(board.port) as raw:
            assert raw.ask("_tree('.')") == []
