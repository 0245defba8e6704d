"""Broker failures and a hostile broker in a running fleet: no energy lost, no report twice."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mqttfleet import check, options, row_of, running, usable, wait_for
from wattveil.demo.mqtt import MqttDemo
from wattveil.demo.plan import make_plan


def test_a_broker_killed_at_every_stage_loses_nothing(tmp_path: Path) -> None:
    usable("micropython")
    plan = make_plan(options(4, 3, gamma=4, deadline=120.0))
    with running(plan, tmp_path) as demo:
        cloud = demo.roles["cloud"]

        def broker() -> dict[str, Any]:
            status: dict[str, Any] = cloud.ask(status=True)["broker"]
            return status

        first, second, third = plan.starts
        # while meters pull rows: at once after the period before
        demo.finish(first)
        demo.broker.kill()
        demo.broker.start()
        demo.prepare(second)
        # before a report can leave: the period ends while the broker is away
        demo.broker.kill()
        wait_for("the cloud notices", lambda: not broker()["up"])
        demo._set_clocks(second + plan.settings.period_s)
        time.sleep(1.0)  # meters ask for the time, and cannot
        assert not demo.cloud_status()["periods"][str(second)]["outcome"]
        demo.broker.start()
        demo.finish(second)
        # while the reports are on their way: as soon as the cloud has one
        demo.prepare(third)
        demo._set_clocks(third + plan.settings.period_s)
        _cut_at_first_report(demo, third)
        demo.finish(third)
        rows = {start: row_of(demo, plan, start) for start in plan.starts}
        assert broker()["up"] and broker()["counts"]["outages"] >= 3
        wait_for("all meters are there", lambda: broker()["online"] == 4)
    for start, row in rows.items():
        check(plan, tmp_path, start, row)


def _cut_at_first_report(demo: MqttDemo, start: int) -> None:
    wait_for("a report", lambda: demo.cloud_status()["periods"][str(start)]["reported"])
    demo.broker.kill()
    demo.broker.start()


def test_a_hostile_broker_changes_nothing(tmp_path: Path) -> None:
    usable("micropython")
    plan = make_plan(options(3, 2, deadline=120.0))
    with running(plan, tmp_path, hostile=True) as demo:
        for start in plan.starts:
            demo.finish(start)
        rows = {start: row_of(demo, plan, start) for start in plan.starts}
        did: dict[str, int] = demo.broker.did  # type: ignore[attr-defined]
        tricks = {"repeated", "replayed", "crossed", "cut", "flipped", "dropped", "delayed"}
        assert set(did) == tricks, did
        status = demo.cloud_status()
        refused = status["refused"]
        assert refused["replayed"] > 0 and refused["forged"] > 0 and refused["truncated"] > 0
        assert status["broker"]["counts"]["wrong_topic"] > 0
        assert demo.center_status()["epsilon_spent"] == "2"
    for start, row in rows.items():
        check(plan, tmp_path, start, row)
