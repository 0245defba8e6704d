"""The centre's rules, and the attacks that run without them (protocol rules 3 and 4)."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import plainmeter
import wattveil.roles.suites
from plainmeter import PERIOD, START, certificate, encrypt, material, pack, to_pair
from plainworld import SUITES, Asker, World, combine, opening
from wattveil.privacy.ledger import enter
from wattveil.roles.center import Center
from wattveil.roles.effects import Debit, Send
from wattveil_meter.wire import CODES, OPEN, RELEASED

RELAY_TIME, RELAY_REGISTER = 0x10, 0x11


@pytest.fixture(params=SUITES)
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(tmp_path, changes=SUITES[request.param])
    world.end()
    yield world
    world.close()


@pytest.fixture
def ask(world: World) -> Asker:
    return Asker(world, "center")


def honest(world: World, numbers: tuple[int, ...] = (1, 2, 3, 4), start: int = START) -> bytes:
    """OPEN over what honest meters sent: 100 Wh times the meter number."""
    given = [(i, material(world.meters[i], start, 100 * i)) for i in numbers]
    return opening(world, numbers, combine(world, given, start), start)


def encrypted(world: World, *messages: int) -> list[bytes]:
    """As many ciphertexts as the suite opens, which decrypt to the messages' sum."""
    more = [sum(messages)] if world.record.suite == "compact" else [messages[0], sum(messages[1:])]
    return [to_pair(encrypt(world.record, message), world.record) for message in more]


def releases(ask: Asker) -> Any:
    return ask.role.status()["releases"]


def test_one_total_and_its_price(world: World, ask: Asker) -> None:
    assert ask(OPEN, honest(world), START) == (RELEASED, b"")
    assert releases(ask) == {
        START: {
            "members": [1, 2, 3, 4],
            "total_wh": 1000,
            "refused": None,
            "epsilon": "1/2",
            "epsilon_received": 0.5,
        }
    }
    ask.restart()
    assert releases(ask)[START]["total_wh"] == 1000
    world.end(START + PERIOD)
    assert ask(OPEN, honest(world, (1, 2), START + PERIOD), START + PERIOD) == (RELEASED, b"")
    assert ask.role.status()["epsilon_spent"] == "1"


def test_ledger_before_decryption_and_answer_after(world: World, ask: Asker) -> None:
    effects = ask.role.receive("x", ask.link.seal(OPEN, honest(world), START))
    debit = effects[-1]
    assert isinstance(debit, Debit)
    assert "request" in {change.kind for change in debit.changes}
    assert debit.charge.subjects() == [*world.subjects.names(world.roster)]
    assert not any(isinstance(effect, Send) for effect in effects)
    rest = ask.role.resume(effects[-1].event)
    assert rest[0].kind == "answer"
    assert isinstance(rest[-1], Send)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        (b"\x01", "below_quorum"),
        (b"\x00", "below_quorum"),
        (b"\x13", "bad_set"),  # a meter beyond the roster: a ghost
        (b"\x03\x00", "bad_set"),
        (b"", "bad_set"),
    ],
)
def test_sets_that_are_never_opened(world: World, ask: Asker, members: bytes, reason: str) -> None:
    """Even with a certificate: dealer and cloud may lie together."""
    word = certificate(world.dealer_mac, world.record, START, members)
    payload = pack(members, word, *encrypted(world, 7))
    assert ask.code(OPEN, payload, START) == CODES[reason]
    assert ask.role.status()["refused"] == {reason: 1}
    assert releases(ask) == {}


def test_time_and_alignment(world: World, ask: Asker) -> None:
    world.clock.utc -= 1
    payload = honest(world)
    assert ask.code(OPEN, payload, START) == CODES["early"]
    world.clock.utc += 1
    assert ask.code(OPEN, honest(world, start=START + 1), START + 1) == CODES["refused"]
    assert ask.role.status()["refused"] == {"early": 1, "misaligned": 1}
    assert ask(OPEN, payload, START) == (RELEASED, b"")


def test_certificate_binds_set_period_and_record(world: World, ask: Asker) -> None:
    good = honest(world)
    members, pairs = b"\x0f", good[4 + 1 + 4 + 32 :]
    others = [
        certificate(world.dealer_mac, world.record, START, b"\x07"),
        certificate(world.dealer_mac, world.record, START - PERIOD, members),
        certificate(os.urandom(32), world.record, START, members),
        bytes(32),
        b"",
    ]
    for word in others:
        assert ask.code(OPEN, pack(members, word) + pairs, START) == CODES["refused"]
    assert ask.role.status()["refused"] == {"bad_certificate": len(others)}
    assert ask(OPEN, good, START) == (RELEASED, b"")


def test_what_is_no_ciphertext_costs_nothing(world: World, ask: Asker) -> None:
    good = encrypted(world, 7)
    size = len(good[0])
    n, p = world.record.n, int(world.key.p)
    bad = [bytes(size), b"\xff" * size, good[0][:-1], to_pair(plainmeter.mpz(n), world.record)]
    bad.append(to_pair(plainmeter.mpz(p), world.record))
    for pair in bad:
        for i in range(len(good)):
            payload = opening(world, (1, 2), [*good[:i], pair, *good[i + 1 :]])
            assert ask.code(OPEN, payload, START) == CODES["refused"]
    assert ask.role.status()["refused"] == {"not_a_ciphertext": len(good) * len(bad)}
    assert ask.role.status()["epsilon_spent"] == "0"
    assert ask(OPEN, honest(world), START) == (RELEASED, b"")


def test_a_second_set_for_a_period(world: World, ask: Asker) -> None:
    """Two totals that differ by one meter are that meter's reading."""
    given = {i: material(world.meters[i], START, 100 * i) for i in (1, 2, 3, 4)}

    def over(*numbers: int) -> bytes:
        return opening(world, numbers, combine(world, [(i, given[i]) for i in numbers]))

    assert ask(OPEN, over(1, 2, 3, 4), START) == (RELEASED, b"")
    assert ask.code(OPEN, over(1, 2, 3), START) == CODES["closed"]
    ask.restart()
    assert ask.code(OPEN, over(1, 2, 3), START) == CODES["closed"]
    assert ask(OPEN, over(1, 2, 3, 4), START) == (RELEASED, b"")  # the same again: same answer
    assert ask.role.status()["epsilon_spent"] == "1/2"
    # Without the ledger it runs: the difference is what meter 4 used.
    amnesic = Asker(_forgetful(world), "center")
    assert amnesic(OPEN, over(1, 2, 3), START) == (RELEASED, b"")
    difference = releases(ask)[START]["total_wh"] - releases(amnesic)[START]["total_wh"]
    assert difference == 400


def _forgetful(world: World) -> World:
    """The same fleet, a centre whose store was emptied."""
    other = object.__new__(World)
    other.__dict__.update(world.__dict__)
    other.root, other.stores = world.root / "empty", {}
    return other


@pytest.mark.parametrize("rule", [True, False])
def test_one_report_passed_off_as_many(
    world: World, ask: Asker, monkeypatch: pytest.MonkeyPatch, rule: bool
) -> None:
    """Dealer and cloud together repeat meter 1's report Q times over a certified set of Q."""
    if not rule:  # no centre masks v_i, at either end
        monkeypatch.setattr(wattveil.roles.suites, "mask_v", lambda *a: 0)
        real = plainmeter.prf
        monkeypatch.setattr(
            plainmeter, "prf", lambda s, label, *a: 0 if label == b"v" else real(s, label, *a)
        )
    only = material(world.meters[1], START, 321)
    payload = opening(world, (1, 2, 3), combine(world, [(1, only)] * 3))
    answer = ask(OPEN, payload, START)
    release = releases(ask)[START]
    if rule:
        assert answer == (0x7F, bytes((CODES["sum_invalid"],)))
        assert (release["total_wh"], release["refused"]) == (None, "sum_invalid")
    else:
        assert answer == (RELEASED, b"")
        assert release["total_wh"] == 3 * 321


@pytest.mark.parametrize("rule", [True, False])
def test_a_single_ciphertext_is_not_opened(
    world: World, ask: Asker, monkeypatch: pytest.MonkeyPatch, rule: bool
) -> None:
    """Dealer and cloud ask for meter 1 alone, under a certificate over a quorum."""
    if not rule:
        monkeypatch.setattr(wattveil.roles.suites, "mask_v", lambda *a: 0)
        real = plainmeter.prf
        monkeypatch.setattr(
            plainmeter, "prf", lambda s, label, *a: 0 if label == b"v" else real(s, label, *a)
        )
    *rest, last = combine(world, [(1, material(world.meters[1], START, 321))])
    n = world.record.n
    # add the offset the other members would have brought
    lifted = world.meters[1].unpair(last) * (1 + world.record.offset * n) % (n * n)
    payload = opening(world, (1, 2), [*rest, to_pair(lifted, world.record)])
    ask(OPEN, payload, START)
    assert releases(ask)[START]["total_wh"] == (None if rule else 321)


def test_a_crash_between_ledger_and_decryption(world: World, ask: Asker) -> None:
    first, second = honest(world), honest(world)  # same readings, other ciphertexts
    effects = ask.role.receive("x", ask.link.seal(OPEN, first, START))
    debit = effects[-1]
    ask.store.transact(lambda rows: [*debit.changes, *enter(rows, debit.charge, debit.limits)])
    ask.restart()  # died before the decryption
    assert releases(ask)[START]["total_wh"] is None
    assert ask.role.status()["epsilon_spent"] == "1/2"
    assert ask.code(OPEN, second, START) == CODES["closed"]
    assert ask.code(OPEN, honest(world, (1, 2)), START) == CODES["closed"]
    assert ask(OPEN, first, START) == (RELEASED, b"")
    assert releases(ask)[START]["total_wh"] == 1000
    assert ask.role.status()["epsilon_spent"] == "1/2"
    # Without the stored hash a cloud could have had another sum opened.
    assert Asker(_forgetful(world), "center")(OPEN, second, START) == (RELEASED, b"")


def test_two_requests_in_one_turn_are_one_charge_and_one_decryption(
    world: World, ask: Asker
) -> None:
    """Even a runner that hands over the second before it has carried out the first."""
    first, other = honest(world), honest(world, (1, 2, 3))
    effects = ask.role.receive("x", ask.link.seal(OPEN, first, START))
    for payload in (other, first):
        refused = ask.role.receive("x", ask.link.seal(OPEN, payload, START))
        assert not any(isinstance(effect, Debit) for effect in refused)
    assert ask.role.status()["refused"]["unavailable"] == 2
    debit = effects[-1]
    ask.store.transact(lambda rows: [*debit.changes, *enter(rows, debit.charge, debit.limits)])
    ask.role.resume(debit.event)
    assert releases(ask)[START]["total_wh"] == 1000
    assert releases(ask)[START]["members"] == [1, 2, 3, 4]


def test_overlap_whatever_the_record(world: World, ask: Asker) -> None:
    """A new record with other periods cannot ask for the same hours again."""
    assert ask(OPEN, honest(world), START) == (RELEASED, b"")
    ask.store.close()
    changes = {"phase_s": 450, "epsilon_den": 1, "offset": 60 * 1000, "roster_epoch": 2}
    other = World(world.root, changes=world.changes | changes)
    other.clock.utc = START + 10 * PERIOD
    again = Asker(other, "center")
    for start in (START - 450, START + 450):
        assert again.code(OPEN, honest(other, start=start), start) == CODES["overlap"]
    start = START + PERIOD + 450
    assert again(OPEN, honest(other, start=start), start) == (RELEASED, b"")
    assert again.role.status()["epsilon_spent"] == "3/2"  # 1/2 and, under the new record, 1
    other.close()


def test_sum_invalid_says_nothing_and_stops_the_fleet(
    world: World, ask: Asker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    outside = 2 * 1000 + 60 * 2000 + 1  # one above |S| hi + B
    members = (1, 2)
    for i in range(3):
        start = START + i * PERIOD
        world.end(start)
        v = sum(
            plainmeter.prf(s.center_seed, b"v", world.record.fingerprint, start, 16)
            for s in world.secrets[:2]
        )
        message = outside + v + 2 * world.record.offset
        payload = opening(world, members, encrypted(world, 0, message), start)
        for _ in range(2):  # asked again, even after a restart: the same answer, counted once
            assert ask.code(OPEN, payload, start) == CODES["sum_invalid"]
            ask.restart()
        assert ask.role.status()["stopped"] is (i == 2)
        release = releases(ask)[start]
        assert (release["total_wh"], release["refused"]) == (None, "sum_invalid")
    assert ask.role.status()["epsilon_spent"] == "3/2"
    rows = b"".join(
        v for kind in ("answer", "request", "entry") for v in ask.store.load(kind).values()
    )
    assert str(outside) not in caplog.text
    assert str(outside).encode() not in rows
    start = START + 3 * PERIOD
    world.end(start)
    assert ask.code(OPEN, honest(world, start=start), start) == CODES["stopped"]
    ask.restart()
    assert ask.code(OPEN, honest(world, start=start), start) == CODES["stopped"]


def test_a_good_sum_ends_the_streak(world: World, ask: Asker) -> None:
    for i, good in enumerate([False, False, True, False, False, True]):
        start = START + i * PERIOD
        world.end(start)
        if good:
            assert ask(OPEN, honest(world, start=start), start) == (RELEASED, b"")
        else:
            payload = opening(world, (1, 2), encrypted(world, 1 << 200, 1 << 200), start)
            assert ask.code(OPEN, payload, start) == 12
    assert not ask.role.status()["stopped"]


@pytest.mark.parametrize(("total", "released"), [(122_000, True), (122_001, False)])
@pytest.mark.parametrize("sign", [1, -1])
def test_bounds_are_exact(world: World, ask: Asker, total: int, released: bool, sign: int) -> None:
    """|S| = Q = 2, so B = 60 * 1000 * 2 = 120,000 Wh, around 0..2,000 Wh."""
    value = total if sign > 0 else 2000 - total
    record = world.record
    v = sum(
        plainmeter.prf(s.center_seed, b"v", record.fingerprint, START, 16)
        for s in world.secrets[:2]
    )
    pairs = encrypted(world, value + v, 2 * record.offset)
    ask(OPEN, opening(world, (1, 2), pairs), START)
    assert releases(ask)[START]["total_wh"] == (value if released else None)


def test_the_ciphertexts_of_another_suite(world: World, ask: Asker) -> None:
    """Two where the record's suite has one, or one of two, are no request at all."""
    pairs = combine(world, [(i, material(world.meters[i], START, 5)) for i in (1, 2)])
    for other in ([*pairs, *encrypted(world, 0)], pairs[:-1]):
        assert ask.code(OPEN, opening(world, (1, 2), other), START) == CODES["refused"]
    assert ask.role.status()["refused"] == {"malformed": 2}
    assert ask.role.status()["epsilon_spent"] == "0"
    assert ask(OPEN, opening(world, (1, 2), pairs), START) == (RELEASED, b"")


def test_a_record_of_the_other_suite_does_not_reopen_a_period(world: World, ask: Asker) -> None:
    """The same fleet, meters, seeds and hours under the other suite: one total a period, ever."""
    assert ask(OPEN, honest(world), START) == (RELEASED, b"")
    ask.store.close()
    suite = "yan2024" if world.record.suite == "compact" else "compact"
    other = World(world.root, changes={"roster_epoch": 2, **SUITES[suite]})
    other.secrets, other.dealer_mac = world.secrets, world.dealer_mac
    other.cloud_center = world.cloud_center
    other.end()
    again = Asker(other, "center", boot=2)
    assert again.code(OPEN, honest(other), START) == CODES["closed"]
    assert again.role.status()["epsilon_spent"] == "1/2"
    other.close()


def test_after_a_backup_nothing_up_to_now_is_opened(world: World, ask: Asker) -> None:
    ask.store.restored(START, START)
    ask.restart()
    assert ask.code(OPEN, honest(world), START) == CODES["refused"]
    assert ask.role.status()["refused"] == {"restored": 1}
    world.end(START + PERIOD)
    assert ask(OPEN, honest(world, start=START + PERIOD), START + PERIOD) == (RELEASED, b"")


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


# --- frames --------------------------------------------------------------------------------------


def test_unauthenticated_frames_get_no_answer(world: World, ask: Asker) -> None:
    payload = honest(world)
    frame = ask.link.seal(OPEN, payload, START)
    for at in (0, 3, 4, 12, 20, 28, 44, 60, len(frame) - 1):
        assert ask.give(_flip(frame, at)) is None
    assert ask.give(b"") is None
    assert ask.give(frame + b"x") is None
    assert releases(ask) == {}
    assert ask.give(frame) == (RELEASED, b"")
    assert ask.give(frame) is None
    assert ask.role.status()["refused"]["replayed"] == 1
    ask.restart()
    assert ask.give(frame) is None  # the counter survives


def test_other_messages_are_malformed(ask: Asker) -> None:
    for type, payload in [(0x20, b""), (0x01, b""), (OPEN, b"x"), (RELAY_TIME, b""), (0x52, b"")]:
        assert ask.code(type, payload) == CODES["refused"]
    assert ask.role.status()["refused"] == {"malformed": 5}


def test_status_tells_no_secret(world: World, ask: Asker) -> None:
    assert ask(OPEN, honest(world), START) == (RELEASED, b"")
    text = repr(ask.role.config) + str(ask.role.status())
    role: Center = ask.role
    for secret in [
        *role.seeds.of([1, 2, 3, 4], START),
        *role.config.registration_keys,
        role.config.cloud,
    ]:
        assert repr(secret)[2:-1] not in text
        assert secret.hex() not in text
