"""What a role must not forget: a small durable key-value table, one store and one process each."""

from pathlib import Path

from wattveil.store.base import BaseStore, Row, StoreError, Synchronous
from wattveil.store.sqlite import Store, read_only

__all__ = ["BaseStore", "Row", "Store", "StoreError", "open_store", "read_only"]


def open_store(
    where: str | Path,
    synchronous: Synchronous = "FULL",
    *,
    shared: bool = False,
    group: bool = False,
) -> BaseStore:
    """A store by the path of its file or by a URL, postgresql://USER@HOST/DATABASE; StoreError.

    shared: beside the role whose store it is, to draw on its ledger. group: of several processes
    that are one role.
    """
    if isinstance(where, str) and where.startswith(("postgresql:", "postgres:")):
        from wattveil.store.postgres import PostgresStore, SharedStore

        if group:
            return SharedStore(where, synchronous)
        return PostgresStore(where, synchronous, shared=shared)
    if isinstance(where, str) and "://" in where:
        raise StoreError("a store is the path of a file, or postgresql://USER@HOST/DATABASE")
    if group:
        raise StoreError("several processes are one role only over postgresql://…")
    return Store(where, synchronous, shared=shared)
