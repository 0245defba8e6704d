"""A broker that lies: it repeats, drops, delays, crosses and replays what it carries, by turns.

It has the fleet's own certificate, because a real broker that turned hostile has one too.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import tempfile
import threading
from collections import Counter, defaultdict
from pathlib import Path

from wattveil.fleet.broker import ADDRESS, HOST, Access
from wattveil_meter.links.mqtt_packets import Parser, packet, publish

CONNECT, PUBLISH, PUBACK, SUBSCRIBE, PINGREQ, DISCONNECT = 1, 3, 4, 8, 12, 14
KEPT = 50  # frames a topic remembers, to replay them


class Session:
    """One client's connection, as the broker sees it."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self.sock = sock
        self.filters: list[str] = []
        self._lock = threading.Lock()

    def send(self, data: bytes) -> None:
        with self._lock, contextlib.suppress(OSError):
            self.sock.sendall(data)

    def wants(self, topic: str) -> bool:
        return any(
            topic == each or (each.endswith("/+") and topic.rpartition("/")[0] == each[:-2])
            for each in self.filters
        )


class HostileBroker:
    """Stands in for fleet.broker.Broker. did: what it did, by name."""

    def __init__(self, access: Access) -> None:
        self.did: Counter[str] = Counter()
        self.folder = Path(tempfile.mkdtemp(prefix="wattveil-hostile-"))
        server = access.authority.server([HOST, ADDRESS])
        (self.folder / "both.pem").write_bytes(server.certificate + server.key)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(self.folder / "both.pem")
        self._server = socket.create_server((ADDRESS, 0), backlog=64)
        self.port: int = self._server.getsockname()[1]
        self._sessions: list[Session] = []
        self._lock = threading.RLock()
        self._old: dict[str, list[bytes]] = defaultdict(list)
        self._held: list[tuple[str, bytes]] = []
        self._count = 0

    def start(self) -> None:
        threading.Thread(target=self._accept, name="hostile broker", daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        with self._lock:
            for session in self._sessions:
                with contextlib.suppress(OSError):
                    session.sock.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        session = None
        with contextlib.suppress(OSError):
            session = Session(self._tls.wrap_socket(raw, server_side=True))
            with self._lock:
                self._sessions.append(session)
            parser = Parser(1 << 16)
            while data := session.sock.recv(65536):
                for kind, flags, body in parser.feed(data):
                    self._packet(session, kind, flags, bytes(body))
        with self._lock:
            if session in self._sessions:
                self._sessions.remove(session)

    def _packet(self, session: Session, kind: int, flags: int, body: bytes) -> None:
        if kind == CONNECT:
            session.send(b"\x20\x02\x00\x00")
        elif kind == SUBSCRIBE:
            at = 2
            granted = b""
            while at < len(body):
                size = int.from_bytes(body[at : at + 2], "big")
                session.filters.append(body[at + 2 : at + 2 + size].decode())
                granted += b"\1"
                at += size + 3
            session.send(packet(0x90, body[:2] + granted))
        elif kind == PINGREQ:
            session.send(b"\xd0\x00")
        elif kind == PUBLISH:
            size = int.from_bytes(body[:2], "big")
            topic = body[2 : 2 + size].decode()
            at = 2 + size
            if flags & 6:
                session.send(packet(0x40, body[at : at + 2]))
                at += 2
            if "/status/" not in topic:
                with self._lock:
                    self._mangle(topic, body[at:])

    def _mangle(self, topic: str, frame: bytes) -> None:
        """By turns, so that every trick is played in every run."""
        self._count += 1
        n = self._count
        old = self._old[topic]
        if n % 3 == 0:
            self._play("repeated", topic, frame)
        if n % 5 == 0 and old:
            self._play("replayed", topic, old[n % len(old)])
        if n % 7 == 0 and len(self._old) > 1:
            other = sorted(self._old)[n % len(self._old)]
            if other != topic and self._old[other]:
                self._play("crossed", topic, self._old[other][-1])
        if n % 11 == 0:
            self._play("cut", topic, frame[: n % len(frame)])
        if n % 13 == 0:
            at = n % len(frame)
            self._play("flipped", topic, frame[:at] + bytes((frame[at] ^ 1,)) + frame[at + 1 :])
        old.append(frame)
        del old[:-KEPT]
        if n % 61 == 0:
            self.did["dropped"] += 1
        elif n % 53 == 0:
            self.did["delayed"] += 1
            self._held.append((topic, frame))
        else:
            self._deliver(topic, frame)
            if len(self._held) > 1:
                for each in self._held:
                    self._deliver(*each)
                self._held.clear()

    def _play(self, name: str, topic: str, frame: bytes) -> None:
        self.did[name] += 1
        self._deliver(topic, frame)

    def _deliver(self, topic: str, frame: bytes) -> None:
        qos = self._count % 2  # as it likes
        for session in self._sessions:
            if session.wants(topic):
                number = 1 + self._count % 0xFFFF if qos else 0
                session.send(publish(topic.encode(), frame, number))
