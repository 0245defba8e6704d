"""A whole meter in the hands of a hostile cloud that cuts its power, changes rows and turns the clock.

Same r, x, xi, sign on rows B and B g: e' / e = g^(xi + O), read by a division, no key; in suite compact
T' / T = g^(xi_j + O + s). Same masks under two readings: the centre's key opens their difference. What stops
both is what the meter stores: its row hash, its report, and the boot counter in the seed of its generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from gmpy2 import invert, mpz

from wattveil.audit.attacks.score import Score
from wattveil.audit.bench import Bench, drbg
from wattveil.audit.world import World, starts, world
from wattveil.demo.memory import VirtualClock
from wattveil.fleet.packages import MeterKeys
from wattveil_meter import masks, wire
from wattveil_meter.meter import Meter
from wattveil_meter.package import Package

POLLS = 20_000  # more than any period takes


class Line:
    """Cloud and centre for one life of meter 1: gives it the rows, keeps what it sends."""

    def __init__(self, fleet: World, rows: Sequence[mpz], now: int) -> None:
        self.now = self._start = now  # of the period that is attacked
        self.slots: dict[int, mpz] = {}
        self.report: mpz | None = None
        self._fleet, self._keys = fleet, MeterKeys.read(fleet.packages[0].files)
        self._pairs = [fleet.pair(c) for c in rows]
        record = fleet.record
        args = (record.fleet, wire.CLOUD, 1, False, record.fingerprint, 1)
        self._channel = wire.Channel(self._keys.link, *args)
        self._nonce = bytes(16)

    def answer(self, frame: bytes) -> bytes:
        """The answering frame."""
        message = self._channel.open(frame)
        payload = getattr(self, f"_{message.type:02x}", lambda body: b"")(message.payload)
        if message.start == self._start:
            self._keep(message)
        return bytes(
            self._channel.seal(message.type | 0x40, payload, message.start, message.counter)
        )

    def _02(self, body: bytes) -> bytes:  # TIME; the clock stands
        id = self._fleet.packages[0].id.encode()
        args = (id, body, self._nonce, self.now, 0)
        mac = masks.time_mac(self._keys.registration, self._fleet.record, *args)
        return bytes(masks.u64(self.now) + b"\0" + self._nonce + mac)

    def _03(self, body: bytes) -> bytes:  # REGISTER
        args = (self._fleet.packages[0].id.encode(), int.from_bytes(body[:8], "little"))
        keys = (self._keys.registration, self._fleet.record)
        return bytes(masks.registered_mac(*keys, *args, self._nonce))

    def _04(self, body: bytes) -> bytes:  # ROW
        digest = sha256(b"".join(self._pairs)).digest()
        return body + digest + self._pairs[int.from_bytes(body, "little") - 1]

    def _05(self, body: bytes) -> bytes:  # SLOT
        return body[:2]

    def _keep(self, message: wire.Message) -> None:
        body = message.payload
        if message.type == wire.SLOT:
            self.slots[int.from_bytes(body[:2], "little")] = self._number(body[2:])
        elif message.type == wire.REPORT:
            self.report = self._number(body)

    def _number(self, pair: bytes) -> mpz:
        nb = self._fleet.record.nb
        low, high = (int.from_bytes(half, "little") for half in (pair[:nb], pair[nb:]))
        return mpz(low) + high * self._fleet.bench.n


class _Sensor:
    remote = False
    why = ""

    def __init__(self, wh: int) -> None:
        self._wh = wh

    def energy(self, start: int, length: int) -> int:
        return self._wh


class _Spy:
    """The sampler's shares, as they were drawn."""

    def __init__(self, meter: Any) -> None:
        self.drawn: list[int] = []
        self._real, meter._sampler = meter._sampler, self

    def share(self, source: Any) -> int:
        self.drawn.append(self._real.share(source))
        return self.drawn[-1]


def live(
    fleet: World, storage: Any, rows: Sequence[mpz], start: int, wh: int, entropy: bytes
) -> tuple[Line, list[int]]:
    """One life of meter 1, from power on to its report of period `start`: what it sent, and its shares."""
    package = fleet.packages[0]
    clock, line = VirtualClock(start), Line(fleet, rows, start)
    held = Package(package.files["record.bin"], package.files["meter.bin"])
    about = ("audit", "", "")
    meter = Meter(
        held, package.tables(), storage, _Sensor(wh), clock, entropy, about, fleet.bench.ring
    )
    spy = _Spy(meter)
    for _ in range(2):  # until it waits for the period's end; then until it has reported
        for _ in range(POLLS):
            out = meter.poll()
            if isinstance(out, bytes):
                meter.receive(line.answer(out))
            elif out:
                break
        line.now = start + fleet.record.period_s
        clock.set(line.now)
    return line, spy.drawn


def two_row_sets(suite: str, tries: int) -> Score:
    """The cloud, with a board whose random source is stuck: the meter's share of slot 2 (yan2024), or the
    difference of two of its shares (compact: s is common to them)."""
    outcomes, lifetimes = [], 2 if suite == "yan2024" else 3
    with world(suite) as fleet:
        bench = fleet.bench
        for i, start in enumerate(starts(fleet.record, tries)):
            storage, stuck = fleet.packages[0].storage(), drbg(("stuck", i)).bytes(64)
            row, sent = bench.one_hot(("row", i)), []
            shares: list[int] = []
            for life in range(lifetimes):
                given = list(row)
                if life:
                    given[life] = given[life] * (1 + bench.n) % bench.n2
                line, drawn = live(fleet, storage, given, start, 300, stuck)
                sent.append(line.slots.get(2) if suite == "yan2024" else line.report)
                shares = shares or drawn
            read = [_quotient(bench, c, sent[0]) for c in sent[1:]]
            if None in read or 0 in read:  # 0: the same report once more
                outcomes.append(False)
            elif suite == "yan2024":
                outcomes.append(read == [shares[1] + fleet.record.offset])
            else:
                outcomes.append(read[0] - read[1] == shares[1] - shares[2])
    return Score.of(outcomes)


def _quotient(bench: Bench, c: mpz | None, base: mpz | None) -> Any:
    """a where c = g^a base; None."""
    if c is None or base is None:
        return None
    return bench.exponent(c * invert(base, bench.n2) % bench.n2)


def two_readings(suite: str, tries: int) -> Score:
    """Cloud + centre, and a clock that goes back: a second report of one period, for another reading."""
    outcomes, source = [], drbg("two readings")
    with world(suite) as fleet:
        bench = fleet.bench
        for i, start in enumerate(starts(fleet.record, tries)):
            storage, plain, products = fleet.packages[0].storage(), [], []
            for life in range(2):
                reading = source.below(1001)
                row = bench.one_hot(("row", i, life), hot=1)
                entropy = drbg(("fresh", i, life)).bytes(64)
                line, drawn = live(fleet, storage, row, start, reading, entropy)
                if line.report is not None:
                    products.append(bench.product([*line.slots.values(), line.report]))
                    plain.append(reading + drawn[1])
            if len(products) < 2:
                outcomes.append(False)
                continue
            quotient = products[0] * invert(products[1], bench.n2) % bench.n2
            outcomes.append(bench.signed(fleet.key.decrypt(quotient)) == plain[0] - plain[1])
    return Score.of(outcomes)
