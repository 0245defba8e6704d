"""Lines of JSON on stdin that steer a role in a demonstration, one line of answer each."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from wattveil.roles.cloud import Cloud
from wattveil.runners.clocks import ControlledClock
from wattveil.runners.loop import Runner
from wattveil_meter.wire import Refused

LINE_LIMIT = 64 << 20  # a day of readings for a large roster


class Control:
    """Reads commands for one runner; the end of stdin stops it, so no role outlives its demo."""

    def __init__(self, runner: Runner, clock: ControlledClock) -> None:
        self._runner = runner
        self._clock = clock
        self._fd = sys.stdin.fileno()
        self._buffer = bytearray()
        self._commands: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "clock": self._set_clock,
            "status": self._status,
            "watch": self._watch,
            "stop": self._stop,
            "attach": self._attach,
            "detach": self._detach,
            "close": self._close,
            "readings": self._readings,
        }
        os.set_blocking(self._fd, False)
        runner.watch(self._fd, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return
        self._buffer += data
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = bytearray(rest)
        for line in lines:
            if line.strip():
                print(json.dumps(self._answer(bytes(line))), flush=True)
        if not data or len(self._buffer) > LINE_LIMIT:
            self._runner.unwatch(self._fd)
            self._runner.stop()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            command = json.loads(line)
            for name, act in self._commands.items():
                if name in command:
                    return act(command)
            return {"error": "unknown command"}
        except Refused as refused:
            return {"error": refused.reason}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return {"error": f"not a command: {error}"}

    def _cloud(self) -> Cloud:
        if not isinstance(self._runner.role, Cloud):
            raise ValueError("only the cloud does that")
        return self._runner.role

    def _status(self, line: dict[str, Any]) -> dict[str, Any]:
        status, since = self._runner.status(), int(line.get("since", 0))
        for name in {"periods", "releases"} & status.keys():
            status[name] = {start: row for start, row in status[name].items() if start >= since}
        return status

    def _watch(self, line: dict[str, Any]) -> dict[str, Any]:
        self._cloud().closer.watched = int(line["watch"])
        return {"ok": True}

    def _set_clock(self, line: dict[str, Any]) -> dict[str, Any]:
        self._clock.set(int(line["clock"]), bool(line.get("running", False)))
        self._runner.act(self._runner.role.tick)
        return {"ok": True}

    def _stop(self, line: dict[str, Any]) -> dict[str, Any]:
        self._runner.stop()
        return {"ok": True}

    def _attach(self, line: dict[str, Any]) -> dict[str, Any]:
        self._cloud()
        for port in [entry["port"] for entry in line["attach"]]:
            self._runner.attach(str(port))
        return {"ok": True}

    def _detach(self, line: dict[str, Any]) -> dict[str, Any]:
        self._cloud()
        for port in [entry["port"] for entry in line["detach"]]:
            self._runner.detach(str(port))
        return {"ok": True}

    def _close(self, line: dict[str, Any]) -> dict[str, Any]:
        self._runner.act(lambda: self._cloud().close(int(line["close"])))
        return {"ok": True}

    def _readings(self, line: dict[str, Any]) -> dict[str, Any]:
        readings = {
            int(number): {int(start): bytes.fromhex(blob) for start, blob in blobs.items()}
            for number, blobs in line["readings"].items()
        }
        for number, blobs in readings.items():
            self._cloud().readings.setdefault(number, {}).update(blobs)
        return {"ok": True}
