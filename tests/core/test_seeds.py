"""The daily ratchet of the meter's seeds: which day uses which, what is erased when, and bad days."""

import gc

import support
from support import PERIOD, START, Peers, drive, make_meter
from wattveil_meter import wire
from wattveil_meter.fields import read_uint, unpack
from wattveil_meter.masks import next_seed
from wattveil_meter.seeds import DAY_S, Seeds
from wattveil_meter.store import MemoryStorage

DAY = START // DAY_S
LAST = START + DAY_S - PERIOD  # the day's last period


class Cut(Exception):
    """The power went off."""


class Flash(MemoryStorage):
    """Keeps a history of what was written; `cut` writes from now the power goes off; may be full."""

    def __init__(self, day=DAY):
        MemoryStorage.__init__(self, support.seeds(day))
        self.history = []
        self.cut = -1
        self.full = ()

    def write(self, name, value):
        if self.cut == 0:
            raise Cut
        self.cut -= 1
        if name in self.full:
            raise OSError(28)
        self.history.append((name, value))
        MemoryStorage.write(self, name, value)


class Readings:
    """100 Wh in the first period, and one more in each that follows."""

    def __init__(self, first):
        self.first = first

    def get(self, start):
        return 100 + (start - self.first) // PERIOD


def finish(generator):
    turns = 0
    try:
        while True:
            assert next(generator) == 0
            turns += 1
    except StopIteration as stop:
        return stop.value, turns


def stored(flash):
    return read_uint(unpack(flash.read("seeds.bin"), 3)[0])


def fleet(start, flash=None, seed=b"1", suite="compact"):
    record = support.record(suite=suite, gamma=1)
    peers = Peers(record, hot=1)
    peers.now = start
    gc.collect()
    args = (record, flash or Flash(), Readings(start))
    meter, flash, clock = make_meter(*args, seed=seed)
    return meter, flash, clock, peers


def step(meter, clock, peers, now):
    """The centre's clock stands at `now`; the meter does all it can."""
    peers.now = now
    clock.value += 1000
    drive(meter, peers)


def opens(peers, start, reading):
    """Whether the newest report opens with the seeds of its day, by PROTOCOL.md's formulas."""
    assert peers.reports[-1][0] == start
    return abs(peers.total(start) - reading) <= 60000


def test_one_step_is_the_formula_and_days_follow_each_other():
    seeds = Seeds(Flash())
    for ahead in (0, 1, 2, 40):
        (dealer, center), _ = finish(seeds.of(DAY + ahead))
        assert dealer == support.seed_of("dealer", START + ahead * DAY_S)
        assert center == support.seed_of("center", START + ahead * DAY_S + DAY_S - 1)
    assert dealer == next_seed(support.seed_of("dealer", START + 39 * DAY_S), DAY + 39)
    assert finish(seeds.of(DAY + 1))[0] != (dealer, center)  # back to a day that is not erased
    assert finish(seeds.of(DAY - 1)) == (None, 0)
    assert finish(seeds.of(DAY + 10**9)) == (None, 0)  # a mad clock does not hang a meter


def test_years_are_caught_up_in_slices():
    found, turns = finish(Seeds(Flash()).of(DAY + 730))
    assert turns >= 20
    half = Seeds(Flash())
    finish(half.of(DAY + 365))
    assert finish(half.of(DAY + 730))[0] == found


def test_what_a_record_may_not_be():
    for value in (b"", b"\0" * 9, support.seeds()["seeds.bin"] + b"x"):
        try:
            Seeds(MemoryStorage({"seeds.bin": value}))
            raise AssertionError("accepted")
        except ValueError:
            pass


def test_over_midnight_both_days_open_and_the_old_seed_is_gone():
    for suite in ("compact", "yan2024"):
        meter, flash, clock, peers = fleet(LAST - PERIOD, suite=suite)
        for i in range(4):
            start = LAST - PERIOD + i * PERIOD
            step(meter, clock, peers, start)
            assert meter.state == "prepared"
            # once the day's last row is taken nothing on the flash can make its masks any more
            assert stored(flash) == DAY + (start >= LAST)
            step(meter, clock, peers, start + PERIOD)
            assert opens(peers, start, 100 + i)
        assert meter.refused == {} and len(peers.reports) == 4
        kept = flash.read("seeds.bin")
        assert kept == support.record_of(
            DAY + 1,
            support.seed_of("dealer", LAST + PERIOD),
            support.seed_of("center", LAST + PERIOD),
        )
        assert [name for name, _ in flash.history].count("seeds.bin") == 1  # one write a day


def test_days_without_a_period_are_skipped():
    meter, flash, clock, peers = fleet(START)
    step(meter, clock, peers, START)
    step(meter, clock, peers, START + PERIOD)
    assert stored(flash) == DAY
    later = START + 400 * DAY_S + 7 * PERIOD
    again, _, clock, peers = fleet(later, flash, b"2")
    step(again, clock, peers, later)
    assert again.state == "prepared" and stored(flash) == DAY + 400
    step(again, clock, peers, later + PERIOD)
    assert opens(peers, later, 100)


def test_the_centres_clock_alone_moves_seeds_by_a_week():
    """It says 400 days later, the cloud says `early`: when it is right again little is lost."""
    meter, flash, clock, peers = fleet(START)
    step(meter, clock, peers, START)
    step(meter, clock, peers, START + PERIOD)
    for i in range(5):
        peers.deny[wire.ROW] = "closed"  # the cloud gives no row of that time
        step(meter, clock, peers, START + (400 + i) * DAY_S)
    assert stored(flash) == DAY + 7
    right = START + 7 * DAY_S + 3 * PERIOD
    step(meter, clock, peers, right - DAY_S)
    assert meter.refused.get("expired") is None  # it waits: the time was given up, not the seed
    again, _, clock, peers = fleet(right - DAY_S, flash, b"2")
    step(again, clock, peers, right - DAY_S)
    assert again.refused == {"expired": 1} and peers.absent == [(right - DAY_S, wire.OTHER)]
    step(again, clock, peers, right)
    assert again.state == "prepared"
    step(again, clock, peers, right + PERIOD)
    assert opens(peers, right, 100 + DAY_S // PERIOD)


def test_a_meter_that_never_began_a_period_erases_nothing():
    meter, flash, clock, peers = fleet(START + 30 * DAY_S)
    peers.deny[wire.ROW] = "closed"
    step(meter, clock, peers, START + 30 * DAY_S)
    assert stored(flash) == DAY


def test_a_flash_that_refuses_keeps_the_old_seeds_and_the_meter():
    meter, flash, clock, peers = fleet(LAST)
    flash.full = ("seeds.bin",)
    step(meter, clock, peers, LAST)
    assert meter.state == "prepared" and meter.refused == {"flash": 1} and stored(flash) == DAY
    step(meter, clock, peers, LAST + PERIOD)
    assert opens(peers, LAST, 100)
    assert meter.state == "prepared"
    flash.full = ()
    step(meter, clock, peers, LAST + 2 * PERIOD)
    assert opens(peers, LAST + PERIOD, 101) and stored(flash) == DAY + 1


def test_power_cuts_at_every_write_around_midnight():
    cuts = 0
    for cut in range(60):
        flash, reports = Flash(), {}
        flash.cut = cut
        was_cut = False
        for life in range(2):
            meter, _, clock, peers = fleet(LAST, flash, b"%d" % life)
            try:
                for i in range(-1 + life, 3):
                    now = LAST + i * PERIOD
                    step(meter, clock, peers, now)
                    assert stored(flash) in (DAY - 1, DAY, DAY + 1)
                    for start, report in peers.reports:
                        assert reports.setdefault(start, report) == report
                        assert opens(peers, *peers_newest(peers, start))
                break
            except Cut:
                was_cut = True
                for start, report in peers.reports:
                    assert reports.setdefault(start, report) == report
                flash.cut = -1
        cuts += was_cut
        assert meter.state == "prepared", (cut, meter.state, meter.refused)
        assert stored(flash) == DAY + 1
        history = [read_uint(unpack(v, 3)[0]) for name, v in flash.history if name == "seeds.bin"]
        assert history == sorted(history)  # never back
        if not was_cut:
            break
    assert not was_cut and cuts >= 8


def peers_newest(peers, start):
    start, _ = peers.reports[-1]
    return start, 100 + (start - LAST) // PERIOD
