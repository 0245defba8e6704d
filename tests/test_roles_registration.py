"""Registration at the centre: MACed, fresh, in time, never twice (protocol, "Links")."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from plainmeter import mac, pack, u64
from plainworld import Asker, World
from wattveil_meter.wire import CODES

RELAY_TIME, RELAY_REGISTER = 0x10, 0x11


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.end()
    yield world
    world.close()


@pytest.fixture
def ask(world: World) -> Asker:
    return Asker(world, "center")


def nonce_for(world: World, ask: Asker, number: int) -> bytes:
    secrets, mine = world.secrets[number - 1], os.urandom(16)
    answer = ask(RELAY_TIME, struct.pack("<I", number) + mine)
    assert answer is not None
    told = answer[1]
    parts = (world.record.fleet, secrets.id.encode(), mine, told[9:25], told[:8], told[8:9])
    assert told[25:] == mac(secrets.registration, b"wattveil time", *parts)
    assert int.from_bytes(told[:8], "little") == world.clock.utc
    return told[9:25]


def registration(world: World, number: int, tau: int, nonce: bytes, key: bytes = b"") -> bytes:
    secrets, record = world.secrets[number - 1], world.record
    me = secrets.id.encode()
    digest = hashlib.sha256(pack(me, u64(tau))).digest()
    parts = (record.fleet, record.fingerprint, me, u64(tau), digest, nonce)
    word = mac(key or secrets.registration, b"wattveil register", *parts)
    return struct.pack("<I", number) + u64(tau) + digest + word


def test_registration(world: World, ask: Asker) -> None:
    now = world.clock.utc
    for tau in (now, now + 1, now + 300):
        nonce = nonce_for(world, ask, 2)
        answer = ask(RELAY_REGISTER, registration(world, 2, tau, nonce))
        assert answer is not None
        me = world.secrets[1].id.encode()
        parts = (world.record.fleet, world.record.fingerprint, me, u64(tau), nonce)
        proof = mac(world.secrets[1].registration, b"wattveil registered", *parts)
        assert answer == (0x51, hashlib.sha256(pack(me, u64(tau))).digest() + proof)


def test_registrations_refused(world: World, ask: Asker) -> None:
    now = world.clock.utc
    good = registration(world, 2, now, nonce_for(world, ask, 2))
    assert ask(RELAY_REGISTER, good) is not None
    cases = [("no_nonce", good)]  # replayed: the nonce is used up
    ask.code(RELAY_REGISTER, good)
    for reason, make in [
        ("tau_not_increasing", lambda c: registration(world, 2, now, c)),
        ("tau_skew", lambda c: registration(world, 2, now + 301, c)),
        ("tau_skew", lambda c: registration(world, 2, now - 301, c)),
        ("bad_registration", lambda c: registration(world, 2, now + 1, os.urandom(16))),
        ("bad_registration", lambda c: registration(world, 2, now + 1, c, os.urandom(32))),
        ("bad_registration", lambda c: _flip(registration(world, 2, now + 1, c), 4)),  # tau
        ("bad_registration", lambda c: _flip(registration(world, 2, now + 1, c), 12)),  # H
    ]:
        payload = make(nonce_for(world, ask, 2))
        assert ask.code(RELAY_REGISTER, payload) == CODES["refused"], reason
        cases.append((reason, payload))
        # a failed try has used up the nonce as well
        assert ask.code(RELAY_REGISTER, payload) == CODES["refused"]
    counts = ask.role.status()["refused"]
    assert counts["no_nonce"] == len(cases)
    assert counts["tau_skew"] == 2
    assert counts["bad_registration"] == 4
    assert counts["tau_not_increasing"] == 1
    ask.restart()  # the last tau survives
    payload = registration(world, 2, now, nonce_for(world, ask, 2))
    assert ask.code(RELAY_REGISTER, payload) == CODES["refused"]


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


@pytest.mark.parametrize("number", [0, 5, 0xFFFFFFFE])
def test_meters_outside_the_roster(ask: Asker, number: int) -> None:
    payload = struct.pack("<I", number) + bytes(16)
    assert ask.code(RELAY_TIME, payload) == CODES["refused"]
    assert ask.role.status()["refused"] == {"unknown_meter": 1}
