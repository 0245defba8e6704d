"""A board's console for people: mpremote's, and a look at what passes on it."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import serial

from wattveil.boards.repl import BoardError
from wattveil.links.serial import LinkDown, find_port, open_serial
from wattveil_meter import wire

LINE = 400  # bytes of a line of text that are shown
_POLL_S = 0.2
_NAMES = {
    getattr(wire, name): name
    for name in (
        "HELLO WELCOME TIME TIME_IS REGISTER REGISTERED ROW ROW_IS SLOT STORED REPORT REPORTED"
        " ABSENT NOTED READING READING_IS ERROR"
    ).split()
}


def console(port_id: str) -> int:
    """mpremote's console, Ctrl-C to the REPL and all; its exit status. BoardError."""
    try:
        port = find_port(port_id)
        open_serial(port).close()
    except LinkDown as error:
        raise BoardError(str(error)) from error
    return subprocess.call([sys.executable, "-m", "mpremote", "connect", port, "repl"])


class Monitor:
    """Bytes of a console in, lines to show out: frames by their headers, text as it is.

    Payloads stay encrypted; the keys to them are not here.
    """

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[str]:
        """What these bytes complete."""
        self._data += data
        while True:
            at = self._data.find(wire.FLAG)
            line = self._data.find(b"\n")
            if line >= 0 and (at < 0 or line < at):
                text = bytes(self._data[: line + 1])
                del self._data[: line + 1]
                yield from _text(text)
                continue
            if at < 0:
                if len(self._data) > wire.SERIAL_LIMIT:
                    yield from _text(bytes(self._data))
                    self._data.clear()
                return
            if at:
                yield from _text(bytes(self._data[:at]))
                del self._data[:at]
            end, line = self._data.find(wire.FLAG, 1), self._data.find(b"\n")
            if line >= 0 and (end < 0 or line < end):  # no frame has a line end in it
                del self._data[0]
                continue
            if end < 0:
                if len(self._data) > 2 * wire.SERIAL_LIMIT:
                    del self._data[0]
                    continue
                return
            frames = wire.Deframer().feed(bytes(self._data[: end + 1]))
            if frames:
                del self._data[: end + 1]
                yield describe(frames[0])
            else:
                damaged = bytes(self._data[1:end])
                del self._data[:end]
                yield from _text(damaged)


def describe(frame: bytes) -> str:
    """A frame's header in one line."""
    if len(frame) < wire.HEADER_BYTES + wire.TAG_BYTES:
        return f"frame, {len(frame)} bytes: too short"
    head = struct.unpack(wire.HEADER, frame[: wire.HEADER_BYTES])
    magic, version, kind, fleet, sender, _, start, counter, reply, hint, length = head
    if magic != b"WV" or version != 1:
        return f"frame, {len(frame)} bytes: not of version 1"
    who = "cloud" if sender == wire.CLOUD else f"meter {sender}"
    words = [f"{_NAMES.get(kind, f'{kind:02X}'):<10} from {who}"]
    if start:
        words.append(datetime.fromtimestamp(min(start, 1 << 40), UTC).strftime("%Y-%m-%d %H:%MZ"))
    words.append(f"boot {counter >> 32} #{counter & 0xFFFFFFFF}")
    if reply:
        words.append(f"answers #{reply & 0xFFFFFFFF}")
    words.append(f"{length} bytes, record {hint.hex()}, fleet {fleet.hex()}")
    return "  ".join(words)


def monitor(
    port_id: str, show: Callable[[str], None] = print, seconds: float | None = None
) -> None:
    """Show what a board says until it is unplugged, or for some seconds; sends nothing. BoardError."""
    lines = Monitor()
    try:
        device = find_port(port_id)
        port = serial.serial_for_url(device, 115_200, timeout=_POLL_S, exclusive=True)
    except (LinkDown, OSError, ValueError) as error:
        raise BoardError(str(error)) from error
    end = None if seconds is None else time.monotonic() + seconds
    with port:
        while end is None or time.monotonic() < end:
            try:
                data = port.read(max(1, port.in_waiting))
            except OSError as error:
                raise BoardError(f"{port_id}: {error}") from error
            for line in lines.feed(data):
                show(line)


def _text(data: bytes) -> Iterator[str]:
    shown = data.strip(b"\r\n\x7e\x00 ")[:LINE].decode("utf-8", "replace")
    if shown:
        yield "".join(c if c.isprintable() else "·" for c in shown)
