"""Emulated meters: the board's firmware in a process of its own, behind a pseudo-terminal.

The process has the terminal's master side as stdin and stdout, as a board has its USB console; the
host opens the slave side by name, with pyserial, as it opens a board's port. Works on Linux.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import termios
import threading
import tty
from collections.abc import Callable
from pathlib import Path
from typing import IO

import wattveil_meter
from wattveil.fleet.runtime import find_runtime

RUNTIMES = ("micropython", "micropython-arm", "cpython")
# An RP2040 leaves about 192 kB to MicroPython; objects of the 64-bit build are twice as large.
HEAP = {"micropython": "384k", "micropython-arm": "192k"}
LOG_BYTES = 262_144  # of stderr.txt; when it is full it starts again
PR_SET_PDEATHSIG = 1


def firmware_folder() -> Path:
    """The folder that holds the package wattveil_meter and, in a checkout, main.py."""
    return Path(wattveil_meter.__file__).resolve().parent.parent


class EmulatedMeter:
    """One meter process; `start` runs it, `port` is the path to open. A context manager: close.

    folder: the meter's own (its working directory; also takes stderr.txt, the process's stderr).
    runtime: one of RUNTIMES. main: the program, default the firmware's main.py. heap:
    MicroPython's, as for `-X heapsize=`. firmware: what is imported from, default the folder
    wattveil_meter is in.

    The port stays the same over `kill` and `restart`, like a board on a serial adapter whose power
    is cut: the host's open link sees silence. `close` is the unplugged cable.
    Only processes started here are ever signalled. When this process dies, the meters end too: the
    terminal hangs up, which wattveil_meter.links.serial takes as the end, and on Linux the kernel
    kills them (PR_SET_PDEATHSIG; only for meters started from the main thread, because the signal
    would already come when the thread that started them ends).

    console: False for a meter whose link is a network: no port, and stdout goes to stderr.txt too.
    """

    def __init__(
        self,
        folder: Path,
        runtime: str = "micropython",
        *,
        main: Path | None = None,
        heap: str | None = None,
        firmware: Path | None = None,
        console: bool = True,
    ) -> None:
        if runtime not in RUNTIMES:
            raise ValueError(f"no runtime is called {runtime!r}: there are {', '.join(RUNTIMES)}")
        self.folder = Path(folder).resolve()
        self.runtime = runtime
        self.firmware = (firmware or firmware_folder()).resolve()
        self.main = (main or self.firmware / "main.py").resolve()
        self.argv = self._command(heap)
        if not self.main.exists():
            raise FileNotFoundError(f"{self.main} is missing: run from a wattveil checkout")
        self._process: subprocess.Popen[bytes] | None = None
        self._console = console
        self._master = self._slave = -1
        self.port = ""
        if console:
            # Raw before anyone writes: a terminal that echoes would send the host its own frames.
            self._master, self._slave = os.openpty()  # the slave stays open here: no hang-up
            tty.setraw(self._slave)  # between the host's closing and opening the port
            self.port = os.ttyname(self._slave)

    def _command(self, heap: str | None) -> list[str]:
        if self.runtime == "cpython":
            return [sys.executable, str(self.main)]
        argv = find_runtime(self.runtime).argv
        return [*argv, "-X", f"heapsize={heap or HEAP[self.runtime]}", str(self.main)]

    def start(self) -> None:
        """Run the meter; nothing to do when it runs already."""
        if self.alive():
            return
        if self._console:
            if self._master < 0:
                raise ValueError(f"{self!r} is closed")
            termios.tcflush(self._slave, termios.TCOFLUSH)  # what the one before has not read
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        environment["MICROPYPATH"] = f".frozen:{self.firmware}"
        environment["PYTHONPATH"] = str(self.firmware)
        self._process = subprocess.Popen(
            self.argv,
            cwd=self.folder,
            env=environment,
            stdin=self._master if self._console else subprocess.DEVNULL,
            stdout=self._master if self._console else subprocess.PIPE,
            stderr=subprocess.PIPE if self._console else subprocess.STDOUT,
            process_group=0,
            preexec_fn=die_with_parent(),
        )
        pipe = self._process.stderr or self._process.stdout
        assert pipe is not None
        log = self.folder / "stderr.txt"
        threading.Thread(target=_keep_log, args=(pipe, log), name="meter log", daemon=True).start()

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Its process id, None before the first start."""
        return self._process.pid if self._process else None

    def kill(self) -> None:
        """Cut its power (SIGKILL to its process group) and wait until it is gone."""
        process = self._process
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def restart(self) -> None:
        """Kill it if it runs, then start it again on the same port."""
        self.kill()
        self.start()

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code once it has ended (negative: a signal); subprocess.TimeoutExpired."""
        if self._process is None:
            raise ValueError(f"{self!r} was never started")
        return self._process.wait(timeout)

    def log(self) -> str:
        """What it wrote to stderr: an uncaught exception, above all."""
        path = self.folder / "stderr.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def hang_up(self) -> None:
        """Close the terminal on our side: once the host's link is closed too, the input ends.

        Never to be undone: `restart` needs a terminal.
        """
        for fd in (self._slave, self._master):
            if fd >= 0:
                os.close(fd)
        self._slave = self._master = -1

    def close(self) -> None:
        """Kill the process and remove the port; more than once is harmless."""
        self.kill()
        self.hang_up()

    def __enter__(self) -> EmulatedMeter:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"EmulatedMeter({self.folder.name}, {self.runtime}, {self.port})"


def die_with_parent() -> Callable[[], None] | None:
    """What the child does before it becomes the meter: ask for SIGKILL when this process dies."""
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork: the child should do little
    parent = os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask


def _keep_log(stream: IO[bytes], path: Path) -> None:
    """Copy a pipe to a file that starts again at LOG_BYTES, until the pipe ends."""
    with stream, contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        while piece := os.read(stream.fileno(), 4096):
            if file.tell() + len(piece) > LOG_BYTES:
                file.truncate(0)
                file.write(b"[the log was full and starts again]\n")
            file.write(piece)
