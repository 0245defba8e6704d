"""A fleet behind a broker, for tests that look into it while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from exactness import noise_of
from hostilebroker import HostileBroker
from wattveil.demo.mqtt import MqttDemo
from wattveil.demo.plan import DemoOptions, Plan
from wattveil.demo.report import period_row
from wattveil.demo.screen import Quiet
from wattveil.fleet.broker import BrokerMissing, find_broker
from wattveil.fleet.provision import provision
from wattveil.fleet.runtime import RuntimeMissing, find_runtime
from wattveil.paillier.keys import generate

MAIN = Path(__file__).parent.parent / "hil_tests" / "recording_main.py"


def usable(runtime: str) -> None:
    try:
        find_broker()
        find_runtime(runtime)
    except (BrokerMissing, RuntimeMissing) as missing:
        pytest.skip(str(missing))


def options(meters: int, periods: int, runtime: str = "micropython", **more: Any) -> DemoOptions:
    given: dict[str, Any] = {"bits": 512, "insecure_test_key": True, "gamma": 2, "quorum": "0.5"}
    given["deadline"] = 120.0  # on a busy machine nobody is left out
    return DemoOptions(
        meters=meters, periods=periods, runtime=runtime, link="mqtt", **{**given, **more}
    )


def check(plan: Plan, root: Path, start: int, row: dict[str, Any]) -> None:
    """Everybody reported once, and the total is off by exactly the chosen noise."""
    members = plan.expected(start)
    assert row["refused"] is None and row["reported"] == len(members)
    assert row["true_wh"] == sum(plan.clamped(n, start) or 0 for n in members)
    assert row["noise_wh"] == noise_of(plan, root, start, members)


@contextmanager
def running(plan: Plan, root: Path, hostile: bool = False) -> Iterator[MqttDemo]:
    """A demo under way; its broker a hostile one if asked for."""
    key = generate(plan.options.bits, insecure_test_key=True)
    day = plan.starts[0] // 86_400
    fleet = provision(root / "fleet", key, plan.roster, plan.settings, day=day)
    demo = MqttDemo(plan, fleet, Quiet(), MAIN)
    if hostile:
        demo.broker.close()
        demo.broker = HostileBroker(demo._access)  # type: ignore[assignment]
    try:
        demo.start()
        yield demo
    finally:
        demo.close()


def row_of(demo: MqttDemo, plan: Plan, start: int) -> dict[str, Any]:
    release = demo.center_status()["releases"].get(str(start))
    return period_row(plan, start, demo.cloud_status()["periods"][str(start)], release)


def wait_for(what: str, condition: Callable[[], object], limit_s: float = 120) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)
