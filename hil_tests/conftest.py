"""What the hardware-in-the-loop tests ask for: a meter on a console, whatever answers there.

A runtime or board that is missing is a skip that says what to do.
"""

from __future__ import annotations

import select
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wattveil.fleet.emulated import RUNTIMES, EmulatedMeter
from wattveil.fleet.runtime import RuntimeMissing, find_runtime
from wattveil.links.serial import SerialLink

HERE = Path(__file__).parent
SHOWN = 1500  # characters of each log when a test fails


def pytest_addoption(parser: pytest.Parser) -> None:
    """What a bench gives the suite (docs/HIL.md)."""
    group = parser.getgroup("wattveil bench")
    group.addoption(
        "--port",
        action="append",
        default=[],
        metavar="ID",
        help="a board whose files may be replaced, by USB serial number or path (repeatable)",
    )
    group.addoption("--bench", type=Path, metavar="FILE", help="the bench's boards: bench.toml")
    group.addoption("--hours", type=float, default=0.0, metavar="H", help="length of the soak")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failure says where each log is, and how it ends."""
    report: Any = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            for path in value.logs() if hasattr(value, "logs") else ():
                words = path.read_text(errors="replace")[-SHOWN:]
                report.sections.append((f"log of {path.parent.name}: {path}", words))
    return report


def bench_ports(config: pytest.Config) -> list[str]:
    """The bench's boards, whose files may be replaced; a skip when there is none."""
    ports: list[str] = list(config.getoption("--port"))
    if bench := config.getoption("--bench"):
        ports += [str(board["port"]) for board in tomllib.loads(bench.read_text())["board"]]
    if not ports:
        pytest.skip("no board: give --port with the USB serial number of one, or --bench FILE")
    return ports


def usable(runtime: str) -> str:
    """The runtime's name; a skip when it is not on this machine."""
    if runtime != "cpython":
        try:
            find_runtime(runtime)
        except RuntimeMissing as missing:
            pytest.skip(str(missing))
    return runtime


@pytest.fixture(params=RUNTIMES)
def tier(request: pytest.FixtureRequest) -> str:
    """Each runtime a meter without a board can run on."""
    return usable(request.param)


@pytest.fixture
def emulate(tmp_path: Path) -> Iterator[Callable[..., EmulatedMeter]]:
    """Start an emulated meter: emulate(runtime, main=..., folder=...); all are killed afterwards."""
    meters: list[EmulatedMeter] = []

    def start(runtime: str, main: Path, **more: Any) -> EmulatedMeter:
        folder = more.pop("folder", tmp_path / f"meter{len(meters)}")
        folder.mkdir(exist_ok=True)
        meters.append(EmulatedMeter(folder, runtime, main=main, **more))
        meters[-1].start()
        return meters[-1]

    yield start
    for meter in meters:
        meter.close()


@pytest.fixture(params=["micropython", "micropython-arm", "board"])
def board_console(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """(port, folder or None) of something with MicroPython's raw REPL; its files may be replaced.

    The unix builds have no raw REPL of their own: rawrepl.py gives them one, and `folder` is their
    file system.
    """
    if request.param == "board":
        yield bench_ports(request.config)[0], None
        return
    runtime = usable(request.param)
    flash = tmp_path / "flash"
    flash.mkdir()
    empty = tmp_path / "nothing to import"
    empty.mkdir()
    with EmulatedMeter(flash, runtime, main=HERE / "rawrepl.py", firmware=empty) as meter:
        yield meter.port, flash


@pytest.fixture(scope="session")
def runtimes() -> tuple[str, ...]:
    """The MicroPythons on this machine, for fleets of several; a skip when there is none."""
    found = []
    for name in ("micropython", "micropython-arm"):
        try:
            found.append(find_runtime(name).name)
        except RuntimeMissing as missing:
            why = str(missing)
    if not found:
        pytest.skip(why)
    return tuple(found)


@pytest.fixture
def recovered(
    record_property: Callable[[str, object], None],
) -> Callable[[float], None]:
    """recovered(seconds): how long a fault took to be over; in the reports, and bounded.

    The bound is a meter's longest wait between two tries (30 s) and some for a busy machine.
    """

    def note(seconds: float) -> None:
        record_property("recovery_s", round(seconds, 2))
        assert seconds < 60

    return note


@pytest.fixture
def receive() -> Callable[..., list[bytes]]:
    """receive(link, count, timeout=20 s): that many frames, or as many as came in time."""

    def wait(link: SerialLink, count: int, timeout: float = 20) -> list[bytes]:
        frames: list[bytes] = []
        end = time.monotonic() + timeout
        while len(frames) < count and time.monotonic() < end:
            select.select([link], [], [], 0.005)  # short: writes may be pending
            frames += link.read()
        return frames

    return wait


@pytest.fixture
def greet(receive: Callable[..., list[bytes]]) -> Callable[[SerialLink], None]:
    """Wait until an echoing meter answers, then swallow what is left over."""

    def wait(link: SerialLink) -> None:
        end = time.monotonic() + 30
        while not receive(link, 1, 0.2):
            assert time.monotonic() < end, "the meter does not answer"
            link.write(b"anyone?")
        while receive(link, 1, 0.15):
            pass

    return wait
