"""`--link memory`: every role and meter in this process, stores apart, no wall clock."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from gmpy2 import mpz

from wattveil.demo.plan import Plan
from wattveil.demo.screen import Quiet
from wattveil.fleet.packages import MeterPackage
from wattveil.fleet.provision import Fleet
from wattveil.roles.cloud import Cloud
from wattveil.roles.common import Load, Role
from wattveil.roles.effects import Effect
from wattveil.runners.memory import MemoryNet
from wattveil.runners.process import build
from wattveil.store import Store
from wattveil_meter import VERSION, hal, selftest
from wattveil_meter.kernels.portable import Portable
from wattveil_meter.meter import Meter
from wattveil_meter.package import Package


class VirtualClock:
    """The time of all roles (UTC s) and of all meters (ms): it moves when the demo says so."""

    running = False

    def __init__(self, now: int) -> None:
        self._now = now
        self._ms = 0

    def set(self, now: int) -> None:
        """Move to `now`; meters that wait for a while have waited long enough."""
        self._now = now
        self.wait(60.0)

    def wait(self, seconds: float) -> None:
        """Time passes for whoever waits, while `now` stands still."""
        self._ms += int(1000 * seconds)

    def now(self) -> int:
        """UTC, seconds."""
        return self._now

    def mono(self) -> float:
        """Seconds that only grow."""
        return self._ms / 1000

    def ms(self) -> int:
        """Milliseconds that only grow."""
        return self._ms


class _Sensor:
    """The plan's readings of one meter."""

    remote = False

    def __init__(self, readings: Mapping[int, int | None]) -> None:
        self.readings = readings

    def energy(self, start: int, length: int) -> int | None:
        """Wh of the period that starts at `start`."""
        return self.readings.get(start)


class CoreMeter:
    """The firmware's own Meter as a meter of this process, on gmpy2's integers."""

    def __init__(
        self, package: MeterPackage, clock: VirtualClock, plan: Plan, ring: Portable, tested: str
    ) -> None:
        self.sensor = _Sensor(plan.readings[package.id])
        self.busy_s = 0.0  # computing, since it was last set to 0
        self.meter = Meter(
            Package(package.files["record.bin"], package.files["meter.bin"]),
            package.tables(),
            package.storage(),
            self.sensor,
            clock,
            os.urandom(64),
            (hal.runtime(), VERSION, tested),
            ring,
        )

    def poll(self) -> bytes | None:
        """Compute until there is a request to send, or nothing to do."""
        began = time.perf_counter()
        try:
            while True:
                out = self.meter.poll()
                if isinstance(out, bytes):
                    return out
                if out:
                    return None
        finally:
            self.busy_s += time.perf_counter() - began

    def receive(self, frame: bytes) -> None:
        """The cloud's answer."""
        self.meter.receive(frame)


class Down:
    """What is left of a killed role: nothing is heard, nothing is said."""

    def restore(self, load: Load) -> list[Effect]:
        """See `common.Role`, as all of these."""
        return []

    def receive(self, peer: str, frame: bytes) -> list[Effect]:
        return []

    def tick(self) -> list[Effect]:
        return []

    def resume(self, event: tuple[str, int]) -> list[Effect]:
        return []

    def linked(self, peer: str, up: bool) -> list[Effect]:
        return []

    def status(self) -> dict[str, Any]:
        return {}


class MemoryDemo:
    """Roles and meters joined by queues. A driver of `run`: start, finish, status, close."""

    def __init__(self, plan: Plan, fleet: Fleet, screen: Quiet) -> None:
        self._plan = plan
        self._fleet = fleet
        self._screen = screen
        self._stack = ExitStack()
        self._clock = VirtualClock(plan.starts[0])
        self._stores = {
            # no power cut to survive here: NORMAL spares an fsync for each report
            name: self._stack.enter_context(Store(fleet.role_folder(name) / "state.db", "NORMAL"))
            for name in ("center", "cloud", "dealer")
        }
        roles, first = {}, {}
        for name in self._stores:
            roles[name], first[name] = self._build(name)
        self.net = MemoryNet(roles["center"], roles["cloud"], roles["dealer"], self._stores)
        self.roles = self.net.roles
        for name, effects in first.items():
            self.net.carry_out(name, effects)
        ring = Portable(mpz(fleet.record.n))  # one for all: it keeps nothing but a count
        args = (self._clock, plan, ring, selftest.run(ring))
        self.meters = [CoreMeter(package, *args) for package in fleet.meters.values()]

    def _build(self, name: str) -> tuple[Role, list[Effect]]:
        return build(name, self._fleet.role_folder(name), self._stores[name], self._clock)

    def start(self) -> None:
        """Bring the meters to work on the first period."""
        self._settle("registering meters, preparing the first period")

    def finish(self, start: int) -> None:
        """End the period; whoever has not reported then never will."""
        self._clock.set(start + self._plan.settings.period_s)
        self._settle("reporting, and preparing the next period")
        cloud = self.roles["cloud"]
        assert isinstance(cloud, Cloud)
        if not self.cloud_status()["periods"][str(start)]["outcome"]:
            self.net.carry_out("cloud", cloud.close(start))
        self.net.quiet()

    def cloud_status(self) -> dict[str, Any]:
        """The cloud's own words."""
        return _as_json(self.roles["cloud"].status())

    def center_status(self) -> dict[str, Any]:
        """The centre's own words."""
        return _as_json(self.roles["center"].status())

    def close(self) -> None:
        """Close the stores."""
        self._stack.close()

    def _settle(self, text: str) -> None:
        """Each meter in turn runs until it waits."""
        for done, meter in enumerate(self.meters):
            self._screen.step(text, done, len(self.meters))
            while self.net.deliver(meter):
                pass
        self.net.tick()
        self._screen.step(text, len(self.meters), len(self.meters))


def _as_json(status: dict[str, Any]) -> dict[str, Any]:
    """A status as it would come from a process: text keys only."""
    plain: dict[str, Any] = json.loads(json.dumps(status))
    return plain


@contextmanager
def memory_demo(plan: Plan, fleet: Fleet, screen: Quiet) -> Iterator[MemoryDemo]:
    """A MemoryDemo that closes its stores."""
    demo = MemoryDemo(plan, fleet, screen)
    try:
        yield demo
    finally:
        demo.close()
