"""Consents of customers: a history, of which the newest entry counts. Nothing is ever changed.

A consent is for one purpose and one recipient: a person ROLE:NAME, a role, or "*", anybody. For
one person's request the newest entry for the person, the role or anybody decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from wattveil.privacy.people import ROLES, Person, parse
from wattveil.privacy.state import State

ANYBODY = "*"


def record(
    state: State, subject: str, purpose: str, recipient: str, granted: bool, by: Person
) -> int:
    """Enter a consent or its revocation; its id. ValueError."""
    if state.config.purposes.kind(purpose) != "secondary":
        raise ValueError(
            f"{purpose!r} needs no consent or is unknown; secondary purposes are "
            f"{', '.join(state.config.purposes.secondary)}"
        )
    if recipient != ANYBODY and recipient not in ROLES:
        recipient = ":".join(parse(recipient))
    with state.transaction() as db:
        row = db.execute(
            "INSERT INTO consents(subject, purpose, recipient, granted, at, by) "
            "VALUES(?,?,?,?,?,?)",
            (subject, purpose, recipient, int(granted), int(time.time()), by.logged),
        )
        return int(row.lastrowid or 0)


def holds(state: State, subject: str, purpose: str, recipient: str) -> bool:
    """Whether this customer consents, now, to this purpose for this person."""
    role = recipient.partition(":")[0]
    row = state.gateway().execute(
        "SELECT granted FROM consents WHERE subject=? AND purpose=? AND recipient IN (?,?,?) "
        "ORDER BY id DESC LIMIT 1",
        (subject, purpose, recipient, role, ANYBODY),
    )
    return bool((row.fetchone() or (0,))[0])


def consented(
    state: State, subjects: Callable[[], Sequence[str]], purpose: str, recipient: str
) -> bool:
    """Whether all of a group consent; whose they are is asked only if anybody ever did."""
    any_at_all = "SELECT 1 FROM consents WHERE purpose=? LIMIT 1"
    if state.gateway().execute(any_at_all, (purpose,)).fetchone() is None:
        return False
    return all(holds(state, subject, purpose, recipient) for subject in subjects())


def history(state: State, subject: str) -> list[dict[str, object]]:
    """All entries of a customer, oldest first."""
    rows = state.gateway().execute(
        "SELECT id, purpose, recipient, granted, at, by FROM consents WHERE subject=? ORDER BY id",
        (subject,),
    )
    names = ("id", "purpose", "recipient", "granted", "at", "by")
    return [dict(zip(names, row, strict=True)) | {"granted": bool(row[3])} for row in rows]
