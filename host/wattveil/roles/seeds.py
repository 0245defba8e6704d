"""The seeds a dealer or centre holds, one a meter, and their daily ratchet (PROTOCOL.md, "Masks").

A seed serves the periods that start on its UTC day. From a day's seed follow those of all later days,
and none of an earlier one: who takes a role's seeds today cannot compute a mask of the days before
them. Seeds are kept beside the store and not in it, so that no back-up, replica or log of a database
holds an old one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from hmac import compare_digest
from typing import NamedTuple

from wattveil.roles.common import Clock
from wattveil_meter.masks import next_seed
from wattveil_meter.wire import Refused

DAY_S = 86_400
KEPT_DAYS = 2  # after the end of a day, for periods that close late
AHEAD_DAYS = 7  # how far our clock alone may move the seeds
STEADY_S, JUMP_S = 600.0, 60.0
DERIVED = 2  # days whose seeds are held ready


class Seed(NamedTuple):
    """One meter's: the first UTC day it serves, and 32 bytes."""

    day: int
    secret: bytes

    def __repr__(self) -> str:
        return f"Seed(day={self.day})"

    @classmethod
    def read(cls, entry: object) -> Seed | None:
        """From a role's files, {"day", "seed"}; None without one. ValueError."""
        if not isinstance(entry, Mapping):
            raise ValueError("not an object")
        if "seed" not in entry:
            return None
        day, secret = entry.get("day"), bytes.fromhex(str(entry["seed"]))
        if not isinstance(day, int) or not 0 <= day < 1 << 31 or len(secret) != 32:
            raise ValueError("not a UTC day and 32 bytes in hexadecimal")
        return cls(day, secret)

    def entry(self) -> dict[str, str | int]:
        """Inverse of `read`."""
        return {"day": self.day, "seed": self.secret.hex()}

    def agrees(self, other: Seed) -> bool:
        """Whether both are one seed, perhaps of different days."""
        later = max(self.day, other.day)
        return compare_digest(self.at(later).secret, other.at(later).secret)

    def at(self, day: int) -> Seed:
        """Of this day or, if that is earlier, unchanged."""
        secret = self.secret
        for before in range(self.day, day):
            secret = next_seed(secret, before)
        return Seed(max(self.day, day), secret)


def day_of(start: int) -> int:
    """The UTC day whose seeds a period that starts then (UTC s) uses."""
    return start // DAY_S


def expired(start: int, now: int) -> bool:
    """Whether the seeds of a period's day are to be erased by now (UTC s)."""
    return now >= (day_of(start) + 1 + KEPT_DAYS) * DAY_S


class Steady:
    """Whether a clock may be believed for what cannot be undone: it has run evenly for STEADY_S.

    A computer's clock may be wrong until it has asked the network. One that stands is a
    demonstration's, and what it was told to show.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = clock.mono()  # since when now() is so far ahead of it
        self._ahead = clock.now() - self._since

    def __bool__(self) -> bool:
        now, mono = self._clock.now(), self._clock.mono()
        if abs(now - mono - self._ahead) >= JUMP_S:
            self._ahead, self._since = now - mono, mono
        return not self._clock.running or mono - self._since >= STEADY_S


class Seeds:
    """In roster order.

    keep: stores them durably in the place of those before. taken: called once they are kept, when
    some came from provisioning and were not.
    """

    def __init__(
        self,
        held: Sequence[Seed],
        keep: Callable[[Sequence[Seed]], None] = lambda held: None,
        taken: Callable[[], None] | None = None,
    ) -> None:
        self._held = list(held)
        self._keep = keep
        self._taken = taken
        self._days: dict[int, list[Seed]] = {}  # the last used, derived in memory, by day
        self.first = min((seed.day for seed in self._held), default=0)  # day with a seed
        self._base = self.first

    def take_up(self) -> None:
        """Keep what provisioning brought; before the role does anything. OSError."""
        if self._taken is not None:
            self._keep(self._held)
            self._taken()
            self._taken = None

    def of(self, numbers: Iterable[int], start: int) -> list[bytes]:
        """The seeds of these meters for a period that starts then (UTC s); Refused `expired`."""
        day = day_of(start)
        seeds = self._at(day)
        chosen = [seeds[number - 1] for number in numbers]
        if any(seed.day != day for seed in chosen):  # erased, or the meter is younger
            raise Refused("expired")
        return [seed.secret for seed in chosen]

    def _at(self, day: int) -> list[Seed]:
        if day < self.first:
            raise Refused("expired")
        if day not in self._days:
            before = max((d for d in self._days if d < day), default=None)
            known = self._held if before is None else self._days[before]
            seeds = [seed.at(day) for seed in known]
            if len(self._days) == DERIVED:
                del self._days[min(self._days)]
            self._days[day] = seeds
        return self._days[day]

    def due(self, now: int) -> bool:
        """Whether there are seeds of days over for KEPT_DAYS by our clock (UTC s)."""
        return day_of(now) - KEPT_DAYS > self.first

    def forget(self, now: int, newest: int | None) -> None:
        """Erase the seeds of all days over for KEPT_DAYS by our clock (UTC s). OSError.

        newest: start of the newest period this role closed: there its clock and others' agreed. A
        clock moves the seeds no more than AHEAD_DAYS past it, or past where they were at the start:
        set wrong, and then right again, it has cost days and not the fleet.
        """
        base = self._base if newest is None else max(self._base, day_of(newest))
        day = min(day_of(now) - KEPT_DAYS, base + AHEAD_DAYS)
        if day <= self.first:
            return
        held = [seed.at(day) for seed in self._days.get(day, self._held)]
        self._keep(held)
        self._held = held
        self.first = min(seed.day for seed in held)
        self._days = {d: seeds for d, seeds in self._days.items() if d >= day}
