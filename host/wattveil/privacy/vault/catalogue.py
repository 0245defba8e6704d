"""What the gateway itself keeps of its vault, in gateway.db: the part that is trusted.

Epochs, wrapped data keys, public facts per pseudonym, the present version of every sealed day, the
batch that is being written, which files were read, and the aggregates that outlive the readings.
It shares gateway.db so that a change and its log entry are one transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from wattveil.privacy.refusals import Refused
from wattveil.privacy.state import State
from wattveil.privacy.vault.identities import SEGMENTS
from wattveil.privacy.vault.seal import DAY_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MONTH_DAYS = 31
_AT_ONCE = 500
CHANGE = np.dtype([("pseudonym", "V16"), ("day", "<u4"), ("added", "<u4"), ("fresh", "?")])
"""One sealed day of a batch; added: readings it did not have before; fresh: there was no such day."""

_TABLES = """
CREATE TABLE IF NOT EXISTS vault(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS vault_epochs(
    epoch INTEGER PRIMARY KEY, first_day INTEGER NOT NULL, key_check BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS vault_keys(
    id INTEGER PRIMARY KEY, month INTEGER NOT NULL, kek INTEGER NOT NULL, wrapped BLOB);
CREATE TABLE IF NOT EXISTS vault_members(
    epoch INTEGER NOT NULL, pseudonym BLOB NOT NULL, tariff TEXT NOT NULL, region TEXT NOT NULL,
    type TEXT NOT NULL, PRIMARY KEY(epoch, pseudonym)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS vault_versions(
    pseudonym BLOB NOT NULL, month INTEGER NOT NULL, versions BLOB NOT NULL,
    PRIMARY KEY(pseudonym, month)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS vault_days(
    day INTEGER PRIMARY KEY, meters INTEGER NOT NULL, readings INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS vault_pending(
    batch INTEGER PRIMARY KEY, changes BLOB NOT NULL, mark BLOB NOT NULL, line INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS vault_sources(
    mark BLOB PRIMARY KEY, lines INTEGER NOT NULL, readings INTEGER NOT NULL,
    whole INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS vault_kept(
    day INTEGER NOT NULL, segment TEXT NOT NULL, key INTEGER NOT NULL, box BLOB NOT NULL,
    PRIMARY KEY(day, segment)) WITHOUT ROWID;
"""


class Source(NamedTuple):
    """A file: lines of it that are done, readings that were new, and whether that is all."""

    mark: bytes
    lines: int
    readings: int
    whole: bool


def month_of(days: NDArray[np.int64]) -> NDArray[np.int64]:
    """Months since January 1970 of UTC day indices."""
    return days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


@cache
def month_of_day(day: int) -> int:
    """The same for one day."""
    return int(month_of(np.array([day], np.int64))[0])


@cache
def first_of_month(month: int) -> int:
    """UTC day index of a month's first day."""
    return int(np.datetime64(month, "M").astype("datetime64[D]").astype(np.int64))


class Catalogue:
    """The vault's tables in gateway.db, on this thread's connection."""

    def __init__(self, state: State) -> None:
        self._state = state
        db = state.gateway()
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name='vault_kept'").fetchone():
            for table in _TABLES.split(";"):  # executescript would end a transaction
                db.execute(table)

    @property
    def db(self) -> sqlite3.Connection:
        """This thread's connection."""
        return self._state.gateway()

    def value(self, name: str, default: int = 0) -> int:
        """One number of the vault's own."""
        row = self.db.execute("SELECT value FROM vault WHERE name=?", (name,)).fetchone()
        return int(row[0]) if row else default

    def put(self, name: str, value: int) -> None:
        """Change one, in the caller's transaction."""
        self.db.execute(
            "INSERT INTO vault VALUES(?,?) ON CONFLICT(name) DO UPDATE SET value=excluded.value",
            (name, value),
        )

    def epochs(self) -> list[tuple[int, int]]:
        """(epoch, first day), in order; each lasts until the next begins."""
        return self.db.execute(
            "SELECT epoch, first_day FROM vault_epochs ORDER BY epoch"
        ).fetchall()

    def epoch_of(self, first: int, last: int) -> int:
        """The one epoch of the days [first, last); Refused("epoch_boundary")."""
        found = [e for e, day in self.epochs() if day <= max(first, 0)]
        later = [day for _, day in self.epochs() if first < day < last]
        if later:
            raise Refused("epoch_boundary", f"pseudonyms change at {_date(later[0])}")
        return found[-1]

    # Who belongs to what

    def join(self, epoch: int, members: Iterable[tuple[bytes, tuple[str, str, str]]]) -> None:
        """Put pseudonyms and their public facts, in the caller's transaction."""
        self.db.executemany(
            "INSERT INTO vault_members VALUES(?,?,?,?,?) ON CONFLICT(epoch, pseudonym) "
            "DO UPDATE SET tariff=excluded.tariff, region=excluded.region, type=excluded.type",
            ((epoch, pseudonym, *segment) for pseudonym, segment in members),
        )

    def members(self, epoch: int, segment: dict[str, str]) -> list[bytes]:
        """Pseudonyms of a segment in an epoch, in order; ValueError for an unknown key."""
        for key in segment:
            if key not in SEGMENTS:
                raise ValueError(f"segment {key!r} is not known: there are {', '.join(SEGMENTS)}")
        where = "".join(f" AND {key}=?" for key in segment)
        rows = self.db.execute(
            f"SELECT pseudonym FROM vault_members WHERE epoch=?{where} ORDER BY pseudonym",
            (epoch, *segment.values()),
        )
        return [bytes(row[0]) for row in rows]

    def joined(self, epoch: int, pseudonyms: Sequence[bytes]) -> set[bytes]:
        """Which of these are members of an epoch."""
        found: set[bytes] = set()
        for at in range(0, len(pseudonyms), _AT_ONCE):
            part = pseudonyms[at : at + _AT_ONCE]
            rows = self.db.execute(
                "SELECT pseudonym FROM vault_members WHERE epoch=? AND pseudonym IN "
                f"({','.join('?' * len(part))})",
                (epoch, *part),
            )
            found |= {bytes(row[0]) for row in rows}
        return found

    def segments(self, epoch: int) -> dict[bytes, tuple[str, str, str]]:
        """The public facts of everybody in an epoch."""
        rows = self.db.execute(
            "SELECT pseudonym, tariff, region, type FROM vault_members WHERE epoch=?", (epoch,)
        )
        return {bytes(p): (tariff, region, kind) for p, tariff, region, kind in rows}

    # Which version of each sealed day is the present one: the number of the batch that wrote it; 0:
    # there is none

    def versions(self, pseudonyms: Sequence[bytes], first: int, last: int) -> NDArray[np.uint32]:
        """[pseudonym, day of [first, last)]."""
        found = np.zeros((len(pseudonyms), last - first), np.uint32)
        index = {pseudonym: i for i, pseudonym in enumerate(pseudonyms)}
        for pseudonym, month, versions in self._months(pseudonyms, first, last):
            start = first_of_month(month)
            a, b = max(first, start), min(last, start + _MONTH_DAYS)
            days = np.frombuffer(versions, "<u4")
            found[index[pseudonym], a - first : b - first] |= days[a - start : b - start]
        return found

    def present(self, pseudonyms: Sequence[bytes], days: NDArray[np.int64]) -> NDArray[np.uint32]:
        """The version of each pair (pseudonyms[i], days[i]), however far apart the days are."""
        found = np.zeros(len(pseudonyms), np.uint32)
        months = month_of(days)
        for month in np.unique(months).tolist():
            pairs = np.flatnonzero(months == month)
            start = first_of_month(month)
            chosen = sorted({pseudonyms[i] for i in pairs.tolist()})
            row = {pseudonym: i for i, pseudonym in enumerate(chosen)}
            at = [row[pseudonyms[i]] for i in pairs.tolist()]
            table = self.versions(chosen, start, first_of_month(month + 1))
            found[pairs] = table[at, days[pairs] - start]
        return found

    def _months(
        self, pseudonyms: Sequence[bytes], first: int, last: int
    ) -> Iterator[tuple[bytes, int, bytes]]:
        months = (month_of_day(first), month_of_day(last - 1))
        for at in range(0, len(pseudonyms), _AT_ONCE):
            part = pseudonyms[at : at + _AT_ONCE]
            yield from self.db.execute(
                "SELECT pseudonym, month, versions FROM vault_versions WHERE pseudonym IN "
                f"({','.join('?' * len(part))}) AND month BETWEEN ? AND ?",
                (*part, *months),
            )

    def pending(self) -> tuple[int, NDArray[np.void], bytes, int] | None:
        """The batch that was begun and not ended: number, changes, source, its line."""
        row = self.db.execute("SELECT batch, changes, mark, line FROM vault_pending").fetchone()
        if row is None:
            return None
        return int(row[0]), np.frombuffer(row[1], CHANGE), bytes(row[2]), int(row[3])

    def next_batch(self) -> int:
        """The number that `begin` will give, to whoever holds the vault's lock."""
        return self.value("batch") + 1

    def written(self) -> int:
        """Number of the newest batch that is not being written any more."""
        return self.value("batch") - (self.pending() is not None)

    def begin(self, changes: NDArray[np.void], mark: bytes, line: int) -> int:
        """Announce a batch, before the usage store has it; its number. Caller's transaction."""
        batch = self.next_batch()
        self.put("batch", batch)
        self.db.execute(
            "INSERT INTO vault_pending VALUES(?,?,?,?)", (batch, changes.tobytes(), mark, line)
        )
        return batch

    def drop_pending(self) -> None:
        """Forget the batch, in the caller's transaction."""
        self.db.execute("DELETE FROM vault_pending")

    def end(self) -> None:
        """The usage store has the batch: its versions are the present ones. Caller's transaction."""
        begun = self.pending()
        if begun is None:
            return
        batch, changes, mark, line = begun
        version = batch.to_bytes(4, "little")
        months = month_of(changes["day"].astype(np.int64))
        blobs: dict[tuple[bytes, int], bytearray] = {}
        firsts = {int(month): first_of_month(int(month)) for month in np.unique(months)}
        fresh: dict[int, list[int]] = {}
        for pseudonym, month, day, added, new in zip(
            changes["pseudonym"].tolist(),
            months.tolist(),
            changes["day"].tolist(),
            changes["added"].tolist(),
            changes["fresh"].tolist(),
            strict=True,
        ):
            at = (pseudonym, month)
            blob = blobs.get(at)
            if blob is None:
                blob = blobs[at] = self._versions_of(pseudonym, month)
            place = 4 * (day - firsts[month])
            blob[place : place + 4] = version
            count = fresh.setdefault(day, [0, 0])
            count[0] += new
            count[1] += added
        self.db.executemany(
            "INSERT OR REPLACE INTO vault_versions VALUES(?,?,?)",
            ((p, month, bytes(blob)) for (p, month), blob in sorted(blobs.items())),
        )
        self.db.executemany(
            "INSERT INTO vault_days VALUES(?,?,?) ON CONFLICT(day) DO UPDATE SET "
            "meters=meters+excluded.meters, readings=readings+excluded.readings",
            ((day, meters, readings) for day, (meters, readings) in fresh.items()),
        )
        self.progress(mark, line, int(changes["added"].sum()))
        self.drop_pending()

    def _versions_of(self, pseudonym: bytes, month: int) -> bytearray:
        row = self.db.execute(
            "SELECT versions FROM vault_versions WHERE pseudonym=? AND month=?", (pseudonym, month)
        ).fetchone()
        return bytearray(row[0] if row else 4 * _MONTH_DAYS)

    def forget_before(self, day: int) -> None:
        """No version of any earlier day is the present one. Caller's transaction."""
        month = month_of_day(day)
        self.db.execute("DELETE FROM vault_versions WHERE month<?", (month,))
        keep = 4 * (day - first_of_month(month))
        self.db.execute(
            "UPDATE vault_versions SET versions=CAST(zeroblob(?) || substr(versions, ?) AS BLOB) "
            "WHERE month=?",
            (keep, keep + 1, month),
        )
        self.db.execute("DELETE FROM vault_days WHERE day<?", (day,))

    # Days and sources

    def days(self, first: int = 0, last: int = 1 << 31) -> list[tuple[int, int, int]]:
        """(day, meters, readings) of the days that have any."""
        return self.db.execute(
            "SELECT day, meters, readings FROM vault_days WHERE day>=? AND day<? ORDER BY day",
            (first, last),
        ).fetchall()

    def source(self, mark: bytes) -> Source:
        """How far a file was read."""
        row = self.db.execute("SELECT * FROM vault_sources WHERE mark=?", (mark,)).fetchone()
        return Source(mark, row[1], row[2], bool(row[3])) if row else Source(mark, 0, 0, False)

    def progress(self, mark: bytes, line: int, added: int, whole: bool = False) -> None:
        """Note how far it is now, in the caller's transaction."""
        self.db.execute(
            "INSERT INTO vault_sources VALUES(?,?,?,?) ON CONFLICT(mark) DO UPDATE SET "
            "lines=excluded.lines, readings=readings+excluded.readings, whole=excluded.whole",
            (mark, line, added, whole),
        )


def _date(day: int) -> str:
    return str(np.datetime64(day, "D"))


def day_range(start: int, end: int, interval_s: int) -> tuple[int, int]:
    """The UTC days [first, last) that [start, end) touches; ValueError when it is no grid range."""
    if not 0 <= start < end:
        raise ValueError("the range must begin before it ends, and after 1970")
    if start % interval_s or end % interval_s:
        raise ValueError(f"the range must begin and end on the grid of {interval_s} s")
    return start // DAY_S, -(-end // DAY_S)
