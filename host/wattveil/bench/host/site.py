"""A cloud process and a broker of its own with many simulated meters, for what is timed end to end.

The cloud, its store, the broker and TLS are the real ones. One connection speaks for all meters, and
their registrations are put into the cloud's store beforehand, as if the cloud had been restarted.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wattveil.bench.rig import DAY, SETTINGS
from wattveil.demo.processes import RoleProcess
from wattveil.fleet.broker import ADDRESS, HOST, Access, Broker, cloud_name, new_password
from wattveil.fleet.certificates import Authority
from wattveil.fleet.provision import Fleet, provision
from wattveil.fleet.settings import SUITES, FleetSettings
from wattveil.paillier.keys import PrivateKey
from wattveil.store import Row, Store
from wattveil_meter.fields import pack
from wattveil_meter.links.mqtt import topics
from wattveil_meter.links.mqtt_packets import connect, publish, subscribe

PERIOD_S = 900
CHUNK = 1 << 16  # bytes read at a time
PATIENCE_S = 120.0  # without any answer
CHANGES = 20_000  # rows a transaction when a store is filled
PUBLISH = 3
NOWHERE = ("--peer", "center=unix:/nowhere", "--peer", "dealer=unix:/nowhere")
TICK = 1 / os.sysconf("SC_CLK_TCK")


def make_site(root: Path, key: PrivateKey, suite: str, meters: int, gamma: int) -> Fleet:
    """A fleet of that many meters; the roles' folders under `root`."""
    settings = FleetSettings(suite=suite, noise=SUITES[suite], gamma=gamma, **SETTINGS)
    ids = [f"meter{number:07}" for number in range(1, meters + 1)]
    return provision(root, key, ids, settings, emulated=True, day=DAY)


def fill_store(path: Path, rows: Iterable[Row]) -> None:
    """Put rows into a store that no role has yet."""
    with Store(path, "NORMAL") as store:
        batch: list[Row] = []
        for row in rows:
            batch.append(row)
            if len(batch) == CHANGES:
                store.apply(batch)
                batch = []
        store.apply(batch)


def registered(fleet: Fleet) -> Iterator[Row]:
    """The cloud's rows of meters that have registered."""
    value = pack(fleet.record.fingerprint, b"simulated", b"", b"", b"")
    for name in fleet.roster:
        yield Row("meter", name, value)


@dataclass(frozen=True)
class Account:
    """How a load generator reaches the broker. ca: PEM."""

    ca: str
    port: int
    user: str
    password: str = field(repr=False)
    fleet: bytes


@contextmanager
def own_broker(fleet: Fleet) -> Iterator[tuple[Broker, Account, Access]]:
    """A broker for the cloud and for a generator that may speak for every meter."""
    name, user = fleet.record.fleet, "generator"
    passwords = {who: new_password() for who in (user, cloud_name(name))}
    access = Access(Authority.create(name), name, passwords)
    broker = Broker(access, fleet.root / "broker.log")
    root = f"wattveil/{name.hex()}"
    with (broker.folder / "acl").open("a") as file:
        file.write(f"\nuser {user}\ntopic write {root}/up/+\ntopic read {root}/down/+\n")
    ca = access.authority.pem.decode()
    with broker:
        yield broker, Account(ca, broker.port, user, passwords[user], name), access


@contextmanager
def role_process(fleet: Fleet, role: str, *options: str) -> Iterator[RoleProcess]:
    """A role of that fleet, stopped at the end."""
    process = RoleProcess(role, fleet.role_folder(role), *options)
    try:
        yield process
    finally:
        process.stop()


@contextmanager
def cloud_process(
    fleet: Fleet, broker: Broker, access: Access, *options: str
) -> Iterator[RoleProcess]:
    """The cloud, connected to its broker."""
    options += access.write_cloud(fleet.role_folder("cloud"), HOST, broker.port)
    with role_process(fleet, "cloud", *options) as cloud:
        wait_for_word(cloud.log, f"broker {HOST}: connected")
        yield cloud


def wait_for_word(log: Path, word: str, count: int = 1, limit_s: float = 3600.0) -> None:
    """Wait until a log has said something that often: a large fleet's status takes too long."""
    end = time.monotonic() + limit_s
    while log.read_text(errors="replace").count(word) < count:
        if time.monotonic() > end:
            raise RuntimeError(f"{log}: nothing of {word!r}")
        time.sleep(0.02)


class Load:
    """One connection for many meters. `exchange` keeps a window of unanswered requests."""

    def __init__(self, account: Account) -> None:
        self._fleet = account.fleet
        context = ssl.create_default_context(cadata=account.ca)
        plain = socket.create_connection((ADDRESS, account.port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(plain, server_hostname=HOST)
        root = f"wattveil/{account.fleet.hex()}"
        self._at = len(f"{root}/down/{account.fleet.hex()}-") + 2  # of the number in a PUBLISH
        self._in = bytearray()
        self._number = 0
        user, password = account.user.encode(), account.password.encode()
        will = f"{root}/up/none".encode(), b""
        hello = connect(user, user, password, will, 1200)
        self._socket.sendall(hello + subscribe(f"{root}/down/+".encode(), 1))
        while len(self._in) < 4 + 5:  # CONNACK and SUBACK
            self._in += self._socket.recv(64) or b"closed by the broker"
        if self._in[:4] != b"\x20\2\0\0" or self._in[8] > 1:
            raise RuntimeError("the broker refuses the load generator")
        del self._in[:9]
        self._socket.setblocking(False)

    def packet(self, number: int, frame: bytes) -> bytes:
        """The request of a meter as it goes to the broker."""
        self._number = self._number % 0xFFFF + 1
        up: str = topics(self._fleet, number)[0]
        packet: bytes = publish(up.encode(), frame, self._number)
        return packet

    def exchange(
        self,
        packets: Iterable[bytes],
        answer: Callable[[int, bytes], bytes | None],
        window: int,
    ) -> int:
        """Send packets; `answer` gets each (meter number, frame) that comes back and may return a
        packet to go next. Ends when every packet was answered; how many were. RuntimeError."""
        waiting = iter(packets)
        out, sent, done = bytearray(), 0, 0
        exhausted = False
        heard = time.monotonic()
        while True:
            while not exhausted and sent - done < window and len(out) < CHUNK:
                packet = next(waiting, None)
                if packet is None:
                    exhausted = True
                else:
                    out += packet
                    sent += 1
            if exhausted and done == sent:
                return done
            if out:
                try:
                    while out:
                        del out[: self._socket.send(out[:CHUNK])]
                except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                    pass
            got = False
            try:
                while data := self._socket.recv(CHUNK):
                    got = True
                    self._in += data
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
            for number, frame in self._frames():
                done += 1
                more = answer(number, frame)
                if more is not None:
                    out += more
                    sent += 1
            if got:
                heard = time.monotonic()
            elif time.monotonic() - heard > PATIENCE_S:
                raise RuntimeError(f"{sent - done} of {sent} requests are not answered")
            else:
                select.select([self._socket], [self._socket] if out else [], [], 1.0)

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        """What the broker passed on; acknowledgements are skipped."""
        data, at, end = self._in, 0, len(self._in)
        while end - at >= 2:
            size, head = data[at + 1], 2
            if size & 0x80:  # answers are shorter than 16 KiB: two bytes of length
                if end - at < 3:
                    break
                size, head = size & 0x7F | data[at + 2] << 7, 3
            if end - at < head + size:
                break
            if data[at] >> 4 == PUBLISH:
                body = at + head
                topic = body + 2 + (data[body] << 8 | data[body + 1])
                yield int(data[body + self._at : topic]), bytes(data[topic : body + size])
            at += head + size
        del data[:at]

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def cpu_s(pids: Sequence[int]) -> float:
    """Processor time these processes have used on all cores, s."""
    total = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) * TICK
    return total


def descendants(pid: int) -> list[int]:
    """The processes a process started, and theirs."""
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (thread / "children").read_text().split()):
            found += [child, *descendants(child)]
    return found


def resident_mb(pid: int, most: bool = False) -> float:
    """Memory of a process now, or the most it ever had, MB."""
    name = "VmHWM:" if most else "VmRSS:"
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def clock(role: RoleProcess, now: int) -> dict[str, Any]:
    """Set a role's frozen clock."""
    return role.ask(clock=now, running=False)
