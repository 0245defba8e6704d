"""Files as batches of readings, and what is told of the lines that are not used."""

from __future__ import annotations

import contextlib
import gzip
import hmac
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from wattveil.importers.csv_file import Rows, scan
from wattveil.importers.files import Found
from wattveil.importers.readings import BadReading, DataError
from wattveil.importers.series import Note, gather, intervals_of
from wattveil.privacy.contracts import Json
from wattveil.privacy.vault.vault import Vault

if TYPE_CHECKING:
    from numpy.typing import NDArray


class How(NamedTuple):
    """How a source is read, see `ingest`."""

    stamp_end: bool
    correct: bool


class Batch(NamedTuple):
    """Readings as they come: `meter` indexes `meters`; start in UTC s; line of the source."""

    name: str
    meters: Sequence[str]
    meter: NDArray[np.int64]
    start: NDArray[np.int64]
    wh: NDArray[np.int64]
    line: NDArray[np.int64]
    until: int  # the source is read so far


@dataclass
class Report:
    """What became of the rows of one source."""

    rows: int = 0
    added: int = 0
    held: int = 0  # were in the vault already, with this value
    corrected: int = 0  # took the place of another value
    rejected: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    known: bool = False  # the whole file was read before

    def json(self) -> Json:
        """Counts."""
        return {
            "rows": self.rows,
            "added": self.added,
            "held": self.held,
            "corrected": self.corrected,
            "rejected": self.rejected,
            "reasons": self.reasons,
            "known": self.known,
        }


class Rejects:
    """The rejects file, as one source adds to it. numbers: place on the command line, by name.

    done: lines of a CSV that an earlier run did, and told of.
    """

    def __init__(self, file: BinaryIO, numbers: Mapping[str, int]) -> None:
        self._file, self._numbers = file, numbers
        self.report, self.done = Report(), 0

    def add(self, name: str, line: int, reason: str) -> None:
        """One line that was not used."""
        if line and line <= self.done:
            return
        report = self.report
        report.rejected += 1
        report.rows += 1
        report.reasons[reason] = report.reasons.get(reason, 0) + 1
        self._file.write(f"{self._numbers[name]},{line},{reason}\n".encode())

    def flush(self) -> None:
        """On disk, before the lines count as done."""
        self._file.flush()
        os.fsync(self._file.fileno())


def fingerprint(vault: Vault, names: Sequence[str], how: How) -> tuple[bytes, int]:
    """HMAC of the files' unpacked content and how it is read, and their number of lines."""
    key, lines = vault.state.key("vault-sources"), 0
    whole = hmac.new(key, bytes(how), "sha256")
    for name in names:
        digest = hmac.new(key, digestmod="sha256")
        try:
            with contextlib.ExitStack() as stack:
                plain = stack.enter_context(open(name, "rb"))
                packed = plain.peek(2)[:2] == b"\x1f\x8b"
                stream = gzip.GzipFile(fileobj=plain) if packed else plain
                while piece := stream.read(1 << 20):
                    digest.update(piece)
                    lines += piece.count(b"\n")
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise DataError(name, 0, 0, "the gzip data are damaged", "copy it again") from None
        whole.update(digest.digest())
    return whole.digest(), max(lines, 1)


def csv_batches(
    name: str, interval_s: int, shift: int, rejects: Rejects, at_once: int
) -> Iterator[Batch]:
    """A common CSV, so many lines at a time; those that an earlier run did left out."""

    def bad(line: int, error: BadReading) -> None:
        rejects.add(name, line, error.kind)

    until = 1
    for rows in scan(name, bad, at_once):
        until += at_once
        _check_period(name, rows, interval_s)
        batch = _batch_of(name, rows, shift, until)
        new = batch.line > rejects.done
        if new.any():
            yield batch._replace(
                meter=batch.meter[new], start=batch.start[new], wh=batch.wh[new],
                line=batch.line[new],
            )  # fmt: skip


def _check_period(name: str, rows: Rows, interval_s: int) -> None:
    """DataError unless the smallest step between timestamps is the vault's."""
    stamps = np.unique(np.array(rows.seconds, np.int64))
    if len(stamps) > 1 and (period := int(np.diff(stamps).min())) > interval_s:
        reason = f"its period is {period} s, the vault's is {interval_s} s"
        raise DataError(name, 0, 0, reason, "make a vault of that interval: vault init --interval")


def _batch_of(name: str, rows: Rows, shift: int, until: int) -> Batch:
    meters = [meter.decode() for meter in rows.meters]
    entries = rows.meters.values()
    counts = [len(entry.packed) for entry in entries]
    packed = [np.frombuffer(entry.packed, np.uint64) for entry in entries]
    lines = [np.frombuffer(entry.lines, np.uint64) for entry in entries]
    none = np.empty(0, np.uint64)
    all_packed = np.concatenate([none, *packed])
    seconds = np.array(rows.seconds, np.int64) - shift
    return Batch(
        name,
        meters,
        np.repeat(np.arange(len(meters)), counts),
        seconds[(all_packed >> np.uint64(32)).astype(np.int64)],
        (all_packed & np.uint64(0xFFFFFFFF)).astype(np.int64),
        np.concatenate([none, *lines]).astype(np.int64),
        until,
    )


_SAID = re.compile(r"\S*[\d'\"\\]\S*")


def other_batches(found: Sequence[Found], interval_s: int, rejects: Rejects) -> Iterator[Batch]:
    """Whole files of another format; their notes lose every word with a digit or a quotation."""
    notes: list[Note] = [note for one in found for note in one.notes]
    intervals = [interval for one in found for interval in one.intervals]
    intervals += intervals_of([register for one in found for register in one.registers], notes)
    data = gather(intervals, notes)
    for note in notes:
        if note.bad:
            words = _SAID.sub("*", note.reason).replace(",", ";")
            plain = words.isascii() and words.isprintable()
            rejects.add(note.file, note.line, words if plain else "bad")
    if data is None:
        return
    if data.period_s != interval_s:
        reason = f"its period is {data.period_s} s, the vault's is {interval_s} s"
        raise DataError(found[0].file, 0, 0, reason, "make a vault of that interval")
    rows = [(i, start, wh) for i, meter in enumerate(data.meters)
            for start, wh in data.values[meter].items()]  # fmt: skip
    table = np.array(rows, np.int64).reshape(-1, 3)
    nowhere = np.zeros(len(rows), np.int64)
    yield Batch(found[0].file, data.meters, table[:, 0], table[:, 1], table[:, 2], nowhere, 1)
