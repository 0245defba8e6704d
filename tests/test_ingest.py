"""Many frames at once: one transaction before all answers, products kept up as reports come in."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from gmpy2 import mpz
from hypothesis import given, settings
from hypothesis import strategies as st

from plainmeter import PERIOD, START, encrypt
from plainworld import SUITES, World, make_record, test_key
from wattveil.paillier.ciphertext import from_pair, to_pair
from wattveil.roles import closing
from wattveil.roles.effects import Again, Effect, Save, Send
from wattveil.roles.running import Running
from wattveil.runners.host import apply
from wattveil.runners.loop import TOGETHER, Runner


class Journal:
    """A store that writes down what happens, in order, and carries it out in `inner`."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.events = inner, []  # type: Any, list[Any]

    def apply(self, changes: Iterable[Any]) -> None:
        changes = list(changes)
        self.inner.apply(changes)
        self.events.append(len(changes))

    def transact(self, decide: Any) -> None:
        self.inner.transact(decide)


class Silent:
    """A role that only goes on after an Again."""

    def resume(self, event: tuple[str, int]) -> list[Effect]:
        return [Save("k", "after", b""), Send("p", b"third")]


def test_all_changes_then_all_answers() -> None:
    events: list[Any] = []

    class Store:
        def apply(self, changes: Iterable[Any]) -> None:
            events.append([change.key for change in changes])

    effects = [Save("k", "1", b""), Send("p", b"first"), Save("k", "2", b""), Send("p", b"second"),
               Again(("x", 1)), Save("k", "3", b""), Send("p", b"fourth")]  # fmt: skip
    apply(Silent(), Store(), effects, lambda peer, frame: events.append(frame))  # type: ignore[arg-type]
    assert events == [["1", "2"], b"first", b"second", ["after", "3"], b"third", b"fourth"]


class Box:
    """A hub of frames that are there already."""

    def __init__(self, frames: list[tuple[str, bytes]]) -> None:
        self.frames, self.events = frames, []  # type: Any, Any
        self.a, self.b = socket.socketpair()
        self.b.send(b"x")

    def fileno(self) -> int:
        return self.a.fileno()

    def read(self) -> list[tuple[str, bytes]]:
        frames, self.frames = self.frames, []
        return frames

    def write(self, peer: str, frame: bytes) -> None:
        self.events.append(peer)

    def tick(self) -> None:
        pass

    def status(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        self.a.close()
        self.b.close()


def test_a_turn_is_one_transaction_before_any_answer(tmp_path: Path) -> None:
    world = World(tmp_path, 4, SUITES["compact"])
    role = world.role("cloud")
    journal = Journal(world.stores["cloud"])
    for number in world.meters:
        role.meters[number].state = "registered"
    ask = [
        (f"mqtt:{number}", meter.link.seal(0x04, bytes((slot, 0)), START))
        for slot in (1, 2, 3)
        for number, meter in world.meters.items()
    ]
    box = Box(ask)
    box.events = journal.events
    runner = Runner(role, journal, lambda port: None)  # type: ignore[arg-type,return-value]
    runner.join(box)
    box.write = lambda peer, frame: (journal.events.append(peer), runner.stop())[0]  # type: ignore[method-assign]
    runner.run()
    assert journal.events[0] >= 4 * 3 + 1  # a counter, a row and its bit each, and the period
    assert journal.events[1:] == [peer for peer, _ in ask]
    assert len(ask) < TOGETHER
    world.close()


RECORD = make_record(test_key(), ("a", "b"))
POOL = [to_pair(encrypt(RECORD, i), test_key().public) for i in range(8)]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 7), st.lists(st.integers(0, 7), max_size=3), st.booleans()))
)
def test_the_running_products_are_those_of_the_closed_set(
    uploads: list[tuple[int, list[int], bool]],
) -> None:
    public = test_key().public

    def product(indices: Iterable[int]) -> mpz:
        result = mpz(1)
        for index in indices:
            result = result * from_pair(POOL[index], public) % public.n2
        return result

    def pairs(one: tuple[int, list[int], bool]) -> tuple[bytes, list[bytes]]:
        return POOL[one[0]], [POOL[slot] for slot in one[1]]

    running = Running(public, map(pairs, uploads[:2]))
    for one in uploads[2:]:
        running.add(*pairs(one))
    inside = [one for one in uploads if one[2]]
    reports, slots = running.without(pairs(one) for one in uploads if not one[2])
    assert from_pair(reports, public) == product(one[0] for one in inside)
    assert from_pair(slots, public) == product(slot for one in inside for slot in one[1])


@pytest.mark.parametrize("suite", SUITES)
def test_a_large_period_is_cleared_bit_by_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suite: str
) -> None:
    monkeypatch.setattr(closing, "CLEAR", 2)
    world = World(tmp_path, 4, SUITES[suite])
    net = world.net()
    meters = world.meters.values()
    for meter in meters:
        meter.register().prepare(START)
    net.settle(meters)
    world.end()
    for meter in meters:
        meter.report(START, 7)
    net.settle(meters)
    assert net.roles["center"].status()["releases"][START]["total_wh"] == 28

    def left() -> int:
        kinds = ("rows", "slot", "report")
        return sum(len(world.stores["cloud"].load(kind)) for kind in kinds)

    before = left()
    assert before  # the release did not wait for this
    net.tick()
    assert left() == before - 2
    net = world.net()  # after a crash: what is left goes, too, and the outcome stays
    while left():
        before = left()
        net.tick()
        assert left() < before
    assert net.roles["cloud"].status()["periods"][START]["outcome"] == "released"
    world.clock.utc = START + PERIOD + 1
    for meter in meters:
        meter.report(START, 7)  # the answer got lost: it is given again
    net.settle(meters)
    assert not any(meter.errors for meter in meters)
    world.close()
