"""One role's durable state in PostgreSQL, through SQLAlchemy Core: the same rows as in SQLite.

A session-level advisory lock stands for SQLite's file lock; it is gone when the connection is, and
with the connection gone nothing more is written: the role ends and is started again. A database,
or a schema (`?options=-csearch_path%3Dcenter`), belongs to one role.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from wattveil.store.base import BaseStore, Change, StoreError, Synchronous

try:
    import sqlalchemy
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError
except ImportError as error:
    raise StoreError(
        f"PostgreSQL needs wattveil[scale]: pip install 'wattveil[scale]' ({error})"
    ) from None

# Advisory locks, each beside the schema's hash: who is the role, who leads, whose turn it is to write.
_ROLE, _LEAD, _TURN = 0x57415456, 0x5741544C, 0x57415454  # "WATV", ...
_MIGRATION = 0x5741544D  # of any schema of the database

# A server keeps the locks of a client that is gone without a word until it has noticed.
_SESSION = "SET tcp_keepalives_idle=30; SET tcp_keepalives_interval=10; SET tcp_keepalives_count=3"

# As in sqlite.py: each entry brings a store from the version of its index to the next.
MIGRATIONS = (
    (
        """CREATE TABLE state(kind TEXT COLLATE "C" NOT NULL, key TEXT COLLATE "C" NOT NULL,
           value BYTEA NOT NULL, PRIMARY KEY(kind, key))""",
    ),
    (  # for SharedStore: the turn a row was written in
        "ALTER TABLE state ADD COLUMN turn BIGINT NOT NULL DEFAULT 0",
        "CREATE INDEX state_turn ON state(turn)",
        "CREATE SEQUENCE turns",
    ),
)


class Turn(NamedTuple):
    """rows: (kind, key, value) that others wrote. changes: ours."""

    rows: list[tuple[str, str, bytes]]
    changes: list[Change]


class PostgresStore(BaseStore):
    """A store in a database server; see `Store` for `synchronous` (synchronous_commit here)."""

    _lock = "pg_try_advisory_lock"
    _taken = "is in use by another process; stop that one first"

    def __init__(
        self, url: str, synchronous: Synchronous = "FULL", *, shared: bool = False
    ) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise ValueError(f"synchronous is FULL or NORMAL, not {synchronous}")
        try:
            address = sqlalchemy.make_url(url).set(drivername="postgresql+psycopg")
        except SQLAlchemyError:
            raise StoreError("a store's URL is postgresql://USER@HOST/DATABASE") from None
        self.name = address.render_as_string(hide_password=True)
        self.synchronous = synchronous
        self._gone = False
        self._engine = sqlalchemy.create_engine(
            address,
            poolclass=sqlalchemy.NullPool,
            hide_parameters=True,
            isolation_level="READ COMMITTED",  # what is read after waiting for a lock is new
        )
        with self._errors("cannot be opened"):
            self._db = self._engine.connect()
        try:
            with self._errors("is not a usable store"):
                self._prepare(shared)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        if self._gone:
            raise StoreError(f"{self.name}: the connection was lost; start again")
        try:
            yield
        except SQLAlchemyError as error:
            # SQLAlchemy would connect anew, without the lock.
            self._gone |= getattr(error, "connection_invalidated", False)
            # Not the statement, whose parameters may be secret; SQLAlchemy's first line is enough.
            reason = str(getattr(error, "orig", error)).strip().split("\n")[0]
            raise StoreError(f"{self.name} {what}: {reason}") from None

    def _run(self, statement: str, parameters: Any = None) -> Any:
        return self._db.execute(text(statement), parameters)

    def _advisory(self, function: str, kind: int) -> bool:
        query = f"SELECT {function}(:kind, hashtext(current_schema()))"
        return bool(self._run(query, {"kind": kind}).scalar())

    def _prepare(self, shared: bool) -> None:
        self._run(_SESSION)
        self._run("SELECT pg_advisory_xact_lock(:kind, 0)", {"kind": _MIGRATION})
        if not shared and not self._advisory(self._lock, _ROLE):
            raise StoreError(f"{self.name} {self._taken}")
        known = self._run(
            "SELECT count(*) FROM pg_tables WHERE schemaname=current_schema() AND "
            "tablename='wattveil_schema'"
        ).scalar()
        version = 0
        if known:
            version = self._run("SELECT max(version) FROM wattveil_schema").scalar() or 0
        if self._outdated(version, len(MIGRATIONS), brings=not shared):
            self._migrate(version)
        self._db.commit()

    def _migrate(self, version: int) -> None:
        """In the transaction that has the migration lock: nobody starts meanwhile."""
        if not self._advisory("pg_try_advisory_lock", _ROLE):
            raise StoreError(
                f"{self.name} has an older schema version: stop all its processes first"
            )
        self._run("CREATE TABLE IF NOT EXISTS wattveil_schema(version INTEGER NOT NULL)")
        for number, statements in enumerate(MIGRATIONS[version:], version + 1):
            for statement in statements:
                self._run(statement)
            self._run("INSERT INTO wattveil_schema VALUES(:version)", {"version": number})
        self._advisory("pg_advisory_unlock", _ROLE)

    @contextmanager
    def _transaction(self, durable: bool) -> Iterator[None]:
        with self._errors("cannot be written"):
            try:
                commit = "on" if durable or self.synchronous == "FULL" else "off"
                self._run(f"SET LOCAL synchronous_commit TO {commit}")
                # Not a lock of the table: vacuuming takes one too, and would give way each time.
                self._run(
                    "SELECT pg_advisory_xact_lock(:kind, hashtext(current_schema()))",
                    {"kind": _TURN},
                )
                yield
                self._db.commit()
            except BaseException:
                self._db.rollback()
                raise

    def _write(
        self, rows: Iterable[tuple[str, str, bytes]], gone: Iterable[tuple[str, str]]
    ) -> None:
        put = [{"kind": kind, "key": key, "value": value} for kind, key, value in rows]
        if put:
            self._run(
                "INSERT INTO state(kind, key, value) VALUES(:kind, :key, :value) "
                "ON CONFLICT(kind, key) DO UPDATE SET value=excluded.value",
                put,
            )
        drop = [{"kind": kind, "key": key} for kind, key in gone]
        if drop:
            self._run("DELETE FROM state WHERE kind=:kind AND key=:key", drop)

    def _read(self, statement: str, **parameters: str) -> list[Any]:
        # A read of its own must not leave a transaction open; one inside another's must not end it.
        inside = self._db.in_transaction()
        with self._errors("cannot be read"):
            rows = list(self._run(statement, parameters))
            if not inside:
                self._db.commit()
        return rows

    def load(self, kind: str) -> dict[str, bytes]:
        """All rows of one kind, by key."""
        rows = self._read("SELECT key, value FROM state WHERE kind=:kind", kind=kind)
        return {key: bytes(value) for key, value in rows}

    def get(self, kind: str, key: str) -> bytes | None:
        """One row."""
        query = "SELECT value FROM state WHERE kind=:kind AND key=:key"
        rows = self._read(query, kind=kind, key=key)
        return bytes(rows[0][0]) if rows else None

    def snapshot(self) -> list[tuple[str, str, bytes]]:
        """All rows (kind, key, value) as they are at one moment."""
        rows = self._read("SELECT kind, key, value FROM state")
        return [(kind, key, bytes(value)) for kind, key, value in rows]

    def close(self) -> None:
        """Give up the lock and close the connection; closing twice is fine."""
        if hasattr(self, "_db"):
            if not self._gone and not self._db.closed:
                with suppress(SQLAlchemyError):  # by itself the server does it a moment later
                    self._db.rollback()
                    self._run("SELECT pg_advisory_unlock_all()")
            self._db.close()
        self._engine.dispose()


class SharedStore(PostgresStore):
    """The store of several processes that are one role together, in turns (`roles.worker`).

    A process that is the role alone, with a PostgresStore, cannot start beside them, nor they
    beside it.
    """

    _lock = "pg_try_advisory_lock_shared"
    _taken = "is in use by a process that is alone; stop it first"

    def __init__(self, url: str, synchronous: Synchronous = "FULL") -> None:
        super().__init__(url, synchronous)
        self._leads = False
        with self._errors("cannot be used"):
            # What is loaded after this is at least as new.
            self._seen = self._run("SELECT coalesce(max(turn), 0) FROM state").scalar()
            self._db.commit()

    def lead(self) -> bool:
        """Whether this process is the one that leads; it stays so as long as it lives."""
        if not self._leads:
            with self._errors("cannot be used"):
                self._leads = self._advisory("pg_try_advisory_lock", _LEAD)
                self._db.commit()
        return self._leads

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """What others have written since our last turn; what is appended to `changes` is written
        at the end. Nobody else's turn overlaps."""
        with self._transaction(durable=False):
            number = self._run("SELECT nextval('turns')").scalar()
            query = "SELECT kind, key, value FROM state WHERE turn > :seen"
            rows = self._run(query, {"seen": self._seen})
            turn = Turn([(kind, key, bytes(value)) for kind, key, value in rows], [])
            yield turn
            last = {(change.kind, change.key): change.value for change in turn.changes}
            put = [
                {"kind": kind, "key": key, "value": value, "turn": number}
                for (kind, key), value in last.items()
                if value is not None
            ]
            if put:
                self._run(
                    "INSERT INTO state VALUES(:kind, :key, :value, :turn) ON CONFLICT(kind, key) "
                    "DO UPDATE SET value=excluded.value, turn=excluded.turn",
                    put,
                )
            self._write([], [at for at, value in last.items() if value is None])
        self._seen = number
