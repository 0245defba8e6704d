"""The driver of a live demo (`live.Live`) over a broker, which can be killed and is where forgers sit."""

from __future__ import annotations

from pathlib import Path

from paho.mqtt import publish

from wattveil.demo.live_serial import LiveSerial
from wattveil.demo.mqtt import MqttDemo
from wattveil.demo.plan import Plan
from wattveil.demo.screen import Quiet
from wattveil.fleet.broker import ADDRESS, new_password, password_lines
from wattveil.fleet.provision import Fleet
from wattveil_meter.links.mqtt import device_name

FORGER = "forger"
BROKER = "broker"


class LiveMqtt(LiveSerial, MqttDemo):
    """A LiveSerial whose meters are behind a broker.

    The forger has an account that may write what any meter writes, as whoever owns the broker has:
    a meter's own account would throw that meter out first.
    """

    def __init__(self, plan: Plan, fleet: Fleet, screen: Quiet, main: Path | None = None) -> None:
        super().__init__(plan, fleet, screen, main)
        self._password = new_password()
        fleet_hex = fleet.record.fleet.hex()
        with (self.broker.folder / "passwords").open("a") as file:
            file.write(password_lines({FORGER: self._password}))
        with (self.broker.folder / "acl").open("a") as file:
            file.write(f"\nuser {FORGER}\ntopic write wattveil/{fleet_hex}/up/+\n")

    def forge(self, number: int, frame: bytes) -> None:
        """A frame from the broker's owner, on a meter's topic."""
        fleet = self._fleet.record.fleet
        publish.single(
            f"wattveil/{fleet.hex()}/up/{device_name(fleet, number)}", frame, qos=1,
            hostname=ADDRESS, port=self.broker.port, client_id=FORGER,
            auth={"username": FORGER, "password": self._password},
            tls={"ca_certs": str(self._fleet.role_folder("cloud") / "ca.pem")},
        )  # fmt: skip

    def kill(self, role: str) -> None:
        """Kill a role's process, or the broker's."""
        if role == BROKER:
            self.broker.kill()
        else:
            super().kill(role)

    def revive(self, role: str) -> None:
        """Start it again: a role on its store; a broker has none."""
        if role == BROKER:
            self.broker.start()
        else:
            super().revive(role)
