"""Links: who is not the peer gets no answer, changes nothing, and breaks nothing.

An attacker on the line reflects frames, sends one meter's frames as another's, frames of another fleet or
record, old frames, a cloned meter's frames, cut and flipped ones and noise. Without keys per direction
both ends would use one keystream for the same counter, and two frames xor to two payloads. With the
real channels every such frame is counted under a name; state, store and counters stay as they were.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import support
from plainmeter import START, PlainLink, pack
from plainworld import World
from wattveil_meter import wire

KEY, PRINT, FLEET = b"k" * 32, b"p" * 32, b"fleet-08"
FUZZ = settings(
    suppress_health_check=list(HealthCheck),
    max_examples=120,
    deadline=None,
    derandomize=True,
    database=None,
)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Any]]:
    """A fleet in the middle of a period: registered and prepared meters 1 and 2."""
    world = World(tmp_path_factory.mktemp("links"), disk=False)
    net = world.net()
    meters = [world.meters[1].register().prepare(START), world.meters[2].register().prepare(START)]
    net.settle(meters)
    assert net.roles["cloud"].status()["periods"][START]["prepared"] == [1, 2]
    yield world, net
    world.close()


def picture(world: World, net: Any) -> Any:
    """Everything that could change but the refusal counts."""
    status = {}
    for name, role in net.roles.items():
        status[name] = {k: v for k, v in role.status().items() if k != "refused"}
    rows = {name: dict(store.rows) for name, store in world.stores.items()}
    cloud = net.roles["cloud"]
    channels = [m.channel for m in cloud.meters.values()]
    channels += [up._channel for up in cloud._up.values()]
    channels += [net.roles[name]._channel for name in ("center", "dealer")]
    return status, rows, [(c.last, c.counter) for c in channels]


def refused(role: Any) -> int:
    return sum(role.status()["refused"].values())


def shrug(world: World, net: Any, name: str, peer: str, frame: bytes) -> str:
    """Give a frame to a role; it must do nothing but count it. The name it was counted under."""
    role, before = net.roles[name], picture(world, net)
    counts = dict(role.status()["refused"])
    assert role.receive(peer, frame) == []
    assert picture(world, net) == before
    after = role.status()["refused"]
    changed = [key for key in after if after[key] != counts.get(key, 0)]
    assert len(changed) == 1 and after[changed[0]] == counts.get(changed[0], 0) + 1
    return str(changed[0])


def doors(world: World) -> list[tuple[str, str, PlainLink]]:
    """Each way in, with a link whose frames would be accepted."""
    meter = world.meters[1].link
    return [
        ("cloud", "meter", meter),
        ("center", "in:1", PlainLink(world.cloud_center, 0, world.record, 9)),
        ("dealer", "in:1", PlainLink(world.cloud_dealer, 0, world.record, 9)),
    ]


@pytest.mark.parametrize("rule", [False, True])
def test_one_keystream_for_both_directions(monkeypatch: pytest.MonkeyPatch, rule: bool) -> None:
    """An eavesdropper with one known payload (a row request) reads the other (the answer)."""
    if not rule:
        monkeypatch.setattr(wire, "pack", lambda a, fleet, direction, use: pack(a, fleet, use))
    up = wire.Channel(KEY, FLEET, 1, 0, True, PRINT, 1)
    down = wire.Channel(KEY, FLEET, 0, 1, False, PRINT, 1)
    known, secret = b"0123456789abcdef", b"the cc's nonce!!"
    frames = up.seal(wire.TIME, known), down.seal(wire.TIME_IS, secret)
    a, b = (frame[wire.HEADER_BYTES : -wire.TAG_BYTES] for frame in frames)
    read = bytes(x ^ y ^ k for x, y, k in zip(a, b, known, strict=True))
    assert (read == secret) is (not rule)


def test_reflected_frames(stage: tuple[World, Any]) -> None:
    """Answers sent back to their sender, and requests back to the meter."""
    world, net = stage
    cloud = net.roles["cloud"]
    # a channel of the cloud's own, so that its real counters stay as they are
    answer = wire.Channel(
        world.secrets[0].link, world.record.fleet, 0, 1, False, world.record.fingerprint, 99
    ).seal(wire.STORED, b"\1\0", START, 1)
    assert shrug(world, net, "cloud", "meter", answer) == "unknown_sender"
    # even one that names the meter as its sender is under the keys of the other direction
    forged = answer[:12] + struct.pack("<I", 1) + answer[16:]
    assert shrug(world, net, "cloud", "meter", forged) == "forged"
    for name in ("center", "dealer"):
        up = cloud._up[name]._channel
        question = wire.Channel(
            *(world.cloud_center if name == "center" else world.cloud_dealer, world.record.fleet),
            *(0, up._peer, True, world.record.fingerprint, 99, wire.ROLE_LIMIT),
        ).seal(wire.CLOSE, b"\x0f", START)
        assert shrug(world, net, "cloud", name, question) == "unknown_sender"
    meter, _, _ = support.make_meter(support.record())
    frame = meter.poll()
    meter.receive(frame)
    assert meter.refused == {"unknown_sender": 1}
    meter.receive(frame[:12] + bytes(4) + frame[16:])
    assert meter.refused == {"unknown_sender": 1, "forged": 1}


def test_frames_of_another_meter_fleet_record_or_time(stage: tuple[World, Any]) -> None:
    world, net = stage
    payload = pack(b"meter-02", *[b""] * 4)
    one, two = world.secrets[:2]

    def sealed(key: bytes, me: int, record: Any = world.record, boot: int = 50) -> bytes:
        return PlainLink(key, me, record, boot).seal(1, payload)

    other_fleet = World(world.root, changes={"fleet": b"fleet-09"}, disk=False).record
    other_record = World(world.root, changes={"roster_epoch": 2}, disk=False).record
    for frame, reason in [
        (sealed(one.link, 2), "forged"),  # meter 1 as meter 2
        (sealed(two.link, 1), "forged"),
        (sealed(one.link, 1, other_fleet), "wrong_fleet"),
        (sealed(one.link, 1, other_record), "wrong_record"),
        (sealed(one.link, 1, boot=0), "replayed"),
        (sealed(one.link, 0), "unknown_sender"),
        (sealed(one.link, 0xFFFFFFFE), "unknown_sender"),
        (sealed(one.link, 5), "unknown_sender"),
        (sealed(one.registration, 1), "forged"),
    ]:
        assert shrug(world, net, "cloud", "meter", frame) == reason
    for name in ("center", "dealer"):  # a meter at the roles' doors, and one role at the other's
        for key in (one.link, one.registration, world.dealer_mac, world.cloud_center):
            if (name, key) == ("center", world.cloud_center):
                continue
            link = PlainLink(key, 0, world.record, 9)
            for type in (0x10, 0x12, 0x20):
                frame = link.seal(type, b"\x0f", START)
                assert shrug(world, net, name, "in:1", frame) == "forged"


def test_a_cloned_meter(tmp_path: Path) -> None:
    """All keys copied. A clone of an earlier life is refused; one of a later life shuts the meter
    out, which is noticed, but gets the same row, no second slot and no second report."""
    world = World(tmp_path, disk=False)
    net = world.net()
    meter = world.meters[1]
    meter.link.counter = 5 << 32
    net.settle([meter.register().prepare(START)])
    cloud = net.roles["cloud"]
    for boot in (0, 1, 4):
        old = PlainLink(meter.secrets.link, 1, world.record, boot)
        assert cloud.receive("m", old.seal(7, b"\1", START)) == []
    assert cloud.status()["refused"] == {"replayed": 3}
    row = world.stores["cloud"].load("rows")
    clone = type(meter)(meter.secrets, world.record, boot=6)
    net.settle([clone.prepare(START)])
    assert clone.errors == [wire.CODES["conflict"]]  # other draws: its first slot is another
    assert world.stores["cloud"].load("rows") == row
    assert cloud.receive("m", meter.link.seal(7, b"\1", START)) == []  # the true one is shut out
    assert cloud.status()["refused"]["replayed"] == 4
    world.close()


def test_cut_and_flipped_frames(stage: tuple[World, Any]) -> None:
    """Every length of every kind of frame, and a flip in every byte."""
    world, net = stage
    for name, peer, link in doors(world):
        frame = link.seal({"cloud": 4, "center": 0x10, "dealer": 0x20}[name], bytes(20), START)
        for size in range(len(frame)):
            assert shrug(world, net, name, peer, frame[:size]) in ("truncated", "malformed")
        for at in range(len(frame)):
            bad = frame[:at] + bytes((frame[at] ^ 1 << at % 8,)) + frame[at + 1 :]
            shrug(world, net, name, peer, bad)
        assert shrug(world, net, name, peer, frame + b"\0") == "trailing"


@given(data=st.binary(max_size=300), door=st.integers(0, 2), magic=st.booleans())
@FUZZ
def test_noise(stage: tuple[World, Any], data: bytes, door: int, magic: bool) -> None:
    world, net = stage
    name, peer, _ = doors(world)[door]
    shrug(world, net, name, peer, b"WV\1" * magic + data)


@given(
    door=st.integers(0, 2),
    type=st.sampled_from(sorted(wire.TYPES)),
    payload=st.binary(max_size=80),
    start=st.integers(0, 2**40),
    edits=st.lists(st.tuples(st.integers(0, 200), st.integers(1, 255)), min_size=1, max_size=4),
    cut=st.integers(0, 40),
)
@FUZZ
def test_frames_with_edits(
    stage: tuple[World, Any],
    door: int,
    type: int,
    payload: bytes,
    start: int,
    edits: list[tuple[int, int]],
    cut: int,
) -> None:
    """Genuine frames, any type and period, with some bytes changed."""
    world, net = stage
    name, peer, link = doors(world)[door]
    genuine = link.seal(type, payload, start)
    frame = bytearray(genuine)
    for at, value in edits:
        frame[at % len(frame)] ^= value
    if cut < 20:
        del frame[len(frame) - cut :]
    if bytes(frame) != genuine:
        shrug(world, net, name, peer, bytes(frame))


@given(peer=st.sampled_from(["center", "dealer"]), data=st.binary(max_size=200))
@FUZZ
def test_noise_on_the_clouds_own_connections(
    stage: tuple[World, Any], peer: str, data: bytes
) -> None:
    world, net = stage
    shrug(world, net, "cloud", peer, data)
