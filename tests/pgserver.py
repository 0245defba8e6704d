"""A PostgreSQL server of one test run's own: a Unix socket in a temporary folder, no network."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

PATIENCE_S = 60.0


def _tool(name: str) -> str | None:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name, path=os.pathsep.join([*map(str, folders), os.environ["PATH"]]))


def _user() -> dict[str, Any]:
    """PostgreSQL does not run as root: another user then, as arguments of subprocess."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    pytest.skip("root cannot run PostgreSQL, and there is no user postgres or nobody")


@contextlib.contextmanager
def server() -> Iterator[str]:
    """URL of a new, empty server, ending in "/postgres?..."; skips where there is none to run."""
    pytest.importorskip("sqlalchemy", reason="pip install 'wattveil[scale]'")
    pytest.importorskip("psycopg", reason="pip install 'wattveil[scale]'")
    initdb, postgres = _tool("initdb"), _tool("postgres")
    if initdb is None or postgres is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    who = _user()
    root = Path(tempfile.mkdtemp(prefix="wattveil-pg-", dir="/tmp"))  # a socket's path is short
    process = None
    try:
        if who:
            os.chown(root, who["user"], who["group"])
        quiet: dict[str, Any] = {"cwd": root, "stdin": subprocess.DEVNULL, **who}
        made = subprocess.run(
            [
                initdb,
                "-D",
                str(root / "data"),
                "-U",
                "meter",
                "-A",
                "trust",
                "--no-sync",
                "-E",
                "UTF8",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **quiet,
        )
        assert made.returncode == 0, made.stdout.decode()
        settings = ["listen_addresses=", f"unix_socket_directories={root}", "fsync=off"]
        command = [postgres, "-D", str(root / "data"), *(f"-c{setting}" for setting in settings)]
        with (root / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, **quiet)
        url = f"postgresql://meter@/postgres?host={quote(str(root), safe='')}"
        _wait(url, process, root / "log")
        yield url
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # "fast": does not wait for its clients
            process.wait(PATIENCE_S)
        shutil.rmtree(root, ignore_errors=True)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)


def schema(url: str, name: str) -> str:
    """URL of a new schema of that server: a store of its own."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f'CREATE SCHEMA "{name}"')
    return f"{url}&options={quote(f'-csearch_path={name}')}"
