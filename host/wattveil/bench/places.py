"""Where a benchmark program runs: an emulated runtime behind a pseudo-terminal, or a board's port.

Both are reached over the same serial line. A program is started with a job (a dict of literals), talks
frames to a `Cloud` while it runs, and ends with one marked line of JSON on its console.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import serial
from mpremote.transport import TransportError  # type: ignore[import-untyped]
from mpremote.transport_serial import SerialTransport  # type: ignore[import-untyped]

from wattveil.bench.build import Build
from wattveil.bench.rig import BenchError, Cloud, OutOfMemory
from wattveil.boards import deploy, repl
from wattveil.fleet.emulated import EmulatedMeter
from wattveil.links.serial import find_port
from wattveil_meter.wire import Deframer, stuff

MARK = b"@bench "
SILENCE_S = 900.0  # no program is silent for longer
ENDING_S = 60.0  # from a program's last word to its end
POLL_S = 0.05
FOLDER = "bench"  # on a board: nothing of a meter that lives there is touched
LAUNCHER = """\
import sys
sys.path.insert(0, {path!r})
try:
    import {program}
    {program}.main({job!r})
except MemoryError:
    print("\\n@bench null")
"""


class Place(Protocol):
    """name: the record's `runtime`. repeats: of an operation, for a time worth having."""

    name: str
    repeats: int
    arm: bool  # 32-bit integers and objects as on the boards

    def run(
        self,
        program: str,
        job: Mapping[str, Any],
        files: Mapping[str, bytes],
        cloud: Cloud | None = None,
    ) -> Any:
        """What the program said. files: what it finds in job["folder"]. OutOfMemory, BenchError."""

    def close(self) -> None:
        """Stop what was started."""


class Emulated:
    """A runtime of wattveil.fleet.emulated; each program in a process of its own."""

    repeats = 50

    def __init__(self, name: str, build: Build, folder: Path, *, qemu: Sequence[str] = ()) -> None:
        """qemu: further arguments for it, on micropython-arm."""
        self.name, self.arm = name, name == "micropython-arm"
        self._qemu = qemu
        self._firmware = build.py if name == "cpython" else build.mpy
        self._root = folder
        self._held: dict[str, Path] = {}

    def run(
        self,
        program: str,
        job: Mapping[str, Any],
        files: Mapping[str, bytes],
        cloud: Cloud | None = None,
    ) -> Any:
        """As Place.run."""
        folder = self._folder(files)
        main = folder / "main.py"
        text = {"path": str(self._firmware), "program": program, "job": {**job, "folder": "."}}
        main.write_text(LAUNCHER.format(**text))
        (folder / "log.txt").unlink(missing_ok=True)
        meter = EmulatedMeter(folder, self.name, main=main, firmware=self._firmware)
        meter.argv[1:1] = self._qemu
        # opened before anything is printed: pyserial throws away what it finds when it opens
        with contextlib.closing(meter), serial.Serial(meter.port, timeout=POLL_S) as port:
            meter.start()
            answer = converse(port, cloud, meter.alive)
            if answer is not None:
                meter.wait(ENDING_S)
        if answer is not None:
            return answer
        for _ in range(20):  # its last words come through a pipe
            if "Error" in meter.log():
                break
            time.sleep(0.05)
        if "MemoryError" in meter.log():
            raise OutOfMemory(f"{program} on {self.name} ran out of memory")
        raise BenchError(f"{program} on {self.name} failed:\n{meter.log()}")

    def _folder(self, files: Mapping[str, bytes]) -> Path:
        digest = _digest(files)
        if digest not in self._held:
            folder = self._held[digest] = self._root / str(len(self._held))
            folder.mkdir(parents=True)
            for name, data in files.items():
                (folder / name).write_bytes(data)
        return self._held[digest]

    def close(self) -> None:
        """Nothing runs between programs."""


class Port:
    """A board, or what looks like one, at a port. Files go to the folder bench/ on it, by mpremote.

    name: the record's runtime. owner: closed with it (an emulator).
    """

    repeats = 4
    arm = True

    def __init__(
        self,
        name: str,
        port_id: str,
        build: Build,
        progress: Callable[[str], None],
        owner: Any = None,
    ) -> None:
        self.name, self._port = name, find_port(port_id)
        self._build, self._progress, self._owner = build.files(), progress, owner
        self._held = ""

    def run(
        self,
        program: str,
        job: Mapping[str, Any],
        files: Mapping[str, bytes],
        cloud: Cloud | None = None,
    ) -> Any:
        """As Place.run."""
        self._bring(files)
        text = {"path": FOLDER, "program": program, "job": {**job, "folder": FOLDER}}
        transport = SerialTransport(self._port, timeout=repl.READ_S)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # mpremote prints what it got
                transport.enter_raw_repl(timeout_overall=30)  # a soft reset without main.py
            transport.exec_raw_no_follow(LAUNCHER.format(**text))
            port: serial.Serial = transport.serial
            port.timeout = POLL_S
            answer = converse(port, cloud, lambda: True)
        except (TransportError, OSError) as error:
            raise BenchError(f"{self.name}: {program}: {error}") from error
        finally:
            transport.close()
        return answer

    def _bring(self, files: Mapping[str, bytes]) -> None:
        wanted = {f"{FOLDER}/{name}": data for name, data in {**self._build, **files}.items()}
        digest = _digest(wanted)
        if digest == self._held:
            return

        def progress(name: str, done: int, total: int) -> None:
            self._progress(f"{self.name}: copying {name} ({done // 1024} of {total // 1024} kB)")

        with repl.RawRepl(self._port) as board:
            deploy.bring_up_to_date(board, wanted, progress)
        self._held = digest

    def close(self) -> None:
        """Start the board's own main.py again; power an emulator off."""
        if self._owner is not None:
            self._owner.close()
            return
        with (
            contextlib.suppress(repl.BoardError, TransportError, OSError),
            repl.RawRepl(self._port),
        ):
            pass


def converse(port: serial.Serial, cloud: Cloud | None, alive: Callable[[], bool]) -> Any:
    """Answer a program's frames until it has said its result; None: it ended without. OutOfMemory."""
    deframer = Deframer()
    text = bytearray()
    heard = time.monotonic()
    while True:
        running = alive()
        data = port.read(max(1, port.in_waiting))
        if data:
            heard = time.monotonic()
            text = (text + data)[-262_144:]
        elif not running:
            return None
        elif time.monotonic() - heard > SILENCE_S:
            raise BenchError(f"nothing was heard for {SILENCE_S:.0f} s: {bytes(text[-200:])!r}")
        for frame in deframer.feed(data):
            answer = cloud.receive(frame) if cloud is not None else None
            if answer is not None:
                port.write(stuff(answer))
        if (at := text.rfind(MARK)) >= 0 and (end := text.find(b"\n", at)) >= 0:
            if (said := json.loads(text[at + len(MARK) : end])) is None:
                raise OutOfMemory("the program ran out of memory")
            return said
        if (at := text.find(b"Traceback (most recent")) >= 0 and b"\x04" in text[at:]:
            words = text[at:].split(b"\x04")[0].decode(errors="replace")
            if "MemoryError" in words:
                raise OutOfMemory("the program ran out of memory")
            raise BenchError(words)


def _digest(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()
