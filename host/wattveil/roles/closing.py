"""How the cloud ends a period: fix S on disk, ask the dealer, combine, ask the centre, clean up.

Each step is on disk before its question is sent, and a question is repeated word for word until it
is answered, so a restart at any point goes on with the identical set and ciphertexts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from gmpy2 import mpz

from wattveil.paillier.keys import PublicKey
from wattveil.roles.common import Clock, Load, Record, Refusals, encode_members, number_of, u64
from wattveil.roles.effects import Drop, Effect, Save
from wattveil.roles.period import (
    CLOSING,
    DONE,
    KINDS,
    OPEN,
    OPENING,
    WRONG_RECORD,
    Period,
    restore_periods,
    take_row,
)
from wattveil.roles.revoked import Revoked
from wattveil.roles.running import Running
from wattveil.roles.suites import Suite
from wattveil.roles.upstream import PAUSE_S, Ask, Reply, Upstream
from wattveil_meter import wire
from wattveil_meter.fields import Malformed, pack, unpack

KEPT = 500  # finished periods remembered
MAX_UNFINISHED = 16
CLEAR = 2000  # rows of finished periods removed at a time: a city's take seconds

log = logging.getLogger("wattveil.cloud")


class Closer:
    """The cloud's periods, and how they end."""

    def __init__(
        self,
        record: Record,
        suite: Suite,
        clock: Clock,
        refusals: Refusals,
        center: Upstream,
        dealer: Upstream,
        deadline_s: float,
        revoked: Revoked,
    ) -> None:
        self.record = record
        self.suite = suite
        self.slots = suite.slots(record)
        self.public = PublicKey(mpz(record.n))
        self.periods: dict[int, Period] = {}
        self.floor = -1  # periods up to here are over and forgotten
        self._garbage: list[Effect] = []  # drops of what finished periods have collected
        self.closes = True  # False: another worker does that
        self.watched = 0  # demonstrations: the meter whose ciphertexts `shown` has
        self.shown: dict[str, object] | None = None
        self.deadline_s = deadline_s
        self._clock = clock
        self._refusals = refusals
        self._center = center
        self._revoked = revoked
        self._dealer = dealer

    def restore(self, load: Load) -> list[Effect]:
        """Take up stored periods; questions under way are asked again once the links are up."""
        rows = {kind: load(kind) for kind in KINDS}
        self.periods, fingerprints = restore_periods(rows, 2 * self.record.nb)
        floor = load("floor").get("")
        if floor is not None:
            self.floor = number_of(floor)
        effects: list[Effect] = []
        for start, period in sorted(self.periods.items()):
            if period.phase == DONE:
                self._garbage += period.drops()  # a crash came before they were carried out
                period.forget()
            elif fingerprints[start] != self.record.fingerprint:
                effects += period.finish(WRONG_RECORD, self.slots, fingerprints[start])
        return [*effects, *self.questions()]

    def clear(self) -> list[Effect]:
        """Remove some of what finished periods have collected."""
        some, self._garbage = self._garbage[:CLEAR], self._garbage[CLEAR:]
        return some

    def questions(self) -> list[Effect]:
        """Ask what is under way (again)."""
        effects: list[Effect] = []
        for _, period in sorted(self.periods.items()):
            if period.phase == CLOSING:
                effects += self._dealer.ask(self._close_ask(period))
            elif period.phase == OPENING:
                effects += self._center.ask(self._open_ask(period))
        return effects

    def absorb(self, kind: str, key: str, row: bytes) -> None:
        """A row of KINDS that another worker has stored, a period's own before its others."""
        start, *numbers = map(int, key.split(":"))
        known_period = self.periods.get(start)
        if kind != "period" and (known_period is None or known_period.phase == DONE):
            return  # it was over before we heard of it
        known = kind == "report" and numbers[0] in self.periods[start].reports
        take_row(self.periods, kind, key, row, 2 * self.record.nb)
        if kind == "report" and not known:
            self.multiply(self.periods[start], numbers[0])

    def idle(self, number: int) -> None:
        """A meter asks for the time: where it has pulled its row, it is done preparing."""
        for period in self.periods.values():
            if period.phase == OPEN and number in period.rows:
                period.waiting.add(number)

    def ended(self, start: int) -> bool:
        """Whether our clock has reached the end of the period."""
        return self._clock.now() >= start + self.record.period_s

    def find(self, start: int) -> Period:
        """The open period a meter may upload to; Refused."""
        if self.record.start_of(start) != start:
            raise wire.Refused("misaligned")
        if self._clock.now() < start:
            raise wire.Refused("early")
        period = self.periods.get(start)
        if period is None:
            last = start + self.record.period_s + self.deadline_s
            if self._clock.now() > last or start <= self.floor:
                raise wire.Refused("late")
            if sum(p.phase != DONE for p in self.periods.values()) >= MAX_UNFINISHED:
                raise wire.Refused("unavailable")
            period = self.periods[start] = Period(start, self.record.roster_size)
        if period.phase != OPEN:
            raise wire.Refused("late")
        return period

    def due(self) -> list[Effect]:
        """Close what is complete or has waited long enough."""
        effects: list[Effect] = []
        if not self.closes:
            return effects
        now = self._clock.mono()
        for period in list(self.periods.values()):
            if period.phase != OPEN or not self.ended(period.start):
                continue
            if period.ended is None:
                period.ended = now
            if period.accounted(self._out(period)) or now - period.ended >= self.deadline_s:
                effects += self.close(period)
        return effects

    def close(self, period: Period) -> list[Effect]:
        """Fix S: all meters whose slots and report are stored. Nothing is taken in any more."""
        ready = set(period.prepared(self.slots)) & set(period.reports) - self._out(period)
        period.members = encode_members(ready, period.size)
        period.phase, period.stored = CLOSING, True
        if self.watched in ready:
            self.shown = period.shown(self.watched)
        log.info("period %d: closing over %d of %d", period.start, len(ready), period.size)
        saved = period.save(self.record.fingerprint)
        return [saved, *self._dealer.ask(self._close_ask(period))]

    def multiply(self, period: Period, number: int) -> None:
        """Take a meter's report, just accepted, and its slots into the period's products."""
        if period.running is not None:
            period.running.add(*self._uploads(period, number))
        else:  # the first one, or the first one after a restart
            uploads = (self._uploads(period, number) for number in period.reports)
            period.running = Running(self.public, uploads)

    def _products(self, period: Period) -> tuple[list[bytes], list[bytes]]:
        """The product of the reports of S, and that of its slots, each as what is to be combined."""
        out = [n for n in period.reports if not _in(period.members, n)]
        running = period.running
        if running is None:
            running = Running(self.public, (self._uploads(period, n) for n in period.reports))
        reports, slots = running.without(self._uploads(period, n) for n in out)
        return [reports], [slots]

    def _uploads(self, period: Period, number: int) -> tuple[bytes, Iterable[bytes]]:
        return period.reports[number], period.slots.get(number, {}).values()

    def _out(self, period: Period) -> set[int]:
        return self._revoked.out(period.start + self.record.period_s)

    def _close_ask(self, period: Period) -> Ask:
        key = ("close", period.start)
        return Ask(key, wire.CLOSE, wire.SHARE, period.members, period.start)

    def _open_ask(self, period: Period) -> Ask:
        key = ("open", period.start)
        return Ask(key, wire.OPEN, wire.RELEASED, period.opening, period.start)

    def share(self, reply: Reply) -> list[Effect]:
        """The dealer's answer."""
        period = self.periods[reply.ask.start]
        if reply.error is not None:
            return self._finish(period, reply.error)
        try:
            *share, certificate = unpack(reply.payload, self.suite.share_fields + 1)
            pairs = self.suite.combine(self.record, self.public, *self._products(period), share)
        except Malformed:
            self._refusals.note("malformed")
            reply.ask.not_before = self._clock.mono() + PAUSE_S
            return list(self._dealer.ask(reply.ask))
        period.opening = pack(period.members, certificate, *pairs)
        period.phase = OPENING
        return [
            Save("opening", str(period.start), period.opening),
            period.save(self.record.fingerprint),
            *self._center.ask(self._open_ask(period)),
        ]

    def opened(self, reply: Reply) -> list[Effect]:
        """The centre's answer; the total itself stays there."""
        return self._finish(self.periods[reply.ask.start], reply.error or "released")

    def _finish(self, period: Period, outcome: str) -> list[Effect]:
        level = logging.INFO if outcome == "released" else logging.WARNING
        log.log(level, "period %d: %s", period.start, outcome)
        *drops, saved = period.finish(outcome, self.slots, self.record.fingerprint)
        self._garbage += drops
        effects = [saved, *self.clear()]
        done = sorted(start for start, p in self.periods.items() if p.phase == DONE)
        for start in done[:-KEPT]:
            size = self.periods.pop(start).size
            self.floor = max(self.floor, start)
            effects += [Drop("period", str(start)), Save("floor", "", u64(self.floor))]
            # b is worth something to a coalition only: it goes with the period
            effects += [Drop("bits", f"{start}:{number}") for number in range(1, size + 1)]
        return effects


def _in(members: bytes, number: int) -> bool:
    return bool(members[(number - 1) >> 3] >> ((number - 1) & 7) & 1)
