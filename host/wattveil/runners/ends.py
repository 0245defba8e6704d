"""The far ends of a runner's links: meters' ports and the peers it connects to."""

from __future__ import annotations

import socket
from typing import Any, Protocol

from wattveil.runners.sockets import Connection

BACK_OFF_S = (0.1, 5.0)  # between tries to connect: first, most


class MeterLink(Protocol):
    """A meter's end of a serial line (wattveil.links.serial); OSError or LinkDown when gone."""

    @property
    def pending(self) -> int:
        """Bytes that wait to be sent; `read` and `write` send what they can."""

    def fileno(self) -> int:
        """To poll, or -1 where there is nothing to poll."""

    def read(self) -> list[bytes]:
        """Whole frames."""

    def write(self, frame: bytes) -> object:
        """Send a frame."""

    def close(self) -> None:
        """Give the port back."""


class Hub(Protocol):
    """One connection behind which there are many meters (wattveil.links.mqtt)."""

    def fileno(self) -> int:
        """To poll."""

    def read(self) -> list[tuple[str, bytes]]:
        """(peer, frame) of what has come."""

    def write(self, peer: str, frame: bytes) -> object:
        """Send a frame to a peer."""

    def tick(self) -> None:
        """Time has passed."""

    def status(self) -> dict[str, Any]:
        """For the operator."""

    def close(self) -> None:
        """Disconnect."""


class PortEnd:
    """A port by name, open or not."""

    def __init__(self, port: str) -> None:
        self.port = port
        self.name = f"port:{port}"
        self.link: MeterLink | None = None
        self.fd = -1  # known to the selector when not negative
        self.next_try = 0.0
        self.told = False  # the operator knows that it is not open


class DialEnd:
    """A peer we connect to."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.pending: socket.socket | None = None
        self.connection: Connection | None = None
        self.wait = BACK_OFF_S[0]
        self.next_try = 0.0
        self.told = False  # the operator knows that it is not there
