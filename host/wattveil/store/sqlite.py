"""One role's durable state in SQLite.

A single generic table, because the roles keep their state as bytes they alone understand. WAL
mode, so that a commit is one append and one fsync. The file is locked for the life of the
process: two centres on one ledger could each decrypt once.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

SCHEMA = 1
_APPLICATION = 0x57415456  # "WATV", so that `file` and we can tell our stores from others
_BOOTS = 1 << 32
_RESTORED = 1 << 16  # boots skipped after a backup is put back; more than any backup can miss

Synchronous = Literal["FULL", "NORMAL"]


class Change(Protocol):
    """One row to write, or to remove when `value` is None (the roles' Save and Drop)."""

    @property
    def kind(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def value(self) -> bytes | None: ...


class _Row(NamedTuple):
    kind: str
    key: str
    value: bytes | None


class StoreError(Exception):
    """The store cannot be used; the message says why and what to do."""


class Store:
    """Rows (kind, key) -> bytes, written in transactions.

    `synchronous` FULL (default) waits for the disk at every commit; NORMAL survives a killed
    process but may lose the last commits when the power fails, so it is for demos and tests.
    """

    def __init__(self, path: str | os.PathLike[str], synchronous: Synchronous = "FULL") -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise ValueError(f"synchronous is FULL or NORMAL, not {synchronous}")
        self.path = Path(path)
        self.synchronous = synchronous
        self._make_private()
        self._lock = self._take_lock()
        try:
            self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            os.close(self._lock)
            raise StoreError(f"{self.path} cannot be opened: {error}") from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self.close()
            raise StoreError(f"{self.path} is not a usable store: {error}") from error
        except BaseException:
            self.close()
            raise

    def _make_private(self) -> None:
        folder = self.path.parent
        if not folder.exists():
            folder.mkdir(mode=0o700, parents=True)
        if folder.stat().st_mode & 0o077:
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

    def _prepare(self) -> None:
        # A newer store is left as it is: nothing is written before the version is known.
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version > SCHEMA:
            raise StoreError(
                f"{self.path} has schema version {version}, this wattveil knows {SCHEMA}: "
                "use the newer wattveil that wrote it"
            )
        if tables and application != _APPLICATION:
            raise StoreError(f"{self.path} is a database, but not one of wattveil's")
        (mode,) = self._db.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise StoreError(f"{self.path}: no write-ahead log on this file system ({mode})")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA secure_delete=ON")
        if version < SCHEMA:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS state(kind TEXT NOT NULL, key TEXT NOT NULL, "
                "value BLOB NOT NULL, PRIMARY KEY(kind, key)) WITHOUT ROWID"
            )
            self._db.execute(f"PRAGMA application_id={_APPLICATION}")
            self._db.execute(f"PRAGMA user_version={SCHEMA}")
            self._db.execute("COMMIT")
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)  # the new files' names, too, must survive a power cut
            finally:
                os.close(folder)
        self._db.execute(f"PRAGMA synchronous={self.synchronous}")

    def apply(self, changes: Iterable[Change]) -> None:
        """Carry out all changes in one transaction, or none of them."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for change in changes:
                if change.value is not None:
                    self._db.execute(
                        "INSERT INTO state VALUES(?,?,?) "
                        "ON CONFLICT(kind,key) DO UPDATE SET value=excluded.value",
                        (change.kind, change.key, change.value),
                    )
                else:
                    self._db.execute(
                        "DELETE FROM state WHERE kind=? AND key=?", (change.kind, change.key)
                    )
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def load(self, kind: str) -> dict[str, bytes]:
        """All rows of one kind, by key."""
        rows = self._db.execute("SELECT key, value FROM state WHERE kind=?", (kind,))
        return {key: bytes(value) for key, value in rows}

    def boot(self) -> int:
        """Count one more start, durably; no frame may be sent before this returned."""
        return self._advance(1, [])

    def restored(self, now: int) -> int:
        """Call once after a backup was put back: returns a boot that no lost start can have used.

        The row "floor" tells a dealer or a centre to refuse every period up to `now`, because
        what it closed since the backup is forgotten.
        """
        return self._advance(_RESTORED, [_Row("floor", "", now.to_bytes(8, "little"))])

    def _advance(self, steps: int, changes: list[_Row]) -> int:
        boot = int.from_bytes(self.load("boot").get("", b""), "little") + steps
        if boot >= _BOOTS:
            raise StoreError(f"{self.path} has used up its {_BOOTS} starts: provision a new fleet")
        # Always FULL: a boot number used twice would use a cipher nonce twice.
        self._db.execute("PRAGMA synchronous=FULL")
        try:
            self.apply([*changes, _Row("boot", "", boot.to_bytes(4, "little"))])
        finally:
            self._db.execute(f"PRAGMA synchronous={self.synchronous}")
        return boot

    def close(self) -> None:
        """Close the file and give up the lock; closing twice is fine."""
        if self._lock >= 0:
            self._db.close()
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
