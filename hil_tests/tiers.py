"""What answers when a test asks for a meter: a PC's process, an emulated Pico, or a board on the bench.

A test may use of a meter: its console (`port`), its program and files (`put`, `stopped`), and its
power (`kill`, `start`, `restart`). A capability that is not there is a skip with the variable,
option or key to set (docs/HIL.md).
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from wattveil.boards.deploy import deploy, write
from wattveil.boards.inventory import Bench, Place, load_bench
from wattveil.boards.provision import erase_meter, make_config
from wattveil.boards.repl import BoardError, RawRepl
from wattveil.fleet.emulated import RUNTIMES, EmulatedMeter
from wattveil.fleet.pico import PicoEmulator, find_emulator, find_images
from wattveil.fleet.runtime import RuntimeMissing, find_runtime
from wattveil.links.serial import LinkDown, find_port
from wattveil_meter.record import Record

MAIN = Path(__file__).parent.parent / "firmware" / "main.py"
STOPPABLE = Path(__file__).parent / "stoppable_main.py"  # of a PC's process
PATIENCE_S = 120.0  # for an event, on a busy machine; nothing is decided by it
LOGS = ("log.txt", "log.old")
PICO = "pico"
BOARD = "board"
NO_BOARD = "no board: give --port with the USB serial number of one, or --bench FILE"
NO_POWER = "{}: no hand on its power: give power_off and power_on of this board in bench.toml"
TEST_FILES = ("shares.csv", "main_recorder.py", "hang", "full")  # what tests leave on a board
FORM = "from wattveil_meter.kernels import choose\nprint(choose({}).form)"
POWER_S = 60.0  # for a power command, and for the port to come back


class Files(Protocol):
    """The files of a meter whose program is stopped."""

    def read(self, name: str) -> bytes:
        """Its content, empty when it is not there."""

    def write(self, name: str, data: bytes) -> None:
        """A whole file."""

    def remove(self, name: str) -> None:
        """Nothing to do when it is not there."""


class Meter(Protocol):
    """folder: on this machine, for logs; on a PC's tier also the meter's own."""

    folder: Path
    port: str

    def put(self, files: Mapping[str, bytes]) -> None:
        """Be the meter of these files and of nothing before them, and run."""

    def stopped(self) -> AbstractContextManager[Files]:
        """Ctrl-C at the program (no power cut: it says `stop` in its log); then it starts again.

        Nobody else may have the port open.
        """

    def logs(self) -> list[Path]:
        """Its log files on this machine, as new as can be."""

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def restart(self) -> None: ...
    def close(self) -> None: ...


class InFolder:
    """Files of a folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> bytes:
        path = self._folder / name
        return path.read_bytes() if path.exists() else b""

    def write(self, name: str, data: bytes) -> None:
        (self._folder / name).write_bytes(data)

    def remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)


class OnBoard:
    """Files behind a raw REPL."""

    def __init__(self, repl: RawRepl) -> None:
        self.repl = repl

    def read(self, name: str) -> bytes:
        return bytes(self.repl.ask(f"_read({name!r})"))

    def write(self, name: str, data: bytes) -> None:
        for _ in write(self.repl, name, data):
            pass

    def remove(self, name: str) -> None:
        self.repl.run(f"_remove({name!r})")


class Process(EmulatedMeter):
    """A meter in a process of this machine."""

    def kill(self) -> None:
        """The power, not a program that ended badly: hal.reset_reason() says so on a board."""
        super().kill()
        InFolder(self.folder).remove("starts.bin")

    def put(self, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            (self.folder / name).write_bytes(data)
        self.start()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[Files]:
        if self.alive():
            (self.folder / "ctrl-c").touch()  # main_recorder.py says why no signal
            self.wait(PATIENCE_S)
        yield InFolder(self.folder)
        self.start()

    def logs(self) -> list[Path]:
        return [path for name in (*LOGS, "stderr.txt") if (path := self.folder / name).exists()]


class Console:
    """What is reached by its raw REPL alone. Logs are copied to `folder` whenever it is stopped."""

    folder: Path
    port: str
    mains: tuple[Path, ...]  # main.py, and what it imports beside the firmware

    def put(
        self,
        files: Mapping[str, bytes],
        tables: Mapping[int, Mapping[str, bytes]] | None = None,
        *,
        new: bool = True,
    ) -> None:
        """tables: by form, for its kernel. new: False leaves what it has, counters above all."""
        files = dict(files)
        with RawRepl(self.port) as repl:
            self._deploy(repl)
            board = OnBoard(repl)
            if new:
                erase_meter(repl)
                for name in TEST_FILES:
                    board.remove(name)
            for path in self.mains[1:]:
                files[path.name] = path.read_bytes()
            if tables:
                n = Record.parse(files["record.bin"]).n
                files |= tables[int(repl.run(FORM.format(n)))]
            for name, data in files.items():
                board.write(name, data)

    def _deploy(self, repl: RawRepl) -> None:
        deploy(repl, main=self.mains[0])

    @contextlib.contextmanager
    def stopped(self) -> Iterator[Files]:
        with RawRepl(self.port) as repl:
            board = OnBoard(repl)
            self._copy_logs(board)
            yield board

    def _copy_logs(self, files: Files) -> None:
        for name in LOGS:
            (self.folder / f"board-{name}").write_bytes(files.read(name))

    def logs(self) -> list[Path]:
        """Its log files, copied here from the board, as far as it lets itself be asked."""
        with contextlib.suppress(BoardError, OSError), self.stopped():
            pass
        return [path for path in sorted(self.folder.glob("*log.*")) if path.stat().st_size]


class Pico(Console, PicoEmulator):
    """An emulated Pico: real firmware, flash, watchdog and USB."""

    def __init__(self, folder: Path, image: Path, mains: tuple[Path, ...]) -> None:
        shutil.copy(image, folder / "flash.bin")
        PicoEmulator.__init__(self, folder)
        self.mains = mains

    def put(self, *args: Any, **more: Any) -> None:
        self.start()
        super().put(*args, **more)

    def _deploy(self, repl: RawRepl) -> None:
        """The firmware is in the image."""
        OnBoard(repl).write("main.py", self.mains[0].read_bytes())


class Board(Console):
    """A board on the bench."""

    def __init__(self, folder: Path, place: Place, mains: tuple[Path, ...]) -> None:
        self.folder, self.place, self.mains = folder, place, mains
        self._on = True

    @property
    def port(self) -> str:  # type: ignore[override]
        """Where its console is now; by serial number, which may be another path after a power cut."""
        return find_port(self.place.port_id)

    def kill(self) -> None:
        self._power(self.place.power_off)
        self._on = False

    def start(self) -> None:
        if not self._on:
            self._power(self.place.power_on)
            self._on = True
            end = time.monotonic() + POWER_S
            while True:
                try:
                    find_port(self.place.port_id)
                    return
                except LinkDown:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.1)

    def restart(self) -> None:
        self.kill()
        self.start()

    def close(self) -> None:
        """It stays as it is, but with the power on."""
        self.start()

    def _power(self, command: str) -> None:
        if not command:
            pytest.skip(NO_POWER.format(self.place.name))
        subprocess.run(command, shell=True, check=True, timeout=POWER_S)


@dataclass
class Tier:
    """One way to have a meter. slow: how much longer than a PC's process it may take for anything."""

    name: str
    slow: int = 1
    place: Place | None = None
    bench: Bench | None = None
    folder: Path | None = None  # of bench.toml, whose paths are relative to it
    image: Callable[[], Path] | None = field(default=None, repr=False)  # of a Pico's flash

    def meter(self, folder: Path, *mains: Path, **more: Any) -> Any:
        """A `Meter`, not started. mains: its main.py (default: the firmware's), and what that imports."""
        folder.mkdir(exist_ok=True, parents=True)
        mains = mains or (MAIN,)
        if self.place is not None:
            return Board(folder, self.place, mains)
        if self.image is not None:
            return Pico(folder, self.image(), mains)
        return Process(folder, self.name, main=STOPPABLE if mains == (MAIN,) else mains[0], **more)

    @property
    def has_power(self) -> bool:
        """Whether a test can cut the meter's power."""
        return self.place is None or bool(self.place.power_off)

    def needs_power(self) -> None:
        """A skip unless it can."""
        if self.place is not None and not self.has_power:
            pytest.skip(NO_POWER.format(self.place.name))

    def needs_network(self) -> None:
        """A skip unless the meter reaches a broker that a test starts."""
        if self.name == PICO:
            pytest.skip(
                "the emulated Pico has no network: give --bench with a board that has Wi-Fi"
            )
        if self.place is not None and (self.bench is None or self.bench.broker is None):
            pytest.skip(f"{self.place.name}: no broker: give --bench a file with [broker] in it")

    def on_network(self, config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
        """A config.json with the Wi-Fi that bench.toml's settings of this board name, and its files."""
        assert self.place is not None and self.folder is not None
        settings = [self.folder / path for path in self.place.settings]
        chosen, files = make_config(None, settings, None)
        if "wifi" not in chosen["link"]:
            return config, {}
        wifi = chosen["link"]["wifi"]
        files = {name: data for name, data in files.items() if name in wifi.values()}
        return config | {"link": config["link"] | {"wifi": wifi}}, files


def places(config: pytest.Config) -> tuple[list[Place], Bench | None]:
    """The boards that the command line gives, and the bench they are on; UsageError."""
    given = [Place(name=port, port=port) for port in config.getoption("--port")]
    bench = None
    if path := config.getoption("--bench"):
        try:
            bench = load_bench(path)
        except ValueError as error:
            raise pytest.UsageError(str(error)) from None
        given += bench.board
    return given, bench


def names(config: pytest.Config) -> list[str]:
    """All tiers, for parametrisation: those of a board by the board's name."""
    boards, _ = places(config)
    return [*RUNTIMES, PICO, *([f"{BOARD}:{place.name}" for place in boards] or [BOARD])]


def find(name: str, config: pytest.Config, image: Callable[[], Path]) -> Tier:
    """The tier of one of these names; a skip when it is not there."""
    if name.startswith(BOARD):
        boards, bench = places(config)
        if not boards:
            pytest.skip(NO_BOARD)
        place = next(p for p in boards if name == f"{BOARD}:{p.name}")
        path = config.getoption("--bench")
        return Tier(name, 4, place, bench, path.parent if path else None)
    try:
        if name == PICO:
            find_images()
            find_emulator()
            return Tier(name, 6, image=image)
        if name != "cpython":
            find_runtime(name)
    except RuntimeMissing as missing:
        pytest.skip(str(missing))
    return Tier(name)


def make_image(folder: Path) -> Path:
    """A Pico's flash with the firmware on it."""
    with PicoEmulator(folder) as emulator, RawRepl(emulator.port) as repl:
        deploy(repl)
    return folder / "flash.bin"
