"""What an operator's tools see of a running role: metrics, health and status over HTTP, JSON logs.

The server has a thread of its own, the role has not: a request waits until the role's loop has
answered it, so "healthy" means that the loop turns. No secrets, but totals and meter states: it
listens on this machine unless told otherwise.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

ANSWER_S = 10.0  # a loop that takes longer is not healthy
TEXT = "text/plain; version=0.0.4; charset=utf-8"


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), role, level, logger, message, and the exception if any."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03}Z",
            "role": self._role,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def metrics(status: dict[str, Any]) -> Iterator[Metric]:
    """Prometheus metrics from a role's status."""
    role = str(status["role"])

    def gauge(name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"wattveil_{name}", text, labels=["role"])
        family.add_metric([role], value)
        return family

    refused = CounterMetricFamily(
        "wattveil_refused", "Refusals since the start, by name.", labels=["role", "reason"]
    )
    for reason, count in sorted(status["refused"].items()):
        refused.add_metric([role, reason], count)
    yield refused
    yield gauge("boot", "Starts of the role, ever.", status["boot"])
    yield gauge("revoked_meters", "Meters revoked at this role.", len(status["revoked"]))
    if "meters" in status:
        states = GaugeMetricFamily("wattveil_meters", "Meters by state.", labels=["state"])
        found = [meter["state"] for meter in status["meters"].values()]
        for state in ("silent", "greeted", "registered"):
            states.add_metric([state], found.count(state))
        yield states
        outcomes = CounterMetricFamily(
            "wattveil_periods", "Periods remembered, by outcome.", labels=["outcome"]
        )
        ends = [period["outcome"] or "unfinished" for period in status["periods"].values()]
        for outcome in sorted(set(ends)):
            outcomes.add_metric([outcome], ends.count(outcome))
        yield outcomes
    if "releases" in status:
        yield gauge("stopped", "1 when invalid sums stopped the fleet.", status["stopped"])
        spent = _number(status["epsilon_spent"])
        yield gauge("epsilon_spent", "By the household that spent most.", spent)
        for name, limit in status["epsilon_limits"].items():
            if limit is not None:
                yield gauge(f"epsilon_limit_{name}", f"Per {name}.", _number(limit))
        yield gauge("releases", "Periods charged, of the newest 1,000.", len(status["releases"]))
    if "closings" in status:
        yield gauge("closings", "Periods closed, of the newest 1,000.", len(status["closings"]))


def _number(text: str) -> float:
    numerator, _, denominator = text.partition("/")
    return int(numerator) / int(denominator or 1)


class _Collector:
    def __init__(self, status: dict[str, Any]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        return metrics(self._status)


class Observer:
    """GET /metrics, /healthz and /status (JSON)."""

    def __init__(self, address: tuple[str, int], status: Callable[[], dict[str, Any]]) -> None:
        """`status` is called by `turn`, in the thread of the role's loop. OSError."""
        self._status = status
        self._asked: queue.SimpleQueue[queue.SimpleQueue[dict[str, Any]]] = queue.SimpleQueue()
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        observer = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 5  # seconds for a request to arrive

            def do_GET(self) -> None:
                code, kind, body = observer.answer(self.path)
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                logging.getLogger("wattveil.observe").debug(format, *args)

        self._server = ThreadingHTTPServer(address, Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def fileno(self) -> int:
        """Readable when `turn` has something to do."""
        return self._wake

    def turn(self) -> None:
        """Answer whoever asked; called by the role's loop."""
        os.read(self._wake, 4096)
        waiting = []
        while not self._asked.empty():
            waiting.append(self._asked.get())
        if waiting:
            status = self._status()
            for reply in waiting:
                reply.put(status)

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status code, content type and body for a path; runs in the server's threads."""
        if path not in ("/metrics", "/healthz", "/status"):
            return 404, TEXT, b"there are /metrics, /healthz and /status\n"
        reply: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._asked.put(reply)
        with contextlib.suppress(BlockingIOError):  # it has been woken often enough
            os.write(self._waker, b"x")
        try:
            status = reply.get(timeout=ANSWER_S)
        except queue.Empty:
            return 503, TEXT, b"the role does not answer\n"
        if path == "/healthz":
            healthy = not status.get("stopped", False)
            return (200, TEXT, b"ok\n") if healthy else (503, TEXT, b"the fleet is stopped\n")
        if path == "/status":
            return 200, "application/json", json.dumps(status).encode()
        registry = CollectorRegistry()
        registry.register(_Collector(status))
        return 200, TEXT, generate_latest(registry)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        for fd in (self._wake, self._waker):
            os.close(fd)
