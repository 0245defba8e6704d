"""A board's raw REPL through mpremote's own transport, over the cable the meter then talks on."""

from __future__ import annotations

import ast
import re
import struct
from typing import Any

from mpremote import transport_serial  # type: ignore[import-untyped]
from mpremote.transport import TransportError  # type: ignore[import-untyped]
from mpremote.transport_serial import SerialTransport  # type: ignore[import-untyped]

from wattveil.links.serial import LinkDown, find_port, open_serial

# It prints what it got when there is no raw REPL; redirect_stdout would be for all threads at once.
transport_serial.print = lambda *_: None
READ_S = 3  # longest silence until the raw REPL answers, and after it
ENTER_S = 6  # for a running program to stop and the raw REPL to answer; tried twice
ANSWER_S = 60  # longest silence while it works; big tables are hashed in one go
# A watchdog that main.py started runs on while the REPL has the board. On RP2040 and RP2350 it is
# fed by reloading its counter (datasheets, WATCHDOG: LOAD), which starts nothing where it is off; on
# ESP32 it can only be given more time, and only by a program that knows it is on.
_HELPERS = """\
import gc, os, sys
def _feed():
    pass
if sys.platform == 'rp2':
    from machine import mem32 as _m
    _l = 0x400d8004 if 'RP2350' in sys.implementation._machine else 0x40058004
    def _feed():
        _m[_l] = 0xffffff
elif sys.platform == 'esp32':
    try:
        import json, machine
        with open('config.json') as _c:
            if json.load(_c).get('watchdog_ms'):
                machine.WDT(timeout=600000)
    except (OSError, ValueError):
        pass
def _read(name):
    try:
        with open(name, 'rb') as f:
            return f.read()
    except OSError:
        return b''
def _size(name):
    try:
        return os.stat(name)[6]
    except OSError:
        return -1
def _hash(name):
    import hashlib
    h = hashlib.sha256()
    try:
        f = open(name, 'rb')
    except OSError:
        return b''
    b = bytearray(512)
    n = 0
    with f:
        while True:
            k = f.readinto(b)
            if not k:
                return h.digest()
            h.update(memoryview(b)[:k])
            n += 1
            if not n & 255:
                _feed()
def _tree(folder):
    found = []
    try:
        entries = list(os.ilistdir(folder))
    except OSError:
        return found
    for e in entries:
        path = folder + '/' + e[0] if folder != '.' else e[0]
        if e[1] == 0x4000:
            found += _tree(path)
        else:
            found.append(path)
    return found
def _mkdir(name):
    try:
        os.mkdir(name)
    except OSError:
        pass
def _remove(name):
    try:
        os.remove(name)
    except OSError:
        pass
def _free():
    s = os.statvfs('.')
    return s[0], s[3] * (s[1] or s[0])
"""


class BoardError(RuntimeError):
    """The board cannot do it; the message says what to do."""


class RawRepl:
    """The board's raw REPL, entered by a soft reset without main.py.

    Left by one that runs main.py, if the board is a meter: others would only crash.

    port_id: USB serial number, path or URL. fresh: False leaves what is in its memory, the meter's
    objects included, until `restart`. Every method raises BoardError.
    """

    def __init__(self, port_id: str, *, fresh: bool = True) -> None:
        self.name = port_id
        self._fresh = fresh

    def __enter__(self) -> RawRepl:
        try:
            self.port = find_port(self.name)
            open_serial(self.port).close()  # says more than mpremote about a port that is busy
        except LinkDown as error:
            raise BoardError(str(error)) from error
        self._transport = SerialTransport(self.port, timeout=READ_S)
        try:
            self._enter(self._fresh)
        except BaseException:
            self._transport.close()
            raise
        return self

    def _enter(self, fresh: bool) -> None:
        self._transport.serial.timeout = READ_S
        for last in (False, True):
            try:
                self._transport.enter_raw_repl(fresh, timeout_overall=ENTER_S)
                break
            except (TransportError, OSError) as error:
                if last:
                    raise BoardError(
                        f"{self.name}: no raw REPL ({error}): is MicroPython on the board? Press"
                        " its reset button, or flash MicroPython again, then repeat"
                    ) from error
        self._transport.serial.timeout = ANSWER_S  # somebody is there, if on a busy machine
        self._exec(_HELPERS)

    def restart(self) -> None:
        """Forget everything in memory: a soft reset without main.py."""
        self._enter(True)

    def run(self, source: str) -> str:
        """Execute source text on the board; what it printed."""
        return self._exec("_feed()\n" + source)

    def ask(self, expression: str) -> Any:
        """The value of an expression; a literal, never evaluated as code here."""
        try:
            return ast.literal_eval(self._exec(f"print(repr((_feed(), {expression})[1]))").strip())
        except (SyntaxError, ValueError) as error:
            raise BoardError(f"{self.name}: an answer nobody can read: repeat") from error

    def _exec(self, source: str) -> str:
        try:
            printed, error = self._transport.exec_raw(source, timeout=ANSWER_S)
        except (TransportError, OSError, ValueError, struct.error) as failed:
            raise BoardError(
                f"{self.name}: the board stopped answering: {failed}; try again"
            ) from failed
        if error:
            raise BoardError(f"{self.name}: {advice(error.decode(errors='replace'))}")
        return str(printed.decode(errors="replace"))

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        try:
            if failed is None or issubclass(failed, BoardError):
                self._leave()
        except (TransportError, OSError, BoardError) as error:
            if failed is None:
                raise BoardError(f"{self.name}: the board stopped answering: {error}") from error
        finally:
            self._transport.close()

    def _leave(self) -> None:
        meter = self.ask("_size('meter.bin')") >= 0
        self._transport.exit_raw_repl()
        if not meter:
            return
        self._transport.read_until(1, b">>> ", timeout=READ_S)
        self._transport.serial.write(b"\x04")  # soft reset: boot.py, then main.py
        seen = self._transport.read_until(1, b"soft reboot\r\n", timeout=READ_S)
        if not seen.endswith(b"soft reboot\r\n"):
            raise TransportError("it did not restart")


def advice(error: str) -> str:
    """What to do about an exception on the board."""
    last = error.strip().splitlines()[-1] if error.strip() else "an error"
    if re.search(r"\b28\b|ENOSPC", last):
        return "the board's flash is full: remove files from it, then repeat"
    if re.search(r"\b30\b|EROFS", last):
        return "the board's file system is read-only: eject its USB drive, then repeat"
    if "MemoryError" in last:
        return "the board ran out of memory: reset it, then repeat"
    return f"the board says {last!r}"
