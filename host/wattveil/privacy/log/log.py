"""The log's rows in gateway.db: entries, the Merkle tree's nodes and the signed heads.

An entry takes part in the caller's transaction, and each transaction that added entries ends with a
signed head (`seal`), which after its commit goes to the witness as well. So an entry
without a head was not written by the gateway, and a witness ahead of the log tells of a rollback.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from wattveil.privacy.log import merkle
from wattveil.privacy.log.heads import Head, LogError, canonical, newest, private_key

ENTRY_BYTES = 65_536

_TABLES = (
    "CREATE TABLE IF NOT EXISTS log_leaves(idx INTEGER PRIMARY KEY, leaf TEXT NOT NULL)",
    (
        "CREATE TABLE IF NOT EXISTS log_nodes(level INTEGER, position INTEGER, hash BLOB NOT NULL, "
        "PRIMARY KEY(level, position)) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE IF NOT EXISTS log_heads(size INTEGER PRIMARY KEY, at INTEGER NOT NULL, "
        "root BLOB NOT NULL, signature BLOB NOT NULL)"
    ),
    *(
        f"CREATE TRIGGER IF NOT EXISTS log_{name}_{verb.lower()} BEFORE {verb} ON log_{name} "
        "BEGIN SELECT RAISE(ABORT, 'the log only grows'); END"
        for name in ("leaves", "nodes", "heads")
        for verb in ("UPDATE", "DELETE")
    ),
)


class Log:
    """The log on a connection to gateway.db, which it neither commits nor closes."""

    def __init__(self, db: sqlite3.Connection, clock: Callable[[], float] = time.time) -> None:
        self._db, self._clock = db, clock
        for statement in _TABLES:
            db.execute(statement)

    def append(self, kind: str, body: dict[str, Any]) -> int:
        """Add an entry in the caller's transaction; its index, from 0. LogError.

        The body holds no identity, no reading and no secret: the log is there to be shown.
        """
        if not self._db.in_transaction:
            raise LogError("an entry belongs to a transaction: append inside State.transaction()")
        entry = {"at": int(self._clock() * 1000), "body": body, "kind": kind}
        try:
            text = canonical(entry)
        except (TypeError, ValueError) as error:
            raise LogError(f"no entry of the log: {error}") from None
        if len(text) > ENTRY_BYTES:
            raise LogError(f"an entry has at most {ENTRY_BYTES} bytes")
        index = self.size
        try:
            self._db.execute("INSERT INTO log_leaves VALUES(?,?)", (index, text))
            for node in merkle.grown(self.node, index, text.encode()):
                self._db.execute("INSERT INTO log_nodes VALUES(?,?,?)", node)
        except sqlite3.IntegrityError:
            raise LogError(
                "the log is damaged: its tree has more than its entries; `log verify`"
            ) from None
        return index

    @property
    def size(self) -> int:
        """Number of entries."""
        last = self._db.execute("SELECT max(idx) FROM log_leaves").fetchone()[0]
        return 0 if last is None else int(last) + 1

    def node(self, level: int, position: int) -> bytes:
        """Hash of a perfect subtree; LogError."""
        query = "SELECT hash FROM log_nodes WHERE level=? AND position=?"
        row = self._db.execute(query, (level, position)).fetchone()
        if row is None:
            raise LogError("the log is damaged: a node of its tree is missing; `log verify`")
        return bytes(row[0])

    def root(self, size: int | None = None) -> bytes:
        """The tree hash of the first `size` entries; all by default."""
        return merkle.root(self.node, self.size if size is None else size)

    def leaf(self, index: int) -> str:
        """An entry as it was hashed; ValueError."""
        query = "SELECT leaf FROM log_leaves WHERE idx=?"
        row = self._db.execute(query, (index,)).fetchone()
        if row is None:
            raise ValueError(f"the log has no entry {index}: it has {self.size}")
        return str(row[0])

    def leaves(self, start: int = 0, limit: int = -1) -> Iterator[tuple[int, str]]:
        """Entries by index, from `start`, at most `limit` unless negative."""
        query = "SELECT idx, leaf FROM log_leaves WHERE idx>=? ORDER BY idx LIMIT ?"
        for index, leaf in self._db.execute(query, (start, limit)):
            yield int(index), leaf

    def entries(self, start: int = 0) -> Iterator[dict[str, Any]]:
        """Entries read: {index, at, kind, body}, from `start`."""
        for index, leaf in self.leaves(start):
            yield {"index": index, **json.loads(leaf)}

    def heads(self) -> Iterator[Head]:
        """All signed heads, by size."""
        for row in self._db.execute("SELECT size, at, root, signature FROM log_heads ORDER BY 1"):
            yield Head(*row)

    def head(self, size: int | None = None) -> Head | None:
        """The newest signed head, or the one of a size."""
        where, values = ("", ()) if size is None else ("WHERE size=?", (size,))
        query = f"SELECT size, at, root, signature FROM log_heads {where} ORDER BY 1 DESC LIMIT 1"
        row = self._db.execute(query, values).fetchone()
        return None if row is None else Head(*row)

    def seal(self, before: int, witness: Path, seed: Callable[[], bytes]) -> Head | None:
        """Sign what the caller's transaction added to the first `before` entries, if anything.

        LogError when those are not what was signed last: an edited, forged or rolled back log is
        neither added to nor signed.
        """
        size, last = self.size, self.head()
        if size == before:
            return None
        key = private_key(seed())
        if last is None:
            intact = before == 0
        else:
            intact = last.size == before and last.valid(key.public_key())
            intact = intact and self.root(before) == last.root
        seen = newest(witness)
        if not intact or seen > before:
            raise LogError("the log is not as it was signed last: nothing is added; `log verify`")
        head = Head(size, int(self._clock() * 1000), self.root(size), b"")
        head = head._replace(signature=key.sign(head.signed))
        self._db.execute("INSERT INTO log_heads VALUES(?,?,?,?)", head)
        return head
