"""Three role processes and plain meters on real sockets and pseudo-terminals, for tests."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plainmeter import START, PlainMeter
from plainworld import World
from wattveil.fleet.broker import free_port
from wattveil.operate.tls import issue
from wattveil.runners.sockets import parse_address
from wattveil_meter.wire import Deframer, stuff

PATIENCE_S = 90.0  # of the test, on a busy machine
AGAIN_S = 1.0  # a meter that got no answer asks again


class Process:
    """One role under --control."""

    def __init__(self, world: World, name: str, *arguments: str) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-m", "wattveil.runners.process", name, "--control"]
        command += ["--state-dir", str(world.root / name), "--synchronous", "NORMAL", *arguments]
        self.popen = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, bufsize=0
        )

    def tell(self, **command: Any) -> Any:
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self.popen.stdin.write(json.dumps(command).encode() + b"\n")
        return json.loads(self.popen.stdout.readline())

    def status(self) -> Any:
        return self.tell(status=True)

    def kill(self) -> None:
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()


class Line:
    """A meter at the far end of a pseudo-terminal or a socket."""

    def __init__(self, meter: PlainMeter, address: str = "") -> None:
        self.meter, self.address = meter, address
        meter.patient = True  # the roles come up, and back, in any order
        self.fd, self.path = -1, ""
        self.asked = 0.0
        self.again = AGAIN_S
        self.waiting = False
        self.buffer = b""
        self.deframer = Deframer()
        self.sock: socket.socket | None = None
        if not address:
            self.fd, follower = pty.openpty()
            tty.setraw(self.fd)
            tty.setraw(follower)
            self.path = os.ttyname(follower)
            self.follower = follower  # kept open, so that the line outlives the cloud

    def pump(self) -> bool:
        """Ask, listen; False once there is nothing more to ask."""
        now = time.monotonic()
        if not self.waiting or now - self.asked > self.again:  # no answer: the same again
            # later each time: roles that are slow must not be asked faster than they answer
            self.again = min(2 * self.again, 8 * AGAIN_S) if self.waiting else AGAIN_S
            self.meter.unanswered = 0
            frame = self.meter.poll()
            if frame is None:
                return False
            self.waiting, self.asked = True, now
            self._send(frame)
        for answer in self._receive():
            with contextlib.suppress(AssertionError):  # a late answer to an earlier frame
                self.waiting = not self.meter.receive(answer)
        return True

    def _send(self, frame: bytes) -> None:
        if self.fd >= 0:
            os.write(self.fd, stuff(frame))
            return
        try:
            if self.sock is None:
                self.sock = dial(self.address)
            self.sock.sendall(struct.pack("<I", len(frame)) + frame)
        except OSError:
            self.sock = None

    def _receive(self) -> list[bytes]:
        source: Any = self.sock if self.fd < 0 else self.fd
        if source is None:
            time.sleep(0.05)
            return []
        with selectors.DefaultSelector() as selector:
            selector.register(source, selectors.EVENT_READ)
            if not selector.select(0.05):
                return []
        if self.fd >= 0:
            frames: list[bytes] = self.deframer.feed(os.read(self.fd, 4096))
            return frames
        assert self.sock is not None
        try:
            data = self.sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.sock, self.buffer = None, b""
            return []
        self.buffer += data
        frames = []
        while len(self.buffer) >= 4:
            (size,) = struct.unpack_from("<I", self.buffer)
            if len(self.buffer) < 4 + size:
                break
            frames.append(self.buffer[4 : 4 + size])
            self.buffer = self.buffer[4 + size :]
        return frames

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            os.close(self.follower)
        if self.sock is not None:
            self.sock.close()


def dial(address: str) -> socket.socket:
    kind, where = parse_address(address)
    family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(PATIENCE_S)
    try:
        sock.connect(where)
    except OSError:
        sock.close()
        raise
    return sock


def eventually_dial(address: str) -> socket.socket:
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return dial(address)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


class Fleet:
    """Three processes and their meters."""

    def __init__(self, root: Path, kind: str, serial: bool, tls: bool) -> None:
        self.world = World(root)
        self.world.write_folders()
        if tls:
            issue(root, 30)
        self.address = {
            name: f"unix:{root / name}.sock" if kind == "unix" else f"tcp:127.0.0.1:{free_port()}"
            for name in ("center", "cloud", "dealer")
        }
        self.lines = [
            Line(meter, "" if serial else self.address["cloud"])
            for meter in self.world.meters.values()
        ]
        self.now = START + 10
        self.processes: dict[str, Process] = {}
        for name in ("center", "cloud", "dealer"):
            self.start(name)

    def start(self, name: str) -> None:
        arguments = ["--listen", self.address[name]]
        if name == "cloud":
            arguments += [f"--peer={peer}={self.address[peer]}" for peer in ("center", "dealer")]
            arguments += [f"--port={line.path}" for line in self.lines if line.path]
        self.processes[name] = Process(self.world, name, *arguments)
        assert self.processes[name].tell(clock=self.now, running=False) == {"ok": True}

    def set_clock(self, now: int) -> None:
        self.now = now
        for running in self.processes.values():
            assert running.tell(clock=now, running=False) == {"ok": True}

    def pump(self) -> None:
        """All meters until they have nothing more to ask."""
        end = time.monotonic() + PATIENCE_S
        while sum([line.pump() for line in self.lines]):
            assert time.monotonic() < end, [line.meter.errors for line in self.lines]

    def outcome(self, start: int = START) -> str:
        end = time.monotonic() + PATIENCE_S
        while True:
            periods = self.processes["cloud"].status()["periods"]
            outcome: str | None = periods.get(str(start), {}).get("outcome")
            if outcome is not None:
                return outcome
            assert time.monotonic() < end, "no outcome"
            time.sleep(0.05)

    def prepare(self, start: int = START) -> None:
        for line in self.lines:
            if not line.meter.tau:
                line.meter.register()
            line.meter.prepare(start)
        self.pump()

    def report(self, start: int = START) -> None:
        for line in self.lines:
            line.meter.report(start, 100)
        self.pump()

    def check(self, start: int = START) -> None:
        assert self.outcome(start) == "released"
        release = self.processes["center"].status()["releases"][str(start)]
        assert release["total_wh"] == 400
        assert release["members"] == [1, 2, 3, 4]
        assert not any(line.meter.errors for line in self.lines)

    def close(self) -> None:
        for running in self.processes.values():
            running.kill()
            for pipe in (running.popen.stdin, running.popen.stdout):
                if pipe is not None:
                    pipe.close()
        for line in self.lines:
            line.close()


@contextlib.contextmanager
def fleet(
    root: Path, kind: str = "unix", serial: bool = False, tls: bool = False
) -> Iterator[Fleet]:
    made = Fleet(root, kind, serial, tls)
    try:
        yield made
    finally:
        made.close()
