"""Faults of lines, hosts and power: what is lost, what is counted, how long it takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fieldfleet import ROLES, Field
from tiers import Tier
from wattveil_meter.wire import REPORT

ALL = [1, 2, 3, 4]


@pytest.fixture(scope="module")
def field(
    tmp_path_factory: pytest.TempPathFactory, runtimes: tuple[str, ...], field_tier: Tier | None
) -> Iterator[Field]:
    """Four meters on serial lines, those of 1 and 2 with a Cable; half of them ARM where it is there."""
    root = tmp_path_factory.mktemp("links")
    with Field(root, runtimes=runtimes, cables=(1, 2), tier=field_tier) as field:
        yield field.up()


def test_meters_that_are_there_first_wait_for_the_rest(
    tmp_path: Path, runtimes: tuple[str, ...], field_tier: Tier | None, recovered
) -> None:
    with Field(tmp_path, runtimes=runtimes, tier=field_tier) as field:
        first_connect(field, recovered)


def first_connect(field: Field, recovered) -> None:
    """Nobody answers, then nobody knows the time (a centre that has none yet says so by silence)."""
    for number in ALL:
        field.start_meter(number)
    field.start_role("cloud")
    field.wait("the cloud tells them", lambda: field.refused("unavailable") >= 4)
    assert not {"registered"} & set(field.states()) and not field.cloud()["periods"]
    field.start_role("dealer")
    assert not field.cloud()["periods"]  # no time, no period, no report
    field.start_role("center")
    recovered(field.wait("registration", lambda: set(field.states()) == {"registered"}))
    field.whole()


def test_noise_on_the_line_is_counted_and_costs_nothing(field: Field, recovered) -> None:
    noisy = field.target(1)
    cable = field.cables[noisy]
    kinds = ("damaged", "lost", "rubbish")
    cable.noise = 1500
    start = field.begin()
    field.prepared(start, ALL)
    took = field.wait("all kinds of noise", lambda: all(cable.counts[kind] for kind in kinds))
    cable.noise = 0
    field.end(start, ALL)
    took += field.whole()
    refused = field.counts_at_stop(noisy)
    assert sum(refused.get(f"link_{name}", 0) for name in ("damaged", "oversized")) > 0, refused
    recovered(took)


def test_an_unplugged_cable_costs_its_own_reports(field: Field, recovered) -> None:
    start = field.begin()
    field.prepared(start, ALL)
    field.unplug(2)
    field.end(start, [1, 3, 4])
    start = field.begin()
    field.prepared(start, [1, 3, 4])
    field.end(start, [1, 3, 4])
    field.attach(2)  # another port, as a board that is plugged in again may get
    took = field.wait("the meter is back", lambda: 2 in field.period(field.now)["prepared"])
    recovered(took + field.whole())


@pytest.mark.parametrize("role", ROLES)
def test_a_host_that_restarts_in_every_phase_loses_nothing(
    field: Field, recovered, role: str
) -> None:
    start = field.begin()
    field.roles[role].kill()  # while rows are pulled
    field.start_role(role)
    field.prepared(start, ALL)
    field.roles[role].kill()  # while meters wait
    field.start_role(role)
    field.clock(start + field.settings.period_s)
    field.roles[role].kill()  # somewhere in reporting and closing
    field.start_role(role)
    took = field.end(start, ALL)
    recovered(took + field.whole())


def test_an_hour_without_the_cloud_costs_what_could_not_be_prepared(
    field: Field, recovered
) -> None:
    """Two periods pass by the centre's clock, a moment by ours."""
    start = field.begin()
    field.prepared(start, ALL)
    field.roles["cloud"].kill()
    field.roles["dealer"].ask(clock=start + 5400, running=False)
    field.roles["center"].ask(clock=start + 5400, running=False)
    field.now = start + 5400
    field.start_role("cloud")
    field.start = field.now - field.settings.period_s
    took = field.whole()
    for late in (start + 1800, start + 3600):
        field.lost(late)
    field.wait(
        "reports of before",
        lambda: field.period(start)["outcome"] or len(field.period(start)["reported"]) == 4,
    )
    field.check(start, ALL)  # the deadline counts from when the cloud is back
    recovered(took)


def test_a_power_cut_before_the_report_costs_one_period(field: Field, recovered) -> None:
    if field.tier:
        field.tier.needs_power()
    start = field.begin()
    field.prepared(start, ALL)
    field.meters[2].kill()
    field.power(2)
    field.wait("the meter says so", lambda: 2 in field.period(start)["absent"])
    field.end(start, [1, 3, 4])  # not its reading, nor half of what it had sent
    assert field.cloud()["meters"]["2"]["state"] == "registered"
    recovered(field.whole())


def test_a_power_cut_after_the_report_was_stored_costs_nothing(field: Field, recovered) -> None:
    """The cloud's machine is away: the report is on the meter's flash when the power goes."""
    if field.tier:
        field.tier.needs_power()
    start = field.begin()
    field.prepared(start, ALL)
    cable = field.cables[2]
    before = cable.counts["swallowed"]
    cable.swallow = REPORT
    field.clock(start + field.settings.period_s)
    field.wait("a report on its way", lambda: cable.counts["swallowed"] > before)
    field.meters[2].kill()
    cable.swallow = 0
    field.power(2)
    took = field.end(start, ALL)
    assert field.refused("conflict") == 0
    recovered(took + field.whole())


def test_a_missing_reading_is_absent_and_not_zero(field: Field, recovered) -> None:
    number = field.target(4)
    others = [n for n in ALL if n != number]
    next_start = field.now + field.settings.period_s
    with field.stopped(number) as files:
        readings = files.read("readings.csv")
        lines = readings.splitlines(True)
        assert any(line.startswith(b"%d," % next_start) for line in lines)
        files.write(
            "readings.csv",
            b"".join(line for line in lines if not line.startswith(b"%d," % next_start)),
        )
    start = field.begin()
    assert start == next_start
    field.prepared(start, ALL)
    field.clock(start + field.settings.period_s)
    field.wait("the meter to say so", lambda: field.period(start)["absent"] == [number])
    field.end(start, others)
    recovered(field.whole())
    with field.stopped(number) as files:
        assert field.counts(number)["no_reading"] == 1
        files.write("readings.csv", readings)


def test_all_that_was_released_is_exact(field: Field) -> None:
    """Over the whole life of this fleet: nothing twice, nothing else."""
    field.released_once()
    for number in ALL:
        field.counts_at_stop(number)
    assert all("crash" not in line for number in ALL for line in field.log_lines(number))
