"""From what a file holds to :class:`LoadData`: intervals, registers, and notes on what was not used."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

from .readings import MAX_WH, DataError, LoadData, interval_grid

PERIODS = (900, 1800, 3600, 86_400)
"""Lengths, in seconds, of intervals made from registers."""


class Note(NamedTuple):
    """Something that was not used: ``line`` counts from 1, 0 means the whole file.

    ``bad`` is False where nothing is wrong with it: it is only not what wattveil reads.
    """

    file: str
    line: int
    reason: str
    bad: bool = True

    def __str__(self) -> str:
        name = self.file if self.file.isprintable() else ascii(self.file)
        return f"{name}:{self.line}: {self.reason}" if self.line else f"{name}: {self.reason}"


class Interval(NamedTuple):
    """Energy of one meter in [start, start + duration), UTC seconds; Wh."""

    meter: str
    start: int
    duration: int
    wh: int
    file: str
    line: int


class Register(NamedTuple):
    """A meter's counters at one moment; ``utc`` None where the file does not say it. mWh."""

    meter: str
    utc: int | None
    imported: int
    exported: int
    file: str
    line: int


@dataclass(frozen=True)
class _At:
    register: Register
    off: int  # seconds from the boundary


def tolerance(period_s: int) -> int:
    """Seconds a register may be away from the boundary it stands for: a thirtieth of the period."""
    return period_s // 30


def intervals_of(registers: Sequence[Register], notes: list[Note]) -> list[Interval]:
    """Imported energy between registers: those nearest to two boundaries of the UTC grid in a row.

    The period is the shortest of `PERIODS` that is not below the usual step between two
    registers.  The part of a Wh that one interval leaves over is in the next.
    """
    by_meter: dict[str, list[Register]] = defaultdict(list)
    for register in registers:
        if register.utc is None:
            notes.append(
                Note(register.file, register.line, "a register without a time of its own")
            )
        else:
            by_meter[register.meter].append(register)
    steps: Counter[int] = Counter()
    for row in by_meter.values():
        times = sorted(register.utc or 0 for register in row)
        steps.update(b - a for a, b in pairwise(times) if b > a)
    usual = steps.most_common(1)[0][0] if steps else 0
    period = next((p for p in PERIODS if p + tolerance(p) >= usual), PERIODS[-1])
    found: list[Interval] = []
    for meter, row in by_meter.items():
        at: dict[int, _At] = {}
        for register in row:
            utc = register.utc or 0
            boundary = (utc + period // 2) // period * period
            off = abs(utc - boundary)
            if off <= tolerance(period) and (boundary not in at or off < at[boundary].off):
                at[boundary] = _At(register, off)
        for boundary in sorted(at):
            if boundary + period not in at:
                continue
            begin, end = at[boundary].register, at[boundary + period].register
            if end.imported < begin.imported:
                notes.append(Note(end.file, end.line, "the register is lower than before"))
            elif (wh := end.imported // 1000 - begin.imported // 1000) > MAX_WH:
                notes.append(Note(end.file, end.line, f"{wh} Wh in one interval"))
            else:
                found.append(Interval(meter, boundary, period, wh, end.file, end.line))
    if by_meter and not found:
        first = min((r for row in by_meter.values() for r in row), key=lambda r: r.utc or 0)
        when = datetime.fromtimestamp(first.utc or 0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        reason = (
            f"no interval: it needs registers within {tolerance(period)} s of two boundaries of "
            f"{period} s in a row; this is of {when}, and there are {len(registers)}"
        )
        notes.append(Note(first.file, first.line, reason))
    return found


def gather(intervals: Sequence[Interval], notes: list[Note]) -> LoadData | None:
    """The intervals as LoadData, None when there are none.

    The period is the shortest duration; intervals of another, off its grid, or twice with
    different values are noted.
    """
    if not intervals:
        return None
    period = min(interval.duration for interval in intervals)
    first = min(interval.start for interval in intervals if interval.duration == period)
    values: dict[str, dict[int, int]] = {}
    conflicts: set[tuple[str, int]] = set()
    duplicates = 0
    for meter, start, duration, wh, file, line in intervals:
        if duration != period:
            notes.append(Note(file, line, f"{duration} s long, others {period} s"))
            continue
        if (start - first) % period:
            notes.append(Note(file, line, f"its start is off the grid of {period} s"))
            continue
        row = values.setdefault(meter, {})
        if start in row:
            duplicates += 1
            if row[start] != wh:
                conflicts.add((meter, start))
                notes.append(Note(file, line, "the same interval again, with another value"))
        row.setdefault(start, wh)
    for meter, start in conflicts:  # none is known to be right
        del values[meter][start]
    values = {meter: row for meter, row in sorted(values.items()) if row}
    if not values:
        return None
    stamps = [start for row in values.values() for start in row]
    source = ", ".join(dict.fromkeys(interval.file for interval in intervals))
    starts = interval_grid(min(stamps), max(stamps), period, None, source)
    return LoadData(
        tuple(values), period, starts, values, Counter(), duplicates - len(conflicts), source
    )


def combine(parts: Sequence[LoadData]) -> LoadData:
    """Several files' readings as one; DataError where they do not fit together."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    values: dict[str, dict[int, int]] = {}
    skipped: Counter[str] = Counter()
    duplicates = sum(part.duplicates for part in parts)
    for part in parts:
        skipped += part.skipped
        if part.period_s != first.period_s:
            reason = (
                f"its period is {part.period_s} s, that of {first.source} is {first.period_s} s"
            )
            raise DataError(part.source, 0, 0, reason, "give files of one period")
        if (part.starts[0] - first.starts[0]) % first.period_s:
            reason = f"its intervals begin at other moments than those of {first.source}"
            raise DataError(part.source, 0, 0, reason, "give files on one grid")
        for meter, row in part.values.items():
            mine = values.setdefault(meter, {})
            for start, wh in row.items():
                if mine.setdefault(start, wh) != wh:
                    when = datetime.fromtimestamp(start, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                    reason = f"meter {meter} has another value at {when} in an earlier file"
                    raise DataError(part.source, 0, 0, reason, "give each meter's readings once")
    starts = [start for row in values.values() for start in row]
    name = ", ".join(part.source for part in parts)
    grid = interval_grid(min(starts), max(starts), first.period_s, None, name)
    return LoadData(tuple(sorted(values)), first.period_s, grid, values, skipped, duplicates, name)
