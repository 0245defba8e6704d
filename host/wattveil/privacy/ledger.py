"""The privacy ledger: what each household has spent, entry by entry, and the limits that end it.

Every value that leaves is a charge: so much epsilon for each of a set of subjects, entered before
the value is visible. Entries are never changed. Beside them stand the sums per subject and day and
per subject's lifetime (sequential composition), so that a charge costs one pass over its subjects
however long the history is; `audit` adds the entries up again. All of it is rows of a store, read
and written in one transaction: whoever shares the store, no two charges are granted one budget.

Subjects are named by the accountant's key (`subjects.Subjects`), whose check value is a row here.
Epsilons are exact rationals.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple, Protocol

from wattveil_meter.fields import Malformed, pack, unpack

ENTRY, ROSTER, SPENT, KEY = "entry", "roster", "spent", "accountant"  # kinds of rows
LIMITS = ("day", "lifetime")
_LIMIT = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20}|/[1-9][0-9]{0,19})?")
_AMOUNT = re.compile(rb"[0-9]{1,2000}(/[0-9]{1,2000})?")


class Rows(Protocol):
    """The rows of a store as one transaction sees them."""

    def load(self, kind: str) -> Mapping[str, bytes]:
        """All rows of one kind, by key."""

    def get(self, kind: str, key: str) -> bytes | None:
        """One row."""


class Row(NamedTuple):
    """One row to write."""

    kind: str
    key: str
    value: bytes


class Shared(Rows, Protocol):
    """A store that several processes may write to."""

    def transact(self, decide: Callable[[Rows], Iterable[Row]]) -> None:
        """Write the rows `decide` returns for what it reads, as one transaction that no other
        overlaps; nothing is written when it raises."""


class Denied(Exception):
    """A charge that was not entered: nothing was written. `reason` is the refusal's name."""

    reason = "denied"


class OverLimit(Denied):
    """A limit forbids it."""

    def __init__(self, limit: str, most: Fraction, subjects: list[str]) -> None:
        self.limit, self.most, self.subjects = limit, most, subjects
        self.reason = f"over_{limit}_limit"
        super().__init__(
            f"the {limit} limit of epsilon {most} would be exceeded for {len(subjects)} "
            f"household(s), {subjects[0]} first"
        )


class Conflict(Denied):
    """Another charge was entered under the same name, for something else."""

    reason = "closed"


class OtherKey(Denied):
    """Its subjects are named with another key than the ledger's: each would have two accounts."""

    reason = "other_accountant_key"


class Damaged(Denied):
    """A stored amount is none: no charge can be decided on it."""

    reason = "ledger_damaged"


def stored(text: bytes | None) -> Fraction:
    """An amount as it is stored, 0 for None. Damaged: a sign, an exponent, a float, anything else."""
    if text is None:
        return Fraction(0)
    try:
        if _AMOUNT.fullmatch(text):
            return Fraction(text.decode())
    except ZeroDivisionError:
        pass
    raise Damaged("an amount in the ledger is damaged: wattveil ledger check")


@dataclass(frozen=True)
class Limits:
    """The most one subject may spend; None: no limit."""

    day: Fraction | None = None  # in the charges of one day
    lifetime: Fraction | None = None

    @classmethod
    def parse(cls, table: Mapping[str, object]) -> Limits:
        """From {"day": "48", "lifetime": "17520"}: decimals or fractions as text; ValueError."""
        values: dict[str, Fraction | None] = {}
        for name, text in table.items():
            if name not in LIMITS:
                raise ValueError(f"{name} is no limit: there are {' and '.join(LIMITS)}")
            given = isinstance(text, str) and _LIMIT.fullmatch(text)
            value = Fraction(given[0]) if given else Fraction(0)
            if value <= 0:
                raise ValueError(f'the {name} limit must be a positive number as text, like "1.5"')
            values[name] = value
        return cls(**values)

    def text(self) -> dict[str, str | None]:
        """As `parse` reads them, None where there is none."""
        day, lifetime = self.day, self.lifetime
        return {"day": str(day) if day else None, "lifetime": str(lifetime) if lifetime else None}


@dataclass(frozen=True)
class Charge:
    """One entry: `epsilon` for every subject of `roster` in the bitmap `members`.

    name: of what is released, once ever. day: UTC day index the per-day limit counts it to. check:
    of the key that named the roster.
    """

    name: str
    day: int
    epsilon: Fraction
    roster: tuple[str, ...]
    members: bytes
    check: bytes
    note: str = ""

    def __post_init__(self) -> None:
        size, members = len(self.roster), int.from_bytes(self.members, "little")
        if not isinstance(self.epsilon, Fraction):
            raise TypeError("epsilon is exact: a Fraction")
        if self.epsilon <= 0 or len(set(self.roster)) < size:
            raise ValueError("a charge needs an epsilon above 0 and different subjects")
        if len(self.members) != (size + 7) // 8 or members >> size or not members:
            raise ValueError("the members are no set of the roster")

    def subjects(self) -> list[str]:
        """Who pays."""
        return [s for i, s in enumerate(self.roster) if self.members[i >> 3] >> (i & 7) & 1]

    def encode(self) -> bytes:
        """The entry row; the roster is a row of its own."""
        digest = hashlib.sha256(_roster_row(self.roster)).digest()
        day, epsilon = self.day.to_bytes(4, "little"), str(self.epsilon).encode()
        row: bytes = pack(day, epsilon, digest, self.members, self.note.encode())
        return row


@lru_cache(maxsize=8)
def _roster_row(roster: tuple[str, ...]) -> bytes:
    row: bytes = pack(*(subject.encode() for subject in roster))
    return row


@lru_cache(maxsize=65536)
def _plus(spent: bytes | None, epsilon: Fraction) -> tuple[Fraction, bytes]:
    total = epsilon + stored(spent)
    return total, str(total).encode()


def enter(rows: Rows, charge: Charge, limits: Limits) -> list[Row]:
    """What to write for a charge, in the transaction that `rows` belongs to.

    The same charge again writes nothing. The first one binds the ledger to its key. Denied.
    """
    key = rows.get(KEY, "")
    if key not in (None, charge.check):
        raise OtherKey(
            "the ledger is another accountant's: its households are named with another key; bring "
            "the accountant.key that belongs to it"
        )
    entry = charge.encode()
    known = rows.get(ENTRY, charge.name)
    if known is not None:
        if known != entry:
            raise Conflict(f"{charge.name} was charged before, for something else")
        return []
    changes = [Row(ENTRY, charge.name, entry), *([] if key else [Row(KEY, "", charge.check)])]
    roster = _roster_row(charge.roster)
    digest = hashlib.sha256(roster).hexdigest()
    if rows.get(ROSTER, digest) is None:
        changes.append(Row(ROSTER, digest, roster))
    subjects = sorted(charge.subjects())  # rows in the order of the store's index
    accounts = ((_account(charge.day), "day", limits.day), (SPENT, "lifetime", limits.lifetime))
    for kind, limit, most in accounts:
        spent = rows.load(kind)
        over = []
        for subject in subjects:
            total, text = _plus(spent.get(subject), charge.epsilon)
            if most is not None and total > most:
                over.append(subject)
            changes.append(Row(kind, subject, text))
        if over and most is not None:
            raise OverLimit(limit, most, over)
    return changes


def _account(day: int) -> str:
    return f"{SPENT} {day}"


def spending(
    load: Callable[[str], Mapping[str, bytes]], day: int | None = None
) -> dict[str, Fraction]:
    """What each subject has spent in its lifetime, or on one day."""
    rows = load(SPENT if day is None else _account(day))
    return {subject: stored(text) for subject, text in sorted(rows.items())}


def entries(load: Callable[[str], Mapping[str, bytes]]) -> Iterator[Charge]:
    """All entries, by day and name."""
    rosters = {digest: names(row) for digest, row in load(ROSTER).items()}
    check = load(KEY).get("", b"")
    found = []
    for name, row in load(ENTRY).items():
        day, epsilon, digest, members, note = unpack(row, 5)
        found.append((int.from_bytes(day, "little"), name, epsilon, digest, members, note))
    for day, name, epsilon, digest, members, note in sorted(found):
        roster = rosters[digest.hex()]
        yield Charge(name, day, stored(epsilon), roster, members, check, note.decode())


def audit(load: Callable[[str], Mapping[str, bytes]]) -> list[str]:
    """Where the sums are not those of the entries; an exact ledger gives an empty list."""
    total: defaultdict[tuple[str, str], Fraction] = defaultdict(Fraction)
    kinds = {SPENT}
    for charge in entries(load):
        kinds.add(_account(charge.day))
        for subject in charge.subjects():
            total[SPENT, subject] += charge.epsilon
            total[_account(charge.day), subject] += charge.epsilon
    return differing({(kind, s): v for kind in kinds for s, v in load(kind).items()}, total)


def differing(
    held: Mapping[tuple[str, str], bytes], entered: Mapping[tuple[str, str], Fraction]
) -> list[str]:
    """Sums, by (kind, whose), that are not what the entries add up to."""
    wrong = []
    for kind, whose in sorted(held.keys() | entered.keys()):
        sum_of = entered.get((kind, whose), Fraction(0))
        try:
            amount = stored(held.get((kind, whose)))
        except Damaged:
            wrong.append(f"{kind} of {whose}: damaged, {sum_of} entered")
        else:
            if amount != sum_of:
                wrong.append(f"{kind} of {whose}: {amount} stored, {sum_of} entered")
    return wrong


class Ledger:
    """The ledger of a store that processes share; the centre's own runs through its role."""

    def __init__(self, store: Shared, limits: Limits) -> None:
        self._store = store
        self.limits = limits

    def debit(self, charge: Charge) -> None:
        """Enter a charge; only then may its value be seen. Denied."""
        self._store.transact(lambda rows: enter(rows, charge, self.limits))

    def spent(self, subject: str, day: int | None = None) -> Fraction:
        """What a subject has spent in its lifetime, or on one day."""
        return stored(self._store.get(SPENT if day is None else _account(day), subject))


def names(row: bytes) -> tuple[str, ...]:
    """The subjects of a roster row: a field list of any number of fields."""
    names, at = [], 0
    while at < len(row):
        size = int.from_bytes(row[at : at + 4], "little")
        names.append(row[at + 4 : at + 4 + size].decode())
        at += 4 + size
    if at != len(row):
        raise Malformed("truncated field list")
    return tuple(names)
