"""The operator's window on a role: it may be crowded, slow or outlive its role, and harms nobody."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wattveil.runners.observe import AT_ONCE, Observer

PATIENCE_S = 60.0
STATUS: dict[str, Any] = {"role": "dealer", "boot": 1, "refused": {}, "revoked": []}


@contextlib.contextmanager
def served(observer: Observer) -> Iterator[None]:
    """A loop that answers, as a role's does."""
    stop = threading.Event()

    def loop() -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(observer.fileno(), selectors.EVENT_READ)
            while not stop.is_set():
                if selector.select(0.05):
                    observer.turn()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def observer() -> Iterator[Observer]:
    one = Observer(("127.0.0.1", 0), lambda: dict(STATUS))
    yield one
    with contextlib.suppress(OSError):
        one.close()


def get(port: int, path: str = "/healthz") -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S) as answer:
        data: bytes = answer.read()
        return data


def test_a_crowd_of_idle_clients_takes_few_threads_and_goes_again(observer: Observer) -> None:
    with served(observer), contextlib.ExitStack() as stack:
        before = threading.active_count()
        crowd = [
            stack.enter_context(socket.create_connection(("127.0.0.1", observer.port)))
            for _ in range(2 * AT_ONCE)
        ]
        most = 0
        for sock in crowd[AT_ONCE:]:  # they are hung up on; the first ones hold their places
            sock.settimeout(0.01)
            with contextlib.suppress(ConnectionError):
                while True:
                    most = max(most, threading.active_count() - before)
                    with contextlib.suppress(TimeoutError):
                        assert sock.recv(1) == b""
                        break
        assert 0 < most <= AT_ONCE
        for sock in crowd:
            sock.close()
        end = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError):
                assert get(observer.port) == b"ok\n"
                break
            assert time.monotonic() < end


def test_a_late_request_writes_to_no_descriptor_but_its_own(
    tmp_path: Path, observer: Observer
) -> None:
    """A role that starts again in place closes its window; requests under way come after that.

    The numbers of the closed descriptors belong to other files by then: a store's, say.
    """
    observer.close()
    path = tmp_path / "state.db"
    path.write_bytes(b"SQLite format 3\0")
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            fd = os.open(path, os.O_RDWR)
            stack.callback(os.close, fd)
        late = threading.Thread(target=observer.answer, args=("/healthz",), daemon=True)
        late.start()
        late.join(0.5)  # it waits for a loop that is gone; what it writes it has written
        assert path.read_bytes() == b"SQLite format 3\0"
