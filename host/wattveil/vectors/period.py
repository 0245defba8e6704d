"""Checks what the parties do in one period: slot, compact, registration and closing.json."""

from __future__ import annotations

import io
from copy import copy
from fractions import Fraction
from typing import Any

from gmpy2 import mpz

from wattveil.paillier.ciphertext import from_pair, to_pair
from wattveil.paillier.keys import NotACiphertext, PrivateKey, PublicKey
from wattveil.privacy.law import sum_bounds
from wattveil.roles.common import decode_members, encode_members
from wattveil.roles.dealer import Dealer
from wattveil.roles.folders import DealerConfig
from wattveil.roles.seeds import Seed, Seeds
from wattveil.roles.suites import suite_of
from wattveil.vectors.cipher import returned, value_of
from wattveil.vectors.reader import Vector, Wrong
from wattveil_meter import masks, wire
from wattveil_meter.cipher import Comb
from wattveil_meter.drbg import same
from wattveil_meter.fields import Malformed, pack, read_uint
from wattveil_meter.kernels.portable import Portable
from wattveil_meter.meter import SUITES

REPORT = {"yan2024": "c", "compact": "t"}  # what vectors call a report
OPENED = {"yan2024": ("c1", "c2"), "compact": ("t",)}  # and what the centre opens


def check_slot(vector: Vector) -> None:
    """A meter's e and c from the draws of a vector; or ciphertexts taken and refused."""
    if "n" in vector:
        ring = Portable(mpz(vector.number("n")))
        public = PublicKey(ring.n)
        for operation in vector.operations():
            operation.expect("do", "take")
            at, data = operation.text("at"), operation.data("pair")
            if at == "cloud":
                value = operation.attempt(from_pair, data, public)
            elif at == "meter":
                value = operation.attempt(_meter_pair, ring, data)
            else:
                raise Wrong("a pair is taken at the meter or the cloud")
            if value is not None:
                operation.expect_number("value", value)
        return
    _check_meter(vector, "yan2024")


def check_compact(vector: Vector) -> None:
    """A meter's t from the draws of a vector."""
    _check_meter(vector, "compact")


def _check_meter(vector: Vector, name: str) -> None:
    record = vector.record()
    if record.suite != name:
        raise Wrong("a record of another suite")
    ring = Portable(mpz(record.n))
    draws = Replay(vector, record)
    seeds = (vector.data("dealer_seed"), vector.data("center_seed"))
    combs = _combs(vector, record, ring)
    kind: Any = SUITES[name]
    suite = kind(record, ring, combs, draws, draws, seeds, vector.integer("start"))
    row = vector.datas("row")
    if len(row) != record.gamma:
        raise Wrong("the row has not gamma pairs")
    made: list[bytes] = []
    for slot, pair in enumerate(row, 1):
        e = returned(suite.row(slot, ring.decode(pair)))
        made += [e] if e is not None else []
    last = returned(suite.finish())
    if name == "yan2024":
        vector.expect("e", [e.hex() for e in [last, *made]])
    elif last is not None or made:
        raise Wrong("a suite without slots uploads some")
    if not draws.used_up():
        raise Wrong("draws that are never used")
    for operation in vector.operations():
        operation.expect("do", "report")
        reading = min(max(operation.integer("reading"), record.lo), record.hi)
        once = copy(suite)  # a suite reports once; each operation is a world of its own
        operation.expect(REPORT[name], operation.attempt(once.report, reading))


def _combs(vector: Vector, record: Any, ring: Any) -> dict[str, Any]:
    """The tables this kernel reads, of those the record allows."""
    combs: dict[str, Any] = {}
    for at in range(0, len(record.tables), 32):
        data = vector.tables.get(record.tables[at : at + 32])
        if data is None:
            raise Wrong("a table of the record is not in table.json")
        bits = int.from_bytes(data[8:10], "little")
        wanted = 256 if data[4:5] == b"h" else record.randomiser_bits
        if (data[5], bits) == (ring.form, wanted):
            combs[data[4:5].decode()] = Comb(io.BytesIO(data), ring, data[4:5])
    return combs


class Replay:
    """Gives a suite the draws of a vector: as generator (bits, below) and as sampler (share)."""

    def __init__(self, vector: Vector, record: Any) -> None:
        self._shares = [*vector.integers("xi")]
        if record.own_noise:
            self._shares.append(vector.integer("own"))
        self._s = [vector.number("s")] if record.row_check else []
        if record.suite == "compact":  # one ciphertext
            self._r, self._x = [vector.number("r")], []
            self._minus = [vector.integer("minus")]
        else:
            last_first = [*range(1, record.gamma), 0]  # slot 1 is made last
            self._r = [vector.numbers("r")[j] for j in last_first]
            self._x = [vector.numbers("x")[j] for j in last_first]
            self._minus = [vector.integers("minus")[j] for j in last_first]
        self._bits = {record.randomiser_bits: self._r, 1: self._minus, record.check_bits: self._s}

    def share(self, _: object) -> int:
        """The next share of noise."""
        return self._shares.pop(0)

    def bits(self, count: int) -> int:
        """The next r, s or sign, told apart by their lengths."""
        value: int = self._bits[count].pop(0)
        if value >> count:
            raise Wrong("a draw is longer than it may be")
        return value

    def below(self, limit: int) -> int:
        """The next x."""
        value: int = self._x.pop(0)
        if value >= limit:
            raise Wrong("a draw is out of range")
        return value

    def used_up(self) -> bool:
        """Whether every draw was asked for."""
        return not (self._shares or self._s or self._r or self._x or self._minus)


def _meter_pair(ring: Any, data: bytes) -> int:
    try:
        return value_of(ring, ring.decode(data))
    except Malformed as error:
        raise NotACiphertext(str(error)) from None


def check_registration(vector: Vector) -> None:
    """MACs and payloads of a registration; a payload with a wrong bit is refused."""
    record = vector.record()
    key, meter = vector.data("registration_key"), vector.data("meter")
    nonce, fresh = vector.data("nonce"), vector.data("center_nonce")
    now, running, tau = (vector.integer(name) for name in ("now", "running", "tau"))
    time_mac = masks.time_mac(key, record, meter, nonce, fresh, now, running)
    identity = masks.identity_hash(meter, tau)
    register = masks.register_mac(key, record, meter, tau, fresh)
    registered = masks.registered_mac(key, record, meter, tau, fresh)
    vector.expect("time_mac", time_mac)
    vector.expect("identity", identity)
    vector.expect("register_mac", register)
    vector.expect("registered_mac", registered)
    right = {
        "time_is": masks.u64(now) + bytes((running,)) + fresh + time_mac,
        "register": masks.u64(tau) + identity + register,
        "registered": registered,
    }
    for operation in vector.operations():
        wanted, payload = right[operation.text("do")], operation.data("payload")
        operation.attempt(_compare, wanted, payload)


def _compare(wanted: bytes, got: bytes) -> None:
    if not same(wanted, got):
        raise wire.Refused("refused")


def check_closing(vector: Vector) -> None:
    """Closing a period: the set, the dealer's share, both ciphertexts and the total."""
    record = vector.record()
    suite = suite_of(record)
    if "p" not in vector:
        config = DealerConfig(
            record,
            tuple(str(i) for i in range(record.roster_size)),
            Seeds([Seed(0, bytes(32))] * record.roster_size),
            bytes(32),
            bytes(32),
        )
        for operation in vector.operations():
            do = operation.text("do")
            if do == "close":
                message = wire.Message(wire.CLOSE, 0, 0, 0, 1, 0, operation.data("members"))
                dealer = Dealer(config, 1, _Clock())
                operation.attempt(dealer.answer, "cloud", message)
            elif do == "combine":
                public, parts = PublicKey(mpz(record.n)), operation.datas("parts")
                operation.attempt(suite.combine, record, public, [], [], parts)
            else:
                raise Wrong(f"unknown operation {do}")
        return
    key = PrivateKey(mpz(vector.number("p")), mpz(vector.number("q")))
    if key.public.n != record.n:
        raise Wrong("p q is not n")
    start = vector.integer("start")
    numbers: list[int] = []
    dealer_seeds: list[bytes] = []
    center_seeds: list[bytes] = []
    slots: list[bytes] = []
    reports: list[bytes] = []
    for meter in vector.operations("meters"):
        numbers.append(meter.integer("number"))
        dealer_seeds.append(meter.data("dealer_seed"))
        center_seeds.append(meter.data("center_seed"))
        if suite.slots(record):
            slots += meter.datas("e")
        reports.append(meter.data(REPORT[record.suite]))
    members = encode_members(numbers, record.roster_size)
    vector.expect("members", members)
    if decode_members(members, record.roster_size) != numbers:
        raise Wrong("the set reads as another one")
    if len(slots) != suite.slots(record) * len(numbers):
        raise Wrong("not gamma slots for each meter")
    share = suite.share(record, dealer_seeds, start)
    if record.suite == "yan2024":
        vector.expect_number("minus_k", read_uint(share[0]))
    vector.expect_number("u", int.from_bytes(share[-1], "little"))
    certificate = masks.closing_certificate(vector.data("certificate_key"), record, start, members)
    vector.expect("certificate", certificate)
    vector.expect("share_payload", pack(*share, certificate))
    pairs = suite.combine(record, key.public, reports, slots, share)
    names = OPENED[record.suite]
    for name, pair in zip(names, pairs, strict=True):
        vector.expect(name, pair)
    vector.expect("open_payload", pack(members, certificate, *pairs))
    low, high = sum_bounds(
        len(numbers),
        record.lo,
        record.hi,
        record.a,
        Fraction(record.epsilon_num, record.epsilon_den),
        bool(record.own_noise),
    )
    vector.expect("low", low)
    vector.expect("high", high)

    def opened(last: bytes) -> int:
        ciphertexts = [from_pair(pair, key.public) for pair in [*pairs[:-1], last]]
        total = suite.total(record, key, ciphertexts, center_seeds, start)
        if not low <= total <= high:
            raise wire.Refused("sum_invalid")
        return total

    vector.expect("total", opened(pairs[-1]))
    for operation in vector.operations():
        operation.expect("do", "open")
        pair = operation.data(names[-1])
        if to_pair(from_pair(pair, key.public), key.public) != pair:
            raise Wrong("a pair with two forms")
        total = operation.attempt(opened, pair)
        if total is not None:
            operation.expect("total", total)


class _Clock:
    """A clock at the end of time, for which every period has ended."""

    running = False

    def now(self) -> int:
        """UTC, seconds."""
        return 1 << 40

    def mono(self) -> float:
        """Seconds."""
        return 0.0
