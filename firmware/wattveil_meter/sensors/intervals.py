"""Intervals out of a register: the one adapter that makes a sensor of a source (see __init__.py).

The register is taken at the boundaries of the record's grid. What one interval ends with the next begins
with, and the part of a Wh that an interval leaves over is carried into the next, so that whole Wh over
many intervals add up to the register: nothing is lost or counted twice.

Tolerances. A boundary may be seen up to late_s after it: what flowed in between counts to the interval
before. A later poll spoils both intervals, a step of the clock by more than 2 s the one it happens in.
"""

from wattveil_meter.fields import Malformed, pack, read_uint, uint, unpack
from wattveil_meter.store import Damaged, Missing

FILE = "sensor.bin"  # fields(uint a, uint b, uint rest in mWh) of a volatile source
_KEPT = 4  # intervals that can still be asked for
_JUMP_MS = 2000
_QUIET_S = 3  # after a boundary: its report goes first
_SAVE_MS = 895000  # 96 flash writes a day at most; polls do not come to the millisecond


def late_s(period_s):
    """Seconds after a boundary within which a poll must come: 1/180 of the period, 1 to 10."""
    return max(1, min(period_s // 180, 10))


class Intervals:
    """A sensor over `source`; record gives the grid and `lo`, clock.ms() the monotonic time."""

    remote = False

    def __init__(self, source, record, clock, storage):
        self.why = "no_sync"
        self.faults = {}  # reason -> count, beside the source's own
        self._source = source
        self._record = record
        self._clock = clock
        self._storage = storage
        self._rest = 0  # mWh, 0..999
        self._last = None  # (utc, ms) of the newest poll
        self._current = None  # start of the interval under way
        self._begin = None  # registers at its start; a reason (str) when they are not known
        self._gaps = 0  # of the source, at that moment
        self._ended = []  # (start, Wh or reason), oldest first
        self._saved = None  # ms
        self._unsaved = False  # since the last boundary
        if source.volatile:
            try:
                a, b, rest = unpack(storage.read(FILE), 3)
                source.restore(read_uint(a), read_uint(b))
                self._rest = min(read_uint(rest), 999)
            except (Missing, KeyError):
                pass  # the first start
            except (Damaged, Malformed):
                self._count("state")  # the register begins anew

    def register(self):
        """(import, export) in mWh since the meter was set up; None when the source has none to give."""
        return self._source.read()

    def poll(self, utc):
        """See __init__.py."""
        ms = self._clock.ms()
        wish = None
        try:
            wish = self._source.poll(ms)
        except Exception as error:  # a meter that says "missing" is better than one that resets
            self._source.gaps += 1
            self._count(type(error).__name__)
        if utc is not None:
            self._look(utc, ms)
        return wish

    def _look(self, utc, ms):
        """Whether a boundary has been passed."""
        start = self._record.start_of(utc)
        if self._last is None:
            self._enter(start, "gap")  # nobody saw it begin
        elif abs((utc - self._last[0]) * 1000 - (ms - self._last[1])) > _JUMP_MS:
            self._leave("clock_jump")
            self._enter(start, "clock_jump")
        elif start > self._current:
            period = self._record.period_s
            late = start - self._current > period or utc - start > late_s(period)
            registers = "gap" if late else self._take()
            self._leave(registers)
            self._enter(start, registers)
            self._unsaved = True
        elif self._unsaved and utc - start >= min(_QUIET_S, self._record.period_s - 1):
            self._unsaved = False
            if self._saved is None or ms - self._saved >= _SAVE_MS:
                self._saved = ms
                self.save()
        self._last = (utc, ms)

    def energy(self, start, length):
        """See __init__.py."""
        if self._last is None:
            self.why = "no_sync"
            return None
        end = start + length
        if start == self._current and length == self._record.period_s and end - self._last[0] <= 2:
            self.poll(end)  # the meter's clock got there between two polls
        for known, result in self._ended:
            if known == start and length == self._record.period_s:
                if isinstance(result, int):
                    return result
                self.why = result
                return None
        self.why = "no_such_interval"
        return None

    def _take(self):
        registers = self._source.read()
        return self._source.why if registers is None else registers

    def _enter(self, start, registers):
        self._current = start
        self._begin = registers
        self._gaps = self._source.gaps

    def _leave(self, registers):
        """Close the interval under way with the registers at its end, or the reason there are none."""
        result = registers
        if isinstance(self._begin, str):
            result = self._begin
        elif not isinstance(registers, str):
            result = self._between(self._begin, registers)
        if self._current not in [start for start, _ in self._ended]:  # else the clock went back
            self._ended = (self._ended + [(self._current, result)])[-_KEPT:]

    def _between(self, begin, end):
        if self._source.gaps != self._gaps:
            return "gap"
        imported, exported = end[0] - begin[0], end[1] - begin[1]
        if imported < 0 or exported < 0:  # no source may do this
            return "sensor_fault"
        total = self._rest + imported - (exported if self._record.lo < 0 else 0)
        self._rest = total % 1000
        return total // 1000

    def save(self):
        """See __init__.py."""
        if not self._source.volatile:
            return
        a, b = self._source.state()
        try:
            self._storage.write(FILE, pack(uint(a), uint(b), uint(self._rest)))
        except OSError:  # full or failing flash: measure on
            self._count("storage")

    def _count(self, reason):
        self.faults[reason] = self.faults.get(reason, 0) + 1
