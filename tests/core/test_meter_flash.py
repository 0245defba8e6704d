"""Power cuts at every write to a real littlefs, and a real full one, under a whole meter.

A flash of blocks in RAM that loses its power after a given number of operations, in the middle of a
block; runs where MicroPython brings littlefs, and is not there (so not tested) on CPython.
"""

import gc
import io
import os

import support
from support import PERIOD, START, Peers, drive, make_meter
from wattveil_meter import wire
from wattveil_meter.cipher import Comb
from wattveil_meter.kernels.portable import Portable
from wattveil_meter.seeds import Seeds
from wattveil_meter.store import FRESH, FileStorage

try:
    import vfs  # MicroPython from 1.24 on
except ImportError:
    vfs = os
LITTLEFS = getattr(vfs, "VfsLfs2", None)
BLOCK, BLOCKS = 512, 24
ERASED = b"\xff" * BLOCK
FOLDER = "/cut"
CHIP = bytearray(BLOCK * BLOCKS)  # one for all: a small heap gives so much in one piece only once


class Cut(Exception):
    """The power is gone."""


class Flash:
    """Block device over CHIP; after `left` erases and writes, half of one more is done.

    From then on it is dead: files that are closed later, by a finaliser, leave it as it is.
    """

    def __init__(self):
        self.left = -1  # for ever
        self.dead = False

    def readblocks(self, block, buffer, offset=0):
        if not self.dead:
            at = block * BLOCK + offset
            buffer[:] = CHIP[at : at + len(buffer)]

    def writeblocks(self, block, buffer, offset=0):
        self._put(block * BLOCK + offset, buffer)

    def ioctl(self, op, arg):
        if op == 4:
            return BLOCKS
        if op == 5:
            return BLOCK
        if op == 6:
            self._put(arg * BLOCK, ERASED)
        return 0

    def _put(self, at, data):
        if self.dead:
            return
        if self.left:
            self.left -= 1
            CHIP[at : at + len(data)] = data
            return
        self.dead = True
        CHIP[at : at + len(data) // 2] = data[: len(data) // 2]
        raise Cut


def mount(flash):
    vfs.mount(LITTLEFS(flash), FOLDER)


def format():
    """The flash of a board as provisioning leaves it."""
    for block in range(BLOCKS):
        CHIP[block * BLOCK : (block + 1) * BLOCK] = ERASED
    flash = Flash()
    LITTLEFS.mkfs(flash)
    mount(flash)
    for name, value in dict(FRESH, **support.seeds()).items():
        FileStorage(FOLDER).write(name, value)
    vfs.umount(FOLDER)
    flash.dead = True


LAST = START + 86400 - PERIOD  # the day's last period: seeds change in every life


class Life:
    """One board on one flash over any number of power cuts, and what the cloud saw of it."""

    def __init__(self):
        format()
        self.record = support.record(gamma=1)
        self.peers = Peers(self.record, hot=1)
        self.peers.running = 1
        self.peers.now = LAST
        self.counters = set()
        self.reports = {}  # start -> the bytes of its reports
        self.boots = 0

    def run(self, cut, seconds):
        """Power on, and off again after `cut` operations on the flash (-1: never); True if cut."""
        gc.collect()
        self.flash = Flash()
        self.flash.left = cut
        mount(self.flash)
        self.boots += 1
        self.peers.slots = {}
        seed = bytes((self.boots,))
        clock = support.ManualClock()
        try:
            readings = {LAST + i * PERIOD: 500 + self.boots for i in range(20)}
            storage = FileStorage(FOLDER)
            meter, _, _ = make_meter(self.record, storage, readings, clock, seed)
            for _ in range(0, seconds, 300):
                drive(meter, self.peers, lose=self.look)
                clock.value += 300000
                self.peers.now += 300
                if self.flash.dead:  # littlefs may turn Cut into an OSError of its own
                    return True
            self.state, self.refused = meter.state, meter.refused
            self.day = Seeds(storage).day
            return False
        except Cut:
            return True
        finally:
            self.flash.dead = True
            vfs.umount(FOLDER)

    def look(self, frame):
        """Every frame on the wire: counters are used once, a period has one report."""
        if self.flash.dead:
            raise Cut
        counter = bytes(frame[28:36])
        assert counter not in self.counters
        self.counters.add(counter)
        if frame[3] == wire.REPORT:
            message = self.peek(frame)
            self.reports.setdefault(message.start, set()).add(message.payload)
            assert len(self.reports[message.start]) == 1

    def peek(self, frame):
        number, record = 3, self.record
        args = (support.KEYS["link"], support.FLEET, wire.CLOUD, number, False)
        return wire.Channel(*args, record.fingerprint, 1).open(frame)


def test_no_power_cut_in_any_write_spoils_a_meter():
    if LITTLEFS is None:
        return
    cuts, reported = 0, 0
    for cut in range(400):
        life = Life()
        was_cut = life.run(cut, 2 * PERIOD + 300)
        cuts += was_cut
        life.run(-1, 2 * PERIOD + 600)  # the power is back: it must start, and work
        assert life.state == "prepared" and life.refused == {}, (cut, life.state, life.refused)
        assert max(life.reports) >= LAST + PERIOD, life.reports
        assert life.day == LAST // 86400 + 1  # of the seeds
        reported += len(life.reports)
        if not was_cut:
            break
    assert not was_cut and cuts >= 10 and reported > 2 * cuts


def test_a_second_cut_while_it_recovers():
    if LITTLEFS is None:
        return
    for first, second in ((3, 1), (7, 4), (9, 2), (11, 11), (14, 3), (5, 0)):
        life = Life()
        life.run(first, PERIOD + 300)
        life.run(second, 300)
        life.run(-1, 2 * PERIOD + 600)
        assert life.state == "prepared" and life.reports


def write_until_full(name):
    """ENOSPC as a real file system says it; how much it took is not ours to say."""
    file = open(FOLDER + "/" + name, "wb")
    code = 0
    try:
        for _ in range(BLOCKS * BLOCK // 64):
            file.write(bytes(64))
            file.flush()
    except OSError as error:
        code = error.args[0]
    try:
        file.close()
    except OSError:
        pass
    return code


def fill():
    """A failed write gives its blocks back: small files take them."""
    assert write_until_full("filler") == 28
    for number in range(5):
        write_until_full("small%d" % number)


class Unprepared(FileStorage):
    """Nothing is got ready for the report."""

    def prepare(self, name):
        pass


def fill_and_empty(storage):
    """(starts of the reports, first ABSENT) of a meter whose flash is full for a period from START on."""
    format()
    flash = Flash()
    mount(flash)
    try:
        record = support.record(gamma=1)
        peers = Peers(record, hot=1)
        readings = {START + i * PERIOD: 7 for i in range(9)}
        meter, _, clock = make_meter(record, storage, readings)
        drive(meter, peers)
        assert meter.state == "prepared"
        fill()
        peers.now += PERIOD
        for _ in range(60):
            clock.value += 1000
            drive(meter, peers)
        assert "flash" in meter.refused
        before = [storage.read(name) for name in FRESH]
        assert len(before) == 2  # what was there can be read
        os.remove(FOLDER + "/filler")
        for _ in range(2):
            peers.now += PERIOD
            for _ in range(60):
                clock.value += 1000
                drive(meter, peers)
        return [start for start, _ in peers.reports], peers.absent[0]
    finally:
        flash.dead = True
        vfs.umount(FOLDER)


def test_a_really_full_flash_is_counted_and_emptied_again():
    if LITTLEFS is None:
        return
    starts, absent = fill_and_empty(Unprepared(FOLDER))
    assert starts == [START + 2 * PERIOD] and absent == (START, wire.OTHER)  # not stored, not sent
    starts, absent = fill_and_empty(FileStorage(FOLDER))
    assert starts == [START, START + 2 * PERIOD]  # the room was there already
    assert absent == (START + PERIOD, wire.OTHER)


def test_every_entry_of_a_table_is_read_right_after_every_other():
    """littlefs up to 2.10 errs after a seek from the end of a block; one wrong entry spoils a total."""
    if LITTLEFS is None:
        return
    format()
    flash = Flash()
    mount(flash)
    try:
        with open(FOLDER + "/s.tab", "wb") as file:
            file.write(support.TABLE_S)
        with open(FOLDER + "/s.tab", "rb") as file:
            ring = Portable(support.N)
            stored = Comb(file, ring, b"s")
            right = Comb(io.BytesIO(support.TABLE_S), ring, b"s")
            count = stored.blocks << stored.teeth
            for before in range(-1, count):
                for index in range(-1, count):
                    stored._entry(before)
                    assert stored._entry(index) == right._entry(index)
    finally:
        vfs.umount(FOLDER)
