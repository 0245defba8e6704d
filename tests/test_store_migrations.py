"""A store of an older schema becomes one of the present, whole or not at all; a newer one stays.

The old stores are SQL as version 1 wrote it (fixtures/stores). What a later version may do is tried
with one more entry behind the product's own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import pgserver
from wattveil.store import StoreError, open_store, sqlite
from wattveil.store.base import Row

OLD = Path(__file__).parent / "fixtures" / "stores"
ROWS = [
    ("boot", "", b"\x07\0\0\0"),
    ("closing", "1700000100", b"\0\xff"),
    ("counter", "5f0c", b"\3\0\0\0\7\0\0\0"),
]
NEXT = (
    "UPDATE state SET kind='shut' WHERE kind='closing'",
    "CREATE INDEX state_key ON state(key)",
)
AFTER = sorted(("shut" if kind == "closing" else kind, key, value) for kind, key, value in ROWS)
SHAPES = {
    "sqlite": ["SELECT type, name, sql FROM sqlite_master ORDER BY name"],
    "postgres": [
        """SELECT column_name, data_type, collation_name, is_nullable, column_default
           FROM information_schema.columns WHERE table_schema=current_schema() ORDER BY 1, 2""",
        """SELECT replace(indexdef, current_schema(), '') FROM pg_indexes
           WHERE schemaname=current_schema() ORDER BY 1""",
        """SELECT sequence_name FROM information_schema.sequences
           WHERE sequence_schema=current_schema()""",
    ],
}
PATIENCE_S = 60.0

_names = (f"database_{i}" for i in itertools.count())


class Database(NamedTuple):
    """One of some kind, empty at first; `sql` goes behind the store's back."""

    kind: str
    where: str
    module: Any  # of the store, with its MIGRATIONS
    sql: Callable[[str], list[Any]]

    def old(self) -> Database:
        """With what version 1 left."""
        for statement in (OLD / f"{self.kind}-1.sql").read_text().split(";\n"):
            self.sql(statement)
        return self

    @property
    def version(self) -> int:
        """Of its schema."""
        query = "SELECT max(version) FROM wattveil_schema"
        return int(self.sql("PRAGMA user_version" if self.kind == "sqlite" else query)[0][0])

    def rows(self) -> list[tuple[str, str, bytes]]:
        """What is in it."""
        found = self.sql("SELECT kind, key, value FROM state")
        return sorted((kind, key, bytes(value)) for kind, key, value in found)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with pgserver.server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def new(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Database]:
    """Makes empty databases."""

    def in_file() -> Database:
        path = tmp_path / next(_names)

        def sql(statement: str) -> list[Any]:
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
                return db.execute(statement).fetchall()

        return Database("sqlite", str(path), sqlite, sql)

    def in_server() -> Database:
        import psycopg

        from wattveil.store import postgres

        url = pgserver.schema(request.getfixturevalue("server"), next(_names))

        def sql(statement: str) -> list[Any]:
            with psycopg.connect(url, autocommit=True) as db:
                cursor = db.execute(statement.encode())
                return cursor.fetchall() if cursor.description else []

        return Database("postgres", url, postgres, sql)

    return in_file if request.param == "sqlite" else in_server


@pytest.fixture
def old(new: Callable[[], Database]) -> Database:
    return new().old()


def test_an_old_store_is_brought_up_to_date(old: Database) -> None:
    assert old.version == 1
    with open_store(old.where) as store:
        assert sorted(store.snapshot()) == ROWS
        assert store.boot() == 8
        store.apply([Row("closing", "1700001000", b"new")])
    assert old.version == len(old.module.MIGRATIONS)
    with open_store(old.where) as store:
        assert store.load("closing") == {"1700000100": b"\0\xff", "1700001000": b"new"}


def test_an_old_store_ends_as_a_new_one_begins(new: Callable[[], Database]) -> None:
    """An entry that was changed after its release would make two kinds of one version."""
    old, fresh = new().old(), new()
    for one in (old, fresh):
        open_store(one.where).close()
    for query in SHAPES[old.kind]:
        assert old.sql(query) == fresh.sql(query)


def test_a_later_version(old: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(old.where).close()
    with monkeypatch.context() as later:
        later.setattr(old.module, "MIGRATIONS", (*old.module.MIGRATIONS, NEXT))
        number = len(old.module.MIGRATIONS)
        with open_store(old.where) as store:
            assert sorted(store.snapshot()) == AFTER
        assert old.version == number
    for shared in (False, True):  # and back at the older program
        with pytest.raises(StoreError, match=f"version {number}, this .* newer wattveil"):
            open_store(old.where, shared=shared)
    assert (old.version, old.rows()) == (number, AFTER)


def test_only_the_role_brings_its_store_up_to_date(
    old: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer command beside a role that runs must not change the tables under it."""
    with open_store(old.where) as role:
        monkeypatch.setattr(old.module, "MIGRATIONS", (*old.module.MIGRATIONS, NEXT))
        with pytest.raises(StoreError, match="start its role"):
            open_store(old.where, shared=True)
        role.apply([Row("closing", "2", b"")])
        assert sorted(role.snapshot()) == sorted([*ROWS, ("closing", "2", b"")])


def test_workers_bring_it_up_to_date_when_no_older_one_runs(
    new: Callable[[], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = new().old()
    if database.kind == "sqlite":
        pytest.skip("groups have a server")
    with open_store(database.where, group=True) as first:
        with open_store(database.where, group=True):  # it did, and lets others in
            assert sorted(first.snapshot()) == ROWS
        monkeypatch.setattr(database.module, "MIGRATIONS", (*database.module.MIGRATIONS, NEXT))
        with pytest.raises(StoreError, match="stop all its processes"):
            open_store(database.where, group=True)
        assert sorted(first.snapshot()) == ROWS
    with open_store(database.where, group=True) as second:
        assert sorted(second.snapshot()) == AFTER


CHILD = """
import os, signal, sys
from wattveil.store import open_store
import {module} as module
def dying():
    for i, statement in enumerate({statements!r}):
        if i == {after}:
            os.kill(os.getpid(), signal.SIGKILL)
        yield statement
    os.kill(os.getpid(), signal.SIGKILL)
module.MIGRATIONS = (*module.MIGRATIONS, dying())
open_store(sys.argv[1])
"""


@pytest.mark.parametrize("after", range(len(NEXT) + 1))
def test_killed_in_the_middle(old: Database, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 before, between and after the statements of a version: the older one is untouched."""
    open_store(old.where).close()
    before = old.version
    child = CHILD.format(module=old.module.__name__, statements=NEXT, after=after)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = subprocess.run([sys.executable, "-c", child, old.where], env=environment)
    assert ended.returncode == -signal.SIGKILL
    assert (old.version, old.rows()) == (before, ROWS)
    monkeypatch.setattr(old.module, "MIGRATIONS", (*old.module.MIGRATIONS, NEXT))
    end = time.monotonic() + PATIENCE_S
    while old.version == before:  # until the server has noticed, where there is one
        with contextlib.suppress(StoreError):
            open_store(old.where).close()
        assert time.monotonic() < end
    assert (old.version, old.rows()) == (before + 1, AFTER)
