"""The driver of a live demo (`live.Live`) over `--link memory`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from wattveil.demo.memory import Down, MemoryDemo
from wattveil.demo.plan import Plan
from wattveil.roles.cloud import Cloud

IDLE_S = 1.0  # of virtual time that passes when nobody has anything to say
REST_S = 0.02  # of real time, then


class LiveMemory(MemoryDemo):
    """A MemoryDemo that goes on in small steps, and whose parts can be made to fail."""

    _unplugged: set[int]

    def start(self) -> None:
        """Nothing is done ahead: `work` does it."""
        self._unplugged = set()
        self._prepare_s: dict[int, float] = {}

    def take(self, readings: Mapping[str, Mapping[int, int | None]]) -> None:
        """New readings for the meters, by id and start."""
        for name, meter in zip(self._plan.roster, self.meters, strict=True):
            meter.sensor.readings = readings[name]

    def work(self, seconds: float) -> None:
        """Let the meters get on for about this long."""
        until, idle = time.perf_counter() + seconds, False
        while not idle and time.perf_counter() < until:
            idle = True
            for number, meter in enumerate(self.meters, 1):
                if number not in self._unplugged and self.net.deliver(meter):
                    idle = False
        self.net.tick()
        if idle:
            self._clock.wait(IDLE_S)
            time.sleep(REST_S)

    def end(self, start: int) -> None:
        """The clock of all roles reaches the end of a period."""
        for number, meter in enumerate(self.meters, 1):
            self._prepare_s[number], meter.busy_s = meter.busy_s, 0.0
        self._clock.set(start + self._plan.settings.period_s)

    def look(self, role: str, since: int) -> dict[str, Any]:
        """A role's own words, of the periods from `since` on."""
        status = self.roles[role].status()
        for name in ("periods", "releases"):
            if name in status:
                status[name] = {str(t): row for t, row in status[name].items() if t >= since}
        if "meters" in status:
            status["meters"] = {str(n): row for n, row in status["meters"].items()}
            for number, seconds in self._prepare_s.items():  # the roles' clock stands still
                status["meters"][str(number)]["prepare_s"] = round(seconds, 3)
                status["meters"][str(number)]["link"] = "memory"
        return status

    def watch(self, number: int) -> None:
        """Keep this meter's ciphertexts of each closed period for the cloud's status."""
        cloud = self.roles["cloud"]
        if isinstance(cloud, Cloud):
            cloud.closer.watched = number

    def dead(self, number: int) -> bool:
        """A meter of this process cannot end by itself."""
        return False

    def unplug(self, number: int) -> None:
        """Pull the cable."""
        self._unplugged.add(number)

    def plug(self, number: int) -> None:
        """Put it in again."""
        self._unplugged.discard(number)

    def forge(self, number: int, frame: bytes) -> None:
        """A frame from nobody the cloud knows."""
        self.net.carry_out("cloud", self.roles["cloud"].receive("stranger", frame))

    def kill(self, role: str) -> None:
        """No goodbye: what was not stored is lost."""
        self.roles[role] = Down()
        if role != "cloud":
            self.net.carry_out("cloud", self.roles["cloud"].linked(role, False))

    def revive(self, role: str) -> None:
        """Build the role anew from its store."""
        self.roles[role], first = self._build(role)
        self.net.carry_out(role, first)
        for peer in ("center", "dealer"):
            if role in ("cloud", peer):
                up = not isinstance(self.roles[peer], Down)
                self.net.carry_out("cloud", self.roles["cloud"].linked(peer, up))
        self.net.quiet()


def lap(plan: Plan, number: int) -> dict[str, dict[int, int | None]]:
    """The plan's readings, moved `number` times its own length into the future, by meter id."""
    shift = number * len(plan.starts) * plan.settings.period_s
    return {
        name: {start + shift: wh for start, wh in row.items()}
        for name, row in plan.readings.items()
    }
