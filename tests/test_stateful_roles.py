"""Meters, cloud, centre and dealer under a scheduler that means ill.

Frames are reordered, duplicated, dropped and replayed long after; roles and meters die between any
two effects; links go down. Whatever hypothesis makes of that: see invariants.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from invariants import ledger_is_exact, nothing_twice, reports_count
from mortal import Fate, MortalNet
from plainmeter import PERIOD, START, PlainMeter, encrypt, to_pair
from plainworld import SUITES, World
from soak.scale import scale
from wattveil.privacy.ledger import Limits
from wattveil.roles.effects import Effect

ROLES = ("center", "cloud", "dealer")
SIZE = 3
METERS = st.integers(1, SIZE)
Doom = tuple[str, int, bool]  # role, which of its next effects, after it or before
DOOM = st.tuples(st.sampled_from(ROLES), st.integers(1, 25), st.booleans())
RESTARTED, NO_READING = b"\x02", b"\x01"
ABSENT = 0x07


class HostileNet(MortalNet):
    """Frames wait until the test says which one arrives; what has arrived may arrive again."""

    def __init__(self, world: World) -> None:
        self.waiting: list[tuple[str, str, bytes]] = []
        self.seen: list[tuple[str, str, bytes]] = []
        super().__init__(world, Fate())

    def carry_out(self, name: str, effects: Iterable[Effect]) -> None:
        super().carry_out(name, effects)
        self.waiting += self._frames
        self._frames.clear()

    def arrive(self, source: str, target: str, frame: bytes) -> None:
        if target in self.roles:
            self.carry_out(target, self.roles[target].receive(source, frame))
            return
        meter = self.world.meters[int(target)]
        try:
            meter.receive(frame)
        except AssertionError:  # no answer to what it asked last
            self.stale = True


class Roles(RuleBasedStateMachine):
    """One fleet; period after period."""

    def __init__(self) -> None:
        super().__init__()
        self.acknowledged: set[tuple[int, int]] = set()
        self.sent: dict[int, set[int]] = {}
        self.begun: dict[int, set[int]] = {}
        self.liars: set[int] = set()  # periods that a lie may have spoilt
        self.start = START

    @initialize(suite=st.sampled_from(sorted(SUITES)), limited=st.booleans())
    def fleet(self, suite: str, limited: bool) -> None:
        limits = Limits(lifetime=Fraction(1)) if limited else Limits()
        self.world = World(Path(), SIZE, SUITES[suite], disk=False, limits=limits)
        self.net = HostileNet(self.world)
        for meter in self.world.meters.values():
            meter.patient = True
            meter.register()

    # --- meters ---------------------------------------------------------------------------------

    def _ask(self, meter: PlainMeter) -> bool:
        meter.unanswered = 0
        frame = meter.poll()
        if frame is not None:
            self.net.waiting.append((str(meter.secrets.number), "cloud", frame))
        return frame is not None

    @rule(number=METERS)
    def ask(self, number: int) -> None:
        """A meter asks, or asks again."""
        self._ask(self.world.meters[number])

    @rule(
        numbers=st.sets(METERS, min_size=2),
        dooms=st.tuples(DOOM, DOOM),
        turns=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    )
    def period(self, numbers: set[int], dooms: tuple[Doom, Doom], turns: tuple[int, int]) -> None:
        """One period, of which some may be left over for later."""
        self.next_period()
        self.doom(dooms[0])
        self.prepare(numbers, turns[0])
        self.doom(dooms[1])
        self.end_period()
        self._settle(turns[1])

    @rule(numbers=st.sets(METERS, min_size=2), turns=st.integers(0, 30))
    def prepare(self, numbers: set[int], turns: int) -> None:
        """Some meters begin the period, and get on with it for a while."""
        begun = self.begun.setdefault(self.start, set())
        if self.world.clock.utc < self.start + PERIOD:
            for number in numbers - begun:
                begun.add(number)
                self.world.meters[number].prepare(self.start)
        self._settle(turns)

    def _report(self, number: int) -> None:
        meter = self.world.meters[number]
        self.sent.setdefault(self.start, set()).add(number)
        meter.report(self.start, 100 * number, self.acknowledged)

    @rule()
    def end_period(self) -> None:
        """The clock reaches the end; who has prepared reports."""
        if self.world.clock.utc < self.start + PERIOD:
            self.world.end(self.start)
            for number in self.begun.get(self.start, ()):
                self._report(number)

    @rule()
    def next_period(self) -> None:
        """The next one begins, whether this one is done or not."""
        self.end_period()
        self.start += PERIOD
        self.world.clock.utc = self.start + 10

    @rule(number=METERS)
    def power_cut(self, number: int) -> None:
        """A meter restarts: a report it made is sent again, a period it had begun is sat out."""
        meter = self.world.meters[number]
        meter.restart()
        meter.register()
        for start, numbers in self.begun.items():
            if number in numbers and meter.made(start):
                meter.report(start, 100 * number, self.acknowledged)
            elif number in numbers and start == self.start:
                meter.say(ABSENT, RESTARTED, start)

    # --- the network ----------------------------------------------------------------------------

    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        """Any frame, not the oldest."""
        if not self.net.waiting:
            return
        at = data.draw(st.integers(0, len(self.net.waiting) - 1))
        frame = self.net.waiting.pop(at)
        self.net.seen.append(frame)
        self.net.arrive(*frame)

    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        """A frame that has arrived before."""
        if not self.net.seen:
            return
        self.net.arrive(*data.draw(st.sampled_from(self.net.seen[-40:])))

    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        if not self.net.waiting:
            return
        self.net.waiting.pop(data.draw(st.integers(0, len(self.net.waiting) - 1)))

    @rule(data=st.data(), bit=st.integers(0, 8 * 72 - 1))
    def forge(self, data: st.DataObject, bit: int) -> None:
        """One bit of a frame is turned."""
        if not self.net.seen:
            return
        source, target, frame = data.draw(st.sampled_from(self.net.seen[-40:]))
        forged = bytearray(frame)
        forged[bit >> 3] ^= 1 << (bit & 7)
        self.net.arrive(source, target, bytes(forged))

    @rule(turns=st.integers(1, 60))
    def calm(self, turns: int) -> None:
        """For a while everything arrives in order."""
        self._settle(turns)

    @rule(peer=st.sampled_from(["center", "dealer"]))
    def flap(self, peer: str) -> None:
        for up in (False, True):
            self.net.carry_out("cloud", self.net.roles["cloud"].linked(peer, up))

    # --- roles ----------------------------------------------------------------------------------

    @rule(name=st.sampled_from(ROLES))
    def restart(self, name: str) -> None:
        """A role dies while it does nothing."""
        self.net.restart(name)

    @rule(fate=DOOM)
    def doom(self, fate: Doom) -> None:
        """A role will die at one of its next effects."""
        self.net.fate.role, self.net.fate.k, self.net.fate.after = fate
        self.net.fate.count = 0

    @rule(seconds=st.integers(1, 40))
    def wait(self, seconds: int) -> None:
        self.world.clock.seconds += seconds
        for name in ROLES:
            self.net.carry_out(name, self.net.roles[name].tick())

    @rule(members=st.sets(METERS, min_size=2), back=st.integers(0, 2))
    def lie(self, members: set[int], back: int) -> None:
        """The cloud asks the dealer for another set than the one that reported."""
        start = self.start - back * PERIOD
        channel = self.net.roles["cloud"]._up["dealer"]._channel
        bitmap = self.world.members(*members)
        self.liars.add(start)
        self.net.waiting.append(("cloud", "dealer", channel.seal(0x20, bitmap, start)))

    @rule(back=st.integers(0, 2), data=st.data())
    def lie_again(self, back: int, data: st.DataObject) -> None:
        """The cloud asks the centre for other ciphertexts under the certificate it was given."""
        start = self.start - back * PERIOD
        period = self.net.roles["cloud"].closer.periods.get(start)
        if period is None or not period.opening:
            return
        channel = self.net.roles["cloud"]._up["center"]._channel
        size = 2 * self.world.record.nb
        other = to_pair(encrypt(self.world.record, 7), self.world.record)
        payload = period.opening[:-size] + other
        self.liars.add(start)
        self.net.waiting.append(("cloud", "center", channel.seal(0x12, payload, start)))

    # --- what must hold -------------------------------------------------------------------------

    @invariant()
    def nothing_is_made_twice(self) -> None:
        if hasattr(self, "net"):
            nothing_twice(self.net)

    @invariant()
    def what_is_out_was_paid_for(self) -> None:
        if hasattr(self, "net"):
            ledger_is_exact(self.world, self.net, {*self.sent, *self.begun, self.start})

    def _settle(self, turns: int) -> bool:
        """Everything in order; False once nobody has anything left to say."""
        for _ in range(turns):
            asked = [self._ask(meter) for meter in self.world.meters.values()]
            if not self.net.waiting and not any(asked):
                return False
            while self.net.waiting:
                frame = self.net.waiting.pop(0)
                self.net.seen.append(frame)
                self.net.arrive(*frame)
        return True

    def teardown(self) -> None:
        """In the end all that was begun comes to an end, and no accepted report is lost."""
        if not hasattr(self, "net"):
            return
        self.net.fate.k = -1
        self._settle(400)
        self.end_period()
        self.next_period()  # and one more, which nobody disturbs
        self.prepare(set(self.world.meters), 400)
        self.end_period()
        for _ in range(12):
            self._settle(400)
            self.wait(6)
        assert not self._settle(1)
        periods: dict[int, Any] = self.net.roles["cloud"].status()["periods"]
        for start in periods:
            acked = {number for at, number in self.acknowledged if at == start}
            if start in self.liars:
                event("lied: " + str(periods[start]["outcome"]))
                continue
            sent = self.sent.get(start, set())
            event(reports_count(self.world, self.net, start, acked, sent))
        event(f"deaths: {min(self.net.deaths, 3)}")
        assert {start for start, _ in self.acknowledged} <= set(periods)
        nothing_twice(self.net)
        ledger_is_exact(self.world, self.net, periods)


Roles.TestCase.settings = settings(
    max_examples=scale(20, 2000),
    stateful_step_count=scale(50, 80),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestRoles = pytest.mark.timeout(scale(900, 10_800))(Roles.TestCase)
