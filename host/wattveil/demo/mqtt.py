"""`--link mqtt`: the same processes, meters and cloud joined by a private broker with TLS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wattveil.demo.plan import Plan
from wattveil.demo.screen import Quiet
from wattveil.demo.serial import SerialDemo
from wattveil.fleet.broker import ADDRESS, HOST, Access, Broker
from wattveil.fleet.emulated import EmulatedMeter
from wattveil.fleet.provision import Fleet


class MqttDemo(SerialDemo):
    """A SerialDemo without ports. broker: the one it started."""

    def __init__(self, plan: Plan, fleet: Fleet, screen: Quiet, main: Path | None = None) -> None:
        super().__init__(plan, fleet, screen, main)
        self._access = Access.create(fleet.record.fleet, len(plan.roster))
        self._access.authority.save(fleet.root / "authority")
        self.broker = Broker(self._access, fleet.root / "broker.log")

    def start(self) -> None:
        """Start broker, roles and meters, and wait until all meters have registered."""
        self.broker.start()
        super().start()

    def close(self) -> None:
        """Stop all that was started here."""
        super().close()
        self.broker.close()

    def _cloud_options(self) -> tuple[str, ...]:
        folder = self._fleet.role_folder("cloud")
        return self._access.write_cloud(folder, HOST, self.broker.port)

    def _start_meter(self, number: int, folder: Path) -> EmulatedMeter:
        self._access.write_meter(folder, number, HOST, self.broker.port, ADDRESS)
        meter = EmulatedMeter(folder, self._plan.runtime, main=self._main, console=False)
        meter.start()
        return meter


@contextmanager
def mqtt_demo(
    plan: Plan, fleet: Fleet, screen: Quiet, main: Path | None = None
) -> Iterator[MqttDemo]:
    """A MqttDemo that stops whatever it started."""
    demo = MqttDemo(plan, fleet, screen, main)
    try:
        yield demo
    finally:
        demo.close()
