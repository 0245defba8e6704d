"""The dealer: holds one seed per meter, a new one each day, and closes each period once, over the set
that reported.

Records, rosters and seeds come from its folder only (provisioning by hand): a centre that could
send a roster could enrol ghosts. It never sees a reading or a ciphertext.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from wattveil.roles.answering import Answering
from wattveil.roles.common import (
    Clock,
    Load,
    number_of,
    u32,
)
from wattveil.roles.effects import Effect, Save
from wattveil.roles.folders import DealerConfig
from wattveil.roles.intervals import Intervals
from wattveil.roles.suites import suite_of
from wattveil_meter.fields import pack, unpack
from wattveil_meter.masks import closing_certificate
from wattveil_meter.wire import CLOSE, DEALER, SHARE, Message, Refused

SHOWN = 1000  # newest closings in the status

log = logging.getLogger("wattveil.dealer")


@dataclass(frozen=True)
class _Closing:
    fingerprint: bytes
    length: int
    members: bytes
    payload: bytes = field(repr=False)  # what was answered

    def encode(self) -> bytes:
        row: bytes = pack(self.fingerprint, u32(self.length), self.members, self.payload)
        return row

    @classmethod
    def decode(cls, row: bytes) -> _Closing:
        fingerprint, length, members, payload = unpack(row, 4)
        return cls(fingerprint, number_of(length), members, payload)


class Dealer(Answering):
    """CLOSE in, SHARE out; one closing a period, ever."""

    name = "dealer"

    def __init__(self, config: DealerConfig, boot: int, clock: Clock) -> None:
        args = (config.record, config.roster, config.seeds, config.cloud, DEALER, boot, clock)
        super().__init__(*args)
        self.config = config
        self.suite = suite_of(config.record)
        self._closings: dict[int, _Closing] = {}
        self._closed = Intervals()

    def restore(self, load: Load) -> list[Effect]:
        """See `common.Role`."""
        for key, row in load("closing").items():
            self._remember(int(key), _Closing.decode(row))
        return super().restore(load)

    def answer(self, peer: str, message: Message) -> list[Effect]:
        """See `Answering`."""
        if message.type != CLOSE:
            raise Refused("malformed")
        start: int = message.start
        members: bytes = message.payload
        closing = self._closings.get(start)
        effects: list[Effect] = []
        if closing is None:
            closing = self._close(start, members)
            self._remember(start, closing)
            effects.append(Save("closing", str(start), closing.encode()))
        elif (closing.fingerprint, closing.members) != (self.record.fingerprint, members):
            raise Refused("closed")  # two sets would give away the meters in their difference
        effects.append(self.send(peer, message.counter, start, SHARE, closing.payload))
        return effects

    def _close(self, start: int, members: bytes) -> _Closing:
        record, config = self.record, self.config
        self.check_period(start)
        numbers = self.check_members(start, members)
        if self._closed.overlaps(start, record.period_s):
            raise Refused("overlap")
        share = self.suite.share(record, self.seeds_of(numbers, start), start)
        certificate = closing_certificate(config.center_mac, record, start, members)
        log.info("period %d closed over %d of %d", start, len(numbers), len(config.roster))
        return _Closing(record.fingerprint, record.period_s, members, pack(*share, certificate))

    def _remember(self, start: int, closing: _Closing) -> None:
        self._closings[start] = closing
        self._closed.add(start, closing.length)

    def newest(self) -> int | None:
        """See `Answering`."""
        return max(self._closings, default=None)

    def status(self) -> dict[str, Any]:
        """See `common.Role`."""
        newest = sorted(self._closings)[-SHOWN:]
        closings = {
            start: int.from_bytes(self._closings[start].members, "little").bit_count()
            for start in newest
        }
        return {**super().status(), "closings": closings}
