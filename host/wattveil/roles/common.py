"""What the three roles share: typed records, clocks, sets of meters, refusals, encodings."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, cast

from wattveil.roles.effects import Effect
from wattveil_meter.fields import Malformed, pack
from wattveil_meter.record import Record as _Record
from wattveil_meter.wire import CODES

Load = Callable[[str], Mapping[str, bytes]]  # rows of one kind, as Store.load gives them
Random = Callable[[int], bytes]  # that many uniform bytes

LOG_EVERY_S = 60.0  # one log line per (reason, meter) in this time; the counts are exact


class Record(Protocol):
    """The fields of a provisioning record that roles use; meanings: wattveil_meter.record."""

    raw: bytes
    fingerprint: bytes
    suite: str
    noise: str
    n: int
    fleet: bytes
    roster_size: int
    roster_digest: bytes
    gamma: int
    quorum_count: int
    colluding: int
    lo: int  # Wh
    hi: int  # Wh
    delta: int  # Wh
    a: int
    epsilon_num: int
    epsilon_den: int
    offset: int
    period_s: int
    own_noise: int
    h: int
    h_s: int
    nb: int
    randomiser_bits: int

    def start_of(self, now: int) -> int:
        """Start (UTC s) of the period that contains `now`."""


class Clock(Protocol):
    """Time as a role sees it."""

    @property
    def running(self) -> bool:
        """False when `now` stands still until told otherwise (demonstrations)."""

    def now(self) -> int:
        """UTC, seconds."""

    def mono(self) -> float:
        """Seconds that only grow, for time-outs."""


class ConfigError(Exception):
    """A role's folder is incomplete or contradicts itself; the message says where."""


class Refusals:
    """Counts every refusal by name and logs a few of them, so that a flood fills no disk."""

    def __init__(self, role: str, clock: Clock) -> None:
        self.counts: Counter[str] = Counter()
        self.of: Counter[int] = Counter()  # by meter
        self._clock = clock
        self._log = logging.getLogger(f"wattveil.{role}")
        self._logged: dict[tuple[str, int], float] = {}

    def note(self, reason: str, number: int = 0) -> None:
        """One more refusal; `number` is the meter it came from, 0 when that is not certain."""
        self.counts[reason] += 1
        if number:
            self.of[number] += 1
        now = self._clock.mono()
        last = self._logged.get((reason, number))
        if last is None or now - last >= LOG_EVERY_S:
            self._logged[reason, number] = now
            of = f"meter {number}" if number else "refused"
            self._log.warning("%s: %s (%d so far)", of, reason, self.counts[reason])


def parse_record(raw: bytes) -> Record:
    """A record from its bytes; ConfigError."""
    try:
        return cast(Record, _Record.parse(raw))
    except Malformed as error:
        raise ConfigError(f"the provisioning record is not valid: {error}") from error


def encode_members(numbers: Iterable[int], size: int) -> bytes:
    """A set of meter numbers (1..size) as the bitmap S."""
    bitmap = bytearray((size + 7) // 8)
    for number in numbers:
        bitmap[(number - 1) >> 3] |= 1 << ((number - 1) & 7)
    return bytes(bitmap)


def decode_members(bitmap: bytes, size: int) -> list[int] | None:
    """The meter numbers in a bitmap over `size` meters, None when it is no such bitmap."""
    if len(bitmap) != (size + 7) // 8 or int.from_bytes(bitmap, "little") >> size:
        return None
    return [i + 1 for i in range(size) if bitmap[i >> 3] >> (i & 7) & 1]


def equal(a: bytes, b: bytes) -> bool:
    """Whether two secrets are equal, in constant time."""
    return hmac.compare_digest(a, b)


def counter_key(link_key: bytes) -> str:
    """Where the last counter of a link is stored: by its key, as a new key starts anew."""
    return hashlib.sha256(pack(b"wattveil counter", link_key)).hexdigest()[:32]


def error_code(reason: str) -> bytes:
    """ERROR payload of a refusal: whatever has no code of its own is 1, `refused`."""
    return bytes((CODES.get(reason, CODES["refused"]),))


def u32(value: int) -> bytes:
    """4 bytes, little-endian."""
    return value.to_bytes(4, "little")


def u64(value: int) -> bytes:
    """8 bytes, little-endian."""
    return value.to_bytes(8, "little")


def number_of(data: bytes) -> int:
    """Inverse of u32 and u64."""
    return int.from_bytes(data, "little")


class Role(Protocol):
    """What a runner needs of a role."""

    def restore(self, load: Load) -> list[Effect]:
        """Take up the stored state; once, before anything else."""

    def receive(self, peer: str, frame: bytes) -> list[Effect]:
        """One frame from a link; `peer` is where an answer goes."""

    def tick(self) -> list[Effect]:
        """Time has passed; call about once a second."""

    def resume(self, event: tuple[str, int]) -> list[Effect]:
        """Everything before an Again is on disk."""

    def linked(self, peer: str, up: bool) -> list[Effect]:
        """The link to a role this one asks is up, or down."""

    def status(self) -> dict[str, Any]:
        """State in plain JSON types, no secrets."""
