"""Lines that go wrong: a serial cable with noise that can be unplugged, a network that goes away."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
import tty
from collections import Counter

from wattveil_meter.wire import Deframer, stuff


class Cable:
    """A cable between a meter's port and one of its own, which `plug` returns.

    noise: bytes from one that is damaged, lost, or comes after rubbish to the next; 0 for none.
    swallow: type of frames from the meter that never arrive, 0 for none. counts: what it did.
    seen: whole frames from the meter, by type.
    """

    def __init__(self) -> None:
        self.noise = self._next = self._events = 0
        self.swallow = 0
        self.counts = {"bytes": 0, "damaged": 0, "lost": 0, "rubbish": 0, "swallowed": 0}
        self.seen: Counter[int] = Counter()
        self._deframer = Deframer()
        self._ends: dict[int, int] = {}
        self._open: list[int] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def plug(self, port: str) -> str:
        """Put the cable between `port` and a new port, whose path is returned."""
        self.unplug()
        meter = os.open(port, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(meter)  # a board's port echoes otherwise
        master, slave = os.openpty()
        tty.setraw(slave)
        self._open = [meter, master, slave]
        self._ends = {meter: master, master: meter}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._carry, args=(self._stop,), daemon=True)
        self._thread.start()
        return os.ttyname(slave)

    def unplug(self) -> None:
        """Pull it: the port it made is gone."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None
        for fd in self._open:
            os.close(fd)
        self._open = []

    close = unplug

    def _carry(self, stop: threading.Event) -> None:
        while not stop.is_set():
            for fd in select.select([*self._ends], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):  # nobody has the other end open just now
                    data = os.read(fd, 4096)
                    if fd == self._open[0]:
                        data = self._sieve(data)
                    data = self._spoil(data)
                    while data and not stop.is_set():
                        if select.select([], [self._ends[fd]], [], 0.05)[1]:
                            data = data[os.write(self._ends[fd], data) :]

    def _sieve(self, data: bytes) -> bytes:
        out = b""
        for frame in self._deframer.feed(data):
            self.seen[frame[3]] += 1
            if frame[3] == self.swallow:
                self.counts["swallowed"] += 1
            else:
                out += stuff(frame)
        return out

    def _spoil(self, data: bytes) -> bytes:
        self.counts["bytes"] += len(data)
        if not self.noise:
            return data
        out = bytearray()
        for byte in data:
            self._next -= 1
            if self._next > 0:
                out.append(byte)
                continue
            self._next = self.noise
            kind = ("damaged", "lost", "rubbish")[self._events % 3]
            self._events += 1
            self.counts[kind] += 1
            if kind == "damaged":  # never into Ctrl-C: that is a person, not noise
                out.append(byte ^ 0x40)
            elif kind == "rubbish":
                out += b"\x7e some text on the line \x7d" + bytes((byte,))
        return bytes(out)


class Gate:
    """A TCP relay to `target` of this machine, which can be shut like a network that goes.

    Shut, it says nothing: what is open stays open and silent, and who comes new is not answered.
    """

    def __init__(self, target: int, address: str = "127.0.0.1", port: int = 0) -> None:
        self._target = target
        self._server = socket.create_server((address, port))
        self.port: int = self._server.getsockname()[1]
        self._shut = threading.Event()
        self._ended = threading.Event()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def shut(self) -> None:
        """The network is gone."""
        self._shut.set()

    def open(self) -> None:
        """It is back; connections from before are dead, as after a new address."""
        for pair in self._pairs:
            for sock in pair:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        self._pairs = []
        self._shut.clear()

    def close(self) -> None:
        """For good."""
        self._ended.set()
        self._server.close()
        self.open()

    def _accept(self) -> None:
        while not self._ended.is_set():
            if self._shut.is_set():
                time.sleep(0.02)
                continue
            with contextlib.suppress(OSError):
                if not select.select([self._server], [], [], 0.05)[0] or self._shut.is_set():
                    continue
                ours, _ = self._server.accept()
                try:
                    theirs = socket.create_connection(("127.0.0.1", self._target), 2)
                except OSError:  # the broker is away
                    ours.close()
                    continue
                self._pairs.append((ours, theirs))
                for pair in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=self._relay, args=pair, daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(4096):
                while self._shut.is_set():  # held back until it dies with the connection
                    time.sleep(0.02)
                sink.sendall(data)
        except OSError:
            pass
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
