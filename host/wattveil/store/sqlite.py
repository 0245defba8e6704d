"""One role's durable state in SQLite, the default: one file, no server.

WAL mode, so that a commit is one append and one fsync. The file is locked for the life of the
process: two centres on one ledger could each decrypt once. Programs that only draw on the ledger
open it `shared`, beside the role.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from wattveil.store.base import BaseStore, StoreError, Synchronous

_APPLICATION = 0x57415456  # "WATV", so that `file` and we can tell our stores from others
_BUSY_S = 60.0  # to wait for another process's transaction
_LOG_BYTES = 64 << 20  # of the write-ahead log that stay once nobody reads from a longer one

# Each entry brings a store from the version of its index to the next; entries are never changed.
MIGRATIONS = (
    (
        """CREATE TABLE state(kind TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
           PRIMARY KEY(kind, key)) WITHOUT ROWID""",
    ),
)


class Store(BaseStore):
    """A store in one file.

    `synchronous` FULL (default) waits for the disk at every commit; NORMAL survives a killed
    process but may lose the last commits when the power fails, so it is for demos and tests.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        synchronous: Synchronous = "FULL",
        *,
        shared: bool = False,
        private_folder: bool = True,
    ) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise ValueError(f"synchronous is FULL or NORMAL, not {synchronous}")
        self.path = Path(path)
        self.name = str(path)
        self.synchronous = synchronous
        if shared and not self.path.exists():
            raise StoreError(f"{self.path} does not exist: the role makes it when it starts")
        self._make_private(private_folder)
        self._lock = -1 if shared else self._take_lock()
        try:
            self._db = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, timeout=_BUSY_S
            )
        except sqlite3.Error as error:
            self._unlock()
            raise StoreError(f"{self.path} cannot be opened: {error}") from error
        try:
            self._prepare(shared)
        except sqlite3.Error as error:
            self.close()
            raise StoreError(f"{self.path} is not a usable store: {error}") from error
        except BaseException:
            self.close()
            raise

    def _make_private(self, whole: bool) -> None:
        folder = self.path.parent
        if not folder.exists():
            folder.mkdir(mode=0o700, parents=True)
        if whole and folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
        # SQLite gives its -wal and -shm files the mode of the main file.
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        self.path.chmod(0o600)

    def _take_lock(self) -> int:
        # A file of its own: closing any descriptor of the database would drop SQLite's locks.
        lock = os.open(f"{self.path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise StoreError(
                f"{self.path} is in use by another process; stop that one first"
            ) from error
        return lock

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _prepare(self, shared: bool) -> None:
        # A newer store is left as it is: nothing is written before the version is known.
        outdated = self._outdated(self._version(), len(MIGRATIONS), brings=not shared)
        (mode,) = self._db.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise StoreError(f"{self.path}: no write-ahead log on this file system ({mode})")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA secure_delete=ON")
        self._db.execute(f"PRAGMA journal_size_limit={_LOG_BYTES}")
        if outdated:
            self._migrate()
        self._db.execute(f"PRAGMA synchronous={self.synchronous}")

    def _version(self) -> int:
        version: int
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != _APPLICATION:
            raise StoreError(f"{self.path} is a database, but not one of wattveil's")
        return version

    def _migrate(self) -> None:
        with self._transaction(durable=True):
            for statements in MIGRATIONS[self._version() :]:
                for statement in statements:
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id={_APPLICATION}")
            self._db.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)  # the new files' names, too, must survive a power cut
        finally:
            os.close(folder)

    @contextmanager
    def _transaction(self, durable: bool) -> Iterator[None]:
        if durable and self.synchronous != "FULL":
            self._db.execute("PRAGMA synchronous=FULL")
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise StoreError(f"{self.path} cannot be written: {error}") from error
        finally:
            if durable and self.synchronous != "FULL":
                self._db.execute(f"PRAGMA synchronous={self.synchronous}")

    def _write(
        self, rows: Iterable[tuple[str, str, bytes]], gone: Iterable[tuple[str, str]]
    ) -> None:
        self._db.executemany(
            "INSERT INTO state VALUES(?,?,?) "
            "ON CONFLICT(kind,key) DO UPDATE SET value=excluded.value",
            rows,
        )
        self._db.executemany("DELETE FROM state WHERE kind=? AND key=?", gone)

    def load(self, kind: str) -> dict[str, bytes]:
        """All rows of one kind, by key."""
        return dict(self._db.execute("SELECT key, value FROM state WHERE kind=?", (kind,)))

    def get(self, kind: str, key: str) -> bytes | None:
        """One row."""
        query = "SELECT value FROM state WHERE kind=? AND key=?"
        row = self._db.execute(query, (kind, key)).fetchone()
        return row and bytes(row[0])

    def snapshot(self) -> list[tuple[str, str, bytes]]:
        """All rows (kind, key, value) as they are at one moment."""
        return self._db.execute("SELECT kind, key, value FROM state").fetchall()

    def close(self) -> None:
        """Close the file and give up the lock; closing twice is fine."""
        self._db.close()
        self._unlock()


def read_only(path: str | os.PathLike[str]) -> Callable[[str], dict[str, bytes]]:
    """`Store.load` of a store that a role may be using; StoreError."""
    try:
        db = sqlite3.connect(f"file:{os.fspath(path)}?mode=ro", uri=True)
        (application,) = db.execute("PRAGMA application_id").fetchone()
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    if application != _APPLICATION:
        raise StoreError(f"{path} is not one of wattveil's stores")

    def load(kind: str) -> dict[str, bytes]:
        rows = db.execute("SELECT key, value FROM state WHERE kind = ?", (kind,))
        return {str(key): bytes(value) for key, value in rows}

    return load
