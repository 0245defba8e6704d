"""Reader of the common CSV: ``meter_id,timestamp,wh``, plain or gzip.

UTF-8 with or without a byte order mark; one reading per line, in any order.  The header is
required, its columns may stand in any order, and columns with other names are ignored.  Every
row has as many fields as the header (so a decimal comma cannot pass as a further column).

``timestamp`` is ISO 8601 with ``Z`` or an offset and marks the start of the interval, or its end
with ``stamp="end"``.  The period is the smallest step between distinct timestamps of the file
and all timestamps must lie on its grid.  ``wh`` is a whole number of watt-hours.

The whole file is checked whatever ``meters`` and ``periods`` select.  With ``skip_bad`` a bad
row counts as if it were not in the file, by reason; of a conflicting duplicate no row counts,
since none is known to be right.  An unreadable file, a bad header and a timestamp off the grid
(which puts the period itself in doubt) are refused all the same.

One pass holds 16 bytes per reading, whatever the order of rows; the readings that are asked
for become a :class:`LoadData` at the end.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import stat
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import BinaryIO, Literal, NamedTuple, cast

from .readings import (
    COLUMNS,
    BadReading,
    DataError,
    LoadData,
    check_meter_id,
    first_of,
    interval_grid,
    parse_timestamp,
    parse_wh,
    settle_repeats,
)

MAX_LINE = 65_536  # bytes
_CACHED_NUMBERS = 100_000
_FIELD = re.compile(r'"(?:[^"]|"")*"|[^",]*')


class _Meter(NamedTuple):
    """The rows of one meter, in file order."""

    packed: array[int]  # slot << 32 | wh
    lines: array[int]


@dataclass
class Rows:
    """What one pass over the file leaves: a slot is the number of a distinct timestamp."""

    meters: dict[bytes, _Meter] = field(default_factory=dict)
    seconds: list[int] = field(default_factory=list)  # by slot
    first_line: list[int] = field(default_factory=list)  # by slot
    slot_of: dict[int, int] = field(default_factory=dict)  # by seconds


def _fields(text: str) -> list[tuple[int, str]]:
    """The (column, value) of every field of one line; quotation as in RFC 4180."""
    found: list[tuple[int, str]] = []
    at = 0
    while True:
        match = cast("re.Match[str]", _FIELD.match(text, at))
        value, end = match[0], match.end()
        if text[end : end + 1] not in ("", ","):
            todo = "quote whole fields, and keep each row on one line"
            raise BadReading("stray text", "stray quotation mark", todo, at + 1)
        if value[:1] == '"':
            value = value[1:-1].replace('""', '"')
        found.append((at + 1, value))
        if end == len(text):
            return found
        at = end + 1


def _text(raw: bytes) -> str:
    """The line without its end; bytes that are not UTF-8 become unprintable characters."""
    return raw.rstrip(b"\r\n").decode("utf-8", "surrogateescape")


def _decode(raw: bytes) -> list[tuple[int, str]]:
    if len(raw) > MAX_LINE:
        reason = f"the line is longer than {MAX_LINE} bytes"
        raise BadReading("line too long", reason, "put each reading on a line of its own", 1)
    return _fields(_text(raw))


def _open_lines(path: str) -> Iterator[bytes]:
    """Raw lines of a plain or gzip file, without byte order mark; over-long ones cut short."""
    with open(path, "rb") as plain:
        stream: BinaryIO = plain
        if plain.peek(2)[:2] == b"\x1f\x8b":
            unpacked = cast(io.RawIOBase, gzip.GzipFile(fileobj=plain))
            stream = io.BufferedReader(unpacked, 1 << 17)
        raw = stream.readline(MAX_LINE + 1).removeprefix(b"\xef\xbb\xbf")
        while raw:
            yield raw
            while len(raw) > MAX_LINE and not raw.endswith(b"\n"):
                raw = stream.readline(MAX_LINE + 1) or b"\n"
            raw = stream.readline(MAX_LINE + 1)


def _lines(path: str) -> Iterator[bytes]:
    """As :func:`_open_lines`, with every failure to read turned into a DataError."""
    count = 0
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DataError(path, 0, 0, "not a regular file", "name a CSV file, plain or gzip")
        for count, raw in enumerate(_open_lines(path), 1):  # noqa: B007
            yield raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        what = "cut short" if isinstance(error, EOFError) else "damaged"
        reason = f"the gzip data are {what} after this point"
        raise DataError(path, count + 1, 1, reason, "copy the file again") from None
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise DataError(path, 0, 0, reason, "check the name and its permissions") from None


def _header(path: str, raw: bytes | None) -> tuple[int, tuple[int, int, int]]:
    """Number of columns, and which of them are meter_id, timestamp and wh."""
    todo = "begin the file with a header line: " + ",".join(COLUMNS)
    if raw is None:
        raise DataError(path, 1, 1, "the file is empty", todo)
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(path, 1, 1, "the file is UTF-16", "save it as UTF-8")
    try:
        cells = _decode(raw)
    except BadReading as bad:
        raise DataError(path, 1, bad.column, f"no header: {bad.reason}", todo) from None
    names = [name.strip().lower() for _, name in cells]
    places = []
    for column in COLUMNS:
        if names.count(column) > 1:
            second = [c for (c, _), n in zip(cells, names, strict=True) if n == column][1]
            raise DataError(path, 1, second, f"column {column} stands twice", "keep one")
        if column not in names:
            raise DataError(path, 1, 1, f"the header has no column {column}", todo)
        places.append(names.index(column))
    return len(names), (places[0], places[1], places[2])


def _nowhere(line: int, reason: str) -> None:
    """What becomes of a skipped row's reason when nobody asked for it."""


def scan(
    path: str, bad: Callable[[int, BadReading], None], lines_at_once: int = 1 << 62
) -> Iterator[Rows]:
    """One pass over the file; every text is parsed once, however often it stands there.

    `bad` is told of each row that cannot be used. The rows of so many lines are yielded at once;
    slots are those of the whole file. DataError for the file as such.
    """
    rows = Rows()
    lines = _lines(path)
    width, (at_id, at_time, at_wh) = _header(path, next(lines, None))
    slots: dict[bytes, int] = {}
    numbers: dict[bytes, int] = {}

    def keep_row(raw: bytes, line: int) -> None:
        cells = _decode(raw)
        column = len(_text(raw)) + 1
        try:
            if len(cells) < width:
                missing = f"the row has {len(cells)} of {width} columns"
                raise BadReading("missing column", missing, "complete the row")
            if len(cells) > width:
                column = cells[width][0]
                more = f"the row has {len(cells)} columns, the header {width}"
                raise BadReading("stray text", more, "remove the rest (a decimal comma?)")
            column, meter = cells[at_id]
            check_meter_id(meter)
            column, stamp = cells[at_time]
            seconds = parse_timestamp(stamp)
            column, number = cells[at_wh]
            wh = parse_wh(number)
        except BadReading as bad:
            bad.column = column
            raise
        slot = rows.slot_of.setdefault(seconds, len(rows.seconds))
        if slot == len(rows.seconds):
            rows.seconds.append(seconds)
            rows.first_line.append(line)
        slots[stamp.encode()] = slot
        if len(numbers) < _CACHED_NUMBERS:
            numbers[number.encode()] = wh
        entry = rows.meters.setdefault(meter.encode(), _Meter(array("Q"), array("Q")))
        entry.packed.append(slot << 32 | wh)
        entry.lines.append(line)

    until = lines_at_once + 1
    for line, raw in enumerate(lines, 2):
        if line > until:
            yield rows
            rows.meters = {}
            until += lines_at_once
        text = raw.rstrip(b"\r\n")
        if quotes := text.count(b'"'):  # quick only if every field is quoted
            plain = quotes == 2 * width and text.startswith(b'"') and text.endswith(b'"')
            cells = text[1:-1].split(b'","') if plain else []
        else:
            cells = text.split(b",")
        if len(cells) == width and len(raw) <= MAX_LINE:
            entry = rows.meters.get(cells[at_id])
            slot = slots.get(cells[at_time])
            wh = numbers.get(cells[at_wh])
            if entry is not None and slot is not None and wh is not None:
                entry.packed.append(slot << 32 | wh)
                entry.lines.append(line)
                continue
        if not text:
            continue
        try:
            keep_row(raw, line)
        except BadReading as error:
            bad(line, error)
    yield rows


def _column_of(path: str, line: int, name: str) -> int:
    """Where field ``name`` of a row known to be good begins (reads the file again)."""
    with suppress(DataError, BadReading, IndexError):  # should it have changed meanwhile
        lines = _lines(path)
        _, places = _header(path, next(lines, None))
        raw = next(islice(lines, line - 2, None), b"")
        return _decode(raw)[places[COLUMNS.index(name)]][0]
    return 1


def _period(path: str, rows: Rows, used: set[int]) -> int:
    """The smallest step between the timestamps in use; all must lie on its grid."""
    ordered = sorted((rows.seconds[slot], rows.first_line[slot]) for slot in used)
    if len(ordered) < 2:
        reason = "fewer than two different timestamps, so the period is unknown"
        raise DataError(path, 0, 0, reason, "give readings of at least two intervals")
    period, one, two = min(
        (b - a, line_a, line_b) for (a, line_a), (b, line_b) in pairwise(ordered)
    )
    stray = [line for seconds, line in ordered if (seconds - ordered[0][0]) % period]
    if stray:
        line = min(stray)
        reason = f"timestamp off the grid of the {period} s period (from lines {one} and {two})"
        todo = "correct whichever timestamp is wrong"
        raise DataError(path, line, _column_of(path, line, "timestamp"), reason, todo)
    return period


def read_csv(
    path: str | os.PathLike[str],
    *,
    stamp: Literal["start", "end"] = "start",
    meters: int | None = None,
    periods: int | None = None,
    skip_bad: bool = False,
    note: Callable[[int, str], None] = _nowhere,
) -> LoadData:
    """Read the first ``meters`` ids and their first ``periods`` intervals (all by default).

    ``note`` is told the line and reason of every row that is skipped (of conflicting duplicates,
    the first of each meter).
    """
    path = os.fspath(path)
    skipped: Counter[str] = Counter()

    def bad(line: int, error: BadReading) -> None:
        if not skip_bad:
            raise DataError(path, line, error.column, error.reason, error.todo) from None
        skipped[error.kind] += 1
        note(line, error.reason)

    (rows,) = scan(path, bad)
    duplicates, clashes, used = 0, list[tuple[int, int]](), set[int]()
    for entry in rows.meters.values():
        slots = {packed >> 32 for packed in entry.packed}
        if len(slots) < len(entry.packed):
            same, conflicts, first = settle_repeats(entry.packed, entry.lines)
            duplicates += same
            if first:
                clashes.append(first)
                note(first[0], f"conflicting duplicate of line {first[1]}")
                skipped["conflicting duplicate"] += conflicts
                slots = {packed >> 32 for packed in entry.packed}
        used |= slots
    if clashes and not skip_bad:
        line, earlier = min(clashes)
        reason = f"conflicting duplicate of line {earlier}: same meter and time, other wh"
        todo = "keep the right one of the two"
        raise DataError(path, line, _column_of(path, line, "wh"), reason, todo)
    if not used:
        gone = f" ({skipped.total()} bad ones skipped)" if skipped else ""
        raise DataError(path, 0, 0, f"the file has no readings{gone}", "name a file with readings")
    period = _period(path, rows, used)
    shift = period if stamp == "end" else 0

    table = {name.decode(): entry for name, entry in rows.meters.items() if entry.packed}
    chosen = sorted(table)[: first_of("meters", len(table), meters, path)]
    span = {rows.seconds[packed >> 32] for meter in chosen for packed in table[meter].packed}
    starts = interval_grid(min(span) - shift, max(span) - shift, period, periods, path)
    start_of = [seconds - shift for seconds in rows.seconds]
    end, low = starts[-1], (1 << 32) - 1
    values = {
        meter: {
            start: packed & low
            for packed in table[meter].packed
            if (start := start_of[packed >> 32]) <= end
        }
        for meter in chosen
    }
    return LoadData(tuple(chosen), period, starts, values, skipped, duplicates, path)
