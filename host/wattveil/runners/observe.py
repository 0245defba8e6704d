"""What an operator's tools see of a running role: metrics, health and status over HTTP, JSON logs.

The server has a thread of its own, the role has not: a request waits until the role's loop has
answered it, so "healthy" means that the loop turns. No secrets, but totals and meter states: it
listens on this machine unless told otherwise.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

ANSWER_S = 10.0  # a loop that takes longer is not healthy
AT_ONCE = 16  # requests
TEXT = "text/plain; version=0.0.4; charset=utf-8"

log = logging.getLogger("wattveil.observe")


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

    def counter(name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(f"wattveil_{name}", text, labels=["role"])
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
        rows = status["rows"]
        yield gauge("rows_ready", "Rows made ahead and not yet taken.", rows["ready"])
        yield gauge("rows_capacity", "Rows made ahead at most.", rows["capacity"])
        yield counter("rows_made", "Rows made ahead.", rows["made"])
        taken = CounterMetricFamily(
            "wattveil_rows_taken",
            "Rows given to meters, by where they came from.",
            labels=["source"],
        )
        taken.add_metric(["pool"], rows["taken"])
        taken.add_metric(["inline"], rows["inline"])
        yield taken
        yield counter("row_workers_replaced", "Row workers that died.", rows["replaced"])
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


class _Server(ThreadingHTTPServer):
    """One that answers a few at a time: whoever comes beyond is hung up on."""

    daemon_threads = True
    request_queue_size = 4 * AT_ONCE

    def __init__(self, *arguments: Any) -> None:
        self._free = threading.BoundedSemaphore(AT_ONCE)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        """See socketserver; in the thread that accepts."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread for it
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """See socketserver; in a thread of the request's own."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Somebody hung up: nothing for the log of an operator."""
        log.debug("a request from %s was not answered", client_address, exc_info=True)


class Observer:
    """GET /metrics, /healthz and /status (JSON)."""

    def __init__(self, address: tuple[str, int], status: Callable[[], dict[str, Any]]) -> None:
        """`status` is called by `turn`, in the thread of the role's loop. OSError."""
        self._status = status
        self._asked: queue.SimpleQueue[queue.SimpleQueue[dict[str, Any]]] = queue.SimpleQueue()
        # Sockets, not a pipe: a request that outlives us must not write to whatever gets the number
        # of our descriptor next.
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
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
                log.debug(format, *args)

        self._server = _Server(address, Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def fileno(self) -> int:
        """Readable when `turn` has something to do."""
        return self._wake.fileno()

    def turn(self) -> None:
        """Answer whoever asked; called by the role's loop."""
        with contextlib.suppress(BlockingIOError):
            while self._wake.recv(4096):
                pass
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
        with contextlib.suppress(OSError):  # woken often enough, or closed
            self._waker.send(b"x")
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
        self._wake.close()
        self._waker.close()
