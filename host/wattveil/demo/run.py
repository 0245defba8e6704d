"""One demo run from options to outcome."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from wattveil.demo.memory import MemoryDemo, memory_demo
from wattveil.demo.mqtt import mqtt_demo
from wattveil.demo.plan import Plan
from wattveil.demo.report import period_row, summary
from wattveil.demo.screen import Quiet
from wattveil.demo.serial import SerialDemo, serial_demo
from wattveil.fleet.broker import find_broker
from wattveil.fleet.provision import provision
from wattveil.fleet.runtime import find_runtime
from wattveil.links.serial import find_port
from wattveil.paillier.keys import generate


def preflight(plan: Plan) -> None:
    """What would stop a run after keys and meters are made, found before: runtime, ports, broker.

    RuntimeMissing, LinkDown, BrokerMissing.
    """
    if plan.options.link == "mqtt":
        find_broker()
    if plan.options.link != "memory":
        if plan.runtime != "cpython":
            find_runtime(plan.runtime)
        for port in plan.options.ports:
            find_port(port)


def run_demo(
    plan: Plan,
    screen: Quiet | None = None,
    *,
    root: Path | None = None,
    main: Path | None = None,
) -> dict[str, Any]:
    """Run it all; the summary of report.py.

    root: keep all folders (keys, stores, logs) there instead of a folder that is removed at the
    end. main: program of the emulated meters instead of the firmware's main.py (hil_tests).
    """
    screen = screen or Quiet()
    screen.plan(plan)
    base = Path(tempfile.mkdtemp(prefix="wattveil-")) if root is None else root
    try:
        return _run(plan, screen, base / "fleet", main)
    finally:
        if root is None:
            shutil.rmtree(base, ignore_errors=True)


def _run(plan: Plan, screen: Quiet, root: Path, main: Path | None) -> dict[str, Any]:
    options = plan.options

    def tested(count: int) -> None:
        screen.step(f"making a {options.bits}-bit key from safe primes (candidates)", count)

    key = generate(options.bits, tested, insecure_test_key=options.insecure_test_key)
    screen.step("provisioning the fleet")
    memory = options.link == "memory"
    day = plan.starts[0] // 86_400
    fleet = provision(root, key, plan.roster, plan.settings, emulated=memory, day=day)
    if memory:
        with memory_demo(plan, fleet, screen) as demo:
            return _periods(plan, demo, screen)
    over = mqtt_demo if options.link == "mqtt" else serial_demo
    with over(plan, fleet, screen, main) as processes:
        return _periods(plan, processes, screen)


def _periods(plan: Plan, demo: MemoryDemo | SerialDemo, screen: Quiet) -> dict[str, Any]:
    rows = []
    demo.start()
    for start in plan.starts:
        demo.finish(start)
        release = demo.center_status()["releases"].get(str(start))
        rows.append(period_row(plan, start, demo.cloud_status()["periods"][str(start)], release))
        screen.row(rows[-1])
    result = summary(plan, rows, demo.cloud_status(), demo.center_status())
    screen.end(plan, result)
    return result
