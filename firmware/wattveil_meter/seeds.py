"""The meter's two seeds, which change every UTC day so that a stolen meter tells nothing of days past.

(day, dealer's seed, centre's seed) is one atomic record in seeds.bin: a power cut leaves the old one or
the new one. Later days' seeds are derived from it in memory; `erase` puts a later record in its place,
and what was before cannot be computed any more (PROTOCOL.md, "Masks").
"""

from wattveil_meter.fields import Malformed, pack, read_uint, uint, unpack
from wattveil_meter.masks import next_seed

DAY_S = 86400
NAME = "seeds.bin"
_SLICE = 32  # days of a catch-up between two turns of the loop: 50 ms on an (emulated) Pico
_MOST = 36525  # days: a clock a century ahead is wrong
_AHEAD = 7  # days: how far the centre's clock alone may move the seeds


def record_of(day, dealer, center):
    """Content of seeds.bin; day: UTC day index; seeds: 32 bytes."""
    return pack(uint(day), dealer, center)


class Seeds:
    """day: the first UTC day for which there are seeds; dealer, center: its seeds."""

    def __init__(self, storage):
        """storage: as in store.py; Malformed."""
        self._storage = storage
        day, self.dealer, self.center = unpack(storage.read(NAME), 3)
        self.day = read_uint(day)
        if len(self.dealer) != 32 or len(self.center) != 32:
            raise Malformed("seed is not 32 bytes")
        self._reached = (self.day, self.dealer, self.center)  # this or a later day

    def of(self, day):
        """Generator, 0 between slices: (dealer's, centre's seed) of a day; None: gone, or absurd."""
        if not 0 <= day - self.day <= _MOST:
            return None
        if day < self._reached[0]:
            self._reached = (self.day, self.dealer, self.center)
        at, dealer, center = self._reached
        while at < day:
            dealer, center = next_seed(dealer, at), next_seed(center, at)
            at += 1
            if not (day - at) % _SLICE:
                yield 0
        self._reached = (at, dealer, center)
        return dealer, center

    def erase(self, begun, now):
        """Generator: forget the seeds of all days in which this meter begins no period any more.

        begun: end of the newest period it took a row of, 0 for none: there cloud and centre agreed on
        the time. now: start of the period the centre's clock is in, and that is one word only: it
        moves the seeds by _AHEAD days at most, so that a wrong clock, once it is right again, has
        cost days and not the meter. UTC s. OSError of the storage: all is as it was.
        """
        sure = begun // DAY_S
        day = max(sure, min(now // DAY_S, sure + _AHEAD))
        if not begun or day <= self.day:
            return
        pair = yield from self.of(day)
        if pair:
            self._storage.write(NAME, record_of(day, *pair))
            self.day = day
            self.dealer, self.center = pair
