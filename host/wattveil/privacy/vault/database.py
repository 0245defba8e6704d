"""How the vault's files are opened and written, SQLite and SQLCipher alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

_BUSY_S = 60.0


def connect(module: ModuleType, path: Path, tables: str, *first: str) -> Any:
    """A connection of sqlite3 or its like in autocommit mode, to a file 0600 that is made if need
    be. first: pragmas before all else. OSError, module.Error."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    db = module.connect(path, isolation_level=None, timeout=_BUSY_S, check_same_thread=False)
    for pragma in (*first, "journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
        db.execute(f"PRAGMA {pragma}")
    db.executescript(tables)
    return db


@contextmanager
def transaction(db: Any) -> Iterator[None]:
    """One that no other overlaps; undone when the block raises."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
