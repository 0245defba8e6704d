"""Envelope keys: one data key for each month of readings, wrapped by the key-encryption key.

The wrapped data keys are in the catalogue, the key-encryption key is a file. A new one takes one
transaction (all data keys are wrapped anew) and then the old file is gone: done or not begun.
Destroying a month's data key destroys its readings in every copy of the usage store.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import struct
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wattveil.privacy.state import State
from wattveil.privacy.vault.seal import NONCE_BYTES
from wattveil.store import StoreError

KEPT = -1  # the month of the key that seals kept aggregates
_BOUND = struct.Struct("<18sIi")
_LABEL = b"wattveil data key "


def kek_name(number: int) -> str:
    """Name of the file of a key-encryption key."""
    return f"vault-kek-{number}"


class KeyRing:
    """The data keys of a vault, as ciphers by id."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._known: dict[int, AESGCM] = {}
        self._seen: list[tuple[int, int, bytes | None]] = []
        self._newest: dict[int, int] = {}

    def ciphers(self) -> Mapping[int, AESGCM]:
        """By key id; destroyed keys are not there. StoreError when the file's key is another."""
        db = self._state.gateway()
        rows = db.execute("SELECT id, kek, wrapped FROM vault_keys ORDER BY id").fetchall()
        if rows != self._seen:
            months = dict(db.execute("SELECT id, month FROM vault_keys"))
            self._known = {
                number: AESGCM(self._unwrap(number, months[number], kek, wrapped))
                for number, kek, wrapped in rows
                if wrapped is not None
            }
            self._seen = rows
        return self._known

    def newest(self, month: int) -> int:
        """Id of the key to seal a month's rows with; drawn when there is none."""
        with self._state.transaction() as db:
            row = db.execute(
                "SELECT max(id) FROM vault_keys WHERE month=? AND wrapped IS NOT NULL", (month,)
            ).fetchone()
            return int(row[0]) if row[0] is not None else self.draw(db, month)

    def draw(self, db: sqlite3.Connection, month: int) -> int:
        """A new data key for a month; its id."""
        kek = current_kek(db)
        row = db.execute("SELECT coalesce(max(id), 0) + 1 FROM vault_keys").fetchone()
        number = int(row[0])
        wrapped = self._wrap(number, month, kek, secrets.token_bytes(32))
        db.execute("INSERT INTO vault_keys VALUES(?,?,?,?)", (number, month, kek, wrapped))
        return number

    def _wrap(self, number: int, month: int, kek: int, key: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        bound = _BOUND.pack(_LABEL, number, month)
        return nonce + AESGCM(self._state.key(kek_name(kek))).encrypt(nonce, key, bound)

    def _unwrap(self, number: int, month: int, kek: int, wrapped: bytes) -> bytes:
        bound = _BOUND.pack(_LABEL, number, month)
        try:
            cipher = AESGCM(self._state.key(kek_name(kek)))
            return cipher.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], bound)
        except InvalidTag:
            raise StoreError(
                f"keys/{kek_name(kek)}.key does not open the vault's data keys: put the right "
                "file back; without it the readings are lost"
            ) from None

    def rewrap(self, db: sqlite3.Connection, kek: int) -> int:
        """Wrap all data keys anew, in the caller's transaction; how many."""
        rows = db.execute(
            "SELECT id, month, kek, wrapped FROM vault_keys WHERE wrapped IS NOT NULL"
        ).fetchall()
        for number, month, old, wrapped in rows:
            key = self._unwrap(number, month, old, wrapped)
            new = self._wrap(number, month, kek, key)
            db.execute("UPDATE vault_keys SET kek=?, wrapped=? WHERE id=?", (kek, new, number))
        db.execute("UPDATE vault SET value=? WHERE name='kek'", (kek,))
        return len(rows)

    def remove_old_files(self) -> None:
        """Delete the files of key-encryption keys that wrap nothing any more."""
        current = current_kek(self._state.gateway())
        for number in range(1, current):
            path = self._state.path / "keys" / f"{kek_name(number)}.key"
            path.unlink(missing_ok=True)


def current_kek(db: sqlite3.Connection) -> int:
    """Number of the key-encryption key in use."""
    return int(db.execute("SELECT value FROM vault WHERE name='kek'").fetchone()[0])
