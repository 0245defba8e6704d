"""A meter on bad days: the centre's clock, a full flash, outages. The fleet's side: hil_tests."""

import support
from support import PERIOD, START, Peers, drive, make_meter
from wattveil_meter import wire
from wattveil_meter.store import MemoryStorage
from wattveil_meter.utc import Utc


class Flash(MemoryStorage):
    """Full when told: OSError 28 (ENOSPC). Keeps count of what it refused."""

    def __init__(self):
        MemoryStorage.__init__(self, support.seeds())
        self.full = ()  # names of files that no longer fit
        self.refused = 0

    def write(self, name, value):
        if name in self.full:
            self.refused += 1
            raise OSError(28)
        MemoryStorage.write(self, name, value)


def fielded(running=1, **changes):
    record = support.record(**changes)
    peers = Peers(record)
    peers.running = running
    flash = Flash()
    readings = {START + i * PERIOD: 100 + i for i in range(100)}
    meter, _, clock = make_meter(record, flash, readings)
    return peers, meter, clock, flash


def turn(peers, meter, clock, seconds, step=10):
    """Let time pass for meter and centre alike; types of the frames sent."""
    sent = []
    for _ in range(0, seconds, step):
        peers.now += step
        clock.value += step * 1000
        sent += drive(meter, peers)
    return sent


# --- the clock ---------------------------------------------------------------------------------


def test_nothing_is_reported_before_the_centre_told_the_time():
    peers, meter, clock, _ = fielded()
    answer = peers.answer
    peers.answer = lambda frame: (
        peers._seal(wire.ERROR, bytes((wire.CODES["unavailable"],)), peers.channel.open(frame))
        if frame[3] == wire.TIME
        else answer(frame)
    )
    sent = drive(meter, peers) + turn(peers, meter, clock, 2 * PERIOD)
    assert set(sent) == {wire.HELLO, wire.TIME} and meter.utc() is None
    peers.answer = answer
    turn(peers, meter, clock, 10)
    assert meter.state == "prepared" and abs(meter.utc() - peers.now) <= 1
    turn(peers, meter, clock, PERIOD)
    assert [start for start, _ in peers.reports] == [START + 2 * PERIOD]


def test_drift_is_measured_against_the_centre():
    for ppm in (200, -150):
        clock = support.ManualClock()
        utc = Utc(clock)
        assert utc.drift_ppm() is None and utc.known() is None
        for at in range(0, 90000, 600):
            clock.value = at * 1000 + at * ppm // 1000
            assert not utc.set(START + at, 1)
            if at < 3600:
                assert utc.drift_ppm() is None
        assert abs(utc.drift_ppm() - ppm) <= 12
    utc.set(START, 0)
    assert utc.drift_ppm() is None and utc.known() == START  # a clock that stands has none


def test_a_clock_that_jumps_forward_loses_periods_and_doubles_none():
    peers, meter, clock, _ = fielded()
    drive(meter, peers)
    turn(peers, meter, clock, 600)
    peers.now += 5 * PERIOD
    turn(peers, meter, clock, 3 * PERIOD)
    assert meter.refused == {"clock_jump": 1}
    starts = [start for start, _ in peers.reports]
    assert starts == sorted(set(starts)) and starts[0] == START  # its reading is what it is
    assert starts[1:] == [START + i * PERIOD for i in (5, 6, 7)][: len(starts) - 1]
    assert len(starts) >= 3


def test_a_clock_that_jumps_back_reports_no_interval_twice():
    peers, meter, clock, _ = fielded()
    drive(meter, peers)
    turn(peers, meter, clock, 3 * PERIOD + 100)
    before = [start for start, _ in peers.reports]
    assert before == [START + i * PERIOD for i in range(3)]
    peers.now -= 2 * PERIOD
    sent = turn(peers, meter, clock, 2 * PERIOD - 100)
    assert wire.REPORT not in sent and wire.ROW not in sent and meter.refused["clock_jump"] == 1
    turn(peers, meter, clock, 3 * PERIOD)
    starts = [start for start, _ in peers.reports]
    assert starts == sorted(set(starts)) and starts[3] == START + 3 * PERIOD
    assert len({report for _, report in peers.reports}) == len(starts)


def test_a_centre_that_was_ahead_is_left_for_the_right_time():
    """The cloud says `early` to rows of a time it does not have; the centre's clock comes back."""
    peers, meter, clock, _ = fielded()
    answer = peers.answer

    def wise(frame):
        start = int.from_bytes(frame[20:28], "little")
        if frame[3] == wire.ROW and start > right[0]:
            early = bytes((wire.CODES["early"],))
            return peers._seal(wire.ERROR, early, peers.channel.open(frame))
        return answer(frame)

    right = [START]
    peers.answer = wise
    peers.now = START + 40 * PERIOD
    asked = drive(meter, peers) + turn(peers, meter, clock, 60)
    assert wire.ROW in asked and peers.rows is None  # it asks for rows of a time to come
    peers.now = START + 60
    turn(peers, meter, clock, 10, 1)
    assert meter.state == "prepared" and meter.refused == {"clock_jump": 1, "early": 1}
    turn(peers, meter, clock, PERIOD)
    assert [start for start, _ in peers.reports] == [START] and peers.absent == []


# --- the flash -----------------------------------------------------------------------------------


def test_a_full_flash_at_the_start_keeps_the_meter_silent():
    peers, meter, clock, flash = fielded()
    flash.full = ("boot.bin",)
    assert drive(meter, peers) + turn(peers, meter, clock, 600) == []
    assert 30 <= meter.refused["flash"] <= 202  # one try in 3 s
    flash.full = ()
    sent = turn(peers, meter, clock, 20)
    assert sent[0] == wire.HELLO and meter.state == "prepared"
    assert flash.read("boot.bin")[4] == 1


def test_a_full_flash_stops_a_registration():
    peers, meter, clock, flash = fielded()
    flash.write("boot.bin", flash.read("boot.bin"))
    writes = flash.write

    def second(name, value):
        flash.full = ("boot.bin",) if value[8:] else ()  # with a tau
        writes(name, value)

    flash.write = second
    sent = drive(meter, peers) + turn(peers, meter, clock, 100)
    assert wire.REGISTER not in sent and meter.refused["flash"] > 3
    flash.write = writes
    flash.full = ()
    turn(peers, meter, clock, 20)
    assert meter.state == "prepared"


def test_a_full_flash_when_the_rows_come_gives_the_period_up():
    peers, meter, clock, flash = fielded()
    flash.full = ("period.bin",)
    sent = drive(meter, peers)
    assert wire.SLOT not in sent and peers.absent == [(START, wire.OTHER)]
    assert meter.refused == {"flash": 1}
    flash.full = ()
    turn(peers, meter, clock, 2 * PERIOD)
    assert [start for start, _ in peers.reports] == [START + PERIOD]


def test_what_a_full_flash_did_not_take_is_not_sent():
    peers, meter, clock, flash = fielded()
    drive(meter, peers)
    flash.full = ("period.bin",)
    sent = turn(peers, meter, clock, PERIOD + 90)
    assert wire.REPORT not in sent and peers.absent == [
        (START, wire.OTHER),
        (START + PERIOD, wire.OTHER),
    ]
    assert meter.refused == {"flash": 9}  # eight tries with the report, one with the next row
    flash.full = ()
    turn(peers, meter, clock, 2 * PERIOD)
    assert [start for start, _ in peers.reports] == [START + 2 * PERIOD]


def test_a_flash_that_takes_the_report_in_time_costs_nothing():
    peers, meter, clock, flash = fielded()
    drive(meter, peers)
    turn(peers, meter, clock, PERIOD - 10)
    flash.full = ("period.bin",)
    turn(peers, meter, clock, 10, 1)
    assert peers.reports == [] and meter.refused == {"flash": 1}
    flash.full = ()
    turn(peers, meter, clock, 15)
    assert [start for start, _ in peers.reports] == [START] and peers.absent == []


# --- outages -------------------------------------------------------------------------------------


def test_an_outage_leaves_one_late_report_and_no_other():
    """The queue is one report long: without the cloud's row of a period there is none to make."""
    peers, meter, clock, flash = fielded()
    drive(meter, peers)
    held = []

    def cut(frame):
        held.append(frame[3])
        return True

    for _ in range(0, 4 * PERIOD, 10):
        peers.now += 10
        clock.value += 10000
        drive(meter, peers, lose=cut)
    assert set(held) == {wire.TIME, wire.REPORT} and len(held) < 4 * PERIOD // 30 + 10
    assert flash.read("period.bin")[4:].find(START.to_bytes(4, "little")) == 0  # made in time
    assert held.index(wire.REPORT) <= (PERIOD - 600) // 30 + 5 and wire.ROW not in held
    peers.deny[wire.REPORT] = "late"
    meter.wake()
    turn(peers, meter, clock, 3, 1)
    assert meter.refused == {"late": 1, "unanswered": 1} and meter.state == "prepared"
    turn(peers, meter, clock, PERIOD)
    assert [start for start, _ in peers.reports] == [START + 4 * PERIOD]


def test_a_missing_reading_is_counted():
    peers, meter, clock, _ = fielded()
    meter._sensor.readings = {}
    drive(meter, peers)
    turn(peers, meter, clock, 2 * PERIOD)
    assert meter.refused == {"no_reading": 2} and peers.reports == []
    assert [reason for _, reason in peers.absent] == [wire.NO_READING] * 2
