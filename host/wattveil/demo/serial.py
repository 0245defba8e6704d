"""`--link serial`: roles in processes of their own, meters behind serial ports."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wattveil.boards.provision import join_board
from wattveil.demo.plan import Plan
from wattveil.demo.processes import RoleFailed, RoleProcess
from wattveil.demo.screen import Quiet
from wattveil.fleet.emulated import EmulatedMeter
from wattveil.fleet.provision import Fleet
from wattveil.fleet.replay import write_readings
from wattveil_meter.package import Package
from wattveil_meter.sensors.demo import seal_reading

POLL_S = 0.05
# Nothing has come in from any meter for this long: the rest have failed. A Pico on portable
# arithmetic needs seconds for a slot, an emulated one on a busy PC tens of seconds.
STUCK_S = 120.0


class SerialDemo:
    """Processes on this machine, and boards. A driver of `run`: start, prepare, close, status."""

    def __init__(self, plan: Plan, fleet: Fleet, screen: Quiet, main: Path | None = None) -> None:
        self._plan = plan
        self._fleet = fleet
        self._screen = screen
        self.meters: dict[int, EmulatedMeter] = {}
        self.roles: dict[str, RoleProcess] = {}
        self._main = main
        self._sockets = ""
        self._ports: list[str] = []

    def start(self) -> None:
        """Start everything and wait until all meters have registered."""
        # a folder of their own: the path of a Unix socket has room for some 100 bytes
        self._sockets = tempfile.mkdtemp(prefix="wattveil-", dir="/tmp")
        center, dealer = (f"unix:{self._sockets}/{name}.sock" for name in ("center", "dealer"))
        self._role("dealer", "--listen", dealer)
        self._role("center", "--listen", center)
        peers = ("--peer", f"center={center}", "--peer", f"dealer={dealer}")
        deadline = ("--deadline", str(self._plan.options.deadline))
        self._role("cloud", *peers, *deadline, *self._cloud_options())
        self._set_clocks(self._plan.starts[0])
        self._start_meters()
        self._wait("registering meters", lambda n, m: m["state"] == "registered")
        if all(m["state"] != "registered" for m in self._cloud["meters"].values()):
            raise RoleFailed(self._why())

    def prepare(self, start: int) -> None:
        """Wait until every meter that can has prepared this period."""
        key = str(start)

        def ready(number: int, meter: dict[str, Any]) -> bool:
            period = self._cloud["periods"].get(key, {"prepared": (), "absent": ()})
            return number in period["prepared"] or number in period["absent"]

        self._wait("preparing noise and blinding", ready)

    def finish(self, start: int) -> None:
        """Let the period end, and wait until its total is released or refused."""
        self.prepare(start)
        self._set_clocks(start + self._plan.settings.period_s)
        limit = time.monotonic() + self._plan.options.deadline + STUCK_S
        expected = len(self._plan.expected(start))
        while True:
            period = self.cloud_status()["periods"].get(str(start), {})
            if period.get("outcome"):
                return
            self._screen.step("reporting", len(period.get("reported", ())), expected)
            if time.monotonic() > limit:
                raise RoleFailed(
                    f"the cloud never closed the period; see {self.roles['cloud'].log}"
                )
            time.sleep(POLL_S)

    def cloud_status(self) -> dict[str, Any]:
        """The cloud's own words."""
        return self.roles["cloud"].ask(status=True)

    def center_status(self) -> dict[str, Any]:
        """The centre's own words."""
        return self.roles["center"].ask(status=True)

    def close(self) -> None:
        """Stop all that was started here."""
        for role in self.roles.values():  # first: a port's name may soon be somebody else's
            role.stop()
        for meter in self.meters.values():
            meter.close()
        if self._sockets:
            shutil.rmtree(self._sockets, ignore_errors=True)

    def _role(self, name: str, *arguments: str) -> None:
        self.roles[name] = RoleProcess(name, self._fleet.role_folder(name), *arguments)

    def _set_clocks(self, now: int) -> None:
        # the centre last: it is the one the meters learn the time from
        for name in ("dealer", "cloud", "center"):
            self.roles[name].ask(clock=now, running=False)

    def _start_meters(self) -> None:
        plan, total = self._plan, len(self._plan.roster)
        boards = dict(zip(reversed(range(1, total + 1)), plan.options.ports, strict=False))
        for number, name in enumerate(plan.roster, 1):
            if number in boards:
                continue
            folder = self._fleet.meter_folder(name)
            write_readings(folder, plan.readings[name].items())
            self.meters[number] = self._start_meter(number, folder)
            self._screen.step(f"starting meters ({plan.runtime})", number, total)
        for number, port in boards.items():
            self._join(number, port)

    def _cloud_options(self) -> tuple[str, ...]:
        """How the cloud's process finds the meters, where ports do not say it."""
        return ()

    def _start_meter(self, number: int, folder: Path) -> EmulatedMeter:
        """Start the meter of a folder and bring it together with the cloud."""
        meter = EmulatedMeter(folder, self._plan.runtime, main=self._main)
        meter.start()
        self._attach(meter.port)
        return meter

    def _attach(self, port: str) -> None:
        self._ports.append(port)
        self.roles["cloud"].ask(attach=[{"port": port}])

    def _join(self, number: int, port: str) -> None:
        """Provision a real board over its cable and hand it its readings, sealed, by the cloud."""
        name = self._plan.roster[number - 1]
        package = self._fleet.meters[name]

        def progress(file: str, done: int, total: int) -> None:
            self._screen.step(f"provisioning {port} as {name}: {file} (bytes)", done, total)

        joined = join_board(port, package.files, progress)
        self._hand_over(number, name, self._plan.readings[name])
        self._attach(joined.port)

    def _hand_over(self, number: int, name: str, readings: Mapping[int, int | None]) -> None:
        """A real board's readings, sealed, by the cloud."""
        package = self._fleet.meters[name]
        secrets = Package(package.files["record.bin"], package.files["meter.bin"])
        key, fleet = secrets.registration_key, secrets.record.fleet
        sealed = {
            str(start): seal_reading(key, fleet, start, wh).hex() for start, wh in readings.items()
        }
        self.roles["cloud"].ask(readings={str(number): sealed})

    def _wait(self, text: str, ready: Any) -> None:
        """Poll the cloud until `ready(number, meter)` for all meters that are still alive."""
        progress: object = None
        since = time.monotonic()
        while True:
            self._cloud = self.cloud_status()
            states = {int(n): m for n, m in self._cloud["meters"].items()}
            done = [n for n, m in states.items() if ready(n, m)]
            dead = [n for n, m in self.meters.items() if not m.alive() and n not in done]
            self._screen.step(text, len(done), len(states))
            if len(done) + len(dead) >= len(states):
                return
            now = (len(done), len(dead), self._cloud["steps"])
            if now != progress:
                progress, since = now, time.monotonic()
            if time.monotonic() - since > STUCK_S:
                if not done:
                    raise RoleFailed(self._why())
                return
            time.sleep(POLL_S)

    def _why(self) -> str:
        for number, meter in self.meters.items():
            log = meter.log().strip()
            if log:
                return f"no meter works; meter {number} says:\n{log[-2000:]}"
        return f"no meter works; see {self.roles['cloud'].log}"


@contextmanager
def serial_demo(
    plan: Plan, fleet: Fleet, screen: Quiet, main: Path | None = None
) -> Iterator[SerialDemo]:
    """A SerialDemo that stops whatever it started."""
    demo = SerialDemo(plan, fleet, screen, main)
    try:
        yield demo
    finally:
        demo.close()
