"""The host's end of a meter's serial link: stuffed frames over a port that may carry a REPL too.

One code for a board on USB, a serial server (`socket://`, `rfc2217://`) and the pseudo-terminal
of an emulated meter. Nothing here waits: a runner polls `fileno()`, then calls `read()`. A frame
cut by a stream that starts in the middle, by lost or doubled bytes, or by text of the REPL is
dropped and counted (PROTOCOL.md, "Serial line"); the next whole frame arrives.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
from collections.abc import Iterator
from dataclasses import dataclass

import serial
from serial.tools import list_ports

from wattveil.links import LinkDown
from wattveil_meter.wire import SERIAL_LIMIT, Deframer, stuff

__all__ = ["LinkDown", "Port", "SerialLink", "find_port", "open_serial", "ports"]

READ_BYTES = 65_536  # most that one call takes
PENDING_BYTES = 65_536  # most that waits to be written; a frame beyond that is dropped
BLIND_WRITE_S = 1.0  # longest wait of a write where there is nothing to poll (Windows, rfc2217://)
_LATER = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR}


@dataclass(frozen=True)
class Port:
    """A serial port of this computer. `serial_number` is the USB device's, "" when it has none."""

    device: str
    serial_number: str
    description: str

    def __str__(self) -> str:
        by = f"serial number {self.serial_number}, " if self.serial_number else ""
        return f"{self.device} ({by}{self.description})"


def ports() -> list[Port]:
    """The ports that could be a board; those without any USB description are left out."""
    return [
        Port(p.device, p.serial_number or "", p.description)
        for p in sorted(list_ports.comports(), key=lambda p: p.device)
        if p.vid is not None
    ]


def find_port(port: str) -> str:
    """The device path, COM name or URL for a path, a URL, or the USB serial number of a board.

    Boards are best named by serial number: paths change when something else is plugged in.
    LinkDown names the candidates.
    """
    if "://" in port or os.path.exists(port) or port.upper().startswith("COM"):
        return port
    wanted = port.removeprefix("id:")
    found = ports()
    for candidate in found:
        if candidate.serial_number and candidate.serial_number == wanted:
            return candidate.device
    seen = "; ".join(map(str, found)) or "none"
    raise LinkDown(f"no serial port {port!r}; boards plugged in now: {seen}")


def open_serial(port: str, baudrate: int = 115_200, limit: int = SERIAL_LIMIT) -> SerialLink:
    """Open a port (see `find_port`) for this process alone. limit: bytes of a frame. LinkDown."""
    device = find_port(port)
    try:
        opened = serial.serial_for_url(
            device, baudrate=baudrate, timeout=0, write_timeout=0, exclusive=True
        )
    except (OSError, ValueError) as error:  # SerialException is an OSError
        raise LinkDown(f"{port}: {_why(error)}") from error
    return SerialLink(opened, port, limit)


def _why(error: Exception) -> str:
    text = str(error).lower()
    code = getattr(error, "errno", None)
    if code in (errno.EBUSY, errno.EAGAIN) or "exclusively lock" in text:
        return "in use by another program (mpremote, a terminal, another wattveil): close that one"
    if code == errno.EACCES:
        return "not allowed: on Linux, add yourself to the group dialout and log in again"
    return str(error)


class SerialLink:
    """Frames over one open port. Every method raises LinkDown once the port is gone or closed.

    name: as the user named the port.
    """

    def __init__(self, port: serial.Serial, name: str, limit: int = SERIAL_LIMIT) -> None:
        self.name = name
        self._port = port
        self._deframer = Deframer(limit)
        self._pending = bytearray()
        self._overflow = 0
        self._fd = -1
        with contextlib.suppress(AttributeError, io.UnsupportedOperation):
            self._fd = port.fileno()
        self._poll: select.poll | None = None
        if self._fd >= 0 and hasattr(select, "poll"):
            # our own poll: pyserial's select() takes no file descriptor above 1023
            self._poll = select.poll()
        else:
            port.write_timeout = BLIND_WRITE_S

    @property
    def refused(self) -> dict[str, int]:
        """Counts: `damaged`, `oversized` (received), `overflow` (frames dropped: nobody reads)."""
        return {**self._deframer.refused, "overflow": self._overflow}

    @property
    def pending(self) -> int:
        """Bytes that wait until the port takes them; `read` and `write` send what they can."""
        return len(self._pending)

    def fileno(self) -> int:
        """To poll for input; -1 where there is none (Windows, rfc2217://): call `read` often.

        ValueError when closed, so that a selector drops the link.
        """
        if not self._port.is_open:
            raise ValueError(f"{self.name} is closed")
        return self._fd

    def read(self) -> list[bytes]:
        """The whole frames that have arrived; [] when there are none yet."""
        with self._watched():
            self._flush()
            data = self._receive()
        frames: list[bytes] = self._deframer.feed(data)
        return frames

    def write(self, frame: bytes) -> bool:
        """Send a frame, now or with later calls; False when it was dropped for want of room."""
        data = stuff(frame)
        with self._watched():
            self._flush()
            if len(self._pending) + len(data) > PENDING_BYTES:
                self._overflow += 1
                return False
            self._pending += data
            self._flush()
        return True

    def close(self) -> None:
        """Give the port back; more than once is harmless."""
        self._pending.clear()
        with contextlib.suppress(OSError):
            self._port.close()

    def __enter__(self) -> SerialLink:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SerialLink({self.name})"

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Turn what an unplugged port raises into LinkDown, and close it."""
        if not self._port.is_open:
            raise LinkDown(f"{self.name} is closed")
        try:
            yield
        except (OSError, TypeError) as error:  # pyserial: TypeError when closed meanwhile
            self.close()
            raise LinkDown(f"{self.name}: {error}") from error

    def _ready(self, event: int) -> bool:
        """Whether the port can be read or written without waiting; OSError when it hung up."""
        assert self._poll is not None
        self._poll.register(self._fd, event)
        seen = dict(self._poll.poll(0)).get(self._fd, 0)
        if seen & event:
            return True
        if seen:
            raise OSError(errno.EIO, "hung up")
        return False

    def _receive(self) -> bytes:
        if self._poll is None:
            return self._port.read(min(self._port.in_waiting, READ_BYTES))
        if not self._ready(select.POLLIN):
            return b""
        try:
            data = os.read(self._fd, READ_BYTES)
        except OSError as error:
            if error.errno in _LATER:
                return b""
            raise
        if not data:  # ready, but nothing there: the device is gone
            raise OSError(errno.EIO, "unplugged")
        return data

    def _flush(self) -> None:
        while self._pending:
            if self._poll is None:
                try:
                    sent = self._port.write(bytes(self._pending)) or 0
                except serial.SerialTimeoutException:
                    return
            elif self._ready(select.POLLOUT):
                try:
                    sent = os.write(self._fd, self._pending)
                except OSError as error:
                    if error.errno not in _LATER:
                        raise
                    return
            else:
                return
            if not sent:
                return
            del self._pending[:sent]
