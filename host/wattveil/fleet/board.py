"""A real board joins a fleet: firmware and provisioning over its raw REPL, then a soft reset.

Everything goes through mpremote's own transport, over the cable the meter then talks on. Keys
reach the board this way and no other (PROTOCOL.md, "Registration").
"""

from __future__ import annotations

import binascii
import contextlib
import hashlib
import io
import json
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import serial
from mpremote.transport import (  # type: ignore[import-untyped]
    TransportError,
    TransportExecError,
)
from mpremote.transport_serial import SerialTransport  # type: ignore[import-untyped]

from wattveil.fleet.emulated import firmware_folder
from wattveil.fleet.tables import Tables
from wattveil.links.serial import LinkDown, find_port, open_serial
from wattveil_meter.record import Record
from wattveil_meter.store import FRESH

Progress = Callable[[str, int, int], None]  # what, bytes done, bytes in all

CONFIG = {"sensor": {"kind": "demo"}, "poll_ms": 200}
READ_S = 3  # longest silence while it takes a line of code
ENTER_S = 6  # for a running program to stop and the raw REPL to answer
CHUNK = 1536  # bytes a line of code carries; a board needs about 5 times that in RAM
RESERVE = 16_384  # bytes of flash left to the meter's own files
_HELPERS = """\
import hashlib, os
from binascii import a2b_base64 as _a
def _h(name):
    h = hashlib.sha256()
    try:
        f = open(name, 'rb')
    except OSError:
        return b''
    with f:
        while True:
            b = f.read(512)
            if not b:
                return h.digest()
            h.update(b)
def _k(n):
    from wattveil_meter.kernels import choose
    return choose(n).form
def _d(name):
    try:
        os.mkdir(name)
    except OSError:
        pass
def _r(name):
    try:
        os.remove(name)
    except OSError:
        pass
def _f():
    s = os.statvfs('.')
    return s[1] * s[4]
"""


class BoardError(RuntimeError):
    """The board cannot join; the message says what to do."""


@dataclass(frozen=True)
class Joined:
    """port: the device path or URL to hand to the cloud runner; copied: files that differed."""

    port: str
    copied: tuple[str, ...]
    bytes_copied: int


def firmware_files(main: Path | None = None) -> dict[str, bytes]:
    """What is flashed, by path on the board: the .py files of wattveil_meter, and main.py."""
    root = firmware_folder()
    main = main or root / "main.py"
    if not main.exists():
        raise BoardError(f"{main} is missing: run from a wattveil checkout")
    sources = sorted((root / "wattveil_meter").rglob("*.py"))
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sources} | {
        "main.py": main.read_bytes()
    }


def board_files(package: Mapping[str, bytes]) -> dict[str, bytes]:
    """The provisioning files of one meter as a board gets them: the demo sends its readings."""
    files = {name: data for name, data in package.items() if name != "readings.csv"}
    files["config.json"] = json.dumps(CONFIG).encode()
    return files


def join_board(
    port_id: str,
    package: Mapping[str, bytes],
    progress: Progress | None = None,
    *,
    main: Path | None = None,
    tables: Mapping[int, Tables] | None = None,
) -> Joined:
    """Make the board at `port_id` (USB serial number, path or URL) the meter of `package`.

    package: file name -> contents, as `provision.MeterPackage.files`. tables: the fleet's, by
    kernel form (`provision.Fleet.tables`): the board is asked which kernel works on it, and gets
    those; without them, those of the package. main: another main.py, for tests. Copies only what
    differs by SHA-256 and checks it after: firmware first, then the meter's files, each with its
    own progress. When the board held another meter's secrets, that meter's are erased first and
    its stored period with them. BoardError.
    """
    firmware, files = firmware_files(main), board_files(package)
    report = progress or (lambda *_: None)
    try:
        port = find_port(port_id)
        open_serial(port).close()  # says more than mpremote about a port that is busy
    except LinkDown as error:
        raise BoardError(str(error)) from error
    try:
        with _RawRepl(port) as board:
            first = _bring_up_to_date(board, port, firmware, report)
            if tables:
                n = Record.parse(package["record.bin"]).n
                files |= tables[board.ask(f"_k({n:#x})")]
            second = _bring_up_to_date(board, port, files, report)
            size = first.bytes_copied + second.bytes_copied
            return Joined(port, first.copied + second.copied, size)
    except TransportExecError as error:
        raise BoardError(f"{port_id}: {_advice(str(error))}") from error
    except (TransportError, OSError, ValueError, struct.error) as error:
        raise BoardError(f"{port_id}: the board stopped answering: {error}; try again") from error


class _RawRepl:
    """The board's raw REPL; left by a soft reset that starts main.py."""

    def __init__(self, port: str) -> None:
        self._port = port

    def __enter__(self) -> _RawRepl:
        self._transport = SerialTransport(self._port, timeout=READ_S)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # mpremote prints what it got
                self._transport.enter_raw_repl(timeout_overall=ENTER_S)
        except (TransportError, serial.SerialException) as error:
            self._transport.close()
            raise BoardError(
                f"{self._port}: no raw REPL ({error}): is MicroPython on the board? Press its"
                " reset button, or flash MicroPython again, then repeat"
            ) from error
        self.run(_HELPERS)
        return self

    def run(self, source: str) -> None:
        """Execute source text on the board."""
        self._transport.exec(source)

    def ask(self, expression: str) -> Any:
        """The value of an expression; a literal, never evaluated as code here."""
        return self._transport.eval(expression)

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        try:
            if failed is None:
                self._transport.exit_raw_repl()
                self._transport.read_until(1, b">>> ", timeout=READ_S)
                self._transport.serial.write(b"\x04")  # soft reset: boot.py, then main.py
                seen = self._transport.read_until(1, b"soft reboot\r\n", timeout=READ_S)
                if not seen.endswith(b"soft reboot\r\n"):
                    raise TransportError("it did not restart")
        finally:
            self._transport.close()


def _bring_up_to_date(
    board: _RawRepl, port: str, files: Mapping[str, bytes], progress: Progress
) -> Joined:
    wanted = {name: hashlib.sha256(data).digest() for name, data in files.items()}
    held = {name: board.ask(f"_h({name!r})") for name in files}
    stale = [name for name in files if held[name] != wanted[name]]
    if "meter.bin" not in stale:  # the same meter: its counters go on
        stale = [name for name in stale if name not in FRESH]
    total = sum(len(files[name]) for name in stale)
    _check_space(board, port, total, [name for name in stale if held[name]])
    if "meter.bin" in stale:
        if held["meter.bin"]:
            # Keys before the state that guards them: what masks they made must not be made twice.
            board.run("_r('meter.bin')")
        stale.remove("meter.bin")
        stale.append("meter.bin")  # last: half a meter cannot start
    for folder in sorted({str(p) for name in stale for p in Path(name).parents} - {"."}):
        board.run(f"_d({folder!r})")
    done = 0
    for name in stale:
        progress(name, done, total)
        for at in _write(board, name, files[name]):
            progress(name, done + at, total)
        done += len(files[name])
        if board.ask(f"_h({name!r})") != wanted[name]:
            raise BoardError(f"{port}: {name} did not arrive whole: check the cable, then repeat")
    progress("", total, total)
    return Joined(port, tuple(stale), total)


def _write(board: _RawRepl, name: str, data: bytes) -> Iterator[int]:
    """Write one file; yields the bytes written so far."""
    board.run(f"_o = open({name!r}, 'wb')")
    for at in range(0, len(data), CHUNK):
        piece = data[at : at + CHUNK]
        encoded = binascii.b2a_base64(piece, newline=False)
        board.run(f"_o.write(_a({encoded!r}))")
        yield at + len(piece)
    board.run("_o.close()")


def _check_space(board: _RawRepl, port: str, needed: int, replaced: list[str]) -> None:
    """BoardError unless the files fit, with some room for the meter's own."""
    free = board.ask("_f()") + sum(board.ask(f"os.stat({name!r})[6]") for name in replaced)
    if needed + RESERVE > free:
        raise BoardError(
            f"{port}: {needed // 1024} kB to copy, but {free // 1024} kB of flash are free: remove"
            " files from the board, or provision with randomiser level short or a 1024-bit key"
        )


def _advice(error: str) -> str:
    """What to do about an exception on the board."""
    last = error.strip().splitlines()[-1] if error.strip() else "an error"
    if re.search(r"\b28\b|ENOSPC", last):
        return "the board's flash is full: remove files from it, then repeat"
    if re.search(r"\b30\b|EROFS", last):
        return "the board's file system is read-only: eject its USB drive, then repeat"
    if "MemoryError" in last:
        return "the board ran out of memory while copying: reset it, then repeat"
    return f"the board says {last!r}"
