"""What a registered meter does in one period at the cloud: pull a row, store slots and a report.

Whatever is stored once is never replaced: the same bytes again are accepted again, others are a
conflict. A row is drawn once and on disk before its first pair is sent.
"""

from __future__ import annotations

import hashlib

from gmpy2 import mpz

from wattveil.paillier.ciphertext import from_pair
from wattveil.paillier.keys import PublicKey
from wattveil.paillier.rows import RowRecipe, RowSource
from wattveil.roles.closing import Closer
from wattveil.roles.common import Record, number_of
from wattveil.roles.effects import Change, Save
from wattveil.roles.period import Period, receipt
from wattveil_meter import wire
from wattveil_meter.wire import Message, Refused

Answer = tuple[int, bytes, list[Change]]  # type and payload of the answer, what to store before it


def row_recipe(record: Record) -> RowRecipe:
    """What the rows of a record's fleet are made of."""
    public = PublicKey(mpz(record.n))
    return RowRecipe(public, mpz(record.h_s), record.gamma, record.randomiser_bits)


class Uploads:
    """Handlers by message type; Refused, Malformed or NotACiphertext become an ERROR."""

    def __init__(self, record: Record, closer: Closer, rows: RowSource) -> None:
        self._record = record
        self._closer = closer
        self._rows = rows
        self.handlers = {
            wire.ROW: self.row,
            wire.SLOT: self.slot,
            wire.REPORT: self.report,
            wire.ABSENT: self.absent,
        }

    def _key(self, period: Period, *numbers: int) -> str:
        return ":".join(map(str, (period.start, *numbers)))

    def _store(self, period: Period, *changes: Change) -> list[Change]:
        """The changes, and before a period's first ones the period itself."""
        if period.stored:
            return list(changes)
        period.stored = True
        return [period.save(self._record.fingerprint), *changes]

    def _present(self, number: int, start: int) -> Period:
        period = self._closer.find(start)
        if number in period.absent:
            raise Refused("conflict")
        return period

    def _slot_number(self, payload: bytes, size: int, slots: int) -> int:
        slot = number_of(payload[:2])
        if len(payload) != size or not 1 <= slot <= slots:
            raise Refused("malformed")
        return slot

    def row(self, number: int, message: Message) -> Answer:
        """ROW: one pair of the meter's row, and the hash of the whole row."""
        gamma = self._record.gamma
        slot = self._slot_number(message.payload, 2, gamma)
        period = self._present(number, message.start)
        changes: list[Change] = []
        row = period.rows.get(number)
        if row is None:
            made = self._rows.take()
            size = 2 * self._record.nb
            row = [made.data[at : at + size] for at in range(0, len(made.data), size)]
            period.rows[number] = row
            key = self._key(period, number)
            bits = Save("bits", key, made.hot.to_bytes(2, "little"))
            changes = self._store(period, Save("rows", key, made.data), bits)
        digest = hashlib.sha256(b"".join(row)).digest()
        return wire.ROW_IS, message.payload + digest + row[slot - 1], changes

    def slot(self, number: int, message: Message) -> Answer:
        """SLOT: one e_ij."""
        size = 2 + 2 * self._record.nb
        slot = self._slot_number(message.payload, size, self._closer.slots)
        pair: bytes = message.payload[2:]
        known = self._closer.periods.get(message.start)
        stored = known.slots.get(number, {}).get(slot) if known else None
        if stored is None:
            period = self._present(number, message.start)
            if number not in period.rows:
                raise Refused("no_row")
            from_pair(pair, self._closer.public)
            period.slots.setdefault(number, {})[slot] = pair
            changes = self._store(period, Save("slot", self._key(period, number, slot), pair))
        elif stored == pair:
            changes = []
        else:
            raise Refused("conflict")
        return wire.STORED, message.payload[:2], changes

    def report(self, number: int, message: Message) -> Answer:
        """REPORT: C_i, once the period has ended."""
        pair: bytes = message.payload
        if len(pair) != 2 * self._record.nb:
            raise Refused("malformed")
        known = self._closer.periods.get(message.start)
        stored = known.reports.get(number) if known else None
        if known and known.receipts.get(number) == receipt(pair):
            return wire.REPORTED, b"", []
        if stored is None:
            period = self._present(number, message.start)
            if not self._closer.ended(message.start):
                raise Refused("early")
            made = len(period.slots.get(number, {}))
            if number not in period.rows or made < self._closer.slots:
                raise Refused("unprepared")
            from_pair(pair, self._closer.public)
            period.reports[number] = pair
            self._closer.multiply(period, number)
            changes = self._store(period, Save("report", self._key(period, number), pair))
        elif stored == pair:
            changes = []
        else:
            raise Refused("conflict")
        return wire.REPORTED, b"", changes

    def absent(self, number: int, message: Message) -> Answer:
        """ABSENT: the meter sits this period out."""
        payload: bytes = message.payload
        if len(payload) != 1 or not wire.NO_READING <= payload[0] <= wire.OTHER:
            raise Refused("malformed")
        period = self._closer.find(message.start)
        if number in period.reports:
            raise Refused("conflict")
        if number in period.absent:
            return wire.NOTED, b"", []
        period.absent.add(number)
        changes = self._store(period, Save("absent", self._key(period, number), payload))
        return wire.NOTED, b"", changes
