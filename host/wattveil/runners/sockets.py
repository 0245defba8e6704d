"""Sockets between roles: frames with a u32le length before them, peers that may be hostile."""

from __future__ import annotations

import os
import socket
import stat
import struct
import time
from pathlib import Path

from wattveil_meter.wire import HEADER_BYTES, ROLE_LIMIT, TAG_BYTES

FRAME_LIMIT = HEADER_BYTES + ROLE_LIMIT + TAG_BYTES
STRANGER_LIMIT = 1 << 16  # bytes of a frame until the connection has sent one we accepted
STRANGER_S = 10.0  # a stranger with half a frame is dropped after this
SILENCE_S = 30  # of a machine, until its connections are given up
READ = 1 << 16  # bytes per turn: nobody keeps the loop to himself
BACKLOG_LIMIT = 2 * FRAME_LIMIT  # unread answers


class Closed(Exception):
    """The connection is over; the message says why."""


def parse_address(text: str) -> tuple[str, str | tuple[str, int]]:
    """("unix", path) or ("tcp", (host, port)) from unix:/path or tcp:host:port; ValueError."""
    kind, _, rest = text.partition(":")
    if kind == "unix" and rest.startswith("/"):
        return "unix", rest
    host, _, port = rest.rpartition(":")
    if kind == "tcp" and host and port.isascii() and port.isdecimal() and int(port) < 1 << 16:
        return "tcp", (host.strip("[]"), int(port))
    raise ValueError(f"{text}: an address is unix:/path or tcp:host:port")


def listen(text: str) -> socket.socket:
    """A listening socket; a Unix socket left by a dead process is replaced. OSError."""
    kind, address = parse_address(text)
    if kind == "tcp":
        assert isinstance(address, tuple)
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        server = socket.create_server(address, family=family, backlog=64)
    else:
        assert isinstance(address, str)
        folder = Path(address).parent
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is no folder: make it, or --listen elsewhere")
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _remove_stale(Path(address))
            server.bind(address)
            os.chmod(address, 0o600)
            server.listen(64)
        except BaseException:
            server.close()
            raise
    server.setblocking(False)
    return server


def _remove_stale(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(f"{path} exists and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
        else:
            raise FileExistsError(f"{path} is in use by another process")


def connect(text: str) -> socket.socket:
    """A socket on its way to being connected (writable when it is). OSError."""
    kind, address = parse_address(text)
    if kind == "unix":
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    else:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        client = socket.socket(family, socket.SOCK_STREAM)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _notice_silence(client)
    client.setblocking(False)
    try:
        client.connect(address)
    except BlockingIOError:
        pass
    except OSError:
        client.close()
        raise
    return client


def accept(server: socket.socket) -> socket.socket:
    """The next connection that came in at a listening socket. OSError."""
    sock, _ = server.accept()
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        _notice_silence(sock)
    return sock


def _notice_silence(sock: socket.socket) -> None:
    """Let the system end a connection whose other machine is gone without a word.

    Else it stays for ever where nothing is sent, with its place among the few there are, and for a
    quarter of an hour where something is.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE_S // 2)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE_S // 6)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * SILENCE_S)


class Connection:
    """One stream of frames, never blocking.

    `known` is set by the owner once a frame from it was accepted: until then it may use little
    memory and little time.
    """

    def __init__(self, sock: socket.socket, name: str, known: bool = False) -> None:
        self.sock = sock
        self.name = name
        self.known = known
        self._since = 0.0  # when the frame it is in the middle of began
        self._in = bytearray()
        self._out = bytearray()

    @property
    def wants_write(self) -> bool:
        """Whether there is something left to send."""
        return bool(self._out)

    def read(self) -> list[bytes]:
        """The frames that became complete; Closed."""
        try:
            data = self._receive()
        except OSError as error:
            raise Closed(error.strerror or "lost") from None
        if data is None:
            return []
        if not data:
            raise Closed("end of stream")
        if not self._in:
            self._since = time.monotonic()
        self._in += data
        frames = []
        at = 0
        while len(self._in) - at >= 4:
            (size,) = struct.unpack_from("<I", self._in, at)
            if size > (FRAME_LIMIT if self.known else STRANGER_LIMIT):
                raise Closed("oversized")
            if len(self._in) - at - 4 < size:
                break
            frames.append(bytes(self._in[at + 4 : at + 4 + size]))
            at += 4 + size
        if at:
            del self._in[:at]
            self._since = time.monotonic()
        return frames

    def _receive(self) -> bytes | None:
        """What came in: None for nothing yet, no bytes at the end. OSError."""
        try:
            return self.sock.recv(READ)
        except (BlockingIOError, InterruptedError):
            return None

    def _transmit(self) -> int:
        """How much of what waits was sent. OSError."""
        try:
            return self.sock.send(self._out)
        except (BlockingIOError, InterruptedError):
            return 0

    def stale(self, now: float) -> bool:
        """A stranger that takes too long over its frame."""
        return not self.known and bool(self._in) and now - self._since > STRANGER_S

    def write(self, frame: bytes) -> None:
        """Queue a frame and send what the socket takes; Closed."""
        if len(self._out) > BACKLOG_LIMIT:
            raise Closed("does not read its answers")
        self._out += struct.pack("<I", len(frame)) + frame
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes; Closed."""
        try:
            while self._out and (sent := self._transmit()):
                del self._out[:sent]
        except OSError as error:
            raise Closed(error.strerror or "lost") from None

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()
