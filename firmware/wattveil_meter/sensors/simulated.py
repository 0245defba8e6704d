"""Sensor `simulated`: a household that is computed, for benches without mains.

Power is a sum of appliances, each on or off, in a pattern that repeats every week. Figures are per
household; times are UTC:

    base        40 W + 15 W per occupant, always
    fridge      90 W, on for 20 of every 50 minutes
    light       60 W per occupant, 06:00..08:00 and 17:00..23:00
    kettle      2200 W for 3 minutes, once a day and occupant, at a drawn minute from 06:00 to 22:00
    cooking     2000 W for 40 minutes, beginning at a drawn minute from 17:00 to 19:00
    washing     2000 W for 20 minutes, then 250 W for 60, on two drawn days of the week, at a drawn minute
                from 08:00 to 20:00

The draws come from SHA-256 of `wattveil simulated`, the seed and the day of the week (1970-01-01 is day 0),
so a household is the same on every runtime, and after a restart. It consumes 4.4 kWh a day with one occupant
and 0.95 kWh more with each other. Nothing is measured; nothing is exported.
"""

from hashlib import sha256

_DAY = 86400
_WEEK = 7 * _DAY


def _minute(draw, at, first, last):
    """A drawn minute of the day in [first, last) hours, as seconds."""
    return 60 * (60 * first + (draw[at] << 8 | draw[at + 1]) % (60 * (last - first)))


class Simulated:
    """Any interval from 1970 on, exactly: the energy of two intervals that meet adds up."""

    remote = False

    def __init__(self, occupants, seed):
        """occupants 1..8; seed: any integer, one per household."""
        if not 1 <= occupants <= 8:
            raise ValueError("config.json: sensor key occupants must be 1 to 8")
        self.why = ""
        self._base = 40 + 15 * occupants  # W
        self._uses = uses = []  # (second of the week, seconds, W)
        head = b"wattveil simulated " + str(seed).encode()
        days = sha256(head).digest()
        washing = (days[0] % 7, (days[0] + 1 + days[1] % 6) % 7)
        for day in range(7):
            draw = sha256(head + b" " + str(day).encode()).digest()
            at = day * _DAY
            uses.append((at + 6 * 3600, 2 * 3600, 60 * occupants))
            uses.append((at + 17 * 3600, 6 * 3600, 60 * occupants))
            for i in range(occupants):
                uses.append((at + _minute(draw, 2 * i, 6, 22), 180, 2200))
            uses.append((at + _minute(draw, 20, 17, 19), 2400, 2000))
            if day in washing:
                begin = at + _minute(draw, 22, 8, 20)
                uses.append((begin, 1200, 2000))
                uses.append((begin + 1200, 3600, 250))
        self._phase = days[2] * 3000 // 256  # of the fridge, s
        self._week = self._within(_WEEK)

    def poll(self, utc):
        """Nothing to do."""

    def save(self):
        """Nothing to keep."""

    def energy(self, start, length):
        """Wh in [start, start + length): the register's whole Wh at the end less those at the start."""
        return self._joules(start + length) // 3600 - self._joules(start) // 3600

    def _joules(self, utc):
        """Since 1970. A week is a whole number of seconds but of no fridge cycle: 604800 = 201.6 * 3000."""
        cycles, into = divmod(utc + self._phase, 3000)
        fridge = 90 * (cycles * 1200 + min(into, 1200))
        return utc // _WEEK * self._week + self._within(utc % _WEEK) + fridge

    def _within(self, second):
        """Joules of everything but the fridge from the start of the week to `second` of it."""
        total = self._base * second
        for begin, length, watts in self._uses:
            total += watts * max(0, min(second - begin, length))
        return total
