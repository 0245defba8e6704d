"""Power cuts in a running fleet: real processes, SIGKILL, restart; nothing closed or drawn twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from wattveil.demo.plan import DemoOptions, Plan, make_plan
from wattveil.demo.screen import Quiet
from wattveil.demo.serial import SerialDemo
from wattveil.fleet.emulated import EmulatedMeter
from wattveil.fleet.provision import provision
from wattveil.fleet.runtime import RuntimeMissing, find_runtime
from wattveil.paillier.keys import generate

MAIN = Path(__file__).with_name("recording_main.py")
OPTIONS = DemoOptions(
    meters=4, periods=3, bits=512, insecure_test_key=True, gamma=2, quorum="0.5", deadline=3
)


@pytest.fixture
def plan() -> Plan:
    try:
        find_runtime("micropython")
    except RuntimeMissing as missing:
        pytest.skip(str(missing))
    return make_plan(OPTIONS)


@pytest.fixture
def demo(plan: Plan, tmp_path: Path) -> Iterator[SerialDemo]:
    key = generate(plan.options.bits, insecure_test_key=True)
    day = plan.starts[0] // 86_400
    fleet = provision(tmp_path / "fleet", key, plan.roster, plan.settings, day=day)
    demo = SerialDemo(plan, fleet, Quiet(), MAIN)
    try:
        demo.start()
        yield demo
    finally:
        demo.close()


def outcome(demo: SerialDemo, start: int) -> tuple[str, list[int]]:
    period = demo.cloud_status()["periods"][str(start)]
    return period["outcome"], period["reported"]


def restart(demo: SerialDemo, role: str, now: int) -> None:
    process = demo.roles[role]
    process.kill()
    process.start()
    process.ask(clock=now, running=False)
    if role == "cloud":
        for meter in demo.meters.values():
            process.ask(attach=[{"port": meter.port}])


def draws(folder: Path) -> list[str]:
    return [
        line
        for line in (folder / "shares.csv").read_text().splitlines()
        if line.startswith("start")
    ]


def test_a_meter_killed_between_prepare_and_report_sits_the_period_out(
    demo: SerialDemo, plan: Plan
) -> None:
    first, second, _ = plan.starts
    demo.prepare(first)
    demo.meters[2].kill()
    folder = demo._fleet.meter_folder(plan.roster[1])
    assert draws(folder) == [f"start {first}"]
    demo.meters[2].restart()
    demo.finish(first)
    released, reported = outcome(demo, first)
    assert released == "released" and reported == [1, 3, 4]
    demo.finish(second)
    released, reported = outcome(demo, second)
    assert released == "released" and reported == [1, 2, 3, 4]
    # the restarted meter opened a new shares.csv: it never drew for the first period again
    assert f"start {first}" not in draws(folder)


def test_a_dead_meter_only_costs_its_own_report(demo: SerialDemo, plan: Plan) -> None:
    demo.prepare(plan.starts[0])
    demo.meters[4].kill()
    demo.finish(plan.starts[0])
    assert outcome(demo, plan.starts[0]) == ("released", [1, 2, 3])


@pytest.mark.parametrize("role", ["dealer", "center", "cloud"])
def test_a_role_killed_in_every_phase_comes_back(demo: SerialDemo, plan: Plan, role: str) -> None:
    first, second, third = plan.starts
    demo.prepare(first)
    restart(demo, role, first)
    demo.finish(first)
    restart(demo, role, second)
    demo.finish(second)
    demo.prepare(third)
    end = third + plan.settings.period_s
    for name in ("dealer", "cloud", "center"):
        demo.roles[name].ask(clock=end, running=False)
    restart(demo, role, end)  # somewhere in reporting and closing
    demo.finish(third)
    center = demo.center_status()
    for start in plan.starts:
        released, reported = outcome(demo, start)
        assert released == "released"
        release = center["releases"][str(start)]
        assert release["members"] == reported and release["epsilon"] == "1"
        if start != third:
            assert reported == [1, 2, 3, 4]
    assert len(center["releases"]) == 3 and center["epsilon_spent"] == "3"
    assert len(demo.roles["dealer"].ask(status=True)["closings"]) == 3


def test_an_unplugged_cable_comes_back_on_another_port(demo: SerialDemo, plan: Plan) -> None:
    first, second, _ = plan.starts
    demo.prepare(first)
    old = demo.meters[1]
    old.close()  # the port itself is gone
    demo.finish(first)
    assert outcome(demo, first) == ("released", [2, 3, 4])
    again = EmulatedMeter(old.folder, old.runtime, main=MAIN)
    demo.meters[1] = again
    again.start()
    demo.roles["cloud"].ask(attach=[{"port": again.port}])
    demo.finish(second)
    assert outcome(demo, second) == ("released", [1, 2, 3, 4])
