"""What the centre was asked to open, word for word, and what came of it; one row of each a period.

A request is written in the transaction that charges it in the privacy ledger, before anything is
decrypted, and never changed; its answer is a row of its own. Records are kept by fingerprint, so
that old rows mean the same after a new one. Households appear by the accountant's names only.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from wattveil.privacy import ledger
from wattveil.privacy.law import epsilon_received
from wattveil.privacy.ledger import Charge, Limits
from wattveil.privacy.subjects import Subjects
from wattveil.roles.common import (
    ConfigError,
    Load,
    Record,
    decode_members,
    number_of,
    parse_record,
    u32,
)
from wattveil.roles.effects import Debit, Drop, Effect, Save
from wattveil.roles.intervals import Intervals
from wattveil_meter.fields import pack, unpack

SUM_INVALID = "sum_invalid"
SUM_INVALID_LIMIT = 3  # this many in a row stop the fleet
SHOWN = 1000  # newest releases in the status
DAY_S = 86400


@dataclass(frozen=True)
class Request:
    """What the centre was asked, word for word; a period has one, ever."""

    fingerprint: bytes
    length: int
    members: bytes
    certificate: bytes
    digest: bytes  # SHA-256 of the ciphertexts

    def encode(self) -> bytes:
        """The request row."""
        parts = (self.fingerprint, u32(self.length), self.members, self.certificate, self.digest)
        row: bytes = pack(*parts)
        return row

    @classmethod
    def decode(cls, row: bytes) -> Request:
        """Inverse of `encode`."""
        fingerprint, length, members, certificate, digest = unpack(row, 5)
        return cls(fingerprint, number_of(length), members, certificate, digest)


@dataclass(frozen=True)
class Answer:
    """What came of it: a total in Wh, or `sum_invalid` and no value."""

    total: int | None

    def encode(self) -> bytes:
        """The answer row."""
        text = SUM_INVALID if self.total is None else f"total {self.total}"
        return text.encode()

    @classmethod
    def decode(cls, row: bytes) -> Answer:
        """Inverse of `encode`."""
        text = row.decode()
        return cls(None if text == SUM_INVALID else int(text.removeprefix("total ")))


class Releases:
    """All requests and answers, and what they cost each household.

    subjects: who names the households of `roster` for the ledger; None: nothing will be charged.
    """

    def __init__(
        self,
        record: Record,
        roster: tuple[str, ...] = (),
        limits: Limits | None = None,
        subjects: Subjects | None = None,
    ) -> None:
        self._record = record
        self._subjects = subjects
        self._names = () if subjects is None else subjects.names(roster)
        self.limits = limits or Limits()
        self._records: dict[bytes, Record] = {record.fingerprint: record}
        self._known = False  # our own record is in the store
        self.requests: dict[int, Request] = {}
        self.answers: dict[int, Answer] = {}
        self.closed = Intervals()
        self.streak = 0  # sum_invalid in a row
        self.stopped = False
        self._spent: defaultdict[str, Fraction] = defaultdict(Fraction)

    def restore(self, load: Load) -> None:
        """Take up the stored rows. ConfigError for a ledger whose names another key has made."""
        check = load(ledger.KEY).get("")
        if self._subjects is not None and check not in (None, self._subjects.check):
            raise ConfigError(
                "accountant.key is not that of this ledger: bring the one it was begun with"
            )
        for key, raw in load("record").items():
            record = parse_record(raw)
            self._records[record.fingerprint] = record
            self._known |= key == self._record.fingerprint.hex()
        for key, row in load("request").items():
            self._remember(int(key), Request.decode(row))
        self.answers = {int(key): Answer.decode(row) for key, row in load("answer").items()}
        try:
            self._spent.update(ledger.spending(load))
        except ledger.Damaged as damaged:
            raise ConfigError(str(damaged)) from None
        fleet = load("fleet")
        self.streak = number_of(fleet.get("streak", b""))
        self.stopped = "stopped" in fleet

    def debit(self, start: int, request: Request) -> Debit:
        """Enter a request and charge its epsilon, together or not at all; then `debited`."""
        if self._subjects is None:
            raise ValueError("without the accountant's key nothing is charged")
        record = self._record
        changes = [Save("request", str(start), request.encode())]
        if not self._known:
            changes.append(Save("record", record.fingerprint.hex(), record.raw))
        charge = Charge(
            f"{record.fleet.hex()}:{start}",
            start // DAY_S,
            Fraction(record.epsilon_num, record.epsilon_den),
            self._names,
            request.members,
            self._subjects.check,
            "total of a period",
        )
        return Debit(charge, self.limits, tuple(changes), ("open", start))

    def debited(self, start: int, request: Request) -> None:
        """The request and its charge are on disk."""
        self._known = True
        self._remember(start, request)
        for number in decode_members(request.members, len(self._names)) or []:
            epsilon = Fraction(self._record.epsilon_num, self._record.epsilon_den)
            self._spent[self._names[number - 1]] += epsilon

    def settle(self, start: int, answer: Answer) -> list[Effect]:
        """Enter the answer; the third `sum_invalid` in a row stops the fleet."""
        self.answers[start] = answer
        self.streak = self.streak + 1 if answer.total is None else 0
        effects: list[Effect] = [
            Save("answer", str(start), answer.encode()),
            Save("fleet", "streak", u32(self.streak)),
        ]
        if self.streak >= SUM_INVALID_LIMIT and not self.stopped:
            self.stopped = True
            effects.append(Save("fleet", "stopped", str(start).encode()))
        return effects

    def _remember(self, start: int, request: Request) -> None:
        self.requests[start] = request
        self.closed.add(start, request.length)

    def closed_under(self, start: int) -> Record:
        """The record that a period was asked for under; KeyError."""
        return self._records[self.requests[start].fingerprint]

    @property
    def spent(self) -> Fraction:
        """The largest sum of epsilons over one household's readings (sequential composition)."""
        return max(self._spent.values(), default=Fraction(0))

    def shown(self) -> dict[int, dict[str, Any]]:
        """The newest periods for `status`; a charged one without an answer has neither value."""
        shown = {}
        for start in sorted(self.requests)[-SHOWN:]:
            request, answer = self.requests[start], self.answers.get(start)
            record = self._records[request.fingerprint]
            numbers = decode_members(request.members, record.roster_size) or []
            epsilon = Fraction(record.epsilon_num, record.epsilon_den)
            shown[start] = {
                "members": numbers,
                "total_wh": answer.total if answer else None,
                "refused": SUM_INVALID if answer and answer.total is None else None,
                "epsilon": str(epsilon),
                "epsilon_received": _received(
                    record.noise,
                    record.a,
                    len(numbers) - record.colluding,
                    epsilon,
                    record.delta,
                    bool(record.own_noise),
                ),
            }
        return shown


_received = lru_cache(maxsize=1024)(epsilon_received)


def restart_fleet(reason: str, now: int, load: Load) -> list[Drop | Save]:
    """What an operator writes into a centre's store, at rest, to start a stopped fleet again."""
    if "stopped" not in load("fleet"):
        raise ValueError("this fleet is not stopped")
    return [
        Drop("fleet", "stopped"),
        Save("fleet", "streak", u32(0)),
        Save("restarted", str(now), reason.encode()),
    ]


def digest_of(ciphertexts: list[bytes]) -> bytes:
    """SHA-256 of the ciphertexts joined (C1 || C2, or T): what a request is about."""
    return hashlib.sha256(b"".join(ciphertexts)).digest()
