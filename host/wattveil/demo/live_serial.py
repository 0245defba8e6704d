"""The driver of a live demo (`live.Live`) whose roles and meters are processes."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

from wattveil.demo.serial import SerialDemo
from wattveil.fleet.replay import write_readings

FORGE_S = 5.0


class LiveSerial(SerialDemo):
    """A SerialDemo that goes on in small steps, and whose parts can be made to fail."""

    def take(self, readings: Mapping[str, Mapping[int, int | None]]) -> None:
        """New readings for the meters, by id and start."""
        for number, name in enumerate(self._plan.roster, 1):
            if number in self.meters:
                write_readings(self._fleet.meter_folder(name), readings[name].items())
            else:
                self._hand_over(number, name, readings[name])

    def work(self, seconds: float) -> None:
        """The processes work by themselves."""
        time.sleep(seconds)

    def end(self, start: int) -> None:
        """The clocks of all roles that run reach the end of a period."""
        self._now = start + self._plan.settings.period_s
        for name in ("dealer", "cloud", "center"):  # see _set_clocks
            if self.roles[name].alive():
                self.roles[name].ask(clock=self._now, running=False)

    def look(self, role: str, since: int) -> dict[str, Any]:
        """A role's own words, of the periods from `since` on."""
        return self.roles[role].ask(status=True, since=since)

    def watch(self, number: int) -> None:
        """Keep this meter's ciphertexts of each closed period for the cloud's status."""
        self.roles["cloud"].ask(watch=number)

    def dead(self, number: int) -> bool:
        """Whether a meter's process has ended."""
        return number in self.meters and not self.meters[number].alive()

    def unplug(self, number: int) -> None:
        """Cut the meter's power."""
        self.meters[number].kill()

    def plug(self, number: int) -> None:
        """Power it again."""
        self.meters[number].start()

    def forge(self, number: int, frame: bytes) -> None:
        """A frame from nobody the cloud knows, by its socket."""
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.settimeout(FORGE_S)
            stranger.connect(f"{self._sockets}/cloud.sock")
            stranger.sendall(struct.pack("<I", len(frame)) + frame)

    def kill(self, role: str) -> None:
        """Kill the role's process."""
        self.roles[role].kill()

    def revive(self, role: str) -> None:
        """Start it again on its store."""
        self.roles[role].start(self._now)
        if role == "cloud" and self._ports:
            self.roles[role].ask(attach=[{"port": port} for port in self._ports])

    def _set_clocks(self, now: int) -> None:
        self._now = now
        super()._set_clocks(now)

    def _cloud_options(self) -> tuple[str, ...]:
        return (*super()._cloud_options(), "--listen", f"unix:{self._sockets}/cloud.sock")
