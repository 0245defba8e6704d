"""Readings into the vault: from any file the importers read, once, and on after an interruption.

A common CSV is streamed, a bounded number of lines at a time; the other formats are whole files.
A source is known by an HMAC of its content, so it is not read twice; and what the vault holds
already changes nothing, whatever file it comes in. Of two values for one interval the first
stays and the other line is a reject, `conflict`; where corrections are asked for, the last one stays.

Rejects are lines "file,line,reason" without anything of the line itself: no id, no reading. `file`
is the place among the files given.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from cryptography.exceptions import InvalidTag

from wattveil.importers.files import read_file, sniff
from wattveil.privacy.vault.catalogue import month_of
from wattveil.privacy.vault.identities import Meter
from wattveil.privacy.vault.seal import ABSENT, DAY_S, Plain, unseal
from wattveil.privacy.vault.sources import (
    Batch,
    How,
    Rejects,
    Report,
    csv_batches,
    fingerprint,
    other_batches,
)
from wattveil.privacy.vault.vault import Vault

if TYPE_CHECKING:
    from numpy.typing import NDArray

LINES = 400_000  # of a CSV at once
DAYS = 16_384  # meter-days of one batch; some 10 MB at 15 minutes
Progress = Callable[[int, int], None]
"""Told how many lines of how many are done."""


def ingest(
    vault: Vault,
    files: Sequence[Path],
    rejects: Path,
    *,
    stamp_end: bool = False,
    correct: bool = False,
    progress: Progress = lambda done, of: None,
) -> list[Report]:
    """Take the files in, in order; a report each. DataError for a file that is none of ours.

    stamp_end: a CSV's timestamps mark the end of an interval. correct: other values replace those
    that are held.
    """
    rejects.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    numbers = {os.fspath(path): number for number, path in enumerate(files, 1)}
    kinds = {name: sniff(name) for name in numbers}
    registers = [name for name, kind in kinds.items() if kind in ("dsmr", "dlms")]
    how = How(stamp_end, correct)
    groups = [[name] for name in numbers if name not in registers]
    groups += [registers] if registers else []  # an interval may begin in one and end in another
    with vault.writing(), os.fdopen(os.open(rejects, flags, 0o600), "ab") as file:
        return [
            _source(vault, group, kinds[group[0]], Rejects(file, numbers), how, progress)
            for group in groups
        ]


def _source(
    vault: Vault,
    names: Sequence[str],
    kind: str,
    rejects: Rejects,
    how: How,
    progress: Progress,
) -> Report:
    """Take in one CSV or Green Button file, or the files of registers together."""
    mark, lines = fingerprint(vault, names, how)
    source = vault.catalogue.source(mark)
    report = rejects.report
    if source.whole:
        report.known = True
        return report
    rejects.done = source.lines
    if kind == "csv":
        shift = vault.interval_s if how.stamp_end else 0
        batches = csv_batches(names[0], vault.interval_s, shift, rejects, LINES)
    else:
        found = [read_file(name, skip_bad=True) for name in names]
        batches = other_batches(found, vault.interval_s, rejects)
    writer = _Writer(vault, mark, rejects, how.correct)
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


class _Writer:
    """Puts batches into the vault, day by day of each meter."""

    def __init__(self, vault: Vault, mark: bytes, rejects: Rejects, correct: bool) -> None:
        self._vault, self._mark, self._rejects, self._correct = vault, mark, rejects, correct
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
        order = np.argsort(key, kind="stable")  # equal ones stay in the order of their lines
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
        last = np.append(first[1:], True)
        table = np.full((len(unique), per_day), ABSENT, "<u4")
        chosen = last if self._correct else first
        table[row[chosen], place[chosen]] = wh[chosen]
        names, epochs = self._pseudonyms(meters, unique >> 17, days)
        versions = self._vault.catalogue.present(names, days)
        held = self._held(names, days, epochs, versions)
        if self._correct:
            now = np.where(table != ABSENT, table, held)
            old = np.where(first, held[row, place], np.roll(wh, 1))  # what each line meets
            self._report.held += int((old == wh).sum())
            self._report.corrected += int(((old != wh) & (old != ABSENT)).sum())
            self._report.rows += len(wh)
        else:
            now = np.where(held != ABSENT, held, table)
            refused = now[row, place] != wh
            fresh = first & (held[row, place] == ABSENT)
            self._report.held += int((~refused & ~fresh).sum())
            self._report.rows += int((~refused).sum())
            for bad in line[refused].tolist():
                self._rejects.add(name, bad, "conflict: another value is held")
        changed = np.flatnonzero((now != held).any(axis=1))
        added = ((now != ABSENT) & (held == ABSENT)).sum(axis=1)
        self._report.added += int(added.sum())
        self._rejects.flush()
        if not len(changed):
            return self._done(done)
        months = month_of(days)
        keys = {m: self._vault.keys.newest(m) for m in np.unique(months[changed]).tolist()}
        version = self._vault.catalogue.next_batch()
        plain = [
            Plain(names[i], int(days[i]), epochs[i], keys[int(months[i])], version,
                  now[i].tobytes())
            for i in changed.tolist()
        ]  # fmt: skip
        fresh_days = versions[changed] == 0
        self._vault.put(plain, added[changed], fresh_days, self._mark, done)

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
