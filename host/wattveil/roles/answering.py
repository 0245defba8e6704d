"""A role that only answers: control centre and dealer, each with the cloud as its one peer."""

from __future__ import annotations

from typing import Any

from wattveil.roles.common import (
    Clock,
    Load,
    Record,
    Refusals,
    counter_key,
    decode_members,
    error_code,
    number_of,
    u64,
)
from wattveil.roles.effects import Debit, Effect, Save, Send
from wattveil.roles.revoked import Revoked
from wattveil.roles.seeds import Seeds, Steady, expired
from wattveil_meter.fields import Malformed
from wattveil_meter.wire import CLOUD, ERROR, ROLE_LIMIT, Channel, Message, Refused


class Answering:
    """Opens the cloud's frames, answers each accepted one, counts the others.

    A frame that is not authenticated, or was seen before, gets no answer. The last counter is
    stored when the cloud's boot number grows and with every other change, which is enough: what a
    replay from the same boot can still reach after our restart is idempotent or single-use.
    """

    name: str

    def __init__(
        self,
        record: Record,
        roster: tuple[str, ...],
        seeds: Seeds,
        link_key: bytes,
        number: int,
        boot: int,
        clock: Clock,
    ) -> None:
        self.record = record
        self.seeds = seeds
        self.revoked = Revoked(roster)
        self.clock = clock
        self.boot = boot
        self.refusals = Refusals(self.name, clock)
        self._steady = Steady(clock)
        self.floor = -1  # periods that start up to here are refused: a backup was restored
        self._key = counter_key(link_key)
        self._stored_boot = 0
        self._channel = Channel(
            link_key, record.fleet, number, CLOUD, False, record.fingerprint, boot, ROLE_LIMIT
        )

    def restore(self, load: Load) -> list[Effect]:
        """See `common.Role`; OSError."""
        self.seeds.take_up()
        self.revoked.restore(load)
        self._channel.last = number_of(load("counter").get(self._key, b""))
        self._stored_boot = self._channel.last >> 32
        floor = load("floor").get("")
        if floor is not None:
            self.floor = number_of(floor)
        return []

    def receive(self, peer: str, frame: bytes) -> list[Effect]:
        """See `common.Role`."""
        try:
            message = self._channel.open(frame)
        except Refused as refused:
            self.refusals.note(refused.reason)
            return []
        try:
            effects = self.answer(peer, message)
        except (Refused, Malformed) as refused:
            reason = refused.reason if isinstance(refused, Refused) else "malformed"
            self.refusals.note(reason)
            effects = [self.send(peer, message.counter, message.start, ERROR, error_code(reason))]
        boot = message.counter >> 32
        if boot > self._stored_boot or any(
            isinstance(effect, (Save, Debit)) for effect in effects
        ):
            self._stored_boot = boot
            effects.insert(0, Save("counter", self._key, u64(message.counter)))
        return effects

    def answer(self, peer: str, message: Message) -> list[Effect]:
        """Handle one authenticated request; Refused or Malformed become an ERROR."""
        raise NotImplementedError

    def send(self, peer: str, reply: int, start: int, type: int, payload: bytes = b"") -> Send:
        """The answer to the request with counter `reply`."""
        return Send(peer, self._channel.seal(type, payload, start, reply))

    def check_period(self, start: int) -> None:
        """Refused unless `start` begins a period of the record that has ended by our own clock."""
        if self.record.start_of(start) != start:
            raise Refused("misaligned")
        if self.clock.now() < start + self.record.period_s:
            raise Refused("early")
        if start <= self.floor:
            raise Refused("restored")

    def seeds_of(self, numbers: list[int], start: int) -> list[bytes]:
        """The meters' seeds for a period; Refused once they are, or are to be, erased."""
        if expired(start, self.clock.now()):
            raise Refused("expired")
        return self.seeds.of(numbers, start)

    def check_members(self, start: int, members: bytes) -> list[int]:
        """The numbers in S; Refused unless it is a quorum of the roster without revoked meters."""
        numbers = decode_members(members, self.record.roster_size)
        if numbers is None:
            raise Refused("bad_set")
        if len(numbers) < self.record.quorum_count:
            raise Refused("below_quorum")
        if self.revoked.out(start + self.record.period_s).intersection(numbers):
            raise Refused("revoked")
        return numbers

    def tick(self) -> list[Effect]:
        """See `common.Role`: only seeds depend on time alone."""
        try:
            if self._steady and self.seeds.due(self.clock.now()):
                self.seeds.forget(self.clock.now(), self.newest())
        except OSError:  # tried again; what a full disk keeps must not stop what still works
            self.refusals.note("seeds_not_erased")
        return []

    def newest(self) -> int | None:
        """The start (UTC s) of the newest period closed here."""
        raise NotImplementedError

    def resume(self, event: tuple[str, int]) -> list[Effect]:
        """See `common.Role`."""
        raise AssertionError(f"unexpected {event}")

    def linked(self, peer: str, up: bool) -> list[Effect]:
        """See `common.Role`: an answering role asks nobody."""
        return []

    def status(self) -> dict[str, Any]:
        """See `common.Role`."""
        return {
            "role": self.name,
            "boot": self.boot,
            "revoked": self.revoked.names(),
            "clock": self.clock.now(),
            "refused": dict(self.refusals.counts),
        }
