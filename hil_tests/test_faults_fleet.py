"""Faults of who is who: one identity twice, another fleet, another roster, another key; and of time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fieldfleet import MAIN, START, Field
from wattveil.fleet.emulated import EmulatedMeter
from wattveil.fleet.renew import renew
from wattveil.paillier.keys import generate

ALL = [1, 2, 3, 4]


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory, runtimes: tuple[str, ...]) -> Iterator[Field]:
    """Four meters on serial lines."""
    with Field(tmp_path_factory.mktemp("fleet"), runtimes=runtimes[:1]) as field:
        yield field.up()


def copy_of(field: Field, number: int, root: Path) -> EmulatedMeter:
    """A second device with everything the first one has, plugged in too."""
    folder = root / "copy"
    shutil.copytree(field.folder(number), folder)
    meter = EmulatedMeter(folder, "micropython", main=MAIN)
    meter.start()
    field.roles["cloud"].ask(attach=[{"port": meter.port}])
    return meter


def test_two_boards_with_one_identity_count_once_at_most(
    field: Field, recovered, tmp_path: Path
) -> None:
    start = field.begin()
    field.prepared(start, ALL)
    before = {name: field.refused(name) for name in ("replayed", "conflict")}
    with copy_of(field, 2, tmp_path):
        for _ in range(3):
            start = field.begin()
            field.prepared(start, [1, 3, 4])
            field.wait(
                "the two to be told apart", lambda: field.refused("replayed") > before["replayed"]
            )
            field.clock(start + field.settings.period_s)
            field.wait(
                "the others", lambda at=start: {1, 3, 4} <= set(field.period(at)["reported"])
            )
            field.close_period(start)
            state = field.period(start)
            # once, or not at all; whose it is can be told only where the first one's was taken
            assert state["outcome"] == "released" and state["reported"] in (ALL, [1, 3, 4])
    assert field.refused("replayed") > before["replayed"]
    # The copy is gone, but its boot number was the next one: it takes two starts, or new keys.
    for _ in range(2):
        boot = (field.folder(2) / "boot.bin").read_bytes()
        field.meters[2].restart()
        field.wait(
            "its boot number", lambda old=boot: (field.folder(2) / "boot.bin").read_bytes() != old
        )
    start = field.begin(skip=1)
    took = field.prepared(start, ALL)
    field.end(start, ALL)
    recovered(took + field.whole())


def test_a_board_from_another_fleet_is_refused_and_harms_nobody(
    field: Field, recovered, tmp_path: Path
) -> None:
    with Field(tmp_path / "other", meters=2) as other:
        folder = other.prepare_folder(1)
        stranger = EmulatedMeter(folder, "micropython", main=MAIN)
        with stranger:
            field.roles["cloud"].ask(attach=[{"port": stranger.port}])
            field.wait("its frames", lambda: field.refused("wrong_fleet") >= 1)
            took = field.whole()
            log = (folder / "log.txt").read_text()
            assert "day" not in log  # it was never told a time
    recovered(took)


def test_a_meter_that_leaves_and_one_that_joins_change_the_record(field: Field, recovered) -> None:
    """A new roster epoch: another quorum, other noise. What was begun under the old one is lost."""
    start = field.begin()
    field.prepared(start, ALL)
    field.down()
    renewed = renew(
        field.fleet.root, field.root / "roster2", roster=["m1", "m2", "m3", "m5"], quorum="0.75"
    )
    assert renewed.joined == ("m5",) and renewed.left == ("m4",)
    for name in renewed.stayed:
        for file in ("shares.csv", "readings.csv", "log.txt"):
            shutil.copy(
                field.fleet.root / "meters" / name / file, renewed.fleet.meter_folder(name)
            )
    before = field.fleet.record
    field.move(renewed.fleet)
    assert field.fleet.record.roster_epoch == before.roster_epoch + 1
    assert field.fleet.record.a != before.a  # the shape of everybody's noise
    field.up()
    field.clock(start + field.settings.period_s)
    took = field.whole()
    field.lost(start)
    recovered(took)


def test_a_new_key_comes_with_new_tables(field: Field, recovered) -> None:
    start = field.begin()
    field.prepared(start, ALL)
    field.down()
    key = generate(256, insecure_test_key=True)
    renewed = renew(field.fleet.root, field.root / "key2", key=key)
    for name in renewed.stayed:
        for file in ("shares.csv", "readings.csv", "log.txt"):
            shutil.copy(
                field.fleet.root / "meters" / name / file, renewed.fleet.meter_folder(name)
            )
    old = field.fleet.root
    field.move(renewed.fleet)
    table = renewed.fleet.meter_folder("m1") / "s.tab"
    good = table.read_bytes()
    table.write_bytes((old / "meters" / "m1" / "s.tab").read_bytes())
    for role in ("dealer", "center", "cloud"):
        field.start_role(role)
    field.start_meter(1)  # with the new record and a table of the old key
    field.wait("the meter to say so", lambda: field.cloud()["meters"]["1"]["selftest"])
    assert "not one the record allows" in field.cloud()["meters"]["1"]["selftest"]
    assert field.refused("selftest") == 1
    table.write_bytes(good)
    field.meters[1].restart()
    for number in (2, 3, 4):
        field.start_meter(number)
    field.clock(start + field.settings.period_s)
    took = field.whole()
    field.lost(start)
    recovered(took)


@pytest.mark.parametrize("jump", [3600, -3600], ids=["forward", "back"])
def test_a_clock_that_jumps_doubles_nothing(
    tmp_path: Path, runtimes: tuple[str, ...], recovered, jump: int
) -> None:
    """The clocks run here: periods of 4 s."""
    with Field(tmp_path, meters=3, period_s=4, runtimes=runtimes[:1], deadline=3.0) as field:
        field.clock(START, running=True)
        field.up()

        def releases() -> dict[str, dict[str, object]]:
            found = field.roles["center"].ask(status=True)["releases"]
            return {at: r for at, r in found.items() if len(r["members"]) == 3}

        field.wait("a whole period", releases)
        first = max(map(int, releases()))
        now = field.roles["center"].ask(status=True)["clock"]
        field.clock(now + jump, running=True)
        if jump < 0:  # what was begun counts, and excludes what overlaps it: no period until then
            field.wait(
                "the meters to see it",
                lambda: all(field.counts(number).get("clock_jump") for number in (1, 2, 3)),
            )
            assert not [at for at in releases() if int(at) > first + 8]
            field.clock(now + 8, running=True)  # the centre's time is right again
        took = field.wait(
            "whole periods again",
            lambda: [at for at in releases() if int(at) > first + max(jump, 0) + 4],
        )
        for number in (1, 2, 3):
            assert field.stop_meter(number)["clock_jump"] == (1 if jump > 0 else 2)
        field.released_once()
        recovered(took)
