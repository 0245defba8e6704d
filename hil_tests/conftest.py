"""What the hardware-in-the-loop tests ask for: a meter on a console, whatever answers there (tiers.py).

A runtime or board that is missing is a skip that says what to do.
"""

from __future__ import annotations

import itertools
import select
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import tiers
from onemeter import Benches
from tiers import Tier
from wattveil.fleet.emulated import RUNTIMES, EmulatedMeter
from wattveil.fleet.pico import PicoEmulator
from wattveil.fleet.runtime import RuntimeMissing, find_runtime
from wattveil.links.serial import SerialLink

HERE = Path(__file__).parent
SHOWN = 1500  # characters of each log when a test fails
CONSOLE_TIMEOUT_S = 1800


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


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`tier`: every tier there is, with `chip` boards only. `field_tier`: a fleet of processes, or one
    other meter in it."""
    names = tiers.names(metafunc.config)
    boards = [name for name in names if name not in RUNTIMES]
    if "tier" in metafunc.fixturenames:
        chosen = boards if "chip" in metafunc.fixturenames else names
        metafunc.parametrize("tier", chosen, indirect=True, scope="session")
    if "field_tier" in metafunc.fixturenames:
        metafunc.parametrize("field_tier", ["emulated", *boards], indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A board or an emulated chip may take longer than the rest of the suite does."""
    for item in items:
        params = getattr(item, "callspec", None)
        words = params.params.values() if params else ()
        if any(word == tiers.PICO or str(word).startswith(tiers.BOARD) for word in words):
            item.add_marker(pytest.mark.timeout(CONSOLE_TIMEOUT_S))


def bench_ports(config: pytest.Config) -> list[str]:
    """The bench's boards, whose files may be replaced; a skip when there is none."""
    boards, _ = tiers.places(config)
    if not boards:
        pytest.skip(tiers.NO_BOARD)
    return [place.port_id for place in boards]


def usable(runtime: str) -> str:
    """The runtime's name; a skip when it is not on this machine."""
    if runtime != "cpython":
        try:
            find_runtime(runtime)
        except RuntimeMissing as missing:
            pytest.skip(str(missing))
    return runtime


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    """Each runtime a meter without a board can run on."""
    return usable(request.param)


@pytest.fixture(scope="session")
def pico_image(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """A Pico's flash with the firmware on it, made when it is first asked for."""
    return cache(lambda: tiers.make_image(tmp_path_factory.mktemp("pico")))


@pytest.fixture(scope="session")
def tier(request: pytest.FixtureRequest, pico_image: Callable[[], Path]) -> Tier:
    """Each way to have a meter (tiers.py)."""
    return tiers.find(request.param, request.config, pico_image)


@pytest.fixture(scope="session")
def field_tier(request: pytest.FixtureRequest, pico_image: Callable[[], Path]) -> Tier | None:
    """Who plays the part of the meter under test in a fleet; None for a process like the others."""
    if request.param == "emulated":
        return None
    return tiers.find(request.param, request.config, pico_image)


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


@pytest.fixture(params=["micropython", "micropython-arm", tiers.PICO, tiers.BOARD])
def board_console(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """(port, folder or None) of something with MicroPython's raw REPL; its files may be replaced.

    The unix builds have no raw REPL of their own: rawrepl.py gives them one, and `folder` is their
    file system.
    """
    if request.param == tiers.BOARD:
        yield bench_ports(request.config)[0], None
        return
    flash = tmp_path / "flash"
    flash.mkdir()
    if request.param == tiers.PICO:
        try:
            pico = PicoEmulator(flash)
        except RuntimeMissing as missing:
            pytest.skip(str(missing))
        with pico:
            yield pico.port, None
        return
    runtime = usable(request.param)
    empty = tmp_path / "nothing to import"
    empty.mkdir()
    with EmulatedMeter(flash, runtime, main=HERE / "rawrepl.py", firmware=empty) as meter:
        yield meter.port, flash


@pytest.fixture
def bench(tier: Tier, tmp_path: Path) -> Iterator[Benches]:
    """bench(gamma=...): one meter of the tier and its peers (onemeter.py)."""
    with Benches(tier, tmp_path) as benches:
        yield benches


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
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Callable[[float], None]:
    """recovered(seconds): how long a fault took to be over; in the reports, and bounded.

    The bound is a meter's longest wait between two tries (30 s) and much for a busy machine.
    """
    named = "field_tier" in request.fixturenames
    tier: Tier | None = request.getfixturevalue("field_tier") if named else None

    def note(seconds: float) -> None:
        record_property("recovery_s", round(seconds, 2))
        assert seconds < 150 * (tier.slow if tier else 1)

    return note


@pytest.fixture
def receive() -> Callable[..., list[bytes]]:
    """receive(link, count, timeout=60 s): that many frames, or as many as came in time."""

    def wait(link: SerialLink, count: int, timeout: float = 60) -> list[bytes]:
        frames: list[bytes] = []
        end = time.monotonic() + timeout
        while len(frames) < count and time.monotonic() < end:
            select.select([link], [], [], 0.005)  # short: writes may be pending
            frames += link.read()
        return frames

    return wait


@pytest.fixture
def greet(receive: Callable[..., list[bytes]]) -> Callable[[SerialLink], None]:
    """Wait until an echoing meter answers what was asked last: nothing is left over then."""

    def wait(link: SerialLink) -> None:
        end = time.monotonic() + 60
        for number in itertools.count():
            assert time.monotonic() < end, "the meter does not answer"
            asked = b"anyone? %d" % number
            link.write(asked)
            while frames := receive(link, 1, 0.3):
                if asked in frames:
                    return

    return wait
