"""The store in a real PostgreSQL: the same promises as in SQLite, and a server that goes away."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

import pgserver
from wattveil.roles.effects import Drop, Save
from wattveil.store import BaseStore, StoreError, open_store

PATIENCE_S = 60.0

_names = (f"role_{i}" for i in itertools.count())


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with pgserver.server() as url:
        yield url


@pytest.fixture
def url(server: str) -> str:
    return pgserver.schema(server, next(_names))


def test_rows_survive(url: str) -> None:
    with open_store(url) as store:
        store.apply([Save("a", "1", b"x"), Save("a", "2", b""), Save("b", "1", b"\0y")])
        store.apply([Save("a", "1", b"z"), Drop("a", "2"), Drop("a", "never")])
        assert store.get("a", "1") == b"z"
    with open_store(url) as store:
        assert store.load("a") == {"1": b"z"}
        assert store.load("b") == {"1": b"\0y"}
        assert store.load("c") == {}
        assert store.get("c", "1") is None
        assert sorted(store.snapshot()) == [("a", "1", b"z"), ("b", "1", b"\0y")]


def test_all_or_nothing(url: str) -> None:
    def changes() -> Iterator[Save]:
        yield Save("a", "1", b"new")
        raise RuntimeError

    with open_store(url) as store:
        store.apply([Save("a", "1", b"old")])
        with pytest.raises(RuntimeError):
            store.apply(changes())
        assert store.load("a") == {"1": b"old"}
        store.apply([Save("a", "1", b"newer")])
        store.transact(lambda rows: [Save("a", "2", rows.get("a", "1") or b"")])
        assert store.get("a", "2") == b"newer"


def test_starts_are_counted_and_one_process_at_a_time(url: str) -> None:
    for expected in (1, 2):
        with open_store(url, "NORMAL") as store:
            assert store.fresh() is (expected == 1)
            assert store.boot() == expected
            with pytest.raises(StoreError, match="in use by another process"):
                open_store(url)
            with open_store(url, shared=True) as beside:
                assert beside.get("boot", "") == bytes((expected, 0, 0, 0))


def open_when_free(url: str) -> Any:
    """The store, as soon as the server has noticed that the connection before is gone."""
    end = time.monotonic() + pgserver.PATIENCE_S
    while True:
        try:
            return open_store(url)
        except StoreError as error:
            if "in use" not in str(error) or time.monotonic() > end:
                raise
        time.sleep(0.01)


def test_a_lost_connection_ends_the_store(server: str, url: str) -> None:
    import psycopg

    store = open_store(url)
    store.apply([Save("a", "1", b"kept")])
    with psycopg.connect(server, autocommit=True) as db:
        db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND datname IS NOT NULL"
        )
    with pytest.raises(StoreError, match="cannot be written"):
        store.apply([Save("a", "2", b"lost")])
    with pytest.raises(StoreError, match="connection was lost"):  # and is not made again unseen
        store.apply([Save("a", "2", b"lost")])
    store.close()
    with open_when_free(url) as again:  # its lock went with the connection
        assert again.load("a") == {"1": b"kept"}


def test_vacuuming_and_transactions_do_not_wait_for_each_other(url: str) -> None:
    """Else a busy role would never let autovacuum finish, and its table grow without end."""
    import psycopg

    with (
        open_store(f"{url}%20-clock_timeout%3D2000") as store,
        psycopg.connect(url) as vacuum,
    ):
        vacuum.execute("LOCK TABLE state IN SHARE UPDATE EXCLUSIVE MODE")  # as VACUUM does
        store.apply([Save("a", "1", b"x")])
        assert store.get("a", "1") == b"x"


def test_a_servers_other_defaults_do_not_matter(url: str) -> None:
    """With an older snapshot a transaction would decide by what it saw before its turn came."""
    import psycopg

    end = time.monotonic() + PATIENCE_S
    repeatable = f"{url}%20-cdefault_transaction_isolation%3Drepeatable%5C%20read"
    with (
        open_store(repeatable) as first,
        open_store(repeatable, shared=True) as second,
        ThreadPoolExecutor(1) as pool,
    ):
        first.apply([Save("n", "", b"\1")])

        def add(rows: BaseStore) -> list[Save]:
            number = int.from_bytes(rows.get("n", "") or b"", "little")
            return [Save("n", "", bytes((number + 1,)))]

        def hold(rows: BaseStore) -> list[Save]:
            nonlocal other
            other = pool.submit(second.transact, add)
            query = "SELECT count(*) FROM pg_locks WHERE locktype='advisory' AND NOT granted"
            with psycopg.connect(url, autocommit=True) as db:
                while db.execute(query).fetchone() == (0,):  # until it waits for us
                    assert not other.done() and time.monotonic() < end
            return add(rows)

        other: Future[None] | None = None
        first.transact(hold)
        assert other is not None
        other.result(PATIENCE_S)
        assert first.get("n", "") == b"\3"


def test_a_newer_schema_is_refused(url: str) -> None:
    import psycopg

    open_store(url).close()
    with psycopg.connect(url) as db:
        db.execute("INSERT INTO wattveil_schema VALUES(99)")
    with pytest.raises(StoreError, match="schema version 99"):
        open_store(url)


def test_messages(url: str) -> None:
    with pytest.raises(StoreError, match="cannot be opened") as caught:
        open_store("postgresql://user:geheim@127.0.0.1:1/none?connect_timeout=2")
    assert "geheim" not in str(caught.value)
    with pytest.raises(StoreError, match="path of a file, or postgresql"):
        open_store("mysql://x")
