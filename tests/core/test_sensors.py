"""Sensors that read no hardware, and `Intervals`: whole Wh, nothing lost or doubled, missing says why."""

import os

from wattveil_meter.fields import pack, uint
from wattveil_meter.sensors import make, take
from wattveil_meter.sensors.intervals import FILE, Intervals, late_s
from wattveil_meter.sensors.replay import Replay
from wattveil_meter.sensors.simulated import Simulated
from wattveil_meter.store import Damaged, Missing

PERIOD = 900
T0 = 1767636000  # on the grid


class Grid:
    """What Intervals needs of a record."""

    period_s = PERIOD
    phase_s = 0

    def __init__(self, lo=0):
        self.lo = lo

    def start_of(self, utc):
        return utc - utc % PERIOD


class Clock:
    now = 0

    def ms(self):
        return self.now


class Source:
    """Counts mW times time, so many mW a second as the test sets; volatile as an ADC or pulses are."""

    volatile = True
    why = "sensor_fault"

    def __init__(self, clock):
        self.gaps = 0
        self.faults = {}
        self.mw = 0
        self.energy = [0, 0]  # mW s
        self.broken = False
        self.raises = None
        self._clock = clock
        self._at = 0

    def poll(self, ms):
        if self.raises:
            raise self.raises
        self.energy[self.mw < 0] += abs(self.mw) * (ms - self._at) // 1000
        self._at = ms

    def read(self):
        return None if self.broken else (self.energy[0] // 3600, self.energy[1] // 3600)

    def state(self):
        return tuple(self.energy)

    def restore(self, a, b):
        self.energy = [a, b]


class Flash:
    """Storage that counts writes."""

    def __init__(self):
        self.files = {}
        self.writes = 0
        self.full = False

    def read(self, name):
        if name not in self.files:
            raise Missing(name)
        if self.files[name] is None:
            raise Damaged(name)
        return self.files[name]

    def write(self, name, value):
        if self.full:
            raise OSError(28)
        self.files[name] = value
        self.writes += 1


class Bench:
    """A sensor over a source, and a clock that moves both."""

    def __init__(self, lo=0, flash=None, utc=T0 - 5):
        self.clock = Clock()
        self.source = Source(self.clock)
        self.flash = flash or Flash()
        self.sensor = Intervals(self.source, Grid(lo), self.clock, self.flash)
        self.utc_ms = utc * 1000

    def run(self, seconds, step_ms=250):
        for _ in range(seconds * 1000 // step_ms):
            self.skip(step_ms)
            self.sensor.poll(self.utc_ms // 1000)
        return self

    def skip(self, ms):
        self.clock.now += ms
        self.utc_ms += ms

    def to(self, second):
        """Poll until UTC T0 + second."""
        return self.run(T0 + second - self.utc_ms // 1000)


def missing(sensor, start, length=PERIOD):
    assert sensor.energy(start, length) is None
    return sensor.why


def test_whole_wh_add_up_to_the_register():
    bench = Bench()
    bench.source.mw = 777777
    bench.to(1)
    at_start = bench.source.energy[0] // 3600
    total = 0
    for k in range(12):
        bench.to((k + 1) * PERIOD + 1)
        wh = bench.sensor.energy(T0 + k * PERIOD, PERIOD)
        assert wh in (194, 195)
        total += wh
    # 194.44 Wh each: the register and the sum of whole Wh stay within 1 Wh, a second of boundary aside
    register = bench.source.energy[0] // 3600 - 777777 // 3600 * 1
    assert abs(register - at_start - total * 1000) < 1000, (register - at_start, total)


def test_the_remainder_is_carried_into_the_next_interval():
    bench = Bench()
    bench.source.mw = 1000  # 0.25 Wh an interval
    bench.to(PERIOD * 9)
    got = []
    for k in range(5, 9):
        got.append(bench.sensor.energy(T0 + k * PERIOD, PERIOD))
    assert sorted(got) == [0, 0, 0, 1]


def test_what_is_missing_says_why():
    bench = Bench()
    assert missing(bench.sensor, T0 - PERIOD) == "no_sync"
    bench.sensor.poll(None)
    assert missing(bench.sensor, T0 - PERIOD) == "no_sync"
    bench.source.mw = 3600000
    bench.to(10)
    assert missing(bench.sensor, T0 - PERIOD) == "gap"  # nobody saw it begin
    assert missing(bench.sensor, T0) == "no_such_interval"  # it has not ended
    assert missing(bench.sensor, T0 + 1, PERIOD) == "no_such_interval"
    bench.to(PERIOD + 1)
    assert bench.sensor.energy(T0, PERIOD) == 900
    assert missing(bench.sensor, T0, PERIOD - 1) == "no_such_interval"
    bench.to(PERIOD * 5 + 1)
    assert missing(bench.sensor, T0) == "no_such_interval"  # only four are kept
    assert bench.sensor.energy(T0 + PERIOD, PERIOD) == 900
    assert len(bench.sensor._ended) == 4


def test_the_meter_may_ask_before_the_poll_that_closes_the_interval():
    bench = Bench()
    bench.source.mw = 3600000
    bench.to(1)
    bench.to(PERIOD - 1)
    assert missing(bench.sensor, T0, PERIOD * 2) == "no_such_interval"
    bench.skip(1000)
    assert bench.sensor.energy(T0, PERIOD) == 900
    bench.to(PERIOD * 2 + 1)
    assert bench.sensor.energy(T0 + PERIOD, PERIOD) == 900


def test_polls_that_come_late():
    assert [late_s(p) for p in (1, 60, 300, 900, 1800, 86400)] == [1, 1, 1, 5, 10, 10]
    bench = Bench()
    bench.source.mw = 3600000
    bench.to(PERIOD - 1)
    bench.skip(
        1000 + 5000
    )  # five seconds after the boundary: taken, and the next interval is the shorter
    bench.sensor.poll(bench.utc_ms // 1000)
    first = bench.sensor.energy(T0, PERIOD)
    bench.to(2 * PERIOD)
    assert (first, bench.sensor.energy(T0 + PERIOD, PERIOD)) == (905, 895)
    bench.to(3 * PERIOD - 1)
    bench.skip(1000 + 6000)
    bench.run(1)
    assert missing(bench.sensor, T0 + 2 * PERIOD) == "gap"
    bench.to(4 * PERIOD)
    assert missing(bench.sensor, T0 + 3 * PERIOD) == "gap"
    bench.skip(2 * PERIOD * 1000)  # nobody polled for two intervals
    bench.to(7 * PERIOD + 1)
    assert missing(bench.sensor, T0 + 4 * PERIOD) == "gap"
    assert missing(bench.sensor, T0 + 5 * PERIOD) == "no_such_interval"
    bench.to(8 * PERIOD + 1)
    assert bench.sensor.energy(T0 + 7 * PERIOD, PERIOD) == 900


def test_a_clock_that_is_set():
    for jump in (-3000, 3000, 5 * PERIOD * 1000, -5 * PERIOD * 1000):
        bench = Bench()
        bench.source.mw = 3600000
        bench.to(PERIOD + 100)
        assert bench.sensor.energy(T0, PERIOD) == 900
        bench.utc_ms += jump
        bench.run(2)
        spoilt = bench.utc_ms // 1000 // PERIOD * PERIOD
        bench.run(spoilt + PERIOD - bench.utc_ms // 1000)
        assert missing(bench.sensor, spoilt) == "clock_jump"
        bench.run(PERIOD)
        assert bench.sensor.energy(spoilt + PERIOD, PERIOD) == 900
    for step in (-1000, 1000):  # what a resync does every ten minutes
        bench = Bench()
        bench.source.mw = 3600000
        bench.to(PERIOD)
        bench.utc_ms += step
        bench.to(PERIOD + 2)
        total = bench.sensor.energy(T0, PERIOD)
        bench.to(2 * PERIOD)
        assert total + bench.sensor.energy(T0 + PERIOD, PERIOD) == 1800 - step // 1000


def test_an_interval_once_ended_stands_when_the_clock_goes_back_into_it():
    bench = Bench()
    bench.source.mw = 3600000
    bench.to(PERIOD + 100)
    bench.utc_ms -= 200000
    bench.run(400)
    assert bench.sensor.energy(T0, PERIOD) == 900
    assert [start for start, _ in bench.sensor._ended].count(T0) == 1


def test_faults_of_the_source():
    bench = Bench()
    bench.source.mw = 3600000
    bench.to(PERIOD - 1)
    bench.source.broken = True
    bench.to(PERIOD + 60)
    bench.source.broken = False
    assert missing(bench.sensor, T0) == "sensor_fault"
    bench.to(2 * PERIOD + 60)
    assert missing(bench.sensor, T0 + PERIOD) == "sensor_fault"  # nobody knows what it began with
    bench.source.gaps += 1
    bench.to(3 * PERIOD + 60)
    assert missing(bench.sensor, T0 + 2 * PERIOD) == "gap"
    bench.source.raises = ValueError("secret")
    bench.run(1)
    bench.source.raises = None
    bench.to(4 * PERIOD + 60)
    assert missing(bench.sensor, T0 + 3 * PERIOD) == "gap"
    assert bench.sensor.faults == {"ValueError": 4}
    bench.source.energy[0] -= 3600000000  # no source may do this
    bench.to(5 * PERIOD + 60)
    assert missing(bench.sensor, T0 + 4 * PERIOD) == "sensor_fault"


def test_export_counts_only_where_the_record_has_room_for_it():
    for lo, expected in ((0, 100), (-5000, -500)):
        bench = Bench(lo)
        bench.to(1)
        bench.source.mw = 3600000
        bench.run(100)
        bench.source.mw = -3600000
        bench.run(600)
        bench.source.mw = 0
        bench.to(PERIOD)
        assert bench.sensor.energy(T0, PERIOD) == expected
        assert bench.sensor.register() == (100000, 600000)


def test_registers_survive_a_power_cut_and_never_go_back():
    bench = Bench()
    bench.source.mw = 3600000
    bench.to(3 * PERIOD + 400)
    reported = bench.source.energy[0] - 400 * 3600000
    again = Bench(flash=bench.flash, utc=T0 + 3 * PERIOD + 401)
    assert again.source.energy[0] >= reported - 3600000
    again.source.mw = 3600000
    again.to(4 * PERIOD + 1)
    assert missing(again.sensor, T0 + 3 * PERIOD) == "gap"
    again.to(5 * PERIOD + 1)
    assert again.sensor.energy(T0 + 4 * PERIOD, PERIOD) == 900


def test_flash_is_written_96_times_a_day_at_most_and_may_fail():
    bench = Bench(utc=T0 - 10)
    bench.run(86400, 5000)
    assert bench.flash.writes == 96
    bench.flash.full = True
    bench.to(86400 + 2 * PERIOD + 10)
    assert bench.sensor.faults == {"storage": 3}
    assert bench.sensor.energy(T0 + 86400 + PERIOD, PERIOD) == 0
    for stored in (None, b"", pack(b"\0", b"", b""), pack(uint(1), uint(2))):
        flash = Flash()
        flash.files[FILE] = stored
        assert Bench(flash=flash).sensor.faults == {"state": 1}


# --- computed and recorded readings


def test_replay():
    path = "test_sensors.tmp"
    with open(path, "w") as file:
        file.write("900,1\n1800,22\n2700,x\n3600,4\n")
    try:
        sensor = Replay(path)
        assert [sensor.energy(t, 900) for t in (900, 1800, 3600, 900)] == [1, 22, 4, 1]
        assert missing(sensor, 4500) == "no_such_interval"
        assert missing(sensor, 90) == "no_such_interval"
        assert missing(sensor, 2700) == "sensor_fault"
        assert sensor.energy(3600, 900) == 4
    finally:
        os.remove(path)
    assert missing(sensor, 900) == "sensor_fault"


def test_the_simulated_household():
    sensor = Simulated(2, 1)
    half_hours = [sensor.energy(T0 + 1800 * k, 1800) for k in range(336)]
    assert sum(half_hours) == sensor.energy(T0, 7 * 86400)
    assert sum(half_hours[:24]) == sensor.energy(T0, 43200)
    assert 35000 < sum(half_hours) < 40000
    assert min(half_hours) >= 35 and 1000 < max(half_hours) < 2500
    assert Simulated(2, 1).energy(T0, 1800) == half_hours[0]
    assert [Simulated(2, 2).energy(T0 + 1800 * k, 1800) for k in range(48)] != half_hours[:48]
    # a golden value: the same on every runtime
    assert half_hours[:4] == [506, 114, 121, 99], half_hours[:4]


def test_make():
    def refused(config):
        try:
            make(config, None, Flash())
        except ValueError as error:
            return str(error)
        return ""

    assert make({"kind": "simulated", "seed": 5}, None, Flash()).energy(T0, 1800) > 0
    assert make({"kind": "replay", "file": "x"}, None, Flash()).remote is False
    assert refused({}) == "config.json: unknown sensor kind None"
    assert refused({"kind": "../x"}) == "config.json: unknown sensor kind ../x"
    assert refused({"kind": "replay", "fil": "x"}) == "config.json: the sensor takes no key fil"
    assert refused({"kind": "simulated", "occupants": 9}).endswith("must be 1 to 8")
    assert "occupants is missing or of the wrong type" in refused(
        {"kind": "simulated", "occupants": "2"}
    )
    assert take({"b": 2}, a=1, b=None) == [1, 2]
    try:
        take({}, b=None)
    except ValueError:
        return
    raise AssertionError
