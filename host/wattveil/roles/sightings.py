"""What the cloud has seen of each meter, for whoever watches the fleet; no protocol hangs on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wattveil.roles.common import Clock
from wattveil_meter import wire
from wattveil_meter.wire import Message


@dataclass
class Sighting:
    """link: kind of the link it came by last. report: start (UTC s) of its last stored report.

    prepare_s: from its first row of a period to its last slot, or, without slots, to its first
    question for the time, as the cloud sees it: the link's time is in it.
    """

    link: str = ""
    seen: int | None = None  # UTC s
    report: int | None = None
    prepare_s: float | None = None
    _start: int = 0
    _began: float | None = None

    def request(self, peer: str, message: Message, clock: Clock) -> None:
        """An authenticated request."""
        self.link, self.seen, now = peer.partition(":")[0], clock.now(), clock.mono()
        if message.type == wire.ROW and message.start != self._start:
            self._start, self._began, self.prepare_s = message.start, now, None
        elif self._began is not None and (
            message.type == wire.SLOT or (message.type == wire.TIME and self.prepare_s is None)
        ):
            self.prepare_s = now - self._began

    def status(self) -> dict[str, Any]:
        """In plain JSON types."""
        return {
            "link": self.link,
            "seen": self.seen,
            "report": self.report,
            "prepare_s": None if self.prepare_s is None else round(self.prepare_s, 3),
        }
