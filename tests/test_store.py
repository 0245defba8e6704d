"""The durable store: atomic, counted starts, one process at a time, private files."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wattveil.roles.effects import Change, Drop, Save
from wattveil.store import Store, StoreError, sqlite


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "role" / "state.db"


def test_rows_survive(path: Path) -> None:
    with Store(path) as store:
        store.apply([Save("a", "1", b"x"), Save("a", "2", b""), Save("b", "1", b"\0y")])
        store.apply([Save("a", "1", b"z"), Drop("a", "2"), Drop("a", "never")])
    with Store(path) as store:
        assert store.load("a") == {"1": b"z"}
        assert store.load("b") == {"1": b"\0y"}
        assert store.load("c") == {}


def test_all_or_nothing(path: Path) -> None:
    def changes() -> Iterator[Change]:
        yield Save("a", "1", b"new")
        raise RuntimeError

    with Store(path) as store:
        store.apply([Save("a", "1", b"old")])
        with pytest.raises(RuntimeError):
            store.apply(changes())
        assert store.load("a") == {"1": b"old"}
        store.apply([Save("a", "1", b"newer")])  # and it still works


def test_boot_counts_every_start(path: Path) -> None:
    for expected in (1, 2, 3):
        with Store(path, "NORMAL") as store:
            assert store.boot() == expected


@pytest.mark.parametrize("policy", ["FULL", "NORMAL"])
def test_boot_is_always_written_through(path: Path, policy: str) -> None:
    with Store(path, policy) as store:  # type: ignore[arg-type]
        statements: list[str] = []
        store._db.set_trace_callback(statements.append)
        store.boot()
        store._db.set_trace_callback(None)
        pragmas = [s for s in statements if "synchronous" in s or s == "COMMIT"]
        around = ["PRAGMA synchronous=FULL", "PRAGMA synchronous=NORMAL"]
        policies = {"FULL": ["COMMIT"], "NORMAL": [around[0], "COMMIT", around[1]]}
        assert pragmas == policies[policy]
        (level,) = store._db.execute("PRAGMA synchronous").fetchone()
        assert level == {"FULL": 2, "NORMAL": 1}[policy]


def test_boot_never_wraps(path: Path) -> None:
    with Store(path) as store:
        store.apply([Save("boot", "", (2**32 - 1).to_bytes(4, "little"))])
        with pytest.raises(StoreError, match="used up"):
            store.boot()


def test_a_restored_backup_skips_boots_and_sets_the_floor(path: Path) -> None:
    with Store(path) as store:
        before = store.boot()
        assert store.restored(1_700_000_000, 1_700_000_000) == 1_700_000_000 // 60 > before + 1000
        assert store.load("floor")[""] == (1_700_000_000).to_bytes(8, "little")


def test_files_are_private(path: Path) -> None:
    path.parent.mkdir(mode=0o755)
    with Store(path) as store:
        store.boot()
        assert path.parent.stat().st_mode & 0o777 == 0o700
        files = list(path.parent.iterdir())
        assert len(files) >= 3
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=2")
    db.close()
    with pytest.raises(StoreError, match="schema version 2"):
        Store(path)
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (2,)
    db.close()


@pytest.mark.parametrize("content", [b"not a database at all" * 100, None])
def test_what_is_no_store_is_refused(path: Path, content: bytes | None) -> None:
    path.parent.mkdir()
    if content is None:
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE other(x)")
        db.close()
    else:
        path.write_bytes(content)
    with pytest.raises(StoreError):
        Store(path)


def test_the_lock_is_given_back(path: Path) -> None:
    with Store(path), pytest.raises(StoreError, match="in use by another process"):
        Store(path)
    Store(path).close()


def test_the_log_gives_its_room_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long reading, a back-up say, lets it grow; afterwards it is short again."""
    monkeypatch.setattr(sqlite, "_LOG_BYTES", 1 << 20)
    log = path.with_name("state.db-wal")
    with Store(path, "NORMAL") as store:
        store.apply([Save("a", "1", b"")])
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM state").fetchone()
            for i in range(8):
                store.apply([Save("a", str(i), bytes(1 << 20))])
            assert log.stat().st_size > 8 << 20
        for i in range(3):
            store.apply([Save("b", str(i), b"")])
        assert log.stat().st_size <= 1 << 20


CHILD = """
import sys, time
from wattveil.store import Store
from wattveil.roles.effects import Save
store = Store(sys.argv[1], sys.argv[2])
store.apply([Save("a", "1", b"kept")])
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("policy", ["FULL", "NORMAL"])
def test_a_killed_process_loses_nothing_and_its_lock(path: Path, policy: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", CHILD, str(path), policy]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        with pytest.raises(StoreError, match="in use"):
            Store(path)
        child.send_signal(signal.SIGKILL)
    with Store(path) as store:
        assert store.load("a") == {"1": b"kept"}
