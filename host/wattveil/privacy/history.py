"""What was asked before: questions that together say more than each by itself.

Two answers about groups that differ in a few homes give, by subtraction, those homes. A
differentially private answer stays private and is charged; the privacy officer gets an alarm. An
exact one is refused. The same question again and again averages noise away, which the budget ends;
it is an alarm, too.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wattveil.privacy.refusals import Refused

if TYPE_CHECKING:
    from wattveil.privacy.query.ask import Query

OVERLAP = 0.9  # of the longer range: nearly the same question
_NAME = 8  # bytes of a subject kept here: enough to tell homes apart


@dataclass(frozen=True)
class Alarm:
    """Something for the privacy officer. earlier: the charge of the answer it goes with."""

    kind: str
    earlier: str


@dataclass
class Asking:
    """A question about to be answered. charge: its name in the ledger; now: UTC s."""

    charge: str
    now: int
    person: str
    query: Query
    subjects: Sequence[str]
    members: frozenset[bytes] = field(init=False)
    digest: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.members = frozenset(_name(subject) for subject in self.subjects)
        self.digest = hashlib.sha256(b"".join(sorted(self.members))).digest()


def _name(subject: str) -> bytes:
    return hashlib.sha256(subject.encode()).digest()[:_NAME]


def remember(db: sqlite3.Connection, asking: Asking, group_min: int) -> list[Alarm]:
    """Enter the question, in the caller's transaction, and the alarms it raises.

    Refused("differencing") for an exact answer that, with an exact one about overlapping time,
    would leave fewer than `group_min` homes.
    """
    query = asking.query
    earlier = db.execute(
        "SELECT charge, technique, kind, start, end, cohort FROM asked "
        "WHERE start < ? AND end > ? ORDER BY id DESC",
        (query.end, query.start),
    ).fetchall()
    alarms: dict[str, Alarm] = {}
    apart: dict[bytes, int] = {}
    for charge, technique, kind, start, end, cohort in earlier:
        if cohort not in apart:
            apart[cohort] = _apart(db, asking, cohort)
        if 0 < apart[cohort] < group_min:
            if query.technique == technique == "aggregate":
                raise Refused("differencing", "the group differs in a few homes from one before")
            alarms.setdefault("differencing", Alarm("differencing", charge))
        shared = min(end, query.end) - max(start, query.start)
        longer = max(end - start, query.end - query.start)
        same = kind == query.kind and technique == query.technique != "aggregate"
        if same and apart[cohort] == 0 and shared >= OVERLAP * longer:
            alarms.setdefault("repeated", Alarm("repeated", charge))
    db.execute(
        "INSERT OR IGNORE INTO cohorts VALUES(?,?)",
        (asking.digest, b"".join(sorted(asking.members))),
    )
    db.execute(
        "INSERT INTO asked(charge, at, person, technique, kind, segment, start, end, cohort) "
        "VALUES(?,?,?,?,?,?,?,?,?)",
        (asking.charge, asking.now, asking.person, query.technique, query.kind,
         json.dumps(dict(query.segment)), query.start, query.end, asking.digest),
    )  # fmt: skip
    for alarm in alarms.values():
        db.execute(
            "INSERT INTO alarms(kind, at, person, body) VALUES(?,?,?,?)",
            (alarm.kind, asking.now, asking.person,
             json.dumps({"charge": asking.charge, "earlier": alarm.earlier})),
        )  # fmt: skip
    return list(alarms.values())


def _apart(db: sqlite3.Connection, asking: Asking, cohort: bytes) -> int:
    """Homes in one group and not in the other."""
    if cohort == asking.digest:
        return 0
    (row,) = db.execute("SELECT members FROM cohorts WHERE digest=?", (cohort,)).fetchone()
    names = {bytes(row[at : at + _NAME]) for at in range(0, len(row), _NAME)}
    return len(names ^ asking.members)


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
    rows = db.execute("SELECT id, kind, at, person, body FROM alarms ORDER BY id DESC")
    names = ("id", "kind", "at", "person", "body")
    return [dict(zip(names, row, strict=True)) | {"body": json.loads(row[4])} for row in rows]
