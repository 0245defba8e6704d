"""A small city through all processes, and the picture of a growing one."""

from __future__ import annotations

from pathlib import Path

import pytest

from wattveil.bench.host import city
from wattveil.bench.host.growth import plot_growth
from wattveil.bench.host.record import HostPlan, HostRecord, record
from wattveil.bench.rig import make_key
from wattveil.fleet.broker import AMQTT, BrokerMissing, find_broker

BITS = 512


@pytest.fixture(autouse=True)
def _broker() -> None:
    try:
        find_broker()
    except BrokerMissing as missing:
        pytest.skip(str(missing))
    assert AMQTT  # any will do


def run(meters: int) -> list[HostRecord]:
    plan = HostPlan(bits=(BITS,), what=("city",), meters=meters, processes=1)
    return city.run_city(make_key(BITS), plan, lambda text: None)


def test_a_period_of_a_small_city_is_exact() -> None:
    made = run(40)
    assert all(one["checked"] for one in made)
    stages = {one["stage"] for one in made}
    assert {"start and rows made ahead", "rows pulled", "meters' own work", "reports", "closing",
            "clearing", "most memory of cloud", "most memory of center"} <= stages  # fmt: skip
    assert {one["meters"] for one in made} == {40} and {one["gamma"] for one in made} == {8}


def test_a_wrong_total_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = city._Worker.meter

    def cheat(self: city._Worker, index: int, seeds: tuple[bytes, bytes, bytes]) -> object:
        pair, wh, xi = real(self, index, seeds)
        return pair, wh + (index == 3), xi

    monkeypatch.setattr(city._Worker, "meter", cheat)
    monkeypatch.setattr(
        city, "get_context", lambda kind: __import__("multiprocessing").get_context("fork")
    )
    assert not any(one["checked"] for one in run(5))


def test_growth_is_drawn(tmp_path: Path) -> None:
    made = [
        record("city", stage, BITS, meters * 2.0, unit, True, gamma=8, meters=meters)
        for meters in (10, 100)
        for stage, unit in (
            ("reports, processor time of cloud", "ms"),
            ("most memory of cloud", "MB"),
            ("meters' own work, processor time of meters", "ms"),
        )
    ]
    plot_growth(made, tmp_path / "city.svg")
    text = (tmp_path / "city.svg").read_text()
    assert "resident" in text or len(text) > 10_000
    with pytest.raises(ValueError, match="--what city"):
        plot_growth([], tmp_path / "none.png")
