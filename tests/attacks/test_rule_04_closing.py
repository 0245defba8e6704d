"""Rule 4: how dealer and centre refuse what would give away one meter.

The attacks themselves, with the rule and without it, are wattveil.audit.attacks.closing (the audit's rules
quorum, quorum-center, one-closing, one-opening, v). A cloud that closes S, then S without one meter, or opens
early, or under another certificate, is played in tests/test_roles_* (README.md here says where).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from gmpy2 import mpz, powmod

from plainmeter import START, material
from plainworld import SUITES, Asker, World, combine, opening
from wattveil_meter.wire import CODES, OPEN

CLOSE, SHARE = 0x20, 0x60


@pytest.fixture(params=SUITES)
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(tmp_path, changes=SUITES[request.param])
    world.end()
    yield world
    world.close()


def share(payload: bytes) -> tuple[int, int, bytes]:
    """K' (0 in suite compact, which has none), U and the certificate of a SHARE."""
    parts = []
    while payload:
        (size,) = struct.unpack_from("<I", payload)
        parts.append(payload[4 : 4 + size])
        payload = payload[4 + size :]
    k, u, certificate = [b"", *parts][-3:]
    return int.from_bytes(k, "little"), int.from_bytes(u, "little"), certificate


def test_the_dealer_is_asked_for_one_meter(world: World) -> None:
    dealer = Asker(world, "dealer")
    answer = dealer(CLOSE, world.members(1), START)
    assert answer == (0x7F, bytes((CODES["below_quorum"],)))
    assert dealer.role.status()["closings"] == {}


def test_the_centre_is_asked_for_one_meter(world: World) -> None:
    """The dealer signs whatever the cloud likes; only the centre counts."""
    center = Asker(world, "center")
    payload = opening(world, (1,), combine(world, [(1, material(world.meters[1], START, 654))]))
    assert center.code(OPEN, payload, START) == CODES["below_quorum"]
    assert center.role.status()["epsilon_spent"] == "0"


def test_a_set_with_repeated_or_unknown_meters_cannot_be_said(world: World) -> None:
    """S is a bitmap: a meter is in it once, and bits beyond the roster are refused by both."""
    dealer = Asker(world, "dealer")
    for members in (b"\x11", b"\x83", b"\x03\x03", b"\x00\x03"):
        assert dealer.code(CLOSE, members, START) == CODES["bad_set"]
    assert dealer.role.status()["closings"] == {}


@pytest.mark.parametrize("rule", [False, True])
def test_a_share_for_one_set_opens_no_other(world: World, rule: bool) -> None:
    """The cloud closes {1, 2, 3} honestly and multiplies the ciphertexts of {1, 2} only.

    u_3 and k_3 of the share make it random. Were u and k zero, v_3 would still do it.
    """
    center, dealer = Asker(world, "center"), Asker(world, "dealer")
    answer = dealer(CLOSE, world.members(1, 2, 3), START)
    assert answer is not None and answer[0] == SHARE
    closed = [(i, material(world.meters[i], START, 100 * i)) for i in (1, 2, 3)]
    given = closed if not rule else closed[:2]
    *c1, _ = combine(world, given)
    n = mpz(world.record.n)
    k, u, certificate = share(answer[1])
    c2 = powmod(mpz(world.record.h), -k, n * n) * (1 + u * n) % (n * n)
    for _, (_, report) in given:
        c2 = c2 * report % (n * n)
    payload = opening(world, (1, 2, 3), [*c1, world.meters[1].pair(c2)])
    assert certificate in payload
    center(OPEN, payload, START)
    release = center.role.status()["releases"][START]
    assert release["total_wh"] == (None if rule else 600)
    assert release["refused"] == ("sum_invalid" if rule else None)
