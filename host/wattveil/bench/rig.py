"""A provisioned meter and everything the cloud would answer it, recorded, so that only it runs.

A twin of the meter (same code, entropy and clock, in this process) talks to a cloud and centre made
of the real channels and rows; what they answered is replayed to the meter under test, whose uploads
are then opened with the roles' own code.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from gmpy2 import mpz

from wattveil.fleet.emulated import HEAP, firmware_folder
from wattveil.fleet.provision import provision
from wattveil.fleet.runtime import find_runtime
from wattveil.fleet.settings import FleetSettings
from wattveil.paillier.ciphertext import from_pair, to_pair
from wattveil.paillier.keys import DEMO_SIZE, PrivateKey, generate
from wattveil.paillier.rows import RowFactory
from wattveil.roles.suites import suite_of
from wattveil_meter import masks, wire
from wattveil_meter.fields import read_uint
from wattveil_meter.kernels.portable import Portable
from wattveil_meter.meter import Meter, Package
from wattveil_meter.store import MemoryStorage

PROGRAMS = Path(__file__).parent / "programs"
TIMEOUT_S = 900
DAY = 20_400
START = DAY * 86_400
METERS = 10
READING = 1234  # Wh
# 3 x 63 A at 230 V for 15 minutes, at an epsilon that gives exponents of 24 bits.
SETTINGS: dict[str, Any] = {"delta": 10_868, "epsilon": "0.1"}


class BenchError(RuntimeError):
    """A program under test ended otherwise than it should."""


class OutOfMemory(BenchError):
    """It ended with MemoryError."""


def make_key(bits: int) -> PrivateKey:
    """A fresh key of any size, test sizes too."""
    return generate(bits, insecure_test_key=bits < DEMO_SIZE)


class Clock:
    """Milliseconds that pass only when told."""

    value = 0

    def ms(self) -> int:
        """As hal.Clock."""
        return self.value


class Sensor:
    """One reading."""

    remote = False

    def energy(self, start: int, length: int) -> int:
        """As in wattveil_meter/sensors."""
        return READING


class Rig:
    """One meter of a fresh fleet in `folder`, with one row of gamma slots and its recording.

    total: what the twin's uploads opened to, its reading plus its noise.
    """

    def __init__(self, folder: Path, key: PrivateKey, gamma: int) -> None:
        self.folder, self.key = folder, key
        settings = FleetSettings(gamma=gamma, **SETTINGS)
        ids = [f"meter{number:02}" for number in range(METERS)]
        fleet = provision(folder / "fleet", key, ids, settings, emulated=True, day=DAY)
        self.record = fleet.record
        package = fleet.meters[ids[0]]
        package.write(folder)
        self.package = Package(package.files["record.bin"], package.files["meter.bin"])
        factory = RowFactory(key.public, mpz(self.record.h_s))
        self.hot = factory.draw_hot(gamma)
        self.rows = [to_pair(c, key.public) for c in factory.row(gamma, self.hot)]
        (folder / "rows.bin").write_bytes(b"".join(self.rows))
        self.entropy = secrets.token_bytes(64)
        self.seeds = (self.package.dealer_seed[1], self.package.center_seed[1])
        self._tables = package.tables()
        self.total = self._record()

    def job(self, **more: Any) -> None:
        """Write job.json for the programs."""
        job = {
            "start": START,
            "reading": READING,
            "entropy": self.entropy.hex(),
            "dealer_seed": self.seeds[0].hex(),
            "center_seed": self.seeds[1].hex(),
            "hot": self.hot,
        }
        (self.folder / "job.json").write_text(json.dumps(job | more))

    def run(self, runtime: str, program: str, *arguments: str, heap: str | None = None) -> Any:
        """What a program of programs/ printed, from JSON; OutOfMemory, BenchError."""
        firmware = firmware_folder()
        argv = [sys.executable]
        if runtime != "cpython":
            heapsize = f"heapsize={heap or HEAP[runtime]}"
            argv = [*find_runtime(runtime).argv, "-X", heapsize]
        argv += [str(PROGRAMS / program), str(self.folder), *arguments]
        path = {"MICROPYPATH": f"{PROGRAMS}:.frozen:{firmware}", "PYTHONPATH": str(firmware)}
        environment = {**os.environ, **path, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        if "MemoryError" in done.stderr + done.stdout:
            raise OutOfMemory(f"{program} on {runtime} ran out of memory")
        if done.returncode:
            raise BenchError(f"{program} on {runtime} failed:\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def open(self, slots: Sequence[bytes], report: bytes) -> int:
        """d + xi of pairs on the wire, by the roles' own code: dealer, cloud, then centre."""
        suite = suite_of(self.record)
        share = suite.share(self.record, [self.seeds[0]], START)
        pairs = suite.combine(self.record, self.key.public, [report], slots, share)
        opened = [from_pair(pair, self.key.public) for pair in pairs]
        return suite.total(self.record, self.key, opened, [self.seeds[1]], START)

    def opened_uploads(self) -> int:
        """The same for up.bin, frame by frame through the cloud's channel."""
        channel = self._channel()
        slots: list[bytes] = []
        report = b""
        for frame in _frames((self.folder / "up.bin").read_bytes()):
            message = channel.open(frame)
            if message.type == wire.SLOT:
                slots.append(message.payload[2:])
            elif message.type == wire.REPORT:
                report = message.payload
        if len(slots) != self.record.gamma:
            raise BenchError(f"{len(slots)} slots came up, not {self.record.gamma}")
        return self.open(slots, report)

    def _channel(self) -> wire.Channel:
        package, record = self.package, self.record
        ends = (record.fleet, wire.CLOUD, package.number, False)
        return wire.Channel(package.link_key, *ends, record.fingerprint, 1)

    def _record(self) -> int:
        """Let the twin meet its peers once; writes down.bin."""
        clock, channel = Clock(), self._channel()
        answer = _answers(self.record, self.package, self.rows)
        arguments = (
            MemoryStorage(),
            Sensor(),
            clock,
            self.entropy,
            ("bench", "0", ""),
            Portable(self.record.n),
        )
        twin = Meter(self.package, self._tables, *arguments)
        up, down = bytearray(), bytearray()
        while twin.state != "reported":
            out = twin.poll()
            if isinstance(out, bytes):
                up += _block(wire.stuff(out))
                message = channel.open(out)
                payload = answer(message)
                args = (message.type | 0x40, payload, message.start, message.counter)
                frame = channel.seal(*args)
                down += _block(wire.stuff(frame))
                twin.receive(frame)
            else:
                clock.value += out
        (self.folder / "down.bin").write_bytes(down)
        (self.folder / "up.bin").write_bytes(up)
        total = self.opened_uploads()
        if abs(total - READING) > self.record.offset or twin.refused:
            raise BenchError(f"the twin's report does not open: {total}, {twin.refused}")
        return total


def _answers(record: Any, package: Package, rows: list[bytes]) -> Callable[[wire.Message], bytes]:
    """What cloud and centre answer one meter: a function from its message to the payload."""
    center_nonce = secrets.token_bytes(16)
    digest = sha256(b"".join(rows)).digest()
    key, meter_id = package.registration_key, package.id

    def answer(message: wire.Message) -> bytes:
        if message.type == wire.TIME:
            now = START + record.period_s - 60
            mac = masks.time_mac(key, record, meter_id, message.payload, center_nonce, now, 1)
            return bytes(masks.u64(now) + b"\1" + center_nonce + mac)
        if message.type == wire.REGISTER:
            tau = read_uint(message.payload[:8].rstrip(b"\0"))
            return bytes(masks.registered_mac(key, record, meter_id, tau, center_nonce))
        if message.type == wire.ROW:
            slot: bytes = message.payload
            return slot + digest + rows[slot[0] - 1]
        return bytes(message.payload[:2] if message.type == wire.SLOT else b"")

    return answer


def _block(data: bytes) -> bytes:
    return len(data).to_bytes(2, "little") + data


def _frames(data: bytes) -> Iterator[bytes]:
    deframer = wire.Deframer()
    while data:
        size = int.from_bytes(data[:2], "little")
        yield from deframer.feed(data[2 : 2 + size])
        data = data[2 + size :]


def split(data: bytes, size: int) -> list[bytes]:
    """Pieces of one size."""
    return [data[at : at + size] for at in range(0, len(data), size)]
