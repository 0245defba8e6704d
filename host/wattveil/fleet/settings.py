"""What a person chooses when a fleet is provisioned, checked before anything is written.

Quorum, epsilon and drop are exact fractions, read from decimals as typed: as floats, 0.7 of ten
meters would be eight. The quorum count Q is computed here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor

from wattveil_meter import noise

Exact = str | int | Fraction | Decimal

SUITES = {"yan2024": "gamma", "compact": "discrete"}  # and the default noise
NOISES = ("gamma", "discrete")
LEVELS = ("short", "half", "full")
SETS_KIB = (128, 256, 384, 512)  # of table flash, named by their size at 2048 bits
MAX_ID_BYTES = 32


_DIGITS = 40  # most characters of an exact number


def exact(value: Exact, what: str) -> Fraction:
    """The number exactly as written ("0.7" is 7/10), no float; ValueError names `what`."""
    if isinstance(value, float):
        raise ValueError(f"{what}: give a decimal as text, floats are not exact")
    try:
        if isinstance(value, str):
            power = value.lower().partition("e")[2].lstrip("+-")
            if len(value) > _DIGITS or len(power) > 2:
                raise ValueError  # "1e999999999" would take all memory
        return Fraction(value)
    except (ValueError, TypeError, OverflowError, ZeroDivisionError):
        shown = value if not isinstance(value, str) else value[:_DIGITS]
        raise ValueError(f"{what}: {shown!r} is not a decimal number") from None


def quorum_count(quorum: Exact, roster: int) -> int:
    """Q = max(2, ceil(quorum * roster)): the fewest meters whose sum may be released."""
    return max(2, ceil(exact(quorum, "quorum") * roster))


def share_of(share: Exact, total: int, what: str = "drop") -> int:
    """`share` (0..1) of `total` things as a whole number of them; halves round up."""
    part = exact(share, what)
    if not 0 <= part <= 1:
        raise ValueError(f"{what}: {share} is not between 0 and 1")
    return floor(part * total + Fraction(1, 2))


@dataclass(frozen=True, kw_only=True)
class FleetSettings:
    """Parameters of a fleet (PROTOCOL.md, "Provisioning record").

    delta: Wh, hi - lo: the most one household can draw in one period (from its connection limit,
    never from data). lo: Wh. epsilon: per period. quorum: share of the roster, 0 < quorum <= 1.
    colluding: meters that may collude or add nothing (c). gamma: slots of a row, 1..255. bits: of
    a new key's modulus, when no key is given. tables: KiB of flash for them
    at 2048 bits. period_s, phase_s: a period starts where start mod period_s = phase_s.
    poll_ms: how often a meter asks a frozen clock.
    """

    delta: int
    lo: int = 0
    epsilon: Exact = "1"
    quorum: Exact = "0.8"
    colluding: int = 0
    gamma: int = 20
    suite: str = "yan2024"
    noise: str = "gamma"
    level: str = "short"
    bits: int = 2048
    tables: int = 384
    row_check: bool = True
    own_noise: bool = False
    period_s: int = 900
    phase_s: int = 0
    key_epoch: int = 1
    roster_epoch: int = 1
    poll_ms: int = 200

    @property
    def hi(self) -> int:
        """The largest reading, Wh."""
        return self.lo + self.delta

    @property
    def offset(self) -> int:
        """O, Wh: keeps the exponents xi + O from going below zero."""
        epsilon = exact(self.epsilon, "epsilon")
        return int(noise.offset(epsilon.numerator, epsilon.denominator, self.delta))

    def day(self, now: float) -> int:
        """UTC day index of the period that is under way at `now` (UTC s): the first for new seeds."""
        return (int(now) - (int(now) - self.phase_s) % self.period_s) // 86_400

    def check(self, roster: int) -> int:
        """Q for a roster of this many meters; ValueError says which setting is impossible."""
        for name, value, allowed in (
            ("suite", self.suite, SUITES),
            ("noise", self.noise, NOISES),
            ("level", self.level, LEVELS),
            ("tables", self.tables, SETS_KIB),
        ):
            if value not in allowed:
                raise ValueError(f"{name}: {value!r} is not one of {', '.join(map(str, allowed))}")
        if exact(self.epsilon, "epsilon") <= 0:
            raise ValueError(f"epsilon: {self.epsilon} is not above 0")
        if self.delta < 1:
            raise ValueError(f"delta: {self.delta} Wh is not at least 1 Wh")
        if not 1 <= self.gamma <= 255:
            raise ValueError(f"gamma: {self.gamma} slots are not 1 to 255")
        if not 1 <= self.period_s < 1 << 31 or not 0 <= self.phase_s < self.period_s:
            raise ValueError("phase_s: must be at least 0 and below period_s, which is at least 1")
        for name, count in (("key_epoch", self.key_epoch), ("roster_epoch", self.roster_epoch)):
            if not 0 <= count < 1 << 31:
                raise ValueError(f"{name}: {count} is not below 2^31")
        if self.poll_ms < 1:
            raise ValueError(f"poll_ms: {self.poll_ms} is not at least 1")
        return self._check_quorum(roster)

    def _check_quorum(self, roster: int) -> int:
        if roster < 2:
            raise ValueError(f"a fleet of {roster} hides nobody: it needs 2 meters or more")
        if exact(self.quorum, "quorum") <= 0:
            raise ValueError(f"quorum: {self.quorum} is not above 0")
        count = quorum_count(self.quorum, roster)
        if count > roster:
            raise ValueError(f"quorum: {self.quorum} asks for {count} of {roster} meters")
        if self.colluding < 0:
            raise ValueError(f"colluding: {self.colluding} meters are less than none")
        if count - self.colluding < 1:
            raise ValueError(
                f"colluding: of a quorum of {count} meters, {self.colluding} may add nothing; at"
                " least one must be left: raise the quorum or lower colluding"
            )
        return count


def sorted_roster(ids: Sequence[str]) -> tuple[str, ...]:
    """The ids in byte order, the order of meter numbers; ValueError for one that cannot be."""
    for name in ids:
        try:
            size = len(name.encode())
        except UnicodeEncodeError:
            raise ValueError(f"meter id {name!r} is not valid Unicode text") from None
        if not 1 <= size <= MAX_ID_BYTES:
            raise ValueError(
                f"meter id {name!r} has {size} bytes: 1 to {MAX_ID_BYTES} are allowed"
            )
        if name in (".", "..") or not name.isprintable() or set(name) & set("/\\"):
            raise ValueError(
                f"meter id {name!r} is no name for a folder: no /, \\ or control codes"
            )
    roster = sorted(ids, key=str.encode)
    for before, name in pairwise(roster):
        if before == name:
            raise ValueError(f"meter id {name!r} is there twice")
    return tuple(roster)
