"""Rule 9: one row set, one report, fresh draws. Whatever is used twice is a difference that opens.

Same r, x, xi, sign on rows B and B g: e' / e = g^(xi + O), read by a division, no key. Same masks under
two readings: C' / C = g^(d' - d - ..), and with the centre's key d' - d. A cloud gets there by a second
row set, by cutting the meter's power between rows and report, or by a clock that goes back; the meter's
stored row hash, its stored report and the boot counter in its DRBG are what stops it. A whole meter whose
flash forgets is attacked by the audit (wattveil.audit.attacks.lives, rules row-set and report); here are the
suites alone, what a meter that remembers does, and a hostile cloud that plays at random for many lives.
"""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest
from gmpy2 import invert

import support
from attacks.kit import CORE, Bench, Shares, drbg
from support import KEYS, N2, PERIOD, START, N, Peers, drive, from_pair, make_meter, to_pair
from wattveil_meter import wire
from wattveil_meter.store import MemoryStorage


class Amnesia(MemoryStorage):
    """Flash that forgets."""

    def write(self, name: str, value: bytes) -> None:
        pass


@pytest.mark.parametrize("rule", [False, True])
def test_two_row_sets_under_the_same_draws(rule: bool) -> None:
    """The suite itself: with the same generator state (variant) and with the next one (real)."""
    bench = Bench()
    source = drbg("meter")
    row = bench.one_hot("row")
    again = [row[0], row[1] * (1 + bench.n) % bench.n2, row[2]]
    shares = [-3, 41, 7]
    first = bench.meter(source, Shares(shares)).answer(row)
    second = bench.meter(drbg("meter") if not rule else source, Shares(shares)).answer(again)
    quotient = second[1] * invert(first[1], bench.n2) % bench.n2
    if rule:
        assert quotient % bench.n not in (1, bench.n - 1)  # r is another: no power of g
    else:
        read = bench.exponent(quotient)
        assert read is not None and read - bench.record.offset == 41


@pytest.mark.parametrize("rule", [False, True])
@pytest.mark.parametrize("check", [0, 1])
def test_row_sets_under_the_same_draws_in_compact(rule: bool, check: int) -> None:
    """T' / T = g^(xi_j + O + s) for a row with B_j g in the place of B_j: s is common to all j."""
    bench = Bench(suite="compact", row_check=check)
    source = drbg("meter")
    row = bench.one_hot("row")
    shares = [-3, 41, 7]
    reports = []
    for j in (None, 0, 1, 2):
        given = [c * (1 + bench.n) % bench.n2 if i == j else c for i, c in enumerate(row)]
        play = bench.meter(source if rule else drbg("meter"), Shares(shares))
        reports.append(play.report_only(given, 300))
    quotients = [t * invert(reports[0], bench.n2) % bench.n2 for t in reports[1:]]
    if rule:
        assert all(q % bench.n not in (1, bench.n - 1) for q in quotients)
        return
    read = [bench.exponent(q) for q in quotients]
    common = play.suite._s + bench.record.offset
    assert read == [xi + common for xi in shares]


def test_power_cut_between_rows_and_report() -> None:
    """A board whose random source gives the same bytes after every start, and a cloud that cuts its
    power to see other rows under the same draws: the next life sits the period out."""
    record = support.record()
    storage = MemoryStorage(support.seeds())
    for life in range(2):
        peers = Peers(record)
        peers.make_rows(START)
        if life:
            c = from_pair(peers.rows[1]) * (1 + N) % N2
            peers.rows[1] = to_pair(c)
        meter, _, _ = make_meter(record, storage, seed=b"stuck")
        drive(meter, peers)
        assert peers.absent == ([(START, wire.RESTARTED)] if life else [])
        assert sorted(peers.slots.get(START, {})) == ([] if life else [1, 2, 3])


@pytest.mark.parametrize("rule", [False, True])
def test_power_cuts_before_anything_else_is_stored(rule: bool) -> None:
    """Cut after 1, 2, 3 .. frames, same entropy each time: a counter that came back would be a nonce
    used twice, and a time nonce that came back the same generator."""
    record = support.record()
    storage = MemoryStorage(support.seeds()) if rule else Amnesia(support.seeds())
    counters, nonces = [], []
    for cut in range(1, 6):
        peers = Peers(record)
        meter, _, _ = make_meter(record, storage, seed=b"stuck")
        for _ in range(cut):
            frame = meter.poll()
            message = Peers(record).channel.open(frame)
            counters.append(message.counter)
            if message.type == wire.TIME:
                nonces.append(bytes(message.payload))
            meter.receive(peers.answer(frame))
    assert (len(set(counters)) == len(counters)) is rule
    assert (len(set(nonces)) == len(nonces)) is rule


def test_a_stuck_random_source_still_gives_fresh_draws() -> None:
    """The boot counter, stored before the first output, is part of the seed: the next period after
    the restart shares nothing with the one before it."""
    record = support.record()
    storage = MemoryStorage(support.seeds())
    uploads = []
    for life in range(2):
        peers = Peers(record)
        peers.make_rows(START + life * PERIOD)
        peers.now = START + life * PERIOD
        meter, _, _ = make_meter(record, storage, seed=b"stuck")
        drive(meter, peers)
        uploads.append([from_pair(e) for e in peers.slots[START + life * PERIOD].values()])
    for a, b in zip(*uploads, strict=True):
        assert a * support.inverse(b, N2) % N2 % N not in (1, N - 1)


@pytest.mark.parametrize("cut", [False, True])
def test_lives_with_other_rows_in_compact(cut: bool) -> None:
    """The same for a whole meter: nothing that depends on the draws leaves it before its report, and
    the next life has other draws (cut before the report) or says the same bytes again (after it)."""
    record = support.record(suite="compact")
    storage = MemoryStorage(support.seeds())
    reports: list[int] = []
    for life in range(3):
        peers = Peers(record)
        peers.make_rows(START)
        if life:
            peers.rows[life] = to_pair(from_pair(peers.rows[life]) * (1 + N) % N2)
        meter, _, clock = make_meter(record, storage, seed=b"stuck")
        drive(meter, peers)
        assert peers.slots == {}
        if cut:
            assert peers.reports == []
            assert peers.absent == ([(START, wire.RESTARTED)] if life else [])
            continue
        peers.now += PERIOD
        clock.value += 1000
        if not peers.reports:
            drive(meter, peers, until=lambda m, p=peers: p.reports)
        reports.append(from_pair(peers.reports[0][1]))
    assert reports == reports[:1] * (0 if cut else 3)


@pytest.mark.parametrize("suite", CORE)
def test_two_readings_under_one_set_of_masks(suite: str) -> None:
    """A clock that goes back: what a meter did in that period it never does again, whatever it reads."""
    record = support.record(suite=suite)
    storage = MemoryStorage(support.seeds())
    for life, reading in enumerate((900, 250)):
        peers = Peers(record)
        meter, _, clock = make_meter(record, storage, {START: reading}, seed=b"%d" % life)
        drive(meter, peers)
        peers.now += PERIOD
        clock.value += 1000
        drive(meter, peers)
        assert (START in peers.slots) is (suite == "yan2024" and not life)
        assert (START in [start for start, _ in peers.reports]) is (not life)


class Hostile(Peers):
    """A cloud that answers at random: other rows, errors, clocks that jump, silence."""

    def __init__(self, record: Any, rng: random.Random) -> None:
        super().__init__(record)
        self.rng = rng
        # an ear on the link, with its own counters, so that what is refused is still heard
        self.ear = lambda boot: wire.Channel(
            KEYS["link"], support.FLEET, wire.CLOUD, 3, False, record.fingerprint, boot
        )
        self.heard: dict[str, dict[Any, set[Any]]] = {
            kind: defaultdict(set) for kind in ("slot", "report", "rows")
        }

    def hear(self, frame: bytes) -> None:
        message = self.ear(1).open(frame)
        if message.type == wire.SLOT:
            slot = message.payload[0]
            self.heard["slot"][message.start, slot].add(bytes(message.payload))
            self.heard["rows"][message.start].add(self.offered)
        elif message.type == wire.REPORT:
            self.heard["report"][message.start].add(bytes(message.payload))

    offered: Any = None

    def answer(self, frame: bytes) -> bytes:
        self.hear(frame)
        rng, self.slots = self.rng, {}
        kind = frame[3]
        if rng.random() < 0.06:
            self.deny[kind] = rng.choice(list(wire.CODES))
        if kind == wire.ROW:
            start = int.from_bytes(frame[20:28], "little")
            if self.rows is None or self.start != start or rng.random() < 0.1:
                self.make_rows(start)
            self.offered = support.sha256(b"".join(self.rows)).digest()
        if rng.random() < 0.05:
            self.now += rng.choice([PERIOD, -PERIOD, PERIOD // 2, 1])
        return super().answer(frame)


def play_hostile_lives(storage: Any, seed: int, suite: str) -> Hostile:
    """Three lives of one meter, power cut anywhere in each."""
    rng = random.Random(seed)
    record = support.record(gamma=2, suite=suite)
    heard = None
    for life in range(3):
        peers = Hostile(record, rng)
        if heard is not None:
            peers.heard = heard
        heard = peers.heard
        peers.now = START + rng.choice([0, 0, PERIOD])
        readings = {START + i * PERIOD: rng.randrange(1000) for i in range(-4, 12)}
        meter, _, clock = make_meter(record, storage, readings, seed=b"%d" % life)
        for _ in range(rng.randrange(5, 60)):
            out = 0
            while out == 0:  # between two multiplications
                out = meter.poll()
            if not isinstance(out, bytes):
                clock.value += out
                peers.now += rng.choice([0, PERIOD // 2])
            elif rng.random() < 0.9:
                meter.receive(peers.answer(out))
            else:
                peers.hear(out)
    return peers


@pytest.mark.parametrize("suite", CORE)
@pytest.mark.parametrize("rule", [False, True])
def test_many_lives_with_a_hostile_cloud(rule: bool, suite: str) -> None:
    """Over all of them: one report a period, one e_ij a slot, under one row set."""
    broken = reports = 0
    for seed in range(60):
        heard = play_hostile_lives(
            MemoryStorage(support.seeds()) if rule else Amnesia(support.seeds()), seed, suite
        ).heard
        reports += len(heard["report"])
        worst = max(len(seen) for kind in heard.values() for seen in kind.values() or [()])
        broken += worst > 1
    assert reports > 60  # the meters did work
    assert (broken == 0) is rule


@pytest.mark.parametrize("rule", [False, True])
def test_periods_of_two_records_do_not_overlap_at_the_meter(rule: bool) -> None:
    """Rule 9: re-provisioned in the middle of a period it has reported, with a shorter period, the
    meter would report the second half of it again, had it kept the start only and not the end."""
    record, storage = support.record(), support.MemoryStorage(support.seeds())
    peers = Peers(record)
    meter, _, clock = make_meter(record, storage)
    drive(meter, peers)
    peers.now = START + PERIOD
    clock.value += 1000
    drive(meter, peers, until=lambda m: m.state == "reported")
    assert peers.reports[0][0] == START
    other = support.record(period_s=PERIOD // 2, roster_epoch=2)
    peers = Peers(other)
    peers.now = START + PERIOD // 2
    meter, _, _ = make_meter(other, storage, seed=b"2")
    if not rule:
        meter._busy = START + 1
    drive(meter, peers)
    assert (START + PERIOD // 2 not in peers.slots) is rule


@pytest.mark.parametrize("suite", CORE)
@pytest.mark.parametrize("rule", [False, True])
def test_a_suite_reports_once(rule: bool, suite: str) -> None:
    """Whatever the state machine around it does: a second C_i or T_i under the same blinding factor is
    the difference of two readings, by a division."""
    bench = Bench(suite=suite)
    play = bench.meter("twice", Shares([0, 0, 0]))
    play.answer(bench.one_hot("row"))
    blind = play.suite._blind
    one = play.report(100)
    if rule:
        with pytest.raises(TypeError):
            play.report(350)
    else:
        play.suite._blind = blind
        assert bench.exponent(play.report(350) * invert(one, bench.n2) % bench.n2) == 250
