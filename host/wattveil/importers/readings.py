"""Interval readings in memory, and the one error every importer raises.

A reading is the energy, in whole watt-hours, that one meter saw in one half-open interval
``[start, start + period_s)``.  Times are UTC seconds since 1970.  A reading that is not there
is simply missing from ``values``: the meter does not report in that period.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime

COLUMNS = ("meter_id", "timestamp", "wh")
"""Of the common CSV."""

MAX_WH = 999_999_999
"""Largest reading an importer accepts; a household is far below it, a typing slip is not."""

MAX_PERIODS = 1_000_000
"""Longest grid that is built (a year of minutes is 525,600)."""

MAX_METER_ID_BYTES = 32

_STAMP = "%Y-%m-%dT%H:%M:%SZ"
_EPOCH = date(1970, 1, 1).toordinal()
_TIME = re.compile(
    r"(\d\d)(?:(:?)(\d\d)(?:\2(\d\d)(?:\.(\d+))?)?)?([Zz]|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)


class DataError(ValueError):
    """Load data that cannot be used: where, why, and what to do about it.

    ``line`` and ``column`` count from 1; ``column`` is the character at which the offending
    field begins.  ``line`` 0 means the fault is not at a place in the file.
    """

    def __init__(
        self, file: str, line: int, column: int, reason: str, todo: str = "correct the file"
    ) -> None:
        super().__init__(file, line, column, reason, todo)
        self.file = file
        self.line = line
        self.column = column
        self.reason = reason
        self.todo = todo

    def __str__(self) -> str:
        name = self.file if self.file.isprintable() else ascii(self.file)
        place = f"{name}:{self.line}:{self.column}" if self.line else name
        return f"{place}: {self.reason}; {self.todo}"


class BadReading(ValueError):
    """One reading that cannot be used: ``kind`` is what ``skipped`` counts it under."""

    def __init__(self, kind: str, reason: str, todo: str, column: int = 0) -> None:
        super().__init__(kind, reason, todo, column)
        self.kind, self.reason, self.todo, self.column = kind, reason, todo, column


def _show(text: str) -> str:
    return ascii(text if len(text) <= 40 else text[:37] + "...")


def check_meter_id(meter: str) -> None:
    """BadReading unless ``meter`` can be a meter id: 1 to 32 bytes of printable UTF-8."""
    if not meter:
        fault = "is empty"
    elif not meter.isprintable():
        fault = f"{_show(meter)} holds a control, unprintable or non-UTF-8 character"
    elif "," in meter or '"' in meter:
        fault = f"{_show(meter)} holds a comma or a quotation mark"
    elif meter != meter.strip():
        fault = f"{_show(meter)} begins or ends with a space"
    elif len(meter.encode("utf-8")) > MAX_METER_ID_BYTES:
        fault = f"{_show(meter)} is longer than {MAX_METER_ID_BYTES} bytes"
    else:
        return
    todo = f"use 1 to {MAX_METER_ID_BYTES} bytes of printable text"
    raise BadReading("bad meter id", f"meter_id {fault}", todo)


def parse_timestamp(text: str) -> int:
    """UTC seconds of an ISO 8601 timestamp with an offset; BadReading."""
    bad = ("bad timestamp", f"timestamp {_show(text)} is not an ISO 8601 date and time")
    todo = "write it like 2026-01-05T00:30:00Z"
    day, _, clock = text.replace("t", "T").replace(" ", "T", 1).partition("T")
    match = _TIME.fullmatch(clock)
    if match is None or not day.isascii():
        raise BadReading(*bad, todo)
    hour, minute, second = (int(match[g] or 0) for g in (1, 3, 4))
    zone = match[6]
    try:
        days = date.fromisoformat(day).toordinal() - _EPOCH
    except ValueError:
        raise BadReading(*bad, todo) from None
    if zone is None:
        reason = f"timestamp {_show(text)} has no offset, so its moment is ambiguous"
        raise BadReading("timestamp without offset", reason, "add Z (UTC) or an offset (+01:00)")
    offset = 0
    if zone not in "Zz":
        hours, minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
        if hours > 23 or minutes > 59:
            raise BadReading(*bad, "give an offset between -23:59 and +23:59")
        offset = (hours * 60 + minutes) * (-60 if zone[0] == "-" else 60)
    if (hour, minute, second) > (24, 0, 0) or minute > 59 or second > 59:
        raise BadReading(*bad, todo)
    if (match[5] or "").strip("0"):
        reason = f"timestamp {_show(text)} has a fraction of a second"
        raise BadReading("bad timestamp", reason, "write whole seconds")
    total = days * 86_400 + hour * 3600 + minute * 60 + second - offset
    if total < 0 or day[:4] >= "2100":
        reason = f"timestamp {_show(text)} is not between 1970 and 2099"
        raise BadReading("bad timestamp", reason, "check the clock that wrote it")
    return total


def parse_wh(text: str) -> int:
    """A reading in Wh; BadReading if it is not one."""
    if text.isascii() and text.isdigit():
        digits = text.lstrip("0") or "0"
        if len(digits) <= len(str(MAX_WH)):
            return int(digits)
        reason = f"wh {_show(text)} is above {MAX_WH} Wh"
        raise BadReading("value too large", reason, "check the unit: it must be Wh")
    if not text:
        raise BadReading("stray text", "wh is empty", "leave the row out if there is no reading")
    if re.fullmatch(r"-\d+(\.\d*)?", text, re.ASCII):
        reason = f"wh {_show(text)} is negative"
        raise BadReading("negative value", reason, "give consumption only, or leave the row out")
    reason = f"wh {_show(text)}: Wh must be a whole number"
    raise BadReading("stray text", reason, "write digits only, such as 12")


def first_of(what: str, available: int, wanted: int | None, source: str) -> int:
    """How many meters or periods to take: ``wanted``, or all; refuses what is not there."""
    if wanted is None:
        return available
    if wanted < 1:
        raise DataError(
            source, 0, 0, f"{wanted} {what} asked for", f"ask for at least 1 of {what}"
        )
    if wanted > available:
        raise DataError(
            source,
            0,
            0,
            f"{wanted} {what} asked for but the data hold {available}",
            f"ask for at most {available}",
        )
    return wanted


def interval_grid(
    first: int, last: int, period_s: int, periods: int | None, source: str
) -> tuple[int, ...]:
    """Starts of the first ``periods`` intervals (all if None) from ``first`` to ``last``."""
    if first < 0:
        raise DataError(source, 0, 0, "the first interval begins before 1970", "check its clock")
    count = first_of("periods", (last - first) // period_s + 1, periods, source)
    if count > MAX_PERIODS:
        raise DataError(
            source,
            0,
            0,
            f"the data span {count} periods of {period_s} s, more than {MAX_PERIODS}",
            "look for a stray timestamp, or take fewer periods",
        )
    return tuple(range(first, first + count * period_s, period_s))


def settle_repeats(
    packed: array[int], lines: array[int]
) -> tuple[int, int, tuple[int, int] | None]:
    """Remove the repeated rows of one meter, and all rows of a slot with conflicting values.

    ``packed`` holds ``slot << 32 | wh`` in file order, ``lines`` where each stands.  Returns how
    many rows were identical to another, how many slots conflicted, and (line, earlier line) of
    the first row in conflict.
    """
    seen: dict[int, dict[int, int]] = {}
    same, first = 0, None
    for row, line in zip(packed, lines, strict=True):
        values = seen.setdefault(row >> 32, {})
        if row in values:
            same += 1
        elif values and first is None:
            first = (line, next(iter(values.values())))
        values.setdefault(row, line)
    good = [next(iter(values.items())) for values in seen.values() if len(values) == 1]
    packed[:] = array("Q", [row for row, _ in good])
    lines[:] = array("Q", [line for _, line in good])
    return same, len(seen) - len(good), first


@dataclass(frozen=True)
class LoadData:
    """Readings of some meters on one grid of consecutive intervals.

    ``meters``      ids in string order
    ``period_s``    length of every interval
    ``starts``      start of every interval, ascending, ``period_s`` apart, gaps included
    ``values``      ``values[meter][start]`` is Wh; a missing key is an absent reading
    ``skipped``     bad readings treated as absent, counted by reason (whole source)
    ``duplicates``  identical repeated rows that were ignored (whole source)
    ``source``      name of the file, or what made the data, for messages
    """

    meters: tuple[str, ...]
    period_s: int
    starts: tuple[int, ...]
    values: Mapping[str, Mapping[int, int]]
    skipped: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    source: str = "load data"

    def get(self, meter: str, start: int) -> int | None:
        """The reading of ``meter`` in the interval from ``start``; None if it is absent."""
        return self.values[meter].get(start)

    @property
    def present(self) -> int:
        """How many readings there are (at most meters x intervals)."""
        return sum(len(row) for row in self.values.values())

    def to_csv(self) -> str:
        """The common CSV: by meter, then by time, UTC; absent readings are left out."""
        lines = [",".join(COLUMNS)]
        stamps = {s: datetime.fromtimestamp(s, UTC).strftime(_STAMP) for s in self.starts}
        for meter in self.meters:
            row = self.values[meter]
            lines += [f"{meter},{stamps[s]},{row[s]}" for s in self.starts if s in row]
        return "\n".join(lines) + "\n"

    def select(self, meters: int | None = None, periods: int | None = None) -> LoadData:
        """The first ``meters`` ids in string order and their first ``periods`` intervals.

        The first interval is the earliest in which any selected meter has a reading; an
        interval in which none has still counts.  ``skipped`` and ``duplicates`` stay those of
        the whole source.
        """
        chosen = self.meters[: first_of("meters", len(self.meters), meters, self.source)]
        spans = [(min(row), max(row)) for m in chosen if (row := self.values[m])]
        if not spans:
            raise DataError(self.source, 0, 0, "the selected meters have no readings", "take more")
        starts = interval_grid(
            min(a for a, _ in spans), max(b for _, b in spans), self.period_s, periods, self.source
        )
        end = starts[-1]
        kept = {m: {s: wh for s, wh in self.values[m].items() if s <= end} for m in chosen}
        return replace(self, meters=chosen, starts=starts, values=kept)
