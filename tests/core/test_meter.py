"""One whole meter against peers made from plain formulas: totals, restarts, and hostile rows."""

import support
from support import PERIOD, START, Peers, drive, make_meter
from wattveil_meter import noise, wire
from wattveil_meter.fields import Malformed
from wattveil_meter.meter import Denied
from wattveil_meter.package import Package


class Shares:
    """Records what the sampler of a meter draws."""

    def __init__(self, meter):
        self.drawn = []
        self._inner = meter._sampler
        meter._sampler = self

    def share(self, drbg):
        self.drawn.append(self._inner.share(drbg))
        return self.drawn[-1]


def tick(meter, peers, clock, now):
    peers.now = now
    clock.value += 1000
    return drive(meter, peers)


def whole_period(record, readings=None, hot=2):
    peers = Peers(record, hot)
    meter, _, clock = make_meter(record, readings=readings)
    shares = Shares(meter)
    drive(meter, peers)
    assert meter.state == "prepared"
    tick(meter, peers, clock, START + PERIOD)
    return peers, meter, shares


def test_a_period_opens_to_reading_plus_the_chosen_share():
    for changes in ({}, {"noise": "gamma"}, {"row_check": 0}, {"gamma": 1}):
        record = support.record(**changes)
        hot = min(2, record.gamma)
        peers, _, shares = whole_period(record, hot=hot)
        assert peers.total(START) == 777 + shares.drawn[hot - 1]


def test_own_noise_is_one_more_share():
    record = support.record(own_noise=1)
    peers, _, shares = whole_period(record)
    assert peers.total(START) == 777 + shares.drawn[1] + shares.drawn[3]


def test_readings_are_clamped():
    peers, meter, shares = whole_period(support.record(), {START: 5000})
    assert peers.total(START) == 1000 + shares.drawn[1] and meter.clamped == 1
    peers, _, shares = whole_period(support.record(), {START: 0})
    assert peers.total(START) == shares.drawn[1]


def test_a_missing_reading_is_said_and_not_sent():
    peers, _, _ = whole_period(support.record(), {})
    assert peers.reports == [] and peers.absent == [(START, wire.NO_READING)]


def test_slot_one_goes_last_and_hello_tells_the_self_test():
    record = support.record()
    peers, _, _ = whole_period(record)
    assert sorted(peers.slots[START]) == [1, 2, 3]
    assert peers.order[START][-1] == 1
    assert b"portable" in peers.hello


def test_restart_before_the_report_sits_the_period_out():
    record = support.record()
    peers = Peers(record)
    meter, storage, clock = make_meter(record)
    drive(meter, peers)
    assert meter.state == "prepared"
    again, _, clock = make_meter(record, storage, clock=clock)
    peers.slots = {}
    sent = drive(again, peers)
    assert peers.absent == [(START, wire.RESTARTED)] and wire.ROW not in sent
    sent = tick(again, peers, clock, START + PERIOD)
    assert peers.reports == [] and wire.ROW in sent  # the next period is prepared


def test_restart_after_the_report_was_stored_resends_the_same_bytes():
    record = support.record()
    peers = Peers(record)
    meter, storage, clock = make_meter(record)
    drive(meter, peers)
    peers.now = START + PERIOD
    clock.value += 1000
    lost = []

    def lose(frame):
        if frame[3] == wire.REPORT:
            lost.append(frame)
            return True

    drive(meter, peers, until=lambda m: lost, lose=lose)
    stored = storage.read("period.bin")
    again, _, clock = make_meter(record, storage, clock=clock, seed=b"2")
    drive(again, peers)
    assert len(peers.reports) == 1 and peers.reports[0][1] in stored
    assert peers.channel.last >> 32 == 2


def test_a_lost_answer_is_asked_again_in_a_fresh_frame():
    record = support.record()
    peers = Peers(record)
    meter, _, clock = make_meter(record)
    seen = []

    def lose_once(frame):
        if frame[3] == wire.ROW and len(seen) < 1:
            seen.append(frame)
            return True

    drive(meter, peers, lose=lose_once)
    assert meter.state == "rows"
    clock.value += 4000
    drive(meter, peers)
    assert meter.state == "prepared"


def test_replayed_and_unasked_answers_have_no_effect():
    record = support.record()
    peers = Peers(record)
    meter, _, _ = make_meter(record)
    frame = meter.poll()
    answer = peers.answer(frame)
    unasked = peers.channel.seal(wire.ROW_IS, b"x", START, 99)
    meter.receive(unasked)
    assert meter.refused == {"replayed": 1}
    meter.receive(answer)  # older counter than the one above: the channel refuses it
    assert meter.refused == {"replayed": 2}


def hostile_rows(change):
    record = support.record()
    peers = Peers(record)
    meter, _, _ = make_meter(record)
    peers.make_rows(START)
    inner = peers.answer
    count = [0]

    def answer(frame):
        if frame[3] == wire.ROW:
            count[0] += 1
            change(peers, count[0])
        return inner(frame)

    peers.answer = answer
    drive(meter, peers)
    return peers, meter


def test_rows_changed_midway_are_refused():
    def swap(peers, count):
        if count == 2:
            peers.make_rows(START)

    peers, meter = hostile_rows(swap)
    assert meter.refused == {"rows_changed": 1}
    assert peers.absent == [(START, wire.ROWS_REFUSED)] and 1 not in peers.slots.get(START, {})


def test_rows_that_do_not_match_their_hash_are_refused():
    record = support.record()
    peers = Peers(record)
    meter, _, _ = make_meter(record)
    peers.make_rows(START)
    seal = peers._seal

    def lie(type, payload, message):
        if type == wire.ROW_IS:
            payload = payload[:2] + bytes(32) + payload[34:]
        return seal(type, payload, message)

    peers._seal = lie
    drive(meter, peers)
    assert meter.refused == {"rows_changed": 1} and 1 not in peers.slots.get(START, {})


def test_rows_that_are_no_ciphertexts_are_refused():
    def zero(peers, count):
        peers.rows[1] = bytes(64)

    peers, meter = hostile_rows(zero)
    assert meter.refused == {"not_a_ciphertext": 1} and peers.slots == {}


def test_a_row_that_does_not_sum_to_one_spoils_the_total():
    """Rule 6: an all-zero row would give the noise-free total; the row check makes it random."""
    for row_check in (1, 0):
        record = support.record(row_check=row_check)
        peers = Peers(record, hot=99)
        meter, _, clock = make_meter(record)
        drive(meter, peers)
        tick(meter, peers, clock, START + PERIOD)
        opened = peers.total(START) + record.offset  # the attacker gives O back
        if row_check:
            assert abs(opened) > 1 << 20
        else:
            assert opened == 777  # the attack that ran


def test_one_report_per_period_whatever_the_cloud_offers():
    record = support.record()
    peers, meter, _ = whole_period(record)
    again, _, _ = make_meter(record, meter._storage)
    peers.now = START  # a cloud and a clock that go back
    sent = drive(again, peers)
    assert wire.ROW not in sent
    assert {start for start, _ in peers.reports} == {START}
    assert len({report for _, report in peers.reports}) == 1


def test_late_and_forgotten():
    record = support.record()
    peers = Peers(record)
    meter, _, clock = make_meter(record)
    peers.deny[wire.SLOT] = "unregistered"
    sent = drive(meter, peers)
    assert meter.state == "prepared" and sent.count(wire.HELLO) == 2
    peers.deny[wire.REPORT] = "late"
    tick(meter, peers, clock, START + PERIOD)
    assert meter.refused == {"late": 1}


def test_a_report_outlives_a_refused_registration():
    """A REGISTER whose answer was lost is refused when repeated: the stored report must not go."""
    record = support.record()
    peers = Peers(record)
    meter, _, clock = make_meter(record)
    drive(meter, peers)
    peers.deny[wire.REPORT] = "unregistered"
    peers.deny[wire.REGISTER] = "refused"
    tick(meter, peers, clock, START + PERIOD)
    tick(meter, peers, clock, START + PERIOD)
    assert [start for start, _ in peers.reports] == [START]
    assert meter.refused == {"refused": 1}


def test_time_must_carry_the_centres_mac():
    record = support.record()
    peers = Peers(record)
    meter, _, _ = make_meter(record)
    seal = peers._seal

    def lie(type, payload, message):
        if type == wire.TIME_IS:  # the cloud skips a day
            payload = (START + 86400).to_bytes(8, "little") + payload[8:]
        return seal(type, payload, message)

    peers._seal = lie
    drive(meter, peers, until=lambda m: m.refused)
    assert meter.refused == {"refused": 1} and meter.state == "unregistered"


def test_the_boot_counter_is_stored_before_anything_leaves():
    record = support.record()
    meter, storage, _ = make_meter(record)
    assert storage.read("boot.bin") is not None
    first = meter.poll()
    again, _, _ = make_meter(record, storage)
    second = again.poll()
    assert first[28:36] != second[28:36] and first[32:36] == b"\1\0\0\0"
    assert meter.drbg.bytes(32) != again.drbg.bytes(32)  # same entropy, another boot


def test_a_meter_that_fails_its_self_test_only_says_so():
    record = support.record()
    peers = Peers(record)
    meter, _, clock = make_meter(record)
    meter._about = ("test 1", "0.1.0", "arithmetic")
    assert drive(meter, peers) == [wire.HELLO]
    clock.value += 60001
    assert drive(meter, peers) == [wire.HELLO]
    assert meter.state == "unfit" and b"arithmetic" in peers.hello


def test_noise_is_drawn_only_where_its_time_tells_nothing():
    """A cloud that could time the sampler would learn how many shares are not zero."""
    record = support.record()
    peers = Peers(record)
    meter, _, _ = make_meter(record)
    shares = Shares(meter)
    drawn = {}
    for _ in range(2000):  # how many shares had been drawn when each request left
        out = meter.poll()
        if isinstance(out, bytes):
            drawn.setdefault(out[3], []).append(len(shares.drawn))
            meter.receive(peers.answer(out))
        elif out > 0:
            break
    assert meter.state == "prepared"
    assert {count for counts in drawn.values() for count in counts} == {3}  # before the hello
    assert len(shares.drawn) == 6  # for the next period, before a wait of fixed length


def test_every_attempt_to_ask_the_time_has_its_own_nonce():
    """Else the cloud could keep the centre's answer back and set the meter's clock back by it."""
    record = support.record()
    peers = Peers(record)
    meter, _, clock = make_meter(record)
    seal, bodies = peers._seal, []

    def oldest(type, payload, message):
        if type == wire.TIME_IS:
            bodies.append(payload)
            payload = bodies[0]
        return seal(type, payload, message)

    def hold_back(frame):
        if frame[3] == wire.TIME and not bodies:
            peers.answer(frame)
            return True

    peers._seal = oldest
    drive(meter, peers, lose=hold_back)
    clock.value += 4000
    drive(meter, peers, until=lambda m: m.refused)
    assert meter.refused == {"refused": 1}


def test_an_answer_must_name_the_period_that_was_asked_for():
    record = support.record()
    peers = Peers(record)
    meter, _, _ = make_meter(record)
    meter.poll()
    counter = meter._asked[0]
    meter.receive(peers.channel.seal(wire.WELCOME, b"", START, counter))
    assert meter.refused == {"replayed": 1}
    meter.receive(peers.channel.seal(wire.WELCOME, b"", 0, 0))
    assert meter.refused == {"replayed": 2}
    meter.receive(peers.channel.seal(wire.WELCOME, b"", 0, counter))
    assert meter.refused == {"replayed": 2}


def test_a_refused_slot_is_said_to_be_absent():
    record = support.record()
    peers = Peers(record)
    meter, _, _ = make_meter(record)
    peers.deny[wire.SLOT] = "conflict"
    drive(meter, peers)
    assert meter.refused == {"conflict": 1}
    assert peers.absent == [(START, wire.ROWS_REFUSED)]


def said_at_boot(record, table):
    """What the hello message of a meter with this table of h_s says."""
    good, support.TABLE_S = support.TABLE_S, table
    try:
        meter, _, _ = make_meter(record)
    finally:
        support.TABLE_S = good
    peers = Peers(record)
    assert drive(meter, peers) == [wire.HELLO] and meter.state == "unfit"
    return peers.hello


def test_bad_tables_are_said_at_boot_and_nothing_else_is_done():
    short = support.table(b"s", support.H_S, 1, bits=128)
    other = support.table(b"s", support.H_S, 1, teeth=3)
    cut = support.TABLE_S[:-5]
    for table, listed, reason in (
        (short, short, b"shorter exponents"),
        (other, support.TABLE_S, b"not one the record allows"),
        (cut, cut, b"truncated"),
        (support.TABLE_S[:5] + b"\2" + support.TABLE_S[6:], None, b"another kernel's form"),
        (support.TABLE_S[:32] + bytes(32) + support.TABLE_S[64:], None, b"another modulus"),
    ):
        digests = [support.sha256(t).digest() for t in (support.TABLE_H, listed or table)]
        assert reason in said_at_boot(support.record(tables=b"".join(digests)), table)


def test_packages_are_checked():
    record = support.record()
    for bad in (b"", support.secrets()[:-1], support.secrets() + b"\0"):
        try:
            Package(record.raw, bad)
            raise AssertionError("accepted")
        except Malformed:
            pass
    assert noise.clamp(10**9, record.offset) == record.offset
    assert issubclass(Denied, Exception)
