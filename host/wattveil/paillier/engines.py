"""Where arithmetic runs: processes of this machine, or a cluster, behind one interface."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCHEMES = ("tcp://", "tls://")
RETRIES = (
    3  # of a task whose worker was lost; tasks are references, so doing one again is harmless
)


class NoEngine(RuntimeError):
    """The engine named is not there; the message says what to do."""


def security(tls: Path) -> Any:
    """Dask's `Security` for a node or a client with the certificate in this folder."""
    from distributed.security import Security

    names: dict[str, str] = {"tls_ca_file": str(tls / "ca.pem")}
    for end in ("client", "scheduler", "worker"):
        names |= {
            f"tls_{end}_cert": str(tls / "node.pem"),
            f"tls_{end}_key": str(tls / "node.key"),
        }
    return Security(require_encryption=True, **names)  # type: ignore[no-untyped-call]


@contextmanager
def open_executor(where: str, tls: Path | None = None) -> Iterator[Executor]:
    """An Executor: "4" is four processes here, "tls://host:8786" a Dask scheduler there (or tcp://,
    which authenticates nobody: for one machine, or a network of your own).

    tls: folder of `wattveil tls cluster` with our certificate for tls://; without it Dask's own
    configuration, distributed.comm.tls, names one. Processes start by `spawn`, so they hold nothing
    of this one. ValueError for anything else, NoEngine without dask.distributed, OSError when the
    scheduler does not answer.
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
        client = Client(where, security=tls and security(tls))  # type: ignore[no-untyped-call]
        with client, client.get_executor(retries=RETRIES) as executor:  # type: ignore[no-untyped-call]
            yield executor
    else:
        raise ValueError(
            f"{where}: a number of processes, or a scheduler's tcp:// or tls:// address"
        )
