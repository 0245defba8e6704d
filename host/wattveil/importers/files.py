"""Readings from any of the files wattveil reads; which kind a file is, its content says."""

from __future__ import annotations

import gzip
import os
import re
import stat
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from .csv_file import read_csv
from .readings import DataError, LoadData
from .series import Interval, Note, Register, combine, gather, intervals_of

MAX_BYTES = 256 << 20
"""Largest file but CSV, unpacked (a year of telegrams every 10 s, compressed before, is less)."""

_PEEK = 65_536
_TELEGRAM = re.compile(rb"(?:^|\n)/[^\r\n]{2,}\r?\n")
_DUMP = re.compile(rb"\s*(?:7[Ee]|0[Ff]|[Dd][Bb]|68)[0-9A-Fa-f\s:;,.'\"\-]*")

Format = Literal["csv", "green button", "dsmr", "dlms"]


@dataclass
class Found:
    """What one file gave: ``data`` of a CSV, registers or intervals of the other formats."""

    file: str
    format: Format
    data: LoadData | None = None
    registers: list[Register] = field(default_factory=list)
    intervals: list[Interval] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


def kind_of(head: bytes) -> Format:
    """The format of a file that begins so; CSV when it is none of the others."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] == b"<":
        return "green button"
    if b"meter_id" in text[:1000].split(b"\n", 1)[0].lower():
        return "csv"
    if _TELEGRAM.search(text):
        return "dsmr"
    cut = text.rfind(b"\n") if len(head) >= _PEEK else -1
    if _DUMP.fullmatch(text if cut < 0 else text[:cut]):
        return "dlms"
    return "csv"


def sniff(file: str) -> Format:
    """The format of a file, by its beginning; DataError."""
    return kind_of(_open(file, _PEEK))


def _open(file: str, size: int) -> bytes:
    """The first `size` bytes, unpacked; DataError."""
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise DataError(file, 0, 0, "not a regular file", "name a file")
        with open(file, "rb") as plain:
            if plain.read(2) == b"\x1f\x8b":
                plain.seek(0)
                with gzip.GzipFile(fileobj=plain) as unpacked:
                    return unpacked.read(size)
            plain.seek(0)
            return plain.read(size)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise DataError(file, 0, 0, "the gzip data are damaged", "copy the file again") from None
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise DataError(file, 0, 0, reason, "check the name and its permissions") from None


def read_file(
    file: str, *, stamp: Literal["start", "end"] = "start", skip_bad: bool = False
) -> Found:
    """What is in one file; ``stamp`` and ``skip_bad`` are those of :func:`read_csv`."""
    from .dlms import read_dlms
    from .dsmr import read_dsmr
    from .greenbutton import read_greenbutton

    found = Found(file, sniff(file))
    if found.format == "csv":

        def note(line: int, reason: str) -> None:
            found.notes.append(Note(file, line, reason))

        found.data = read_csv(file, stamp=stamp, skip_bad=skip_bad, note=note)
        return found
    data = _open(file, MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise DataError(file, 0, 0, f"longer than {MAX_BYTES} bytes", "split the file")
    if found.format == "green button":
        found.intervals = read_greenbutton(file, data, found.notes)
    else:
        reader = read_dsmr if found.format == "dsmr" else read_dlms
        found.registers = reader(file, data, found.notes)
    return found


def join(found: Sequence[Found], notes: list[Note]) -> LoadData | None:
    """The readings of all files as one, None when there are none; DataError when they do not fit.

    Registers of one meter may be spread over files.  ``notes`` gets those of the files and more.
    """
    notes += [note for one in found for note in one.notes]
    intervals = [interval for one in found for interval in one.intervals]
    intervals += intervals_of([register for one in found for register in one.registers], notes)
    made = gather(intervals, notes)
    parts = [one.data for one in found if one.data is not None] + ([made] if made else [])
    return combine(parts) if parts else None


def read_load(
    files: Sequence[str | os.PathLike[str]],
    *,
    stamp: Literal["start", "end"] = "start",
    meters: int | None = None,
    periods: int | None = None,
    skip_bad: bool = False,
) -> LoadData:
    """The readings of all files together: the first ``meters`` ids, their first ``periods``.

    Without ``skip_bad`` the first thing that is bad is a DataError, whatever the format.
    """
    names = [os.fspath(file) for file in files]
    if len(names) == 1 and sniff(names[0]) == "csv":
        return read_csv(names[0], stamp=stamp, meters=meters, periods=periods, skip_bad=skip_bad)
    notes: list[Note] = []
    data = join([read_file(name, stamp=stamp, skip_bad=skip_bad) for name in names], notes)
    bad = next((note for note in notes if note.bad), None)
    if data is None or (bad and not skip_bad):
        note = bad or (notes[0] if notes else Note(names[0], 0, "no readings in it"))
        todo = "--skip-bad leaves such things out" if data else "give files with readings"
        raise DataError(note.file, note.line, 1, note.reason, todo)
    return data.select(meters, periods)
