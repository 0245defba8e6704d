"""The row factory: processes that make encrypted rows in idle time, ahead of the meters.

What is made ahead lives in memory only. Whoever sees how a row was made learns its bit, and a row
used twice tells two meters that theirs are the same. On disk it would have to be encrypted, reserved
before use and erased after, and a backup could bring it back. In memory a crash simply loses it: a
core makes some hundred rows a second, and what was handed out is on disk with its period.

Each row exists once: a worker draws it from the operating system's generator, writes it into a
pipe and forgets it; it is read from the pipe into the pool once and leaves it by `take`. A process
forked from the pool's owner finds its copy empty. Workers run at the lowest priority, start by
`spawn` (no copy of this process's memory), leave no core dumps, and end with their pipe.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import resource
import signal
import threading
import weakref
from collections import deque
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Self

from wattveil.paillier.rows import InlineRows, Row, RowCounts, RowRecipe

AHEAD_BYTES = 512 << 20  # of rows in memory at most: 52,000 of 20 slots at 2048 bits
PAUSE_S, MAX_PAUSE_S = 0.1, 60.0  # before a dead worker is replaced; doubles until one delivers
END_S = 1.0  # for a worker to end by itself
HOT_BYTES = 2

log = logging.getLogger("wattveil.rows")


class RowPool:
    """A RowSource with at most `capacity` rows, and 512 MiB of them, made ahead by `workers`
    processes.

    A full pool stops its workers: they wait in their pipes, which hold a few rows more. An empty
    one makes the row in this process (`made_inline` counts them), so `take` never waits for a
    worker. Workers that die are replaced when there is room again. Close it, or use it in a `with`.
    """

    def __init__(self, recipe: RowRecipe, workers: int, capacity: int) -> None:
        if workers < 1 or capacity < 1:
            raise ValueError("a row pool has at least one worker and room for one row")
        self.capacity = capacity = min(capacity, max(1, AHEAD_BYTES // recipe.row_bytes))
        self.made_inline = self._taken = 0
        self.replaced = 0  # workers that died
        self._recipe = recipe
        self._inline = InlineRows(recipe)
        self._ready: deque[Row] = deque()
        self._room = threading.Semaphore(capacity)
        self._closed = threading.Event()
        self._workers: dict[int, tuple[BaseProcess, Connection]] = {}
        self._lock = threading.Lock()  # over _workers
        _pools.add(self)
        self._threads = [
            threading.Thread(target=self._tend, args=(place,), name=f"rows-{place}", daemon=True)
            for place in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        """Rows that are ready."""
        return len(self._ready)

    @property
    def processes(self) -> list[int]:
        """Process ids of the workers; one may just have ended."""
        with self._lock:
            return [worker.pid for worker, _ in self._workers.values() if worker.pid is not None]

    def take(self) -> Row:
        """See `RowSource`."""
        try:
            row = self._ready.popleft()
        except IndexError:
            self.made_inline += 1
            return self._inline.take()
        self._taken += 1
        self._room.release()
        return row

    def counts(self) -> RowCounts:
        """See `RowSource`."""
        ready, taken = len(self._ready), self._taken
        return RowCounts(
            ready=ready,
            capacity=self.capacity,
            made=taken + ready,
            taken=taken,
            inline=self.made_inline,
            replaced=self.replaced,
        )

    def close(self) -> None:
        """End the workers and forget all rows; `take` then makes them inline."""
        self._closed.set()
        for _ in self._threads:
            self._room.release()
        with self._lock:
            for worker, _ in self._workers.values():
                worker.terminate()
        for thread in self._threads:
            thread.join()
        self._ready.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> str:
        raise TypeError("a pool of single-use rows cannot be copied")

    # --- one thread for each worker ---------------------------------------------------------------

    def _tend(self, place: int) -> None:
        """Keep one worker running, and read its rows while there is room."""
        pause = PAUSE_S
        while True:
            reader = self._start(place)
            if reader is None:
                return
            if self._read(reader):
                pause = PAUSE_S
            status = self._end(place)
            if self._closed.is_set():
                return
            self.replaced += 1
            log.warning("a row worker ended (%s); another starts in %.1f s", status, pause)
            if self._closed.wait(pause):
                return
            pause = min(2 * pause, MAX_PAUSE_S)

    def _start(self, place: int) -> Connection | None:
        """A new worker's end of the pipe; None once the pool is closed."""
        context = multiprocessing.get_context("spawn")
        reader, writer = context.Pipe(duplex=False)
        worker = context.Process(target=_work, args=(writer, self._recipe), daemon=True)
        with self._lock, writer:
            if self._closed.is_set():
                reader.close()
                return None
            worker.start()
            self._workers[place] = worker, reader
        return reader

    def _read(self, reader: Connection) -> int:
        """Fill the pool until the worker or the pool ends; how many rows came."""
        size = HOT_BYTES + self._recipe.row_bytes
        count = 0
        while True:
            self._room.acquire()
            if self._closed.is_set():
                return count
            try:
                data = reader.recv_bytes(size)
            except (EOFError, OSError):  # half a row at the end of the pipe is none
                self._room.release()
                return count
            self._ready.append(Row(int.from_bytes(data[:HOT_BYTES], "little"), data[HOT_BYTES:]))
            count += 1

    def _end(self, place: int) -> int | None:
        """The worker's exit status, below 0 the signal that ended it."""
        with self._lock:
            worker, reader = self._workers.pop(place)
        reader.close()  # which ends a worker that is well
        worker.join(END_S)
        worker.terminate()
        worker.join()
        return worker.exitcode

    def _forked(self) -> None:
        """We are a copy in a forked process: the rows belong to the other one."""
        self._ready = deque()
        self._room = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._closed.set()
        self._threads = []
        for _, reader in self._workers.values():  # or the workers would outlive the pool's owner
            reader.close()
        self._workers = {}


def _work(writer: Connection, recipe: RowRecipe) -> None:
    """Make rows until nobody reads them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the pool's owner
    os.nice(19)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    factory = recipe.factory()
    with contextlib.suppress(BrokenPipeError):
        while True:
            row = factory.draw(recipe.gamma)
            writer.send_bytes(row.hot.to_bytes(HOT_BYTES, "little") + row.data)


def _forked() -> None:
    for pool in _pools:
        pool._forked()


_pools: weakref.WeakSet[RowPool] = weakref.WeakSet()
os.register_at_fork(after_in_child=_forked)
