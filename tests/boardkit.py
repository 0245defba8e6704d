"""Boards behind rawrepl.py, and what the tests of `wattveil board` do with them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wattveil.cli import main
from wattveil.fleet.emulated import EmulatedMeter
from wattveil.fleet.provision import provision
from wattveil.fleet.runtime import RuntimeMissing, find_runtime
from wattveil.fleet.settings import FleetSettings
from wattveil.links.serial import open_serial
from wattveil.paillier.keys import generate
from wattveil_meter.fields import read_uint, unpack
from wattveil_meter.package import Package
from wattveil_meter.store import FileStorage
from wattveil_meter.wire import CLOUD, HELLO, Channel, Refused

RAWREPL = Path(__file__).parent.parent / "hil_tests" / "rawrepl.py"
KEY = generate(256, insecure_test_key=True)
SETTINGS = FleetSettings(delta=100, gamma=2)
PATIENCE_S = 120.0


@contextlib.contextmanager
def powered(folder: Path) -> Iterator[Callable[..., EmulatedMeter]]:
    """start(runtime): a new board whose file system is its meter's folder; all are off afterwards."""
    boards: list[EmulatedMeter] = []

    def start(runtime: str = "micropython") -> EmulatedMeter:
        try:
            find_runtime(runtime)
        except RuntimeMissing as missing:
            pytest.skip(str(missing))
        flash, empty = folder / f"flash{len(boards)}", folder / "nothing to import"
        flash.mkdir()
        empty.mkdir(exist_ok=True)
        boards.append(EmulatedMeter(flash, runtime, main=RAWREPL, firmware=empty))
        boards[-1].start()
        return boards[-1]

    yield start
    for board in boards:
        board.close()


def make_fleet(folder: Path) -> Path:
    provision(folder / "fleet", KEY, ["kitchen", "shed"], SETTINGS)
    return folder / "fleet"


def command(*words: object) -> int:
    return main(["board", *map(str, words)])


def on_board(board: EmulatedMeter, fleet: Path, meter: str, *more: str) -> int:
    where = ("--port", board.port, "--fleet", fleet, "--meter", meter)
    return command("provision", *where, *more)


def boot_of(board: EmulatedMeter) -> int:
    return read_uint(unpack(FileStorage(str(board.folder)).read("boot.bin"), 2)[0])


def hello(port: str, package: Any, receive: Any) -> int:
    """The boot number of the HELLO that the board sends under this package's record and keys."""
    held = Package(package.files["record.bin"], package.files["meter.bin"])
    end = time.monotonic() + PATIENCE_S
    with open_serial(port) as link:
        while time.monotonic() < end:
            for frame in receive(link, 1, 1):
                peers = (held.record.fleet, CLOUD, held.number, False, held.record.fingerprint, 1)
                try:
                    message = Channel(held.link_key, *peers).open(frame)
                except Refused:
                    continue
                assert message.type == HELLO
                return message.counter >> 32
    raise AssertionError("no HELLO came")


def wipe(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_file() and path.name != "main.py":
            path.unlink()
