"""The gateway's folder: settings, keys, and the stores of what must not be forgotten.

    config.toml   settings            keys/        one file a key, 0600
    gateway.db    people, consents, approvals, alarms, answers; the log's leaves and heads
    ledger.db     the accountant's store, or the centre's by path or URL
    usage.db, identities.db           the vault's
    witness/      signed heads of the log

Whoever can read the folder holds every key in it: it is 0700, and its owner is trusted.
"""

from __future__ import annotations

import os
import re
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from wattveil.privacy.config import DEFAULT, Config, ConfigError, load
from wattveil.privacy.subjects import FILE, Subjects
from wattveil.sealed import SealError
from wattveil.store import BaseStore, Store, open_store

if TYPE_CHECKING:
    from wattveil.privacy.log import Log
    from wattveil.privacy.vault.vault import Vault

KEY_BYTES = 32
_BUSY_S = 60.0
_KEY_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")

TABLES = """
CREATE TABLE IF NOT EXISTS people(
    role TEXT NOT NULL, name TEXT NOT NULL, hash BLOB NOT NULL, subject TEXT,
    since INTEGER NOT NULL, revoked INTEGER, PRIMARY KEY(role, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS consents(
    id INTEGER PRIMARY KEY, subject TEXT NOT NULL, purpose TEXT NOT NULL, recipient TEXT NOT NULL,
    granted INTEGER NOT NULL, at INTEGER NOT NULL, by TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS consents_of ON consents(subject, purpose, recipient, id);
CREATE TRIGGER IF NOT EXISTS consents_stay BEFORE DELETE ON consents
    BEGIN SELECT RAISE(ABORT, 'consents are never deleted'); END;
CREATE TRIGGER IF NOT EXISTS consents_unchanged BEFORE UPDATE ON consents
    BEGIN SELECT RAISE(ABORT, 'consents are never changed'); END;
CREATE TABLE IF NOT EXISTS approvals(
    id INTEGER PRIMARY KEY, action TEXT NOT NULL, body TEXT NOT NULL,
    asked_by TEXT NOT NULL, asked_at INTEGER NOT NULL,
    approved_by TEXT, approved_at INTEGER, used_at INTEGER);
CREATE TABLE IF NOT EXISTS alarms(
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, at INTEGER NOT NULL, person TEXT NOT NULL,
    body TEXT NOT NULL, seen_by TEXT, seen_at INTEGER);
CREATE TABLE IF NOT EXISTS cohorts(digest BLOB PRIMARY KEY, members BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS asked(
    id INTEGER PRIMARY KEY, charge TEXT NOT NULL, at INTEGER NOT NULL, person TEXT NOT NULL,
    technique TEXT NOT NULL, kind TEXT NOT NULL, segment TEXT NOT NULL,
    start INTEGER NOT NULL, end INTEGER NOT NULL, cohort BLOB NOT NULL, batch INTEGER NOT NULL);
"""


class State:
    """An open folder; one object serves all threads of a process."""

    def __init__(self, path: Path, config: Config) -> None:
        self.path, self.config = path, config
        self._local = threading.local()

    @classmethod
    def create(cls, path: Path, config: str = DEFAULT) -> State:
        """Make the folder with these settings; what is there already stays. ConfigError, OSError."""
        from wattveil.privacy import people

        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
        for name in ("keys", "witness"):
            (path / name).mkdir(mode=0o700, exist_ok=True)
        if not (path / "config.toml").exists():
            write_once(path / "config.toml", config.encode())
        state = cls.open(path)
        people.console(state)
        return state

    @classmethod
    def open(cls, path: Path) -> State:
        """A folder that `create` made; ConfigError."""
        if not (path / "config.toml").exists():
            raise ConfigError(
                f"{path} is no gateway's folder (it has no config.toml): make one with "
                f"`wattveil vault init --state-dir {path}`"
            )
        state = cls(path, load(path / "config.toml"))
        with state.transaction():
            pass
        return state

    def key(self, name: str) -> bytes:
        """The 32-byte key of this name; drawn when it is asked for first."""
        if not _KEY_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a key")
        path = self.path / "keys" / f"{name}.key"
        try:
            key = path.read_bytes()
        except FileNotFoundError:
            write_once(path, secrets.token_bytes(KEY_BYTES))
            key = path.read_bytes()  # ours, or that of the process that was first
        if len(key) != KEY_BYTES:
            raise ConfigError(f"{path} is damaged: a key has {KEY_BYTES} bytes")
        return key

    def gateway(self) -> sqlite3.Connection:
        """This thread's connection to gateway.db, in autocommit mode: write in `transaction`."""
        db: sqlite3.Connection | None = getattr(self._local, "db", None)
        if db is None:
            path = self.path / "gateway.db"
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            db = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_S)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.executescript(TABLES)
            self._local.db = db
        return db

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One on gateway.db that no other overlaps; undone when the block raises.

        Inside another one of this thread's it is part of that.
        """
        db = self.gateway()
        if db.in_transaction:
            yield db
            return
        from wattveil.privacy.log import Log, heads

        def seed() -> bytes:
            return self.key(heads.KEY)

        db.execute("BEGIN IMMEDIATE")
        try:
            entries = Log(db).size
            yield db
            head = Log(db).seal(entries, self.path / "witness", seed)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        if head is not None:
            heads.publish(self.path / "witness", head, seed)

    def ledger(self) -> BaseStore:
        """The accountant's store, this thread's connection; shared with whoever else uses it."""
        store: BaseStore | None = getattr(self._local, "ledger", None)
        if store is None:
            where = self.config.stores.ledger
            if "://" in where:
                store = open_store(where, shared=True)
            else:
                path = self.path / where  # an absolute path stays itself
                if not path.exists() and path.parent == self.path:
                    _make_store(path)
                store = open_store(path, shared=True)
            self._local.ledger = store
        return store

    def subjects(self) -> Subjects:
        """The accountant's names, by the ledger's key; a ledger of this folder gets one. ConfigError."""
        stores = self.config.stores
        path = self.path / stores.accountant_key
        own = "://" not in stores.ledger and (self.path / stores.ledger).parent == self.path
        if own and path.parent == self.path / "keys" and not path.exists():
            write_once(path, secrets.token_bytes(KEY_BYTES))
        try:
            return Subjects.read(path)
        except FileNotFoundError:
            raise ConfigError(
                f"{path} is missing: bring the key that the names in the ledger {stores.ledger} are "
                f"made with; a control centre has it as {FILE} in its folder"
            ) from None
        except (OSError, ValueError, SealError) as error:
            raise ConfigError(str(error)) from None

    def vault(self) -> Vault:
        """The vault, this thread's connections."""
        from wattveil.privacy.vault.vault import Vault

        vault: Vault | None = getattr(self._local, "vault", None)
        if vault is None:
            vault = self._local.vault = Vault(self)
        return vault

    def log(self) -> Log:
        """The log, on this thread's connection."""
        from wattveil.privacy.log import Log

        return Log(self.gateway())

    def close(self) -> None:
        """Give this thread's connections back."""
        for name in ("vault", "db", "ledger"):
            held = self._local.__dict__.pop(name, None)
            if held is not None:
                held.close()


def _make_store(path: Path) -> None:
    """A new ledger, whole under its name at once: another process may be making it, too."""
    new = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    Store(new, private_folder=False).close()
    with suppress(FileExistsError):
        os.link(new, path)
    for suffix in ("", ".lock", "-wal", "-shm"):
        Path(f"{new}{suffix}").unlink(missing_ok=True)


def write_once(path: Path, content: bytes) -> bool:
    """Make a file 0600, durably, whole or not at all; False if it is there already."""
    new = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(new, path)
    except FileExistsError:
        return False
    finally:
        new.unlink()
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return True
