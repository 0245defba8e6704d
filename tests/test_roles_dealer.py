"""The dealer's rules: one closing a period, over its own roster, on disk before it is sent."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gmpy2 import mpz

from plainmeter import CENTER, PERIOD, START, PlainLink, bitmap, certificate, material, pack, prf
from plainworld import SUITES, Asker, World
from wattveil.roles.common import ConfigError
from wattveil.roles.effects import Save, Send
from wattveil.roles.folders import load_center, load_cloud, load_dealer
from wattveil_meter.wire import CODES

CLOSE, SHARE = 0x20, 0x60


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.end()
    yield world
    world.close()


@pytest.fixture
def ask(world: World) -> Asker:
    return Asker(world, "dealer")


def fields(data: bytes) -> list[bytes]:
    parts = []
    while data:
        (size,) = struct.unpack_from("<I", data)
        parts.append(data[4 : 4 + size])
        data = data[4 + size :]
    return parts


def share(world: World, numbers: tuple[int, ...], start: int = START) -> bytes:
    """What the dealer must answer, from the contract's formulas."""
    record = world.record
    seeds = [world.secrets[i - 1].dealer_seed for i in numbers]
    k = sum(prf(seed, b"k", record.fingerprint, start, 32) for seed in seeds)
    u = -sum(prf(seed, b"u", record.fingerprint, start, record.nb + 10) for seed in seeds)
    members = bitmap(numbers, world.size)
    minus_k = [k.to_bytes((k.bit_length() + 7) // 8, "little")]
    return pack(
        *(minus_k if record.suite == "yan2024" else []),
        (u % record.n).to_bytes(record.nb, "little"),
        certificate(world.dealer_mac, record, start, members),
    )


@pytest.mark.parametrize("suite", SUITES)
def test_the_share(tmp_path: Path, suite: str) -> None:
    world = World(tmp_path, changes=SUITES[suite])
    ask = Asker(world, "dealer")
    for i, numbers in enumerate([(1, 2, 3, 4), (2, 4)]):
        start = START + i * PERIOD
        world.end(start)
        answer = ask(CLOSE, bitmap(numbers, 4), start)
        assert answer == (SHARE, share(world, numbers, start))
    assert ask.role.status()["closings"] == {START: 4, START + PERIOD: 2}
    world.close()


def test_stored_before_sent(world: World, ask: Asker) -> None:
    effects = ask.role.receive("x", ask.link.seal(CLOSE, b"\x0f", START))
    kinds = [effect.kind if isinstance(effect, Save) else type(effect) for effect in effects]
    assert kinds == ["counter", "closing", Send]


def test_one_closing_ever(world: World, ask: Asker) -> None:
    first = ask(CLOSE, b"\x0f", START)
    for _ in range(2):
        assert ask.code(CLOSE, b"\x07", START) == CODES["closed"]
        assert ask.code(CLOSE, b"\xff", START) == CODES["closed"]
        assert ask(CLOSE, b"\x0f", START) == first
        ask.restart()
    assert ask.role.status()["closings"] == {START: 4}


def test_without_that_rule_two_sets_give_away_a_meter(world: World, ask: Asker) -> None:
    """Cloud and centre, with a dealer that forgets: the masks of S and S - {4} differ by u_4."""
    slots, report = material(world.meters[4], START, 777)
    both = []
    for members in (b"\x0f", b"\x07"):
        answer = ask(CLOSE, members, START)
        assert answer is not None
        both.append([int.from_bytes(part, "little") for part in fields(answer[1])[:2]])
        for kind in ("closing", "counter"):
            ask.store._db.execute("DELETE FROM state WHERE kind=?", (kind,))
        ask.restart()
    n = mpz(world.record.n)
    k = both[0][0] - both[1][0]
    minus_u = both[0][1] - both[1][1]
    power = pow(int(world.record.h), -k, int(n * n))
    bare = world.key.decrypt(report * power * (1 + minus_u % n * n) % (n * n))
    bare += sum(int(world.key.decrypt(slot)) for slot in slots)  # takes off x_4 and s_4
    v = prf(world.secrets[3].center_seed, b"v", world.record.fingerprint, START, 16)
    assert (bare - v - world.record.offset) % n == 777


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        (b"\x01", "below_quorum"),
        (b"\x00", "below_quorum"),
        (b"\x1f", "bad_set"),
        (b"\x0f\x00", "bad_set"),
        (b"", "bad_set"),
    ],
)
def test_sets_that_are_never_closed(world: World, ask: Asker, members: bytes, reason: str) -> None:
    assert ask.code(CLOSE, members, START) == CODES[reason]
    assert ask.role.status()["closings"] == {}
    assert ask(CLOSE, b"\x0f", START) is not None  # nothing was used up


def test_own_clock_and_alignment(world: World, ask: Asker) -> None:
    world.clock.utc -= 1
    assert ask.code(CLOSE, b"\x0f", START) == CODES["early"]
    world.clock.utc += 1
    assert ask.code(CLOSE, b"\x0f", START - 1) == CODES["refused"]
    assert ask.code(CLOSE, b"\x0f", START + PERIOD) == CODES["early"]
    assert ask.role.status()["refused"] == {"early": 2, "misaligned": 1}


def test_overlap_with_another_records_period(world: World, ask: Asker) -> None:
    assert ask(CLOSE, b"\x0f", START) is not None
    world.close()
    other = World(world.root, changes={"phase_s": 1})
    other.clock.utc = START + 10 * PERIOD
    again = Asker(other, "dealer")
    assert again.code(CLOSE, b"\x0f", START + 1) == CODES["overlap"]
    assert again.code(CLOSE, b"\x0f", START + 1 - PERIOD) == CODES["overlap"]
    assert again(CLOSE, b"\x0f", START + 1 + PERIOD) is not None
    other.close()


def test_the_same_start_under_another_record_is_closed(world: World, ask: Asker) -> None:
    assert ask(CLOSE, b"\x0f", START) is not None
    world.close()
    other = World(world.root, changes={"roster_epoch": 2})
    other.end()
    again = Asker(other, "dealer")
    assert again.code(CLOSE, b"\x0f", START) == CODES["closed"]
    other.close()


def test_only_the_cloud_may_ask(world: World, ask: Asker) -> None:
    """A centre has no key to enrol ghosts with, and no message the dealer would take."""
    center = PlainLink(world.dealer_mac, CENTER, world.record)
    assert ask.give(center.seal(CLOSE, b"\x0f", START)) is None
    for type in (0x01, 0x10, 0x12, 0x52, 0x60):
        assert ask.code(type, b"\x0f", START) == CODES["refused"]
    assert ask.role.status()["refused"] == {"unknown_sender": 1, "malformed": 5}


def test_a_ghost_in_the_dealers_folder_is_noticed(world: World) -> None:
    """Adding a meter to roster.json alone changes nothing: the record pins the roster."""
    world.write_folders()
    for load, name in [(load_center, "center"), (load_cloud, "cloud"), (load_dealer, "dealer")]:
        load(world.root / name)  # type: ignore[operator]
    folder = world.root / "dealer"
    meters = json.loads((folder / "meters.json").read_text())
    meters["ghost"] = {"day": 0, "seed": os.urandom(32).hex()}
    (folder / "meters.json").write_text(json.dumps(meters))
    with pytest.raises(ConfigError, match="not exactly the meters"):
        load_dealer(folder)
    (folder / "roster.json").write_text(json.dumps({"meters": sorted(meters)}))
    with pytest.raises(ConfigError, match="not the one in the provisioning record"):
        load_dealer(folder)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("links.json", lambda old: {**old, "cloud": "00"}),
        ("links.json", lambda old: {**old, "cloud": 5}),
        ("links.json", lambda old: {}),
        ("links.json", lambda old: []),
        ("roster.json", lambda old: {"meters": [1, 2]}),
        ("meters.json", lambda old: {name: {"seed": "zz"} for name in old}),
    ],
)
def test_folders_that_are_not_whole(world: World, name: str, change: Any) -> None:
    world.write_folders()
    path = world.root / "dealer" / name
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ConfigError, match=name):
        load_dealer(world.root / "dealer")


def test_after_a_backup_nothing_up_to_now_is_closed(world: World, ask: Asker) -> None:
    ask.store.restored(START, START)
    ask.restart()
    assert ask.code(CLOSE, b"\x0f", START) == CODES["refused"]
    assert ask.role.status()["refused"] == {"restored": 1}
