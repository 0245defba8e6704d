"""What was asked before: questions that together say more than each by itself.

Two answers about groups that differ in a few homes give, by subtraction, those homes; so do two
about one group, when readings of a few homes came in or were corrected between them. A
differentially private answer stays private and is charged; the privacy officer gets an alarm. One
without noise (an exact sum, an anonymised export) is refused. The same question again and again
averages noise away, which the budget ends; it is an alarm, too.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from wattveil.privacy.refusals import Refused

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wattveil.privacy.query.ask import Query

DAY_S = 86_400
OVERLAP = 0.9  # of the longer range: nearly the same question
RETENTION = "retention"  # who asks for the sums that stay
NOISELESS = ("aggregate", "k-anonymity")
_NAME = 8  # bytes of a subject kept here: enough to tell homes apart


@dataclass(frozen=True)
class Alarm:
    """Something for the privacy officer. earlier: the charge of the answer it goes with."""

    kind: str
    earlier: str


class Cohort:
    """Who is asked about, by short names made of the ledger's."""

    def __init__(self, members: Iterable[bytes]) -> None:
        self.members = frozenset(members)
        self.packed = b"".join(sorted(self.members))
        self.digest = hashlib.sha256(self.packed).digest()

    @classmethod
    def of(cls, subjects: Iterable[str]) -> Cohort:
        """From the ledger's names."""
        return cls(_name(subject) for subject in subjects)

    def store(self, db: sqlite3.Connection) -> None:
        """Keep who it is, in the caller's transaction."""
        db.execute("INSERT OR IGNORE INTO cohorts VALUES(?,?)", (self.digest, self.packed))


@dataclass(frozen=True)
class Asking:
    """A question about to be answered. charge: its name in the ledger; now: UTC s.

    batch: the newest readings that it can see. revisions: see `VaultReader`, of the same members.
    """

    charge: str
    now: int
    person: str
    query: Query
    cohort: Cohort
    batch: int = 0
    revisions: Callable[[], NDArray[np.uint32]] = lambda: np.zeros((0, 0), np.uint32)

    @cached_property
    def _revisions(self) -> NDArray[np.uint32]:
        return self.revisions()

    def changed(self, start: int, end: int, batch: int) -> int:
        """Homes of which readings of [start, end), a part of the range, came after a batch."""
        if batch >= self.batch:
            return 0
        first = self.query.start // DAY_S
        days = slice(start // DAY_S - first, -(-end // DAY_S) - first)
        return int((self._revisions[:, days] > batch).any(axis=1).sum())


def _name(subject: str) -> bytes:
    return hashlib.sha256(subject.encode()).digest()[:_NAME]


def remember(db: sqlite3.Connection, asking: Asking, group_min: int) -> list[Alarm]:
    """Enter the question, in the caller's transaction, and the alarms it raises. See `check`."""
    alarms = check(db, asking, group_min)
    enter(db, asking)
    for alarm in alarms:
        db.execute(
            "INSERT INTO alarms(kind, at, person, body) VALUES(?,?,?,?)",
            (alarm.kind, asking.now, asking.person,
             json.dumps({"charge": asking.charge, "earlier": alarm.earlier})),
        )  # fmt: skip
    return alarms


def check(db: sqlite3.Connection, asking: Asking, group_min: int) -> list[Alarm]:
    """The alarms that a question raises, one of a kind.

    Refused("differencing") for an answer without noise that, with another such about overlapping
    time, would leave fewer than `group_min` homes.
    """
    query = asking.query
    earlier = db.execute(
        "SELECT charge, technique, kind, start, end, cohort, batch FROM asked "
        "WHERE start < ? AND end > ? ORDER BY id DESC",
        (query.end, query.start),
    ).fetchall()
    alarms: dict[str, Alarm] = {}
    apart: dict[bytes, int] = {}
    for charge, technique, kind, start, end, cohort, batch in earlier:
        if cohort not in apart:
            apart[cohort] = _apart(db, asking.cohort, cohort)
        both = max(start, query.start), min(end, query.end)
        homes = apart[cohort] or asking.changed(*both, batch)
        if 0 < homes < group_min:
            if query.technique in NOISELESS and technique in NOISELESS:
                what = "the group" if apart[cohort] else "what is known of the group"
                raise Refused("differencing", f"{what} differs in a few homes from one before")
            alarms.setdefault("differencing", Alarm("differencing", charge))
        longer = max(end - start, query.end - query.start)
        same = kind == query.kind and technique == query.technique != "aggregate"
        if same and apart[cohort] == 0 and both[1] - both[0] >= OVERLAP * longer:
            alarms.setdefault("repeated", Alarm("repeated", charge))
    return list(alarms.values())


def enter(db: sqlite3.Connection, asking: Asking) -> None:
    """Remember a question, in the caller's transaction."""
    query, cohort = asking.query, asking.cohort
    cohort.store(db)
    db.execute(
        "INSERT INTO asked(charge, at, person, technique, kind, segment, start, end, cohort, batch) "
        "VALUES(?,?,?,?,?,?,?,?,?,?)",
        (asking.charge, asking.now, asking.person, query.technique, query.kind,
         json.dumps(dict(query.segment)), query.start, query.end, cohort.digest, asking.batch),
    )  # fmt: skip


def _apart(db: sqlite3.Connection, one: Cohort, other: bytes) -> int:
    """Homes in one group and not in the other."""
    if other == one.digest:
        return 0
    (row,) = db.execute("SELECT members FROM cohorts WHERE digest=?", (other,)).fetchone()
    return len(_unpack(row) ^ one.members)


def _unpack(packed: bytes) -> set[bytes]:
    return {packed[at : at + _NAME] for at in range(0, len(packed), _NAME)}


def kept(db: sqlite3.Connection, start: int, end: int) -> Cohort:
    """Everybody in the sums that stayed of readings of [start, end)."""
    rows = db.execute(
        "SELECT members FROM cohorts WHERE digest IN "
        "(SELECT cohort FROM asked WHERE person=? AND start<? AND end>?)",
        (RETENTION, end, start),
    )
    return Cohort(set().union(*(_unpack(row[0]) for row in rows)))


def about(db: sqlite3.Connection, subject: str) -> list[dict[str, object]]:
    """The questions whose group a household was in, oldest first, for its own report."""
    name = _name(subject)
    mine = [
        digest
        for digest, row in db.execute("SELECT digest, members FROM cohorts")
        if any(row[at : at + _NAME] == name for at in range(0, len(row), _NAME))
    ]
    marks = ",".join("?" * len(mine))
    rows = db.execute(
        "SELECT charge, at, person, technique, kind, segment, start, end FROM asked "
        f"WHERE cohort IN ({marks}) ORDER BY id",
        mine,
    )
    names = ("charge", "at", "person", "technique", "kind", "segment", "start", "end")
    return [dict(zip(names, row, strict=True)) for row in rows]


def alarms(db: sqlite3.Connection) -> list[dict[str, object]]:
    """For the privacy officer, newest first."""
    rows = db.execute(
        "SELECT id, kind, at, person, body, seen_by, seen_at FROM alarms ORDER BY id DESC"
    )
    names = ("id", "kind", "at", "person", "body", "seen_by", "seen_at")
    return [dict(zip(names, row, strict=True)) | {"body": json.loads(row[4])} for row in rows]


def see(db: sqlite3.Connection, number: int, person: str) -> bool:
    """Enter who saw an alarm, in the caller's transaction; False if it was seen, or is none."""
    done = db.execute(
        "UPDATE alarms SET seen_by=?, seen_at=? WHERE id=? AND seen_by IS NULL",
        (person, int(time.time()), number),
    )
    return done.rowcount == 1
