"""The cloud when links come and go, and what stays bounded whatever meters send."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plainmeter import PERIOD, START, PlainLink, PlainMeter, pack
from plainworld import World
from wattveil.roles import closing
from wattveil.roles.effects import Send
from wattveil.runners.memory import MemoryNet
from wattveil_meter.wire import CODES

ROW, SLOT, REPORT, ABSENT, READING = 4, 5, 6, 7, 8


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


@pytest.fixture
def net(world: World) -> MemoryNet:
    return world.net()


def ready(world: World, net: MemoryNet, *numbers: int, start: int = START) -> list[PlainMeter]:
    """Registered and prepared meters."""
    meters = [world.meters[i] for i in numbers or world.meters]
    for meter in meters:
        if not meter.tau:
            meter.register()
        meter.prepare(start)
    net.settle(meters)
    assert not any(meter.errors for meter in meters)
    return meters


def period(net: MemoryNet, start: int = START) -> Any:
    return net.roles["cloud"].status()["periods"][start]


def total(net: MemoryNet, start: int = START) -> Any:
    return net.roles["center"].status()["releases"][start]["total_wh"]


def cloud_refused(net: MemoryNet) -> dict[str, int]:
    counts: dict[str, int] = net.roles["cloud"].status()["refused"]
    return counts


def code(net: MemoryNet, meter: PlainMeter, type: int, payload: bytes, start: int) -> int | None:
    """The ERROR code of one request, None when it was accepted."""
    meter.errors.clear()
    net.settle([meter.say(type, payload, start)])
    return meter.errors[0] if meter.errors else None


# --- links that come and go ----------------------------------------------------------------------


def test_without_the_centre_meters_are_told_to_wait(world: World, net: MemoryNet) -> None:
    cloud = net.roles["cloud"]
    net.carry_out("cloud", cloud.linked("center", False))
    meter = world.meters[1]
    net.settle([meter.register()])
    assert meter.errors == [CODES["unavailable"]]  # after three tries
    net.carry_out("cloud", cloud.linked("center", True))
    net.settle([meter.register()])
    assert cloud.status()["meters"][1]["state"] == "registered"


def test_a_silent_centre_is_reported_after_a_while(world: World, net: MemoryNet) -> None:
    cloud, meter = net.roles["cloud"], world.meters[1]
    net.carry_out("cloud", cloud.receive("m", meter.link.seal(1, pack(b"meter-01", *[b""] * 4))))
    assert len(cloud.receive("m", meter.link.seal(2, os.urandom(16)))) == 1  # to the centre, lost
    world.clock.seconds += 4
    told = [e.frame for e in cloud.tick() if isinstance(e, Send) and e.peer == "m"]
    assert [meter.link.open(frame) for frame in told] == [(0x7F, bytes((CODES["unavailable"],)))]


@pytest.mark.parametrize("lost", [1, 2, 3, 4])
def test_questions_are_repeated_until_answered(world: World, net: MemoryNet, lost: int) -> None:
    """One of CLOSE, SHARE, OPEN, RELEASED is lost on its way."""
    meters = ready(world, net)
    world.end()
    count = 0

    real = net._frames

    class Queue(type(real)):  # type: ignore[misc]
        def append(self, item: Any) -> None:
            nonlocal count
            if not item[0].startswith("meter") and not item[1].startswith("meter"):
                count += 1
                if count == lost:
                    return
            super().append(item)

    net._frames = Queue()
    net.settle([meter.report(START, 2) for meter in meters])
    assert period(net)["outcome"] is None
    world.clock.seconds += 5
    net.tick()
    assert (period(net)["outcome"], total(net)) == ("released", 8)
    assert net.roles["dealer"].status()["closings"] == {START: 4}
    assert net.roles["center"].status()["epsilon_spent"] == "1/2"


def test_a_late_answer_is_not_taken_for_another(world: World, net: MemoryNet) -> None:
    """The centre's word for meter 1, held back, must not reach meter 2."""
    cloud, center = net.roles["cloud"], net.roles["center"]

    def asks(number: int) -> bytes:
        frame = world.meters[number].link.seal(2, os.urandom(16))
        (sent,) = [e for e in cloud.receive("m", frame) if isinstance(e, Send)]
        (answer,) = [e for e in center.receive("c", sent.frame) if isinstance(e, Send)]
        return answer.frame

    held = asks(1)
    world.clock.seconds += 4
    cloud.tick()
    fresh = asks(2)
    assert cloud.receive("center", held) == []
    assert cloud_refused(net)["replayed"] == 1
    assert [e.peer for e in cloud.receive("center", fresh) if isinstance(e, Send)] == ["m"]


def test_the_dealers_clock_is_behind(world: World, net: MemoryNet) -> None:
    meters = ready(world, net)
    world.end()
    dealer: Any = net.roles["dealer"]
    behind = dealer.clock = type(world.clock)(START + PERIOD - 1)
    net.settle([meter.report(START, 2) for meter in meters])
    assert (period(net)["outcome"], dealer.status()["refused"]) == (None, {"early": 1})
    behind.utc += 1
    world.clock.seconds += 1
    net.tick()
    assert period(net)["outcome"] == "released"


def test_garbage_on_the_role_links_changes_nothing(world: World, net: MemoryNet) -> None:
    cloud = net.roles["cloud"]
    for peer in ("center", "dealer"):
        assert cloud.receive(peer, b"") == []
        assert cloud.receive(peer, os.urandom(200)) == []
    meters = ready(world, net)
    world.end()
    net.settle([meter.report(START, 2) for meter in meters])
    assert total(net) == 8


# --- what stays bounded --------------------------------------------------------------------------


def test_a_flood_of_refusals_is_counted_not_logged(
    world: World, net: MemoryNet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    meter, cloud = world.meters[1], net.roles["cloud"]
    for _ in range(300):
        cloud.receive("m", meter.link.seal(ROW, b"\1\0", START))
        cloud.receive("m", bytes(100))
        cloud.receive("m", meter.link.seal(1, pack(b"meter-01", b"", b"", b"", b"broken")))
    counts = cloud_refused(net)
    assert (counts["unregistered"], counts["malformed"], counts["selftest"]) == (300, 300, 300)
    assert len(caplog.records) == 3
    world.clock.seconds += 60
    cloud.receive("m", bytes(100))
    assert len(caplog.records) == 4


def test_old_periods_are_forgotten_but_stay_over(
    world: World, net: MemoryNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "KEPT", 2)
    meters = ready(world, net)
    for i in range(4):
        start = START + i * PERIOD
        world.clock.utc = start + 5
        ready(world, net, start=start) if i else None
        world.end(start)
        net.settle([meter.report(start, 1) for meter in meters])
    kept = {START + i * PERIOD for i in (2, 3)}
    assert set(net.roles["cloud"].status()["periods"]) == kept
    assert set(world.stores["cloud"].load("period")) == {str(start) for start in kept}
    net = world.net()
    world.clock.utc = START + PERIOD + 5  # a clock set back opens none of them again
    assert code(net, meters[0], ROW, b"\1\0", START + PERIOD) == CODES["late"]


@given(type=st.integers(0, 255), payload=st.binary(max_size=90), start=st.integers(0, 2**40))
@settings(suppress_health_check=list(HealthCheck), max_examples=150, deadline=None)
def test_no_authenticated_message_breaks_a_role(
    world: World, type: int, payload: bytes, start: int
) -> None:
    if "cloud" not in world.stores:
        world.test_net = world.net()  # type: ignore[attr-defined]
        world.links = {  # type: ignore[attr-defined]
            "center": PlainLink(world.cloud_center, 0, world.record, 7),
            "dealer": PlainLink(world.cloud_dealer, 0, world.record, 7),
            "cloud": PlainLink(world.secrets[0].link, 1, world.record, 7),
        }
    for name, link in world.links.items():  # type: ignore[attr-defined]
        for at in (start, START):
            world.test_net.roles[name].receive("x", link.seal(type, payload, at))  # type: ignore[attr-defined]


def test_deadline_restarts_with_the_cloud(world: World, net: MemoryNet) -> None:
    meters = ready(world, net)
    world.end()
    net.settle([meter.report(START, 5) for meter in meters[:2]])
    net = world.net()
    net.tick()
    world.clock.seconds += 30
    net.tick()
    assert total(net) == 10
