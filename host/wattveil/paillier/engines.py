"""Where arithmetic runs: processes of this machine, or a cluster, behind one interface."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager

SCHEMES = ("tcp://", "tls://")
RETRIES = (
    3  # of a task whose worker was lost; tasks are references, so doing one again is harmless
)


class NoEngine(RuntimeError):
    """The engine named is not there; the message says what to do."""


@contextmanager
def open_executor(where: str) -> Iterator[Executor]:
    """An Executor: "4" is four processes here, "tls://host:8786" a Dask scheduler there (or tcp://,
    which authenticates nobody: for one machine, or a network of your own).

    Processes start by `spawn`, so they hold nothing of this one. ValueError for anything else,
    NoEngine without dask.distributed, OSError when the scheduler does not answer.
    """
    if where.isdecimal() and int(where) > 0:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(int(where), mp_context=context) as executor:
            yield executor
    elif where.startswith(SCHEMES):
        try:
            from distributed import Client
        except ImportError:
            raise NoEngine("a Dask cluster needs: pip install 'wattveil[scale]'") from None
        client = Client(where)  # type: ignore[no-untyped-call]
        with client, client.get_executor(retries=RETRIES) as executor:  # type: ignore[no-untyped-call]
            yield executor
    else:
        raise ValueError(
            f"{where}: a number of processes, or a scheduler's tcp:// or tls:// address"
        )
