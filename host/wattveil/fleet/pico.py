"""The runtime `pico-emulated`: real MicroPython firmware for a Raspberry Pi Pico, in rp2040js.

The chip runs in a node process (pico/bridge.mjs) whose USB console is a pseudo-terminal: the host,
mpremote and the tests open it by name like a board's port. The firmware image and the chip's boot
ROM are the user's to supply (docs/PICO.md). Works on Linux.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import termios
import threading
import tty
from pathlib import Path
from typing import IO, Any

from wattveil.fleet.runtime import RuntimeMissing

UF2 = "WATTVEIL_PICO_UF2"  # path of MicroPython for the board RPI_PICO, version 1.24 or newer
BOOTROM = "WATTVEIL_PICO_BOOTROM"  # path of the RP2040's boot ROM, its 16 KiB as they are
PACKAGE = "rp2040js"
VERSION = "1.4.1"  # the fixes in pico/chip.mjs were made for this one
NODE = 18  # oldest major version
HZ = 125e6  # of the emulated processor
_BRIDGE = Path(__file__).parent / "pico" / "bridge.mjs"
_UF2_MAGIC = b"UF2\n"
_BOOTROM_BYTES = 16_384
_INSTALL_S = 120


def find_images() -> tuple[Path, Path]:
    """The UF2 and the boot ROM that the environment names; RuntimeMissing says what to set."""
    uf2 = _named(UF2, "a MicroPython UF2 for the board RPI_PICO, 1.24 or newer")
    with uf2.open("rb") as file:
        if file.read(4) != _UF2_MAGIC:
            raise RuntimeMissing(f"{uf2} ({UF2}) is not a UF2 file")
    bootrom = _named(BOOTROM, "the RP2040's boot ROM, a file of 16 KiB")
    if (size := bootrom.stat().st_size) != _BOOTROM_BYTES:
        raise RuntimeMissing(f"{bootrom} ({BOOTROM}) has {size} bytes, a boot ROM has 16384")
    return uf2, bootrom


def _named(variable: str, what: str) -> Path:
    if not (value := os.environ.get(variable)):
        raise RuntimeMissing(f"pico-emulated: set {variable} to the path of {what}")
    path = Path(value).expanduser().resolve()
    if not path.is_file():
        raise RuntimeMissing(f"pico-emulated: {variable} names {path}, which is not a file")
    return path


def find_emulator() -> Path:
    """The folder rp2040js is installed in, by npm when it is not there yet; RuntimeMissing."""
    _check_node()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(os.environ.get("WATTVEIL_CACHE") or Path(home, "wattveil")).absolute()
    folder = cache / f"{PACKAGE}-{VERSION}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # Installed beside and then renamed: several test workers may be first at the same time.
        with tempfile.TemporaryDirectory(dir=cache) as new:
            _install(Path(new, "node"))
            with contextlib.suppress(OSError):  # another one was quicker
                Path(new, "node").rename(folder)
    return folder


def _check_node() -> None:
    try:
        answer = subprocess.run(
            ["node", "--version"], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        raise RuntimeMissing(f"pico-emulated: node {NODE} or newer is not installed") from None
    major = answer.removeprefix("v").split(".")[0]
    if not major.isdigit() or int(major) < NODE:
        raise RuntimeMissing(f"pico-emulated: node is {answer.strip()}, {NODE} or newer is needed")


def _install(folder: Path) -> None:
    if shutil.which("npm") is None:
        raise RuntimeMissing(f"pico-emulated: npm, to install {PACKAGE}, is not on this machine")
    command = ["npm", "install", "--prefix", str(folder), "--ignore-scripts"]
    command += ["--no-audit", "--no-fund", f"{PACKAGE}@{VERSION}"]
    folder.mkdir()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S)
    except subprocess.TimeoutExpired:
        raise RuntimeMissing(f"pico-emulated: {' '.join(command)} took too long") from None
    if done.returncode:
        raise RuntimeMissing(f"pico-emulated: {' '.join(command)} failed: {done.stderr.strip()}")


class PicoEmulator:
    """One emulated board; `start` powers it, `port` is the path to open. A context manager: close.

    folder: takes flash.bin, the board's flash (kept from one start to the next; firmware newer than
    the one in it is written over the old one, files stay), and log.txt.
    uf2, bootrom: see `find_images`, the default. emulator: see `find_emulator`, the default.
    bench: what its pins are connected to (pico/chip.mjs, class Chip), nothing by default.

    Like a board on a serial adapter, the port stays over `kill` (the power is cut, in the middle of
    whatever it did) and `restart`. The process ends with this one: its terminal hangs up.
    """

    def __init__(
        self,
        folder: Path,
        uf2: Path | None = None,
        bootrom: Path | None = None,
        *,
        emulator: Path | None = None,
        bench: dict[str, Any] | None = None,
    ) -> None:
        if uf2 is None or bootrom is None:
            found = find_images()
            uf2, bootrom = uf2 or found[0], bootrom or found[1]
        self.folder = Path(folder).resolve()
        self._process: subprocess.Popen[str] | None = None
        self._report: dict[str, float] = {}
        self._command = ["node", str(_BRIDGE), "--emulator", str(emulator or find_emulator())]
        self._command += ["--uf2", str(uf2), "--bootrom", str(bootrom)]
        self._command += ["--flash", str(self.folder / "flash.bin")]
        self._command += ["--bench", json.dumps(bench or {})]
        # Raw before anyone writes: a terminal that echoes would send the host its own bytes back.
        self._master, self._slave = os.openpty()  # the slave stays open here: no hang-up between
        tty.setraw(self._slave)  # the host's closing and opening the port
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)

    def start(self) -> None:
        """Power the board; nothing to do when it runs already."""
        if self.alive():
            return
        if self._master < 0:
            raise ValueError(f"{self!r} is closed")
        termios.tcflush(self._slave, termios.TCOFLUSH)  # what the one before has not read
        with (self.folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, "--console", str(self._master)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                pass_fds=(self._master,),
                process_group=0,
                text=True,
            )
        assert self._process.stdout is not None
        threading.Thread(
            target=self._follow, args=(self._process.stdout,), name="pico speed", daemon=True
        ).start()

    def _follow(self, stdout: IO[str]) -> None:
        """Keep the bridge's last line, until it ends."""
        with stdout:
            for line in stdout:
                with contextlib.suppress(ValueError):
                    self._report = json.loads(line)

    def alive(self) -> bool:
        """Whether the emulator runs; False too when the firmware crashed (see `log`)."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The emulator's process id, None before the first start."""
        return self._process.pid if self._process else None

    @property
    def mhz(self) -> float:
        """Emulated clock while it executes, in MHz (a real one: 125); 0 in the first second."""
        report = self._report
        return report["cycles"] / report["busy_s"] / 1e6 if report.get("busy_s") else 0.0

    @property
    def emulated_s(self) -> float:
        """Seconds that have passed for the board, at most a second ago."""
        return self._report.get("emulated_s", 0.0)

    def kill(self) -> None:
        """Cut its power (SIGKILL to its process group) and wait until it is gone."""
        process = self._process
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._report = {}

    def restart(self) -> None:
        """Kill it if it runs, then start it again on the same port with the files it had."""
        self.kill()
        self.start()

    def log(self) -> str:
        """What the emulator complained of, a crash of the firmware above all."""
        path = self.folder / "log.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def close(self) -> None:
        """Kill it and remove the port; more than once is harmless."""
        self.kill()
        for fd in (self._slave, self._master):
            if fd >= 0:
                os.close(fd)
        self._slave = self._master = -1

    def __enter__(self) -> PicoEmulator:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PicoEmulator({self.folder.name}, {self.port})"
