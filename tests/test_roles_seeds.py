"""The daily ratchet at dealer and centre: one day's seed for a period, and none of days long over."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plainmeter import FIRST_DAY, PERIOD, START, material, seed_of
from plainworld import Asker, TestClock, World, combine, opening
from wattveil import cli, sealed
from wattveil.roles.answering import Answering
from wattveil.roles.common import ConfigError
from wattveil.roles.folders import SEEDS, load_center, load_dealer
from wattveil.roles.seeds import STEADY_S, Seed, Seeds, Steady
from wattveil.runners.process import build
from wattveil.sealed import SealError
from wattveil.store import Store
from wattveil_meter.seeds import Seeds as MeterSeeds
from wattveil_meter.seeds import record_of
from wattveil_meter.store import MemoryStorage
from wattveil_meter.wire import CLOSE, CODES, OPEN, RELEASED, SHARE, Refused

DAY = 86_400
FIRST = FIRST_DAY * DAY
LOADERS: dict[str, Any] = {"center": load_center, "dealer": load_dealer}
MIDNIGHT = (START // DAY + 1) * DAY
LAST = MIDNIGHT - PERIOD + (START - MIDNIGHT) % PERIOD  # the last period that starts before it


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def honest(world: World, numbers: tuple[int, ...], start: int) -> bytes:
    """OPEN for 100 Wh a meter."""
    given = [(n, material(world.meters[n], start, 100)) for n in numbers]
    return opening(world, numbers, combine(world, given, start), start)


def refused(asker: Asker) -> Any:
    return asker.role.status()["refused"]


# --- one seed --------------------------------------------------------------------------------------


def finish(generator: Any) -> Any:
    try:
        while True:
            next(generator)
    except StopIteration as stop:
        return stop.value


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2)), min_size=1, max_size=8),
    secret=st.binary(min_size=32, max_size=32),
)
def test_meter_dealer_and_centre_agree_on_any_schedule(
    steps: list[tuple[int, int]], secret: bytes
) -> None:
    """Periods of any days, each closed up to two days later, and erased by all three in between."""
    other = secret[::-1]
    flash = MemoryStorage({"seeds.bin": record_of(FIRST_DAY, secret, other)})
    roles = [Seeds([Seed(FIRST_DAY, one)]) for one in (secret, other)]
    day, newest = FIRST_DAY, None
    for ahead, late in steps:
        day += ahead
        start = day * DAY + 900
        meter = MeterSeeds(flash)  # a restart
        ours = finish(meter.of(day))
        finish(meter.erase(start + PERIOD, start))
        assert ours == (seed_of(secret, start), seed_of(other, start))
        for role, wanted in zip(roles, ours, strict=True):
            assert role.of([1], start) == [wanted]
            newest = start
            role.forget((day + late) * DAY, newest)
            assert role.of([1], start) == [wanted]
            role.forget((day + 3) * DAY, newest)
            with pytest.raises(Refused, match="expired"):
                role.of([1], start)
        day += 1
    assert finish(MeterSeeds(flash).of(FIRST_DAY - 1)) is None


def test_a_younger_meter_has_no_seed_of_earlier_days() -> None:
    seeds = Seeds([Seed(FIRST_DAY, bytes(32)), Seed(FIRST_DAY + 2, bytes(31) + b"1")])
    assert len(seeds.of([1], FIRST + DAY)) == 1
    assert len(seeds.of([1, 2], FIRST + 2 * DAY)) == 2
    with pytest.raises(Refused, match="expired"):
        seeds.of([1, 2], FIRST + DAY)


def test_our_clock_alone_moves_seeds_by_a_week() -> None:
    seeds = Seeds([Seed(FIRST_DAY, bytes(32))])
    for _ in range(3):  # it says ten years later, again and again
        seeds.forget(FIRST + 3650 * DAY, None)
        assert seeds.first == FIRST_DAY + 7
    seeds.forget(FIRST, None)  # right again: never back
    assert seeds.first == FIRST_DAY + 7
    assert seeds.of([1], FIRST + 8 * DAY) == [seed_of(bytes(32), FIRST + 8 * DAY)]
    newest = FIRST + 3648 * DAY  # that far the cloud's clock said it too
    seeds.forget(FIRST + 3650 * DAY, newest)
    assert seeds.first == FIRST_DAY + 3648


def test_a_clock_is_believed_once_it_has_run_evenly() -> None:
    clock = TestClock()
    clock.running = True
    steady = Steady(clock)

    def passes(seconds: int) -> None:
        clock.utc += seconds
        clock.seconds += seconds

    assert not steady
    passes(int(STEADY_S) - 1)
    assert not steady
    passes(1)
    assert steady
    clock.utc += 30  # the network corrects it a little
    assert steady
    clock.utc += 400 * DAY
    assert not steady
    passes(int(STEADY_S) - 1)
    clock.utc -= 400 * DAY
    assert not steady
    passes(int(STEADY_S))
    assert steady
    clock.running = False  # a demonstration's
    clock.utc += 400 * DAY
    assert steady


# --- a role's days ---------------------------------------------------------------------------------


def test_a_period_over_midnight_is_of_the_day_it_starts(world: World) -> None:
    assert LAST < MIDNIGHT <= LAST + PERIOD and LAST % DAY
    dealer, center = Asker(world, "dealer"), Asker(world, "center")
    for start in (LAST, LAST + PERIOD):
        world.end(start)
        for asker in (dealer, center):
            asker.role.tick()
        assert dealer(CLOSE, world.members(1, 2, 3), start)[0] == SHARE  # type: ignore[index]
        assert center(OPEN, honest(world, (1, 2, 3), start), start) == (RELEASED, b"")
    released = center.role.status()["releases"]
    assert all(abs(one["total_wh"] - 300) < 200_000 for one in released.values())
    assert len(released) == 2


@pytest.mark.parametrize("name", ["dealer", "center"])
def test_two_days_late_and_not_a_second_later(world: World, name: str) -> None:
    asker = Asker(world, name)
    members = world.members(1, 2, 3)
    kind, answer = {"dealer": (CLOSE, SHARE), "center": (OPEN, RELEASED)}[name]

    late = START + PERIOD
    payload = {
        start: members if name == "dealer" else honest(world, (1, 2, 3), start)
        for start in (START, late)
    }
    world.clock.utc = MIDNIGHT + 2 * DAY - 1
    asker.role.tick()
    asker.restart()  # from what is kept
    assert asker(kind, payload[START], START)[0] == answer  # type: ignore[index]
    world.clock.utc += 1
    for _ in range(2):  # by the clock, and with the seed really gone
        assert asker.code(kind, payload[late], late) == CODES["refused"]
        assert refused(asker) == {"expired": 1}
        asker.role.tick()
        asker.restart()
    assert asker(kind, payload[START], START)[0] == answer  # type: ignore[index]  # what is closed stays
    assert asker.role.newest() == START
    assert [seed.day for seed in world.seeds[name]] == [START // DAY + 1] * 4
    if name == "center":
        assert asker.role.status()["epsilon_spent"] == "1/2"  # of the one that was opened


def test_a_disk_that_is_full_keeps_seeds_and_service(world: World) -> None:
    asker = Asker(world, "dealer")

    def fail(held: Any) -> None:
        raise OSError(28, "No space left on device")

    kept, asker.role.seeds._keep = asker.role.seeds._keep, fail
    world.clock.utc = MIDNIGHT + 2 * DAY
    for _ in range(2):
        assert asker.role.tick() == []
    assert refused(asker) == {"seeds_not_erased": 2}
    start = LAST + PERIOD
    assert asker(CLOSE, world.members(1, 2, 3), start)[0] == SHARE  # type: ignore[index]
    asker.role.seeds._keep = kept
    asker.role.tick()
    assert {seed.day for seed in world.seeds["dealer"]} == {MIDNIGHT // DAY}


# --- folders ---------------------------------------------------------------------------------------


def start_role(world: World, name: str) -> tuple[Answering, Store]:
    store = Store(world.root / name / "state.db")
    role, _ = build(name, world.root / name, store, world.clock)
    assert isinstance(role, Answering)
    return role, store


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", LOADERS)
def test_no_byte_of_an_old_seed_is_left_in_the_folder(world: World, name: str) -> None:
    world.write_folders()
    folder = world.root / name
    secret = {"center": world.secrets[0].center_seed, "dealer": world.secrets[0].dealer_seed}[name]
    forms = {
        day: (seed := seed_of(secret, (FIRST_DAY + day) * DAY), seed.hex().encode())
        for day in range(10)
    }
    assert forms[0][1] in (folder / "meters.json").read_bytes()
    inodes = [(folder / "meters.json").open("rb")]
    role, store = start_role(world, name)
    inodes.append((folder / SEEDS).open("rb"))
    assert "seed" not in (folder / "meters.json").read_text()
    assert (folder / SEEDS).stat().st_mode & 0o777 == 0o600
    assert forms[0][1] in (folder / SEEDS).read_bytes()
    world.clock.utc = FIRST + 8 * DAY
    role.tick()
    role.tick()
    left = everything(folder)
    for day, (seed, text) in forms.items():
        assert seed not in left  # in hexadecimal only
        assert (text in left) == (day == 6)
    for file in inodes:  # what was replaced is overwritten, too
        assert set(file.read()) == {0}
        file.close()
    store.close()
    role, store = start_role(world, name)  # and it goes on from there
    assert role.seeds.first == FIRST_DAY + 6
    assert role.seeds.of([1], FIRST + 9 * DAY) == [forms[9][0]]
    store.close()


def test_killed_between_keeping_and_taking(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write_folders()
    folder = world.root / "dealer"
    before = (folder / "meters.json").read_bytes()
    role, store = start_role(world, "dealer")
    store.close()
    (folder / "meters.json").write_bytes(before)  # as if the second write had not come
    role, store = start_role(world, "dealer")
    assert role.seeds.first == FIRST_DAY
    assert "seed" not in (folder / "meters.json").read_text()
    store.close()


def test_a_seed_that_comes_while_the_role_runs_is_taken_at_its_next_start(world: World) -> None:
    world.write_folders()
    folder = world.root / "dealer"
    role, store = start_role(world, "dealer")
    table = json.loads((folder / "meters.json").read_text())
    fresh = os.urandom(32)
    table[world.roster[1]] = {"day": START // DAY, "seed": fresh.hex()}  # as rekey does
    (folder / "meters.json").write_text(json.dumps(table))
    world.clock.utc = FIRST + 5 * DAY
    role.tick()  # its own seeds move on
    store.close()
    role, store = start_role(world, "dealer")
    assert role.seeds.of([2], FIRST + 5 * DAY)[0] == Seed(START // DAY, fresh).at(FIRST_DAY + 5)[1]
    other = seed_of(world.secrets[0].dealer_seed, FIRST + 5 * DAY)
    assert role.seeds.of([1], FIRST + 5 * DAY) == [other]
    store.close()


def test_sealed_secrets_stay_sealed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_file = tmp_path / "passphrase"
    key_file.touch(0o600)
    key_file.write_text("correct horse battery staple\n")
    monkeypatch.setattr(sealed, "COST", 1 << 10)
    monkeypatch.setenv(sealed.VARIABLE, str(key_file))
    world.write_folders()
    folder = world.root / "dealer"
    assert cli.main(["store", "seal", str(folder), "--key-file", str(key_file)]) == 0
    role, store = start_role(world, "dealer")
    for days in (0, 5):
        world.clock.utc = FIRST + days * DAY
        role.tick()
        for path in (folder / "meters.json", folder / SEEDS):
            assert sealed.is_sealed(path.read_bytes())
        secret = seed_of(world.secrets[0].dealer_seed, FIRST + max(0, days - 2) * DAY)
        assert secret.hex() not in everything(folder).decode("latin-1")
    monkeypatch.setenv(sealed.VARIABLE, "")
    world.clock.utc += DAY
    role.tick()  # the passphrase is gone: counted, and tried again
    assert role.refusals.counts == {"seeds_not_erased": 1}
    with pytest.raises(SealError):
        load_dealer(folder)
    store.close()


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "bring the seeds.json"),
        ({"day": "1", "seed": "00" * 32}, "not a UTC day"),
        ({"day": -1, "seed": "00" * 32}, "not a UTC day"),
        ({"day": 1, "seed": "00" * 31}, "not a UTC day"),
        ({"day": 1, "seed": "zz" * 32}, "hexadecimal"),
        ({"day": 1, "seed": 5}, "hexadecimal"),
        ([], "not an object"),
    ],
)
def test_seeds_that_are_none(world: World, name: str, entry: Any, message: str) -> None:
    world.write_folders()
    folder = world.root / name
    _, store = start_role(world, name)
    store.close()
    table = json.loads((folder / SEEDS).read_text())
    (folder / SEEDS).write_text(json.dumps({**table, world.roster[2]: entry}))
    with pytest.raises(ConfigError, match=message):
        LOADERS[name](folder)


def test_a_back_up_by_hard_link_is_not_overwritten(tmp_path: Path) -> None:
    path, kept = tmp_path / "secret", tmp_path / "back-up"
    path.write_bytes(b"before")
    os.link(path, kept)
    sealed.replace(path, b"after")
    assert (path.read_bytes(), kept.read_bytes()) == (b"after", b"before")
