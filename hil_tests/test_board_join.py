"""A board joins over its raw REPL, by the real mpremote, and comes up as the meter it was made.

The board is one of the unix builds behind rawrepl.py, or a real one (--port).
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from wattveil.boards import deploy, repl
from wattveil.boards.provision import join_board
from wattveil.boards.repl import BoardError, advice
from wattveil.fleet.packages import MeterPackage
from wattveil.fleet.provision import Fleet, provision
from wattveil.fleet.settings import FleetSettings
from wattveil.links.serial import open_serial
from wattveil.paillier.keys import generate
from wattveil_meter.fields import unpack
from wattveil_meter.package import Package
from wattveil_meter.store import FRESH, checked
from wattveil_meter.wire import CLOUD, HELLO, Channel, Refused

ECHO = Path(__file__).parent / "echo_main.py"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """Two meters with a toy key, so that the tables are small."""
    key = generate(256, insecure_test_key=True)
    settings = FleetSettings(delta=100, gamma=2)
    return provision(tmp_path_factory.mktemp("fleet"), key, ["m1", "m2"], settings)


def hello(port: str, package: MeterPackage, receive) -> tuple[bytes, int]:
    """(meter id, boot count) of the HELLO that the board at `port` sends."""
    secrets = Package(package.files["record.bin"], package.files["meter.bin"])
    fleet, fingerprint = secrets.record.fleet, secrets.record.fingerprint
    end = time.monotonic() + 120
    with open_serial(port) as link:
        while time.monotonic() < end:
            for frame in receive(link, 1, 1):
                numbers = (CLOUD, package.number)
                channel = Channel(secrets.link_key, fleet, *numbers, False, fingerprint, 1)
                try:
                    message = channel.open(frame)
                except Refused:
                    continue
                assert message.type == HELLO
                return unpack(message.payload, 5)[0], message.counter >> 32
    raise AssertionError("no HELLO came")


def test_a_board_becomes_a_meter(board_console, fleet, receive):
    port, flash = board_console
    one, two = fleet.meters["m1"], fleet.meters["m2"]
    told: list[tuple[str, int, int]] = []
    files = dict(one.files) | {"readings.csv": b"0,1\n"}

    joined = join_board(port, files, lambda *step: told.append(step))
    assert {"main.py", "meter.bin", "wattveil_meter/wire.mpy"} <= {*joined.copied, "meter.bin"}
    ends = [step for step in told if step[0] == ""]  # firmware, then the meter's files
    assert len(ends) == 2 and [done for _, done, _ in ends] == [total for _, _, total in ends]
    meter_id, boot = hello(joined.port, one, receive)
    assert meter_id == b"m1"
    if flash:
        names = {p.relative_to(flash).as_posix() for p in flash.rglob("*") if p.is_file()}
        assert {"record.bin", "config.json", "h.tab", "s.tab"} <= names
        assert not [name for name in names if name.endswith(".py") and name != "main.py"]
        assert (flash / "meter.bin").read_bytes() == one.files["meter.bin"]
        assert '"demo"' in (flash / "config.json").read_text()
        assert not (flash / "readings.csv").exists()

    # again, while the meter runs: Ctrl-C stops it, nothing is copied, its counters go on
    again = join_board(port, one.files)
    assert (again.copied, again.bytes_copied) == ((), 0)
    assert hello(joined.port, one, receive)[1] > boot

    # another meter: only what differs, and the old meter's state goes with its keys
    if flash:
        (flash / "period.bin").write_bytes(b"of m1")
    other = join_board(port, two.files)
    assert other.copied[-1] == "meter.bin"
    assert {"boot.bin", "meter.bin"} <= set(other.copied)
    assert not [name for name in other.copied if name.startswith("wattveil_meter/")]
    assert hello(joined.port, two, receive) == (b"m2", 1)
    if flash:
        assert (flash / "period.bin").read_bytes() == checked(FRESH["period.bin"])


def test_another_main_and_a_damaged_file(board_console, fleet, receive, greet):
    port, flash = board_console
    if flash is None:
        pytest.skip("this tier's files are no folder here: the unix tiers run it")
    join_board(port, fleet.meters["m1"].files, main=ECHO)
    (flash / "wattveil_meter" / "links" / "serial.mpy").write_bytes(b"half a fi")
    joined = join_board(port, fleet.meters["m1"].files, main=ECHO)
    assert joined.copied == ("wattveil_meter/links/serial.mpy",)
    with open_serial(port, limit=8192) as link:
        greet(link)
        link.write(b"echo")
        assert receive(link, 1) == [b"echo"]


def test_no_space(board_console, fleet, monkeypatch):
    port, flash = board_console
    if flash is None:
        pytest.skip("a board's space is not ours to take: the unix tiers run it")
    monkeypatch.setattr(deploy, "RESERVE", 1 << 60)
    with pytest.raises(
        BoardError, match=r"KiB to copy, but \d+ KiB of flash are free: remove files"
    ):
        join_board(port, fleet.meters["m1"].files)
    assert not (flash / "main.py").exists()


def test_no_raw_repl(emulate, fleet, monkeypatch):
    monkeypatch.setattr(repl, "ENTER_S", 1)
    meter = emulate("cpython", ECHO)
    with pytest.raises(BoardError, match=r"no raw REPL .* flash MicroPython again"):
        join_board(meter.port, fleet.meters["m1"].files)


def test_ports_that_cannot_be_opened(emulate, fleet):
    meter = emulate("cpython", ECHO)
    with open_serial(meter.port), pytest.raises(BoardError, match="in use by another program"):
        join_board(meter.port, fleet.meters["m1"].files)
    with pytest.raises(BoardError, match="no serial port 'E66-not-there'; boards plugged in now"):
        join_board("E66-not-there", fleet.meters["m1"].files)


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        ("Traceback\n  File\nOSError: 28\n", "flash is full"),
        ("Traceback\n  File\nOSError: [Errno 28] ENOSPC\n", "flash is full"),
        ("Traceback\nOSError: 30", "eject"),
        ("MemoryError: memory allocation failed, allocating 1280 bytes", "out of memory"),
        ("ValueError: odd", "ValueError: odd"),
        ("", "an error"),
    ],
)
def test_what_the_board_says_becomes_advice(trace, expected):
    assert expected in advice(trace)
