"""Faults of who is who: one identity twice, another fleet, another roster, another key; and of time."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fieldfleet import MAIN, PATIENCE_S, START, Field, TooSlow
from tiers import Tier
from wattveil.fleet.emulated import EmulatedMeter
from wattveil.fleet.packages import LIVING
from wattveil.fleet.renew import renew
from wattveil.paillier.keys import generate
from wattveil_meter.wire import TIME

ALL = [1, 2, 3, 4]


@pytest.mark.parametrize("jump", [3600, -3600], ids=["forward", "back"])
def test_a_clock_that_jumps_doubles_nothing(
    tmp_path: Path, runtimes: tuple[str, ...], field_tier: Tier | None, recovered, jump: int
) -> None:
    """The clocks run here: periods of 4 s, of 16 s for a machine on which not everybody is that fast."""
    tries = ((60, None),) if field_tier else ((4, 40.0), (16, PATIENCE_S))
    for period_s, limit_s in tries:
        given = {"meters": 3, "period_s": period_s, "deadline": 0.75 * period_s}
        given |= {"runtimes": runtimes[:1], "tier": field_tier}
        with Field(tmp_path / str(period_s), **given) as field:
            try:
                jumped(field, recovered, jump, limit_s)
                return
            except TooSlow:
                if (period_s, limit_s) == tries[-1]:
                    raise


def jumped(field: Field, recovered, jump: int, limit_s: float | None) -> None:
    field.clock(START, running=True)
    field.up()

    def releases() -> dict[str, dict[str, object]]:
        found = field.roles["center"].ask(status=True)["releases"]
        return {at: r for at, r in found.items() if len(r["members"]) == 3}

    field.wait("a whole period", releases, limit_s)
    first = max(map(int, releases()))
    begun = time.monotonic()
    now = field.roles["center"].ask(status=True)["clock"]
    field.clock(now + jump, running=True)
    latest = now + time.monotonic() - begun + 1  # that the centre's clock can have been
    if jump < 0:  # what was begun counts, and excludes what overlaps it: no period until then
        if field.subject:  # its log cannot be seen now, but what it asks for
            asked = field.cables[field.subject].seen
            before = asked[TIME]
            field.wait("it to ask for the time", lambda: asked[TIME] >= before + 2)
        field.wait(
            "the others to see it",
            lambda: all(
                field.counts(number).get("clock_jump")
                for number in (1, 2, 3)
                if number != field.subject
            ),
        )
        assert not [at for at in releases() if int(at) > latest]
        field.clock(now + 2 * field.settings.period_s, running=True)  # it is right again
    took = field.wait(
        "whole periods again",
        lambda: [at for at in releases() if int(at) > max(first, latest - 1) + max(jump, 0)],
        limit_s,
    )
    for number in (1, 2, 3):
        assert field.counts_at_stop(number)["clock_jump"] == (1 if jump > 0 else 2)
    field.released_once()
    recovered(took)


@pytest.fixture(scope="module")
def field(
    tmp_path_factory: pytest.TempPathFactory, runtimes: tuple[str, ...], field_tier: Tier | None
) -> Iterator[Field]:
    """Four meters on serial lines."""
    root = tmp_path_factory.mktemp("fleet")
    with Field(root, runtimes=runtimes[:1], tier=field_tier) as field:
        yield field.up()


@contextlib.contextmanager
def copy_of(field: Field, number: int, root: Path) -> Iterator[None]:
    """A second device with everything the first one has, plugged in too."""
    folder = root / "copy"
    shutil.copytree(field.folder(number), folder)
    if number == field.subject:
        with field.stopped(number) as files:
            for name in (*LIVING, "ready/period.bin"):
                if data := files.read(name):
                    (folder / name).parent.mkdir(exist_ok=True)
                    (folder / name).write_bytes(data)
    meter = EmulatedMeter(folder, "micropython", main=MAIN)
    with meter:
        field.roles["cloud"].ask(attach=[{"port": meter.port}])
        yield
        field.roles["cloud"].ask(detach=[{"port": meter.port}])  # its name may be another's next


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
    boots = set()
    while len(boots) < 3:
        with field.stopped(2) as files:
            boots.add(files.read("boot.bin"))
    start = field.begin()
    took = field.prepared(start, ALL)
    field.end(start, ALL)
    recovered(took + field.whole())


def test_a_meter_that_leaves_and_one_that_joins_change_the_record(field: Field, recovered) -> None:
    """A new roster epoch: another quorum, other noise. What was begun under the old one is lost."""
    start = field.begin()
    field.prepared(start, ALL)
    field.down()
    renewed = renew(
        field.fleet.root, field.root / "roster2", roster=["m1", "m2", "m3", "m5"], quorum="0.75",
        day=start // 86_400,
    )  # fmt: skip
    assert renewed.joined == ("m5",) and renewed.left == ("m4",)
    before = field.fleet.record
    field.move(renewed)
    assert field.fleet.record.roster_epoch == before.roster_epoch + 1
    assert field.fleet.record.a != before.a  # the shape of everybody's noise
    field.up()
    field.clock(start + field.settings.period_s)
    took = field.whole()
    field.lost(start)
    recovered(took)


def test_a_new_key_comes_with_new_tables(field: Field, recovered) -> None:
    number = field.target(1)
    with field.stopped(number) as files:
        old = files.read("s.tab")
    start = field.begin()
    field.prepared(start, ALL)
    field.down()
    key = generate(256, insecure_test_key=True)
    renewed = renew(field.fleet.root, field.root / "key2", key=key)
    field.move(renewed)
    for role in ("dealer", "center", "cloud"):
        field.start_role(role)
    field.start_meter(number)
    field.wait("it", lambda: "registered" in field.states())
    with field.stopped(number) as files:  # the new record, and a table of the old key
        good = files.read("s.tab")
        files.write("s.tab", old)
    field.wait("the meter to say so", lambda: field.cloud()["meters"][str(number)]["selftest"])
    assert "not one the record allows" in field.cloud()["meters"][str(number)]["selftest"]
    assert field.refused("selftest") == 1
    with field.stopped(number) as files:
        files.write("s.tab", good)
    for other in ALL:
        if other != number:
            field.start_meter(other)
    field.clock(start + field.settings.period_s)
    took = field.whole()
    field.lost(start)
    recovered(took)


def test_a_board_from_another_fleet_is_refused_and_harms_nobody(
    field: Field, recovered, tmp_path: Path
) -> None:
    """With a board under test, that is the one that was moved; it stays a stranger: the last test."""
    with Field(tmp_path / "other", meters=2) as other:
        folder = other.prepare_folder(1)
        if field.subject:
            field.become(other, 1)
            others = [n for n in ALL if n in field.meters and n != field.subject]
        else:
            stranger = EmulatedMeter(folder, "micropython", main=MAIN)
            stranger.start()
            field.roles["cloud"].ask(attach=[{"port": stranger.port}])
            others = ALL
        field.wait("its frames", lambda: field.refused("wrong_fleet") >= 1)
        start = field.begin()
        took = field.prepared(start, others)
        field.end(start, others)
        if field.subject:
            log = field.counts_at_stop(field.subject) and field.log_lines(field.subject)
        else:
            log = (folder / "log.txt").read_text().splitlines()
            field.roles["cloud"].ask(detach=[{"port": stranger.port}])
            stranger.close()
        assert not any(line.split()[2] == "day" for line in log)  # it was never told a time
    recovered(took)
