"""Readings into the vault: from any file the importers read, once, and on after an interruption.

A common CSV is streamed, a bounded number of lines at a time; the other formats are whole files.
A source is known by an HMAC of its content, so it is not read twice; and what the vault holds
already changes nothing, whatever file it comes in. Of two values for one interval the first stays.

Rejects are lines "file,line,reason" without anything of the line itself: no id, no reading. `file`
is the place among the files given.
"""

from __future__ import annotations

import contextlib
import gzip
import hmac
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
from cryptography.exceptions import InvalidTag

from wattveil.importers.csv_file import Rows, scan
from wattveil.importers.files import Found, read_file, sniff
from wattveil.importers.readings import BadReading, DataError
from wattveil.importers.series import Note, gather, intervals_of
from wattveil.privacy.contracts import Json
from wattveil.privacy.vault.catalogue import month_of
from wattveil.privacy.vault.identities import Meter
from wattveil.privacy.vault.seal import ABSENT, DAY_S, Plain, unseal
from wattveil.privacy.vault.vault import Vault

if TYPE_CHECKING:
    from numpy.typing import NDArray

LINES = 400_000  # of a CSV at once
DAYS = 16_384  # meter-days of one batch; some 10 MB at 15 minutes
Progress = Callable[[int, int], None]
"""Told how many lines of how many are done."""


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
    rejected: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    known: bool = False  # the whole file was read before

    def json(self) -> Json:
        """Counts."""
        return {
            "rows": self.rows,
            "added": self.added,
            "held": self.held,
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


def ingest(
    vault: Vault,
    files: Sequence[Path],
    rejects: Path,
    *,
    stamp_end: bool = False,
    progress: Progress = lambda done, of: None,
) -> list[Report]:
    """Take the files in, in order; a report each. DataError for a file that is none of ours."""
    rejects.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    numbers = {os.fspath(path): number for number, path in enumerate(files, 1)}
    kinds = {name: sniff(name) for name in numbers}
    registers = [name for name, kind in kinds.items() if kind in ("dsmr", "dlms")]
    groups = [[name] for name in numbers if name not in registers]
    groups += [registers] if registers else []  # an interval may begin in one and end in another
    with vault.writing(), os.fdopen(os.open(rejects, flags, 0o600), "ab") as file:
        return [
            _source(vault, group, kinds[group[0]], Rejects(file, numbers), stamp_end, progress)
            for group in groups
        ]


def _source(
    vault: Vault,
    names: Sequence[str],
    kind: str,
    rejects: Rejects,
    stamp_end: bool,
    progress: Progress,
) -> Report:
    """Take in one CSV or Green Button file, or the files of registers together."""
    mark, lines = _fingerprint(vault, names, stamp_end)
    source = vault.catalogue.source(mark)
    report = rejects.report
    if source.whole:
        report.known = True
        return report
    rejects.done = source.lines
    if kind == "csv":
        shift = vault.interval_s if stamp_end else 0
        batches = _csv(names[0], vault.interval_s, shift, rejects)
    else:
        found = [read_file(name, skip_bad=True) for name in names]
        batches = _other(found, vault.interval_s, rejects)
    writer = _Writer(vault, mark, rejects)
    for batch in batches:
        writer.take(batch)
        progress(batch.until, lines)
    rejects.flush()
    with vault.state.transaction():
        vault.catalogue.progress(mark, lines, 0, whole=True)
        body = {"source": mark.hex(), "format": kind, **report.json()}
        vault.state.log().append("ingest", body)
    progress(lines, lines)
    return report


def _fingerprint(vault: Vault, names: Sequence[str], stamp_end: bool) -> tuple[bytes, int]:
    """HMAC of the files' unpacked content and how it is read, and their number of lines."""
    key, lines = vault.state.key("vault-sources"), 0
    whole = hmac.new(key, bytes([stamp_end]), "sha256")
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


def _csv(name: str, interval_s: int, shift: int, rejects: Rejects) -> Iterator[Batch]:
    def bad(line: int, error: BadReading) -> None:
        rejects.add(name, line, error.kind)

    until = 1
    for rows in scan(name, bad, LINES):
        until += LINES
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


def _other(found: Sequence[Found], interval_s: int, rejects: Rejects) -> Iterator[Batch]:
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


class _Writer:
    """Puts batches into the vault, day by day of each meter."""

    def __init__(self, vault: Vault, mark: bytes, rejects: Rejects) -> None:
        self._vault, self._mark, self._rejects = vault, mark, rejects
        self._report = rejects.report
        self._names: dict[tuple[int, str], bytes] = {}
        self._epochs = vault.catalogue.epochs()
        self._horizon = vault.catalogue.value("horizon")

    def take(self, batch: Batch) -> None:
        """One batch: sorted, checked, merged with what is held, sealed and written."""
        interval = self._vault.interval_s
        day = batch.start // DAY_S
        off = (batch.start % interval != 0) | (batch.start < 0)
        old = day < self._horizon
        for line in batch.line[off].tolist():
            self._rejects.add(batch.name, line, "timestamp off the grid of the vault")
        for line in batch.line[old & ~off].tolist():
            self._rejects.add(batch.name, line, "older than the retention limit")
        good = np.flatnonzero(~off & ~old)
        place = (batch.start[good] % DAY_S) // interval
        meter_day = (batch.meter[good] << 17) | day[good]  # days end at 2^17, in the year 2328
        key = meter_day * self._vault.per_day + place
        order = np.argsort(key, kind="stable")  # of equal ones the first line stays first
        key, meter_day, place = key[order], meter_day[order], place[order]
        wh, line = batch.wh[good][order], batch.line[good][order]
        starts = np.flatnonzero(np.diff(meter_day, prepend=-1))
        for at in range(0, len(starts), DAYS):
            begin = starts[at]
            end = starts[at + DAYS] if at + DAYS < len(starts) else len(key)
            cut = slice(begin, end)
            last = at + DAYS >= len(starts)
            # Only the last batch of these lines says that they are done.
            done = batch.until if last else self._vault.catalogue.source(self._mark).lines
            self._write(
                batch.name, batch.meters, meter_day[cut], place[cut], wh[cut], line[cut], done
            )
        if not len(starts):
            self._done(batch.until)

    def _done(self, line: int) -> None:
        self._rejects.flush()
        with self._vault.state.transaction():
            self._vault.catalogue.progress(self._mark, line, 0)

    def _write(
        self,
        name: str,
        meters: Sequence[str],
        meter_day: NDArray[np.int64],
        place: NDArray[np.int64],
        wh: NDArray[np.int64],
        line: NDArray[np.int64],
        done: int,
    ) -> None:
        per_day = self._vault.per_day
        unique, row = np.unique(meter_day, return_inverse=True)
        days = unique & 0x1FFFF
        first = np.ones(len(row), bool)
        first[1:] = (row[1:] != row[:-1]) | (place[1:] != place[:-1])
        table = np.full((len(unique), per_day), ABSENT, "<u4")
        table[row[first], place[first]] = wh[first]
        names, epochs = self._pseudonyms(meters, unique >> 17, days)
        versions = self._vault.catalogue.present(names, days)
        held = self._held(names, days, epochs, versions)
        before = held != ABSENT
        # A later line of the same interval, or one that is held, with another value: not used.
        now = np.where(before, held, table)
        refused = now[row, place] != wh
        self._report.held += int((~refused & (before[row, place] | ~first)).sum())
        for bad in line[refused].tolist():
            self._rejects.add(name, bad, "another value is held for this interval")
        added = (now != held).sum(axis=1)
        changed = np.flatnonzero(added)
        self._report.added += int(added.sum())
        self._report.rows += int((~refused).sum())
        self._rejects.flush()
        if not len(changed):
            return self._done(done)
        months = month_of(days)
        keys = {m: self._vault.keys.newest(m) for m in np.unique(months[changed]).tolist()}
        plain = [
            Plain(names[i], int(days[i]), epochs[i], keys[int(months[i])],
                  int(versions[i]) + 1, now[i].tobytes())
            for i in changed.tolist()
        ]  # fmt: skip
        self._vault.put(plain, added[changed].tolist(), self._mark, done)

    def _pseudonyms(
        self, meters: Sequence[str], index: NDArray[np.int64], days: NDArray[np.int64]
    ) -> tuple[list[bytes], list[int]]:
        """Of each meter-day: the pseudonym, registered when it is new, and the epoch."""
        numbers = np.array([epoch for epoch, _ in self._epochs])
        begins = np.array([day for _, day in self._epochs])
        epochs = numbers[np.searchsorted(begins, days, side="right") - 1].tolist()
        wanted = [(epoch, meters[i]) for epoch, i in zip(epochs, index.tolist(), strict=True)]
        new = {pair for pair in wanted if pair not in self._names}
        newest = self._epochs[-1][0]
        for epoch in range(min((e for e, _ in new), default=newest + 1), newest + 1):
            missing: dict[str, Meter | None] = {meter: None for e, meter in new if e <= epoch}
            for meter, pseudonym in self._vault.register(missing, epoch).items():
                self._names[epoch, meter] = pseudonym
        return [self._names[pair] for pair in wanted], epochs

    def _held(
        self,
        names: Sequence[bytes],
        days: NDArray[np.int64],
        epochs: Sequence[int],
        versions: NDArray[np.uint32],
    ) -> NDArray[np.uint32]:
        """What the vault has of these meter-days; VaultDamaged."""
        table = np.full((len(names), self._vault.per_day), ABSENT, "<u4")
        wanted = {(names[i], int(days[i])): i for i in np.flatnonzero(versions).tolist()}
        if not wanted:
            return table
        ciphers = self._vault.keys.ciphers()
        opened = set()
        first, last = min(day for _, day in wanted), max(day for _, day in wanted) + 1
        for row in self._vault.usage.read(sorted({name for name, _ in wanted}), first, last):
            i = wanted.get((row[0], row[1]))
            if i is not None:
                with contextlib.suppress(InvalidTag, KeyError):
                    wh = unseal(row, epochs[i], int(versions[i]), ciphers)
                    table[i] = np.frombuffer(wh, "<u4")
                    opened.add((row[0], row[1]))
        for name, day in wanted.keys() - opened:
            i = wanted[name, day]
            table[i] = self._vault.days([name], epochs[i], day, day + 1)[0]
        return table
