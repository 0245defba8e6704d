"""The usage store: sealed rows by (pseudonym, day), in SQLite or PostgreSQL.

Nothing in it is trusted. Which version of a row is the present one, and that it is there at all,
the catalogue says; `mark` is the number of the last batch written, in the same transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from wattveil.privacy.vault.database import connect, transaction
from wattveil.privacy.vault.seal import Row
from wattveil.store import StoreError

AT_ONCE = 500  # pseudonyms of one SELECT
_TABLES = """
CREATE TABLE IF NOT EXISTS sealed(
    pseudonym BLOB NOT NULL, day INTEGER NOT NULL, key INTEGER NOT NULL, box BLOB NOT NULL,
    PRIMARY KEY(pseudonym, day)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mark(one INTEGER PRIMARY KEY, batch INTEGER);
"""


class UsageStore(Protocol):
    """Days are UTC day indices, ranges half-open; StoreError when the store fails."""

    def read(self, pseudonyms: Sequence[bytes], first: int, last: int) -> Iterator[Row]:
        """The rows of these in [first, last), in any order."""

    def write(self, rows: Sequence[Row], batch: int | None = None) -> None:
        """Put rows, and the mark if given, in one transaction."""

    def mark(self) -> int:
        """Number of the last batch written; 0 for none."""

    def drop_before(self, day: int) -> int:
        """Delete all rows of earlier days, leaving nothing of them in the file; how many."""

    def size(self) -> int:
        """Bytes on disk."""

    def close(self) -> None:
        """Give the connection back."""


def open_usage(where: str, folder: Path) -> UsageStore:
    """The store by path in `folder`, or by postgresql:// URL; StoreError."""
    if where.startswith(("postgresql:", "postgres:")):
        return PostgresUsage(where)
    if "://" in where:
        raise StoreError("stores.vault is a path, or postgresql://USER@HOST/DATABASE")
    return SqliteUsage(folder / where)


class SqliteUsage:
    """One file, 0600, in write-ahead mode; a row lies beside the other days of its pseudonym."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._db: sqlite3.Connection = connect(sqlite3, path, _TABLES, "page_size=8192")
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"the usage store {path} cannot be opened: {error}") from None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with transaction(self._db):
                yield
        except sqlite3.Error as error:
            raise StoreError(f"the usage store cannot be written: {error}") from None

    def read(self, pseudonyms: Sequence[bytes], first: int, last: int) -> Iterator[Row]:
        """See UsageStore."""
        for at in range(0, len(pseudonyms), AT_ONCE):
            part = pseudonyms[at : at + AT_ONCE]
            wanted = ",".join("?" * len(part))
            yield from self._db.execute(
                f"SELECT pseudonym, day, key, box FROM sealed WHERE pseudonym IN ({wanted}) "
                "AND day>=? AND day<?",
                (*part, first, last),
            )

    def write(self, rows: Sequence[Row], batch: int | None = None) -> None:
        """See UsageStore."""
        with self._transaction():
            self._db.executemany(
                "INSERT INTO sealed VALUES(?,?,?,?) ON CONFLICT(pseudonym, day) DO UPDATE SET "
                "key=excluded.key, box=excluded.box",
                rows,
            )
            if batch is not None:
                self._db.execute("INSERT OR REPLACE INTO mark VALUES(1, ?)", (batch,))

    def mark(self) -> int:
        """See UsageStore."""
        row = self._db.execute("SELECT batch FROM mark").fetchone()
        return int(row[0]) if row else 0

    def drop_before(self, day: int) -> int:
        """See UsageStore."""
        with self._transaction():
            gone = self._db.execute("DELETE FROM sealed WHERE day<?", (day,)).rowcount
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return gone

    def size(self) -> int:
        """See UsageStore."""
        files = (Path(f"{self.path}{suffix}") for suffix in ("", "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        """See UsageStore."""
        self._db.close()


class PostgresUsage:
    """The same tables in a PostgreSQL database; deleted rows are vacuumed away at once."""

    def __init__(self, url: str) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise StoreError(
                f"PostgreSQL needs wattveil[scale]: pip install 'wattveil[scale]' ({error})"
            ) from None
        self._error: type[Exception] = psycopg.Error
        try:
            self._db: Any = psycopg.connect(url, autocommit=True)
            with self._db.transaction():
                self._db.execute(
                    "SELECT pg_advisory_xact_lock(7717)"
                )  # one at a time makes tables
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS sealed(pseudonym BYTEA NOT NULL, "
                    "day INTEGER NOT NULL, key INTEGER NOT NULL, box BYTEA NOT NULL, "
                    "PRIMARY KEY(pseudonym, day))"
                )
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS mark(one INTEGER PRIMARY KEY, batch BIGINT)"
                )
        except psycopg.Error as error:  # its text may hold the URL, and that a password
            reason = type(error).__name__
            raise StoreError(f"the PostgreSQL usage store cannot be opened: {reason}") from None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except self._error as error:
            raise StoreError(
                f"the PostgreSQL usage store failed: {type(error).__name__}"
            ) from None

    def read(self, pseudonyms: Sequence[bytes], first: int, last: int) -> Iterator[Row]:
        """See UsageStore."""
        with self._errors():
            for at in range(0, len(pseudonyms), AT_ONCE):
                yield from self._db.execute(
                    "SELECT pseudonym, day, key, box FROM sealed WHERE pseudonym = ANY(%s) "
                    "AND day>=%s AND day<%s",
                    (list(pseudonyms[at : at + AT_ONCE]), first, last),
                    binary=True,
                )

    def write(self, rows: Sequence[Row], batch: int | None = None) -> None:
        """See UsageStore."""
        with self._errors(), self._db.transaction(), self._db.cursor() as cursor:
            cursor.execute("CREATE TEMP TABLE arriving(LIKE sealed) ON COMMIT DROP")
            with cursor.copy("COPY arriving FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["bytea", "int4", "int4", "bytea"])
                for row in rows:
                    copy.write_row(row)
            cursor.execute(
                "INSERT INTO sealed SELECT * FROM arriving ORDER BY pseudonym, day "
                "ON CONFLICT(pseudonym, day) DO UPDATE SET key=excluded.key, box=excluded.box"
            )
            if batch is not None:
                cursor.execute(
                    "INSERT INTO mark VALUES(1, %s) ON CONFLICT(one) DO UPDATE SET "
                    "batch=excluded.batch",
                    (batch,),
                )

    def mark(self) -> int:
        """See UsageStore."""
        with self._errors():
            row = self._db.execute("SELECT batch FROM mark").fetchone()
        return int(row[0]) if row else 0

    def drop_before(self, day: int) -> int:
        """See UsageStore."""
        with self._errors():
            gone: int = self._db.execute("DELETE FROM sealed WHERE day<%s", (day,)).rowcount
            self._db.execute("VACUUM sealed")
        return gone

    def size(self) -> int:
        """See UsageStore."""
        with self._errors():
            row = self._db.execute("SELECT pg_total_relation_size('sealed')").fetchone()
        return int(row[0])

    def close(self) -> None:
        """See UsageStore."""
        self._db.close()
