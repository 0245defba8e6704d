"""What the page shows, as a board of named items, and its changes as server-sent events.

An item is any JSON value under a name; writing it gives it the next version. A browser is sent the
items above the version it has, at most one message every `EVERY_S`: however slow it is, it gets the
newest values and nothing queues up. The event id is `run-version`, so that a browser that
reconnects goes on where it was, or starts anew at a server that started anew.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

EVERY_S = 0.2
ALIVE_S = 15.0  # a comment, so that a silent connection is known to be alive


class Board:
    """Written by one thread, read by the server's."""

    def __init__(self) -> None:
        self.run = secrets.token_hex(4)
        self._lock = threading.Lock()
        self._items: dict[str, tuple[int, str]] = {}  # version, JSON
        self._version = 0

    def put(self, name: str, value: Any) -> None:
        """Write an item; None takes it away. Nothing happens when it is the same."""
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)
        with self._lock:
            if self._items.get(name, (0, "null"))[1] != text:
                self._version += 1
                self._items[name] = (self._version, text)

    def drop(self, prefix: str) -> None:
        """Take all items away whose names begin like this."""
        with self._lock:
            names = [name for name in self._items if name.startswith(prefix)]
        for name in names:
            self.put(name, None)

    def get(self, name: str) -> Any:
        """An item's value, None where there is none."""
        with self._lock:
            return json.loads(self._items.get(name, (0, "null"))[1])

    def since(self, version: int) -> tuple[int, str]:
        """The newest version, and the items above `version` as one JSON object."""
        with self._lock:
            new = [
                f"{json.dumps(name)}:{text}"
                for name, (at, text) in self._items.items()
                if at > version and (version or text != "null")
            ]
            return self._version, "{" + ",".join(new) + "}"

    def version_of(self, event_id: str | None) -> int:
        """The version a browser says it has; 0 for one of another run, or nonsense."""
        run, _, number = (event_id or "").partition("-")
        known = run == self.run and number.isascii() and number.isdigit() and len(number) < 16
        return int(number) if known else 0

    async def stream(self, event_id: str | None, over: Callable[[], bool]) -> AsyncIterator[str]:
        """Server-sent events until `over`."""
        version, told = self.version_of(event_id), time.monotonic()
        first = version == 0
        while not over():
            newest, items = self.since(version)
            if newest > version or first:
                name = "all" if first else "some"
                yield f"id: {self.run}-{newest}\nevent: {name}\ndata: {items}\n\n"
                version, told, first = newest, time.monotonic(), False
            elif time.monotonic() - told > ALIVE_S:
                yield ": alive\n\n"
                told = time.monotonic()
            await asyncio.sleep(EVERY_S)
