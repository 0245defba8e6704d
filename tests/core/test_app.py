"""The meter as a program: its loop, who feeds the watchdog, failed starts, its log."""

import os

import support
from support import PERIOD, ManualClock, Peers, make_meter
from wattveil_meter import hal, supervisor
from wattveil_meter.app import TASKS, App
from wattveil_meter.fields import read_uint, uint, unpack
from wattveil_meter.log import BURST, LIMIT, Log
from wattveil_meter.store import MemoryStorage
from wattveil_meter.supervisor import SETTLED_MS, UNCLEAN, Starts, Supervisor


class Watchdog:
    """Bites when the time since the last feed is over its limit."""

    limit = 8000

    def __init__(self, clock):
        self.clock = clock
        self.fed = 0
        self.feeds = 0

    def feed(self):
        self.fed = self.clock.value
        self.feeds += 1

    def bites(self):
        return self.clock.value - self.fed > self.limit


class Bitten(Exception):
    pass


class Sensor(support.Sensor):
    """Counts its polls; hangs from one on, until the watchdog bites."""

    def __init__(self, readings, clock, watchdog, hang=-1):
        support.Sensor.__init__(self, readings)
        self.clock, self.watchdog, self.hang = clock, watchdog, hang
        self.polls, self.last, self.widest = 0, 0, 0  # ms
        self.told = []  # values of utc, each once
        self.saves = 0

    def save(self):
        self.saves += 1

    def poll(self, utc):
        self.polls += 1
        self.widest = max(self.widest, self.clock.value - self.last)
        self.last = self.clock.value
        if not self.told or self.told[-1] != utc:
            self.told = self.told[-3:] + [utc]
        while self.polls == self.hang:
            self.clock.value += 1000
            if self.watchdog.bites():
                raise Bitten


class Link:
    """Peers at once on the other side; time passes where it waits."""

    def __init__(self, peers, clock, until):
        self.peers, self.clock, self.until = peers, clock, until
        self.refused, self.dropped = {}, 0
        self.up = True
        self.wedged = False
        self.answers = []

    @property
    def closed(self):
        return self.until()

    def write(self, frame):
        if self.up:
            self.answers.append(self.peers.answer(frame))
        else:
            self.dropped += 1

    def read(self, wait_ms):
        if not self.answers:
            self.clock.value += max(1, wait_ms)
        answers, self.answers = self.answers, []
        return answers


class Nowhere(Log):
    """A log that keeps its lines."""

    def __init__(self, clock):
        Log.__init__(self, clock)
        self.lines = []

    def _append(self, line):
        self.lines.append(line)


def app(hang=-1, until=None, running=1):
    clock = ManualClock()
    watchdog = Watchdog(clock)
    sensor = Sensor({support.START: 777}, clock, watchdog, hang)
    record = support.record()
    peers = Peers(record)
    peers.running = running
    meter, storage, _ = make_meter(record, clock=clock)
    link = Link(peers, clock, until or (lambda: meter.state == "prepared"))
    made = App(meter, link, sensor, clock, watchdog, Nowhere(clock), Starts(storage))
    made.watchdog, made.peers, made.storage = watchdog, peers, storage
    return made


def test_the_loop_runs_a_meter_and_feeds_the_watchdog():
    made = app()
    made.run()
    assert made.meter.state == "prepared" and made.watchdog.feeds > 0
    assert made.sensor.told[0] is None  # before the first sync


def test_the_sensor_is_polled_four_times_a_second_while_the_meter_waits():
    made = app()
    made.run()
    made.link.until = lambda: made.clock.value > 100000
    made.run()
    assert made.sensor.widest <= 250 and made.sensor.polls >= 400
    assert 97 <= made.sensor.told[-1] - support.START <= 100
    assert not made.watchdog.bites()


def test_a_hung_sensor_lets_the_watchdog_bite():
    for hang in (1, 5):
        made = app(hang, until=lambda: False)
        try:
            made.run()
            raise AssertionError("it went on")
        except Bitten:
            pass
        assert made.sensor.polls == hang and made.clock.value - made.watchdog.fed > 8000


def test_a_task_that_is_left_out_lets_the_watchdog_bite():
    for missing in TASKS:
        watchdog = Watchdog(ManualClock())
        supervised = Supervisor(watchdog, TASKS)
        for _ in range(9):
            for task in TASKS:
                if task != missing:
                    supervised.ran(task)
        assert watchdog.feeds == 0
        supervised.ran(missing)
        assert watchdog.feeds == 1
    Supervisor(None, ("one",)).ran("one")  # a PC has none


def test_the_task_that_hangs_is_the_one_noted():
    noted = []
    supervised = Supervisor(Watchdog(ManualClock()), TASKS, noted.append)
    for task in TASKS:
        supervised.begins(task)
    assert noted == [1, 2, 3]
    made = app(5, until=lambda: False)
    made.supervisor._note = noted.append
    try:
        made.run()
        raise AssertionError("it went on")
    except Bitten:
        pass
    assert TASKS[noted[-1] - 1] == "sensor"
    Supervisor(None, TASKS, noted.append).begins("link")  # a PC has none, and notes nothing
    assert TASKS[noted[-1] - 1] == "sensor"


def test_an_outage_is_asked_again_soon_after_it_ends():
    made = app(until=lambda: made.clock.value > 600000)
    made.link.up = False
    made.run()
    assert made.meter.state == "unregistered" and made.link.dropped > 5
    made.link.up = True
    back = made.clock.value
    made.link.until = lambda: made.meter.state == "registered" or made.clock.value > back + 60000
    made.run()
    assert made.clock.value - back > 501  # nobody told the loop that the link came back
    made = app(until=lambda: made.clock.value > 600000)
    made.link.up = False
    made.run()
    back = made.clock.value

    def ends():
        made.link.up = True
        return made.meter.state == "registered"

    made.link.until = ends
    made.run()
    assert made.clock.value - back < 1000


def test_counters_reach_the_log_at_powers_of_two():
    made = app()
    made.log.counts({"late": 1})
    for count in range(1, 20):
        made.log.counts({"late": count, "flash": 3})
    assert [line.split(" ")[3] for line in made.log.lines] == [
        "late=1\n",
        "flash=3\n",
        "late=2\n",
        "late=4\n",
        "late=8\n",
        "late=16\n",
    ]


def test_a_good_start_is_told_apart_from_a_bad_one():
    made = app()
    starts = made.starts
    assert [starts.begin("wdt") for _ in range(UNCLEAN)] == [0] * UNCLEAN
    waits = [starts.begin("wdt") for _ in range(8)]
    assert waits == [600, 1200, 2400, 4800, 9600, 19200, 21600, 21600]
    assert starts.begin("pwron") == 0 and starts.unclean == 0  # the power came back: try at once
    assert [starts.begin("soft") for _ in range(UNCLEAN - 1)] == [0] * (UNCLEAN - 1)
    made.link.until = lambda: made.clock.value > SETTLED_MS + 1000
    made.run()  # long enough
    assert starts.begin("wdt") == 0 and starts.unclean == 0


def test_starts_are_counted_whatever_the_flash_does():
    class Broken(MemoryStorage):
        def read(self, name):
            return b"\1\0"  # no number

        def write(self, name, value):
            raise OSError(28)

    starts = Starts(Broken())
    assert starts.begin("wdt") == 0
    starts.settled()
    assert supervisor.UNCLEAN == 5


def remove(*names):
    for name in names:
        try:
            os.remove(name)
        except OSError:
            pass


def test_the_log_is_capped_and_its_rate_is():
    remove("log.txt", "log.old")
    clock = ManualClock()
    log = Log(clock)
    try:
        for number in range(BURST + 30):
            log.write("event", "number=%d" % number)
        with open("log.txt") as file:
            lines = file.read().split("\n")
        assert len(lines) == BURST + 1 and lines[-2] == "- 0 event number=%d" % (BURST - 1)
        assert log.left_out == 30
        clock.value += 3600000
        log.utc = lambda: 12345
        log.write("event")
        with open("log.txt") as file:
            assert file.read().split("\n")[-2] == "12345 3600 event left_out=30"
        for _ in range(3 * LIMIT // 20):
            clock.value += 3600000
            log.write("event", "more")
        sizes = [os.stat(name)[6] for name in ("log.txt", "log.old")]
        assert max(sizes) <= LIMIT and min(sizes) > 0
    finally:
        remove("log.txt", "log.old")
    nowhere = Log(clock, "no/such/folder")
    nowhere.write("event")
    assert nowhere.failed == 1


def test_a_crash_is_told_by_type_and_line_without_its_words():
    def fail(key):
        raise ValueError(key + ' at\n  File "secret", line 7')

    try:
        fail("key 0123456789abcdef")
    except ValueError as error:
        told = hal.where(error)
    assert told.startswith("ValueError ") and "0123" not in told and "key" not in told
    try:
        open("no/such/file")
    except OSError as error:
        told = hal.where(error).split(" ")
    assert told[0] in ("OSError", "FileNotFoundError") and told[1] == "2"


def test_a_pc_has_no_watchdog_and_no_reset():
    assert hal.watchdog(8000) is None and not hal.is_board()
    assert hal.reset_reason() == "process"
    hal.rest_watchdog()
    hal.reset_after(1)
    try:
        hal.reset()
        raise AssertionError("it went on")
    except SystemExit:
        pass


def test_a_wedged_link_resets_the_board_when_no_reading_is_at_stake():
    made = app()
    made.run()
    assert made.meter.state == "prepared" and made.meter.at_stake()
    link, end = made.link, support.START + PERIOD
    link.up, link.wedged = False, True
    resets = []
    kept, hal.reset = hal.reset, lambda: resets.append(made.meter.utc())
    try:
        link.until = lambda: resets or made.meter.utc() >= end + 300
        made.starts.begin("wdt")
        made.run()
        # as soon as the report is stored, which is sent after the reset
        assert len(resets) == 1 and end <= resets[0] <= end + 2
        assert made.sensor.saves == 1
        assert made.log.lines[-1].split()[2:4] == ["restart", "link_silent"]
        assert made.storage.read("starts.bin") == uint(0)
        start, _, _, report = unpack(made.storage.read("period.bin"), 4)
        assert read_uint(start) == support.START and report
        assert made.peers.reports == []
    finally:
        hal.reset = kept
