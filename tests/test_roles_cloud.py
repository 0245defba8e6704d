"""The cloud: what it takes from meters and when, and how a period ends."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plainmeter import PERIOD, START, PlainLink, PlainMeter, encrypt, pack
from plainworld import SUITES, World
from wattveil.roles.effects import Save, Send
from wattveil.runners.memory import MemoryNet
from wattveil_meter.wire import CODES

TIME, ROW, SLOT, REPORT, ABSENT, READING = 2, 4, 5, 6, 7, 8


@pytest.fixture(params=SUITES)
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(tmp_path, changes=SUITES[request.param])
    yield world
    world.close()


def only(suite: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("world", [suite], indirect=True)


@pytest.fixture
def net(world: World) -> MemoryNet:
    return world.net()


def ready(world: World, net: MemoryNet, *numbers: int, start: int = START) -> list[PlainMeter]:
    """Registered and prepared meters."""
    meters = [world.meters[i] for i in numbers or world.meters]
    for meter in meters:
        if not meter.tau:
            meter.register()
        # a meter that is prepared asks for the time, which is all a cloud sees with `compact`
        meter.prepare(start).say(TIME, os.urandom(16))
    net.settle(meters)
    assert not any(meter.errors for meter in meters)
    return meters


def slots(world: World) -> int:
    return 0 if world.record.suite == "compact" else int(world.record.gamma)


def period(net: MemoryNet, start: int = START) -> Any:
    return net.roles["cloud"].status()["periods"][start]


def total(net: MemoryNet, start: int = START) -> Any:
    return net.roles["center"].status()["releases"][start]["total_wh"]


def cloud_refused(net: MemoryNet) -> dict[str, int]:
    counts: dict[str, int] = net.roles["cloud"].status()["refused"]
    return counts


def test_a_period_from_first_row_to_total(world: World, net: MemoryNet) -> None:
    meters = ready(world, net)
    assert period(net)["prepared"] == [1, 2, 3, 4]
    world.end()
    for i, meter in enumerate(meters, 1):
        assert period(net)["outcome"] is None
        net.settle([meter.report(START, 10**i % 1000)])
    assert period(net) == {
        "prepared": [1, 2, 3, 4],
        "reported": [1, 2, 3, 4],
        "absent": [],
        "outcome": "released",
    }
    assert total(net) == 10 + 100
    assert net.roles["dealer"].status()["closings"] == {START: 4}


def test_noise_lands_in_the_total_once(world: World, net: MemoryNet) -> None:
    """Whatever slot was drawn, exactly one share of each meter counts."""
    shares = {1: [5, -70, 900], 2: [-3, 20, 40_000], 3: [0, 1, -1], 4: [7, 7, 7]}
    for number, values in shares.items():
        queue = list(values)
        world.meters[number].noise = lambda queue=queue: queue.pop(0)
    meters = ready(world, net)
    assert len(world.stores["cloud"].load("slot")) == 4 * slots(world)
    bits = world.stores["cloud"].load("bits")
    expected = sum(
        values[int.from_bytes(bits[f"{START}:{number}"], "little")]
        for number, values in shares.items()
    )
    world.end()
    net.settle([meter.report(START, 0) for meter in meters])
    assert total(net) == expected


def test_absent_meters_end_the_wait(world: World, net: MemoryNet) -> None:
    meters = ready(world, net)
    net.settle([meters[3].say(ABSENT, b"\x02", START)])
    assert period(net)["outcome"] is None  # the period is still running
    world.end()
    net.settle([meter.report(START, 5) for meter in meters[:3]])
    assert (period(net)["outcome"], period(net)["absent"]) == ("released", [4])
    assert net.roles["center"].status()["releases"][START]["members"] == [1, 2, 3]


def test_the_deadline_closes_over_who_reported(world: World, net: MemoryNet) -> None:
    meters = ready(world, net)
    world.end()
    net.settle([meter.report(START, 5) for meter in meters[:3]])
    world.clock.seconds += 29.9
    net.tick()
    assert period(net)["outcome"] is None
    world.clock.seconds += 0.1
    net.tick()
    assert period(net)["outcome"] == "released"
    net.settle([meters[3].report(START, 5)])
    assert meters[3].errors == [CODES["late"]]
    assert total(net) == 15


def test_closing_on_demand(world: World, net: MemoryNet) -> None:
    meters = ready(world, net)
    cloud: Any = net.roles["cloud"]
    with pytest.raises(Exception, match="early"):
        cloud.close(START)
    world.end()
    net.settle([meter.report(START, 5) for meter in meters[:2]])
    net.carry_out("cloud", cloud.close(START))
    net.quiet()
    assert (period(net)["outcome"], total(net)) == ("released", 10)
    with pytest.raises(Exception, match="late"):
        cloud.close(START)


def test_below_quorum_ends_a_period_under_that_name(world: World, net: MemoryNet) -> None:
    meters = ready(world, net)
    world.end()
    net.settle([meters[0].report(START, 5)])
    world.clock.seconds += 30
    net.tick()
    assert period(net)["outcome"] == "below_quorum"
    assert net.roles["dealer"].status()["closings"] == {}
    assert net.roles["center"].status()["releases"] == {}
    world.clock.utc += PERIOD  # and the next one works
    start = START + PERIOD
    world.clock.utc = start + 5
    ready(world, net, start=start)
    world.end(start)
    net.settle([meter.report(start, 1) for meter in meters])
    assert total(net, start) == 4


def test_several_periods_in_flight(world: World, net: MemoryNet) -> None:
    first = ready(world, net)
    world.end()
    second = START + PERIOD
    ready(world, net, start=second)
    assert period(net, second)["prepared"] == [1, 2, 3, 4]
    net.settle([meter.report(START, 3) for meter in first])
    world.end(second)
    net.settle([meter.report(second, 4) for meter in first])
    assert (total(net), total(net, second)) == (12, 16)


def test_what_is_left_of_a_finished_period(world: World, net: MemoryNet) -> None:
    meters = ready(world, net)
    net.settle([meters[0].say(ABSENT, b"\x01", START)])
    world.end()
    net.settle([meter.report(START, 3) for meter in meters[1:]])
    store = world.stores["cloud"]
    for kind in ("rows", "slot", "report", "absent", "opening"):
        assert store.load(kind) == {}
    assert set(store.load("bits")) == {f"{START}:{i}" for i in (1, 2, 3, 4)}
    before = period(net)
    assert period(world.net()) == before


# --- what is refused -----------------------------------------------------------------------------


def code(net: MemoryNet, meter: PlainMeter, type: int, payload: bytes, start: int) -> int | None:
    """The ERROR code of one request, None when it was accepted."""
    meter.errors.clear()
    net.settle([meter.say(type, payload, start)])
    return meter.errors[0] if meter.errors else None


def test_rows_are_drawn_once(world: World, net: MemoryNet) -> None:
    meter = world.meters[1].register()
    net.settle([meter])
    told = {}
    for _ in range(2):
        for slot in (1, 2, 3):
            answers: list[bytes] = []
            frame = meter.link.seal(ROW, struct.pack("<H", slot), START)
            cloud = net.roles["cloud"]
            effects = cloud.receive("m", frame)
            kinds = [effect.kind for effect in effects if isinstance(effect, Save)]
            assert kinds in ([], ["counter", "period", "rows", "bits"])
            assert isinstance(effects[-1], Send)
            world.stores["cloud"].apply([e for e in effects if isinstance(e, Save)])
            answers.append(meter.link.open(effects[-1].frame)[1])
            assert told.setdefault(slot, answers[0]) == answers[0]
        net = world.net()  # a cloud that restarts sends the same bytes
    row = [meter.unpair(told[slot][34:]) for slot in (1, 2, 3)]
    assert sorted(int(world.key.decrypt(c)) for c in row) == [0, 0, 1]


def test_early_late_and_unregistered(world: World, net: MemoryNet) -> None:
    one = struct.pack("<H", 1)
    meter = world.meters[1]
    assert code(net, meter, ROW, one, START) == CODES["unregistered"]
    assert code(net, meter, ABSENT, b"\x01", START) == CODES["unregistered"]
    meter.errors.clear()
    meters = ready(world, net)
    _, _, pair = next(meters[0]._report(START, 9))
    assert code(net, meter, REPORT, pair, START) == CODES["early"]
    assert code(net, meter, ROW, one, START + PERIOD) == CODES["early"]
    assert code(net, meter, ROW, one, START + 1) == CODES["refused"]  # misaligned
    assert code(net, meter, ROW, one, START - PERIOD) is None  # ended 10 s ago: may still come
    assert code(net, meter, ROW, one, START - 2 * PERIOD) == CODES["late"]
    world.end()
    net.settle([m.report(START, 9) for m in meters])
    assert code(net, meter, REPORT, pair, START) is None  # its answer may have got lost
    other = meter.pair(encrypt(world.record, 5))
    assert code(net, meter, REPORT, other, START) == CODES["late"]
    assert code(net, meter, ROW, one, START) == CODES["late"]
    slot = code(net, meter, SLOT, one + pair, START)
    assert slot == CODES["late" if slots(world) else "refused"]
    assert code(net, meter, ABSENT, b"\x01", START) == CODES["late"]


def test_conflicts_and_duplicates(world: World, net: MemoryNet) -> None:
    meters = ready(world, net)
    meter, other = meters[0], encrypt(world.record, 5)
    if slots(world):
        stored = world.stores["cloud"].load("slot")[f"{START}:1:2"]
        two = struct.pack("<H", 2)
        assert code(net, meter, SLOT, two + stored, START) is None
        assert code(net, meter, SLOT, two + meter.pair(other), START) == CODES["conflict"]
    world.end()
    net.settle([meter.report(START, 9)])
    assert code(net, meter, REPORT, meter.pair(other), START) == CODES["conflict"]
    assert code(net, meter, ABSENT, b"\x01", START) == CODES["conflict"]
    net.settle([meter.report(START, 9)])
    for reason in (b"\x01", b"\x01", b"\x03"):  # the same once more, or another one
        assert code(net, meters[1], ABSENT, reason, START) is None
    _, _, pair = next(meters[1]._report(START, 9))
    assert code(net, meters[1], REPORT, pair, START) == CODES["conflict"]
    net.settle([m.report(START, 9) for m in meters[2:]])
    assert total(net) == 27
    assert cloud_refused(net) == {"conflict": 4 if slots(world) else 3}


@only("yan2024")
def test_what_is_no_ciphertext(world: World, net: MemoryNet) -> None:
    net.settle([world.meters[1].register()])
    one, size, n = struct.pack("<H", 1), 2 * world.record.nb, world.record.n
    meter = world.meters[1]
    good = meter.pair(encrypt(world.record, 5))
    assert code(net, meter, SLOT, one + good, START) == CODES["refused"]  # no row yet
    assert code(net, meter, ROW, one, START) is None
    bad = [bytes(size), b"\xff" * size, meter.pair(world.key.p), meter.pair(world.key.p * n)]
    for pair in bad:
        assert code(net, meter, SLOT, one + pair, START) == CODES["refused"]
    for payload in (b"", one, one + good[:-1], one + good + b"x", b"\0\0" + good, b"\4\0" + good):
        assert code(net, meter, SLOT, payload, START) == CODES["refused"]
    for payload in (b"", b"\0\0", b"\4\0", b"\1", b"\1\0\0"):
        assert code(net, meter, ROW, payload, START) == CODES["refused"]
    for payload in (b"", b"\0", b"\5", b"\1\1"):
        assert code(net, meter, ABSENT, payload, START) == CODES["refused"]
    assert code(net, meter, SLOT, one + good, START) is None
    world.end()
    assert code(net, meter, REPORT, good, START) == CODES["refused"]  # two slots are missing
    assert cloud_refused(net) == {
        "no_row": 1,
        "not_a_ciphertext": len(bad),
        "malformed": 6 + 5 + 4,
        "unprepared": 1,
    }


@only("compact")
def test_a_suite_without_slots_takes_none(world: World, net: MemoryNet) -> None:
    meters = ready(world, net)
    good = meters[0].pair(encrypt(world.record, 5))
    for slot in (b"\0\0", b"\1\0", b"\3\0"):
        assert code(net, meters[0], SLOT, slot + good, START) == CODES["refused"]
    assert world.stores["cloud"].load("slot") == {}
    assert cloud_refused(net) == {"malformed": 3}
    world.end()
    net.settle([meter.report(START, 7) for meter in meters])
    assert total(net) == 28


@only("compact")
def test_prepared_is_the_clouds_guess(world: World, net: MemoryNet) -> None:
    """Asked for the time after a row: a guess, for the status only; it decides nothing."""
    one, two, *_ = (world.meters[i].register() for i in (1, 2, 3, 4))
    net.settle([one.prepare(START), two])
    assert period(net)["prepared"] == []
    net.settle([one.say(TIME, os.urandom(16)), two.say(TIME, os.urandom(16))])
    assert period(net)["prepared"] == [1]
    net.settle([two.say(ROW, b"\1\0", START), two.say(TIME, os.urandom(16))])
    assert period(net)["prepared"] == [1, 2]  # one of three pairs
    net = world.net()
    assert period(net)["prepared"] == []  # and forgotten in a restart
    world.end()
    net.settle([one.report(START, 30), two.prepare(START).report(START, 12)])
    world.clock.seconds += 30
    net.tick()
    assert (period(net)["outcome"], total(net)) == ("released", 42)
    assert period(net)["prepared"] == [1, 2]


def test_a_report_that_is_no_ciphertext(world: World, net: MemoryNet) -> None:
    meters = ready(world, net)
    world.end()
    meter, n = meters[0], world.record.n
    for pair in (bytes(2 * world.record.nb), meter.pair(world.key.p), meter.pair(world.key.p * n)):
        assert code(net, meter, REPORT, pair, START) == CODES["refused"]
    net.settle([meter.report(START, 7) for meter in meters])
    assert total(net) == 28


def test_a_meter_speaks_for_itself_only(world: World, net: MemoryNet) -> None:
    net.settle([meter.register() for meter in world.meters.values()])
    cloud = net.roles["cloud"]
    stolen = PlainLink(world.secrets[0].link, 2, world.record, 9)  # meter 1 as meter 2
    assert cloud.receive("m", stolen.seal(ABSENT, b"\x01", START)) == []
    for number in (0, 5, 0xFFFFFFFE, 0xFFFFFFFD):
        link = PlainLink(world.secrets[0].link, number, world.record, 9)
        assert cloud.receive("m", link.seal(ABSENT, b"\x01", START)) == []
    assert cloud_refused(net) == {"forged": 1, "unknown_sender": 4}
    other = world.meters[1]
    hello = pack(b"meter-02", b"", b"", b"", b"")
    assert code(net, other, 1, hello, 0) == CODES["refused"]


def test_replays_are_dropped_even_after_a_restart(world: World, net: MemoryNet) -> None:
    meter = world.meters[1].register()
    net.settle([meter])
    frame = meter.link.seal(ROW, struct.pack("<H", 1), START)
    net.carry_out("cloud", net.roles["cloud"].receive("m", frame))
    assert net.roles["cloud"].receive("m", frame) == []
    frame = meter.link.seal(ABSENT, b"\x02", START)
    net.carry_out("cloud", net.roles["cloud"].receive("m", frame))
    net = world.net()
    assert net.roles["cloud"].receive("m", frame) == []
    assert cloud_refused(net) == {"replayed": 1}
    old = PlainLink(world.secrets[0].link, 1, world.record, 0)  # frames of an earlier boot
    assert net.roles["cloud"].receive("m", old.seal(ROW, b"\1\0", START)) == []


def test_registration_survives_and_is_bound_to_the_record(world: World, net: MemoryNet) -> None:
    ready(world, net)
    net = world.net()
    assert {m["state"] for m in net.roles["cloud"].status()["meters"].values()} == {"registered"}
    world.end()
    net.settle([meter.report(START, 25) for meter in world.meters.values()])
    assert total(net) == 100
    world.close()
    other = World(world.root, changes={**world.changes, "roster_epoch": 2})
    meters = other.net().roles["cloud"].status()["meters"]
    assert {m["state"] for m in meters.values()} == {"silent"}
    other.close()


def test_a_period_of_an_older_record_is_given_up(world: World, net: MemoryNet) -> None:
    ready(world, net)
    world.close()
    other = World(world.root, changes={**world.changes, "roster_epoch": 2})
    net = other.net()
    assert period(net)["outcome"] == "wrong_record"
    for kind in ("rows", "slot"):
        assert other.stores["cloud"].load(kind) == {}
    other.close()


def test_readings_for_demonstrations(world: World, net: MemoryNet) -> None:
    cloud: Any = net.roles["cloud"]
    cloud.readings = {1: {START: b"sealed" * 8}}
    assert code(net, world.meters[1], READING, b"", START) is None
    assert code(net, world.meters[1], READING, b"", START + PERIOD) == CODES["no_reading"]
    assert code(net, world.meters[2], READING, b"", START) == CODES["no_reading"]


def test_a_sum_invalid_ends_the_period(world: World, net: MemoryNet) -> None:
    meters = ready(world, net)
    world.end()
    net.settle([meter.report(START, 10**9) for meter in meters])
    assert period(net)["outcome"] == "sum_invalid"
    assert total(net) is None
