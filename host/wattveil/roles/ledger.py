"""The centre's privacy ledger: what was asked, over whom, at which epsilon, and what came of it.

One row per period, written before anything is decrypted and never changed; its answer is a row of
its own. Records and rosters are kept by digest, so that old rows mean the same after a new one.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from wattveil.privacy.law import epsilon_received
from wattveil.roles.common import (
    Load,
    Record,
    decode_members,
    number_of,
    parse_record,
    u32,
)
from wattveil.roles.effects import Effect, Save
from wattveil.roles.intervals import Intervals
from wattveil_meter.fields import Malformed, pack, unpack

SUM_INVALID = "sum_invalid"
SUM_INVALID_LIMIT = 3  # this many in a row stop the fleet
SHOWN = 1000  # newest releases in the status


@dataclass(frozen=True)
class Request:
    """What the centre was asked, word for word; a period has one, ever."""

    fingerprint: bytes
    length: int
    members: bytes
    certificate: bytes
    digest: bytes  # SHA-256 of the ciphertexts

    def encode(self) -> bytes:
        """The ledger row."""
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


class Ledger:
    """All requests and answers, and what they cost each household."""

    def __init__(self, record: Record, roster: tuple[str, ...]) -> None:
        self._record = record
        self._roster = roster
        self._records: dict[bytes, tuple[Record, tuple[str, ...]]] = {
            record.fingerprint: (record, roster)
        }
        self._known = False  # our own record and roster are in the store
        self.requests: dict[int, Request] = {}
        self.answers: dict[int, Answer] = {}
        self.closed = Intervals()
        self.streak = 0  # sum_invalid in a row
        self.stopped = False
        self._spent: defaultdict[str, Fraction] = defaultdict(Fraction)

    def restore(self, load: Load) -> None:
        """Take up the stored rows."""
        rosters = load("roster")
        for key, raw in load("record").items():
            record = parse_record(raw)
            ids = _unpack_all(rosters[record.roster_digest.hex()])
            self._records[record.fingerprint] = (record, tuple(i.decode() for i in ids))
            self._known |= key == self._record.fingerprint.hex()
        for key, row in load("ledger").items():
            self._remember(int(key), Request.decode(row))
        self.answers = {int(key): Answer.decode(row) for key, row in load("answer").items()}
        fleet = load("fleet")
        self.streak = number_of(fleet.get("streak", b""))
        self.stopped = "stopped" in fleet

    def debit(self, start: int, request: Request) -> list[Effect]:
        """Enter a request and its epsilon; on disk before its ciphertexts are decrypted."""
        effects: list[Effect] = []
        if not self._known:
            ids = pack(*(i.encode() for i in self._roster))
            effects.append(Save("roster", self._record.roster_digest.hex(), ids))
            effects.append(Save("record", self._record.fingerprint.hex(), self._record.raw))
            self._known = True
        self._remember(start, request)
        return [*effects, Save("ledger", str(start), request.encode())]

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
        record, roster = self._records[request.fingerprint]
        self.requests[start] = request
        self.closed.add(start, request.length)
        epsilon = Fraction(record.epsilon_num, record.epsilon_den)
        for number in decode_members(request.members, len(roster)) or []:
            self._spent[roster[number - 1]] += epsilon

    @property
    def spent(self) -> Fraction:
        """The largest sum of epsilons over one household's readings (sequential composition)."""
        return max(self._spent.values(), default=Fraction(0))

    def releases(self) -> dict[int, dict[str, Any]]:
        """The newest periods for `status`; a debited one without an answer has neither value."""
        shown = {}
        for start in sorted(self.requests)[-SHOWN:]:
            request, answer = self.requests[start], self.answers.get(start)
            record, roster = self._records[request.fingerprint]
            numbers = decode_members(request.members, len(roster)) or []
            shown[start] = {
                "members": numbers,
                "total_wh": answer.total if answer else None,
                "refused": SUM_INVALID if answer and answer.total is None else None,
                "epsilon": str(Fraction(record.epsilon_num, record.epsilon_den)),
                "epsilon_received": _received(
                    record.noise,
                    record.a,
                    len(numbers) - record.colluding,
                    Fraction(record.epsilon_num, record.epsilon_den),
                    record.delta,
                    bool(record.own_noise),
                ),
            }
        return shown


_received = lru_cache(maxsize=1024)(epsilon_received)


def _unpack_all(data: bytes) -> list[bytes]:
    """A field list of any number of fields."""
    parts = []
    at = 0
    while at < len(data):
        size = number_of(data[at : at + 4])
        parts.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    if at != len(data):
        raise Malformed("truncated field list")
    return parts


def digest_of(ciphertexts: list[bytes]) -> bytes:
    """SHA-256 of the ciphertexts joined (C1 || C2, or T): what a request is about."""
    return hashlib.sha256(b"".join(ciphertexts)).digest()
