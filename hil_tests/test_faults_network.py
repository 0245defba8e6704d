"""Faults of the network: broker and Wi-Fi away, at first and for an hour, with TLS and mosquitto."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fieldfleet import ROLES, SLOW, Field
from tiers import Tier
from wattveil.fleet.broker import BrokerMissing, find_broker

ALL = [1, 2, 3]


@pytest.fixture(scope="module")
def field(
    tmp_path_factory: pytest.TempPathFactory, runtimes: tuple[str, ...], field_tier: Tier | None
) -> Iterator[Field]:
    """Three meters that reach the broker through a gate."""
    with networked(tmp_path_factory.mktemp("network"), runtimes, field_tier) as field:
        yield field.up()


def networked(root: Path, runtimes: tuple[str, ...], tier: Tier | None) -> Field:
    if tier:
        tier.needs_network()
    try:
        find_broker()
    except BrokerMissing as missing:
        pytest.skip(str(missing))
    return Field(root, meters=3, link="mqtt", runtimes=runtimes[:1], tier=tier)


def test_meters_that_are_there_before_router_and_broker(
    tmp_path: Path, runtimes: tuple[str, ...], field_tier: Tier | None, recovered
) -> None:
    with networked(tmp_path, runtimes, field_tier) as field:
        first_connect(field, recovered)


def first_connect(field: Field, recovered) -> None:
    field.gate.shut()
    for name in ROLES:
        field.start_role(name)
    for number in ALL:
        field.start_meter(number)
    seen = [number for number in ALL if number != field.subject]
    field.wait("all to have tried", lambda: all(field.log_lines(n) for n in seen))
    field.gate.open()  # the router is up; the broker is not
    assert field.broker is not None
    field.broker.start()
    recovered(field.wait("registration", lambda: set(field.states()) == {"registered"}))
    field.whole()


def test_a_broker_that_is_away_for_an_hour(field: Field, recovered) -> None:
    """The hour passes by the centre's clock, which stands still in between; a moment by ours."""
    start = field.begin()
    field.prepared(start, ALL)
    assert field.broker is not None
    field.broker.kill()
    field.clock(start + 3600)
    field.close_period(start)  # nobody could report
    assert field.period(start)["outcome"] == "below_quorum"
    field.broker.start()
    field.start = field.now - field.settings.period_s
    took = field.wait("late reports", lambda: field.refused("late") >= len(ALL))
    took += field.whole()
    field.lost(start)
    field.lost(start + field.settings.period_s)
    for number in ALL:
        if number != field.subject:
            field.wait("its own count", lambda n=number: field.counts(n).get("late", 0) >= 1)
    recovered(took)


def test_a_wifi_that_goes_and_comes_back_in_time_costs_nothing(field: Field, recovered) -> None:
    start = field.begin()
    field.prepared(start, ALL)
    field.gate.shut()  # silence: no reset, no end of file
    field.clock(start + field.settings.period_s - 1)
    field.gate.open()
    took = field.end(start, ALL)
    recovered(took + field.whole())


def test_a_meter_that_loses_the_power_while_the_broker_is_away(field: Field, recovered) -> None:
    if field.tier:
        field.tier.needs_power()
    start = field.begin()
    field.prepared(start, ALL)
    assert field.broker is not None
    field.broker.kill()
    number = field.target(1)
    field.meters[number].kill()
    field.power(number)
    field.broker.start()
    took = field.wait("the meter to say so", lambda: number in field.period(start)["absent"])
    field.end(start, [n for n in ALL if n != number])
    recovered(took + field.whole())


def test_all_that_was_released_is_exact(field: Field) -> None:
    """Over the whole life of this fleet: nothing twice, nothing else."""
    field.released_once()
    for number in ALL:
        counts = field.counts_at_stop(number)
        assert set(counts) <= {"unclean", "link_dropped", *SLOW}, counts
