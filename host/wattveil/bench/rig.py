"""A provisioned meter of each row length, and a cloud and centre in one object for it to talk to.

The meter under test is the real one; what answers it is made of the real channels and rows. Its uploads
are opened with the roles' own code, and the total must be its reading plus the noise of the slot that
the row selects, exactly.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from gmpy2 import mpz, powmod

from wattveil.fleet.packages import SEEDS_BIN, MeterSeeds
from wattveil.fleet.provision import provision
from wattveil.fleet.settings import SUITES as DEFAULT_NOISE
from wattveil.fleet.settings import FleetSettings
from wattveil.paillier.ciphertext import from_pair, to_pair
from wattveil.paillier.keys import DEMO_SIZE, PrivateKey, generate
from wattveil.paillier.rows import RowFactory
from wattveil.roles.suites import SUITES, Suite
from wattveil_meter import masks, wire
from wattveil_meter.fields import read_uint
from wattveil_meter.package import Package
from wattveil_meter.record import FIELDS, Record

DAY = 20_400
START = DAY * 86_400
READING = 1234  # Wh
# Quorum count 100, and 3 x 63 A at 230 V for 15 minutes at an epsilon that gives O = 6,520,800: noise
# exponents of 24 bits, as the targets are defined for.
METERS = 125
SETTINGS: dict[str, Any] = {"delta": 10_868, "epsilon": "0.1", "quorum": "0.8"}
BOOK = b"book"  # begins a frame that is no meter's: index, pair of the textbook's (programs)
BOOK_UNIT, BOOK_REPORT = 0, 255  # indices beside 1..gamma


class BenchError(RuntimeError):
    """A program under test ended otherwise than it should."""


class OutOfMemory(BenchError):
    """It ended with MemoryError."""


def make_key(bits: int) -> PrivateKey:
    """A fresh key of any size, test sizes too."""
    return generate(bits, insecure_test_key=bits < DEMO_SIZE)


@dataclass(frozen=True)
class Choice:
    """What one fleet is provisioned with; noise None: the suite's default."""

    suite: str = "yan2024"
    noise: str | None = None
    level: str = "short"
    tables: int = 384
    row_check: bool = True


class Rig:
    """One fleet of one key and choice. `job` gives its first meter with a row of any length."""

    def __init__(self, folder: Path, key: PrivateKey, choice: Choice) -> None:
        self.key, self.choice = key, choice
        settings = FleetSettings(
            suite=choice.suite,
            noise=choice.noise or DEFAULT_NOISE[choice.suite],
            level=choice.level,
            tables=choice.tables,
            row_check=choice.row_check,
            **SETTINGS,
        )
        ids = [f"meter{number:03}" for number in range(METERS)]
        fleet = provision(folder, key, ids, settings, emulated=True, day=DAY)
        self._record, self._tables = fleet.record, fleet.tables
        self._meter = fleet.meters[ids[0]]
        self._factory = RowFactory(key.public, mpz(fleet.record.h_s))

    def job(self, gamma: int) -> Job:
        """The meter with a fresh row of gamma slots."""
        fields = {name: getattr(self._record, name) for name, _ in FIELDS}
        record = Record.make(**fields | {"gamma": gamma})
        hot = self._factory.draw_hot(gamma)
        row = self._factory.row(gamma, hot)
        return Job(
            self.key,
            record,
            Package(record.raw, self._meter.files["meter.bin"]),
            self._meter.files["meter.bin"],
            self._meter.files[SEEDS_BIN],
            {form: dict(tables) for form, tables in self._tables.items()},
            hot,
            [to_pair(c, self.key.public) for c in row],
        )


@dataclass(frozen=True)
class Job:
    """What one period needs. hot: the slot of the row, from 0, that encrypts 1."""

    key: PrivateKey
    record: Any
    package: Package
    secrets: bytes = field(repr=False)
    seeds_bin: bytes = field(repr=False)
    tables: Mapping[int, Mapping[str, bytes]] = field(repr=False)
    hot: int
    rows: Sequence[bytes] = field(repr=False)

    def files(self, form: int) -> dict[str, bytes]:
        """What the meter has, with the tables for kernels of this form."""
        rest = {
            "record.bin": self.record.raw,
            "meter.bin": self.secrets,
            SEEDS_BIN: self.seeds_bin,
        }
        return rest | {"rows.bin": b"".join(self.rows)} | dict(self.tables[form])

    @property
    def seeds(self) -> tuple[bytes, bytes]:
        """The dealer's and the centre's, of the period's day."""
        return MeterSeeds.read(self.seeds_bin).at(DAY)

    def open(self, suite: Suite, slots: Sequence[bytes], report: bytes) -> int:
        """d + xi of pairs on the wire, by the roles' own code: dealer, cloud, then centre."""
        record, public = self.record, self.key.public
        dealer, center = self.seeds
        share = suite.share(record, [dealer], START)
        pairs = suite.combine(record, public, [report], slots, share)
        opened = [from_pair(pair, public) for pair in pairs]
        return suite.total(record, self.key, opened, [center], START)


class Cloud:
    """Cloud and centre for one period of one meter: `receive` a frame, send what it returns."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.slots: dict[int, bytes] = {}
        self.report = b""
        self.book: dict[int, bytes] = {}  # the textbook's answers
        self.bytes_up = self.bytes_down = 0  # of frames with ciphertexts, before stuffing
        self.bytes_other = 0  # of their requests and acknowledgements
        package, record = job.package, job.record
        ends = (record.fleet, wire.CLOUD, package.number, False)
        self._channel = wire.Channel(package.link_key, *ends, record.fingerprint, 1)
        self._nonce = secrets.token_bytes(16)
        self._digest = sha256(b"".join(job.rows)).digest()
        self._last_row_out = False

    def receive(self, frame: bytes) -> bytes | None:
        """The answer, a frame; None for what is no request."""
        if frame.startswith(BOOK):
            self.book[frame[len(BOOK)]] = frame[len(BOOK) + 1 :]
            return None
        message = self._channel.open(frame)
        payload = self._answer(message)
        answer: bytes = self._channel.seal(
            message.type | 0x40, payload, message.start, message.counter
        )
        if message.type == wire.ROW:
            self.bytes_down += len(answer)
            self.bytes_other += len(frame)
        elif message.type in (wire.SLOT, wire.REPORT):
            self.bytes_up += len(frame)
            self.bytes_other += len(answer)
        return answer

    def _answer(self, message: wire.Message) -> bytes:
        job, record, package = self.job, self.job.record, self.job.package
        key, meter_id = package.registration_key, package.id
        if message.type == wire.TIME:
            now = START + record.period_s * self._prepared()
            args = (key, record, meter_id, message.payload, self._nonce, now, 0)
            return bytes(masks.u64(now) + b"\0" + self._nonce + masks.time_mac(*args))
        if message.type == wire.REGISTER:
            tau = read_uint(message.payload[:8].rstrip(b"\0"))
            return bytes(masks.registered_mac(key, record, meter_id, tau, self._nonce))
        if message.type == wire.ROW:
            slot = message.payload[0]
            self._last_row_out = slot == record.gamma
            return bytes(message.payload + self._digest + job.rows[slot - 1])
        if message.type == wire.SLOT:
            self.slots[message.payload[0]] = message.payload[2:]
            return bytes(message.payload[:2])
        if message.type == wire.REPORT:
            self.report = bytes(message.payload)
        return b""

    def _prepared(self) -> bool:
        """A meter that has all rows and has sent all slots asks for the time to learn of the end."""
        slots = SUITES[self.job.record.suite].slots(self.job.record)
        return self._last_row_out and len(self.slots) == slots

    def checked(self, xi: int) -> bool:
        """Does the upload open to the reading plus the share xi of the hot slot?"""
        suite = SUITES[self.job.record.suite]
        if len(self.slots) != suite.slots(self.job.record) or not self.report:
            return False
        return self.job.open(suite, list(self.slots.values()), self.report) == READING + xi

    def book_checked(self, xi: int) -> bool:
        """The same for the textbook's; where no slot of it was timed, for the one power that was."""
        job, public, book = self.job, self.job.key.public, dict(self.book)
        power = from_pair(book.pop(BOOK_UNIT), public)
        row = from_pair(job.rows[job.hot], public)
        right = bool(power == powmod(row, xi + job.record.offset, public.n2))
        if not book:
            return right
        report = book.pop(BOOK_REPORT)
        return right and job.open(SUITES["yan2024"], list(book.values()), report) == READING + xi
