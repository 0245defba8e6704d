"""Clocks for roles in a process of their own."""

from __future__ import annotations

import time


class SystemClock:
    """The host's UTC clock."""

    running = True

    def now(self) -> int:
        """UTC, seconds."""
        return int(time.time())

    def mono(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()


class ControlledClock(SystemClock):
    """The host's clock until it is set; then frozen, or running on from what was set."""

    def __init__(self, now: int | None = None) -> None:
        self.running = now is None
        self._base: float | None = now
        self._set = 0.0

    def set(self, now: int, running: bool) -> None:
        """From here on it is `now`."""
        self._base, self._set, self.running = now, time.monotonic(), running

    def now(self) -> int:
        """UTC, seconds."""
        if self._base is None:
            return super().now()
        return int(self._base + (time.monotonic() - self._set if self.running else 0.0))
