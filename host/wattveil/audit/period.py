"""One period of a small fleet, and what each party holds of it after it: what a coalition is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from gmpy2 import invert, mpz, powmod

from wattveil.audit.bench import START, Bench, Shares, drbg
from wattveil.paillier.keys import PrivateKey
from wattveil.paillier.rows import RowFactory
from wattveil.roles.suites import suite_of
from wattveil_meter.fields import read_uint

METERS = 3  # all of them in S, and Q = 3


@dataclass(frozen=True)
class Meter:
    """What a meter knows of itself. shares: by slot. own: its own noise, 0 without."""

    reading: int
    shares: Sequence[int]
    own: int
    rows: Sequence[mpz]


@dataclass(frozen=True)
class Cloud:
    """hot: the slot of each meter's 1, from 0. rows, slots, reports: by meter. minus_k, u: the dealer's
    share. opened: C1 and C2, or T."""

    hot: Sequence[int]
    rows: Sequence[Sequence[mpz]]
    slots: Sequence[Sequence[mpz]]
    reports: Sequence[mpz]
    minus_k: int
    u: int
    opened: Sequence[mpz]


@dataclass(frozen=True)
class Center:
    """v: by meter. opened: C1 and C2, or T."""

    key: PrivateKey
    v: Sequence[int]
    opened: Sequence[mpz]


@dataclass(frozen=True)
class Dealer:
    """k, u: by meter."""

    k: Sequence[int]
    u: Sequence[int]


@dataclass(frozen=True)
class Held:
    """What a coalition against the first meter holds; None: that party is not in it.

    bench: record, bases and arithmetic, all public (the key in it is `Center`'s and used by nobody else).
    total: as released. others: the readings of all other meters, which differential privacy grants any
    attacker.
    """

    bench: Bench
    total: int
    others: int
    cloud: Cloud | None = None
    center: Center | None = None
    dealer: Dealer | None = None
    meters: Mapping[int, Meter] | None = None  # colluding ones by index; the first meter is 0


@dataclass(frozen=True)
class Period:
    """A period as nobody sees it: for the audit only."""

    bench: Bench
    total: int
    readings: Sequence[int]
    noise: Sequence[int]  # of each meter: the chosen share, and its own noise
    cloud: Cloud
    center: Center
    dealer: Dealer
    meters: Sequence[Meter]

    def held(self, cloud: bool, center: bool, dealer: bool, meters: int) -> Held:
        """The view of a coalition of these parties and of the last `meters` meters."""
        inside = range(len(self.meters) - meters, len(self.meters))
        return Held(
            self.bench,
            self.total,
            sum(self.readings[1:]),
            self.cloud if cloud else None,
            self.center if center else None,
            self.dealer if dealer else None,
            {i: self.meters[i] for i in inside},
        )


class Laboratory:
    """Plays periods of METERS meters. colluding, own_noise: of the record; a = METERS - colluding."""

    def __init__(self, suite: str, colluding: int = 1, own_noise: int = 0) -> None:
        changes = {"roster_size": METERS, "quorum_count": METERS, "colluding": colluding}
        changes["own_noise"] = own_noise
        self.bench = Bench(suite=suite, **changes)
        self._suite = suite_of(self.bench.record)
        self._random = drbg(("cloud", suite))
        self._rows = RowFactory(
            self.bench.key.public, self.bench.h_s, 256, 4, lambda size: self._random.bytes(size)
        )
        self._seeds = [
            (sha256(b"dealer %d" % i).digest(), sha256(b"center %d" % i).digest())
            for i in range(METERS)
        ]

    def play(
        self, index: int, readings: Sequence[int], rows: Sequence[Sequence[mpz]] | None = None
    ) -> Period:
        """Period number `index`, with rows of the cloud's own making or honest ones."""
        bench = self.bench
        record = bench.record
        start = START + index * record.period_s
        hot = [self._random.below(record.gamma) for _ in range(METERS)]
        given = rows or [self._rows.row(record.gamma, slot) for slot in hot]
        meters, slots, reports = [], [], []
        for i, row in enumerate(given):
            shares = Shares(record=record)
            play = bench.meter(("period", record.suite, index, i), shares, start, self._seeds[i])
            slots.append(play.answer(row))
            reports.append(play.report(readings[i]))
            drawn, gamma = shares.drawn, record.gamma
            meters.append(Meter(readings[i], drawn[:gamma], sum(drawn[gamma:]), row))
        cloud = self._close(start, hot, given, slots, reports)
        seeds = [center for _, center in self._seeds]
        key: Any = bench.key
        total = self._suite.total(record, key, cloud.opened, seeds, start)
        each = [bench.masks(start, pair) for pair in self._seeds]
        return Period(
            bench,
            total,
            readings,
            [meter.shares[slot] + meter.own for meter, slot in zip(meters, hot, strict=True)],
            cloud,
            Center(key, [v for _, _, v in each], cloud.opened),
            Dealer([k for k, _, _ in each], [u for _, u, _ in each]),
            meters,
        )

    def _close(self, start: int, hot: Any, rows: Any, slots: Any, reports: Any) -> Cloud:
        """The dealer's share, and what the cloud multiplies up with it."""
        bench, record = self.bench, self.bench.record
        seeds = [dealer for dealer, _ in self._seeds]
        *k, u = self._suite.share(record, seeds, start)
        minus_k = read_uint(k[0]) if k else 0
        closing = 1 + int.from_bytes(u, "little") * bench.n
        closing = closing * powmod(bench.h, -mpz(minus_k), bench.n2) % bench.n2
        c2 = bench.product([*reports, closing])
        c1 = [bench.product(c for row in slots for c in row)] if k else []
        return Cloud(hot, rows, slots, reports, minus_k, int.from_bytes(u, "little"), [*c1, c2])


def single(held: Held) -> int | None:
    """d + xi (+ what still masks it) of the first meter, by whatever of key and masks is held."""
    bench, cloud = held.bench, held.cloud
    if cloud is None:
        return None
    report, slots = cloud.reports[0], cloud.slots[0]
    if held.dealer:
        if bench.record.suite != "compact":
            h = powmod(bench.h, bench.n + held.dealer.k[0], bench.n2)
            report = report * invert(h, bench.n2) % bench.n2
        report = report * (1 - held.dealer.u[0] * bench.n) % bench.n2
    if held.center:
        key = held.center.key
        opened = key.decrypt(report) + key.decrypt(bench.product(slots)) - held.center.v[0]
        return bench.signed(opened - bench.record.offset)
    return bench.exponent(report) or bench.exponent(bench.n2 - report)
