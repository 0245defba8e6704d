"""Who asks: people in roles, each with a secret of their own.

The secret is 32 random bytes, in a key file of the person's or given as a token. The store keeps
its SHA-256 only: at 256 bits of entropy a slow hash would add nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from wattveil.privacy.refusals import Refused
from wattveil.privacy.state import State, write_once

ROLES = (
    "customer",
    "billing",
    "analyst",
    "researcher",
    "vendor",
    "regulator",
    "privacy-officer",
    "operator",
)
CONSOLE = "operator:console"  # whoever works in the gateway's folder and names nobody else
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_PREFIX = "wattveil-"  # so that secret scanners and people can tell what it is


@dataclass(frozen=True)
class Person:
    """Somebody in a role. subject: the ledger's name of a customer's own meter; alias: the log's."""

    role: str
    name: str
    subject: str | None = None
    alias: str | None = None

    @classmethod
    def of(cls, state: State, role: str, name: str, subject: str | None) -> Person:
        """With the log's name of a customer."""
        alias = None if subject is None else state.subjects().logged(subject)
        return cls(role, name, subject, alias)

    def __str__(self) -> str:
        return f"{self.role}:{self.name}"

    @property
    def logged(self) -> str:
        """As the log names the person: a customer by the log's name of the meter."""
        return str(self) if self.subject is None else f"customer:{self.alias}"


def parse(text: str) -> tuple[str, str]:
    """Role and name of "ROLE:NAME"; ValueError."""
    role, colon, name = text.partition(":")
    role = role.replace("_", "-")
    if not colon or role not in ROLES or not _NAME.fullmatch(name):
        raise ValueError(
            f"{text!r} is no ROLE:NAME: roles are {', '.join(ROLES)}; a name has 1 to 64 letters, "
            "digits and . _ @ -"
        )
    return role, name


def add(state: State, who: str, subject: str | None = None) -> str:
    """Take a person in, or give one a new secret; the token, which is kept nowhere else."""
    role, name = parse(who)
    if (role == "customer") != (subject is not None):
        raise ValueError("a customer, and nobody else, has a meter of the own: --meter ID")
    token = _PREFIX + secrets.token_urlsafe(32)
    with state.transaction() as db:
        db.execute(
            "INSERT INTO people VALUES(?,?,?,?,?,NULL) ON CONFLICT(role, name) DO UPDATE SET "
            "hash=excluded.hash, subject=excluded.subject, since=excluded.since, revoked=NULL",
            (role, name, _hash(token), subject, int(time.time())),
        )
    return token


def console(state: State) -> None:
    """Take the console's operator in, with a key file in the folder, unless that was done before."""
    with state.transaction() as db:
        known = "SELECT 1 FROM people WHERE role=? AND name=?"
        if db.execute(known, parse(CONSOLE)).fetchone() is None:
            write_key_file(key_file_of(state, CONSOLE), add(state, CONSOLE))


def revoke(state: State, who: str) -> bool:
    """Withdraw a person's access; False if there was none."""
    role, name = parse(who)
    with state.transaction() as db:
        found = db.execute(
            "UPDATE people SET revoked=? WHERE role=? AND name=? AND revoked IS NULL",
            (int(time.time()), role, name),
        )
        return found.rowcount == 1


def people(state: State) -> list[dict[str, object]]:
    """Everybody, without secrets."""
    rows = state.gateway().execute("SELECT role, name, since, revoked FROM people")
    return [{"who": f"{r}:{n}", "since": since, "revoked": gone} for r, n, since, gone in rows]


def authenticate(state: State, who: str, secret: Path | str | None) -> Person:
    """The person `who`, proved by a key file (a Path) or a token; Refused, ValueError."""
    role, name = parse(who)
    token = read_key_file(secret) if isinstance(secret, Path) else (secret or "")
    query = "SELECT hash, subject, revoked FROM people WHERE role=? AND name=?"
    row = state.gateway().execute(query, (role, name)).fetchone()
    stored, subject, revoked = row or (bytes(32), None, None)
    # The unknown are compared too: time does not tell who exists.
    if not hmac.compare_digest(_hash(token), bytes(stored)) or row is None:
        raise Refused("not_authenticated", f"as {role}:{name}")
    if revoked is not None:
        raise Refused("revoked_person", f"{role}:{name}")
    return Person.of(state, role, name, subject)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def read_key_file(path: Path) -> str:
    """The token of a key file; Refused when others may read it or it is not there."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise Refused("key_file_readable_by_others", str(path))
            return file.read(256).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        hint = "give --key-file, or have a key made by `wattveil role add`"
        raise Refused("not_authenticated", f"no key file at {path}: {hint}") from None


def key_file_of(state: State, who: str) -> Path:
    """Where `role add` puts a person's key on this machine, apart from the gateway's folder; but
    the console's, which whoever can read the folder's keys is to have."""
    role, name = parse(who)
    if f"{role}:{name}" == CONSOLE:
        return state.path / "keys" / "operator-console.key"
    home = os.environ.get("WATTVEIL_KEYS") or Path.home() / ".config" / "wattveil" / "keys"
    gateway = hashlib.sha256(state.key("gateway-name")).hexdigest()[:12]
    return Path(home) / gateway / f"{role}-{name}.key"


def write_key_file(path: Path, token: str) -> None:
    """Store a token, 0600; an older one of the same name is replaced."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if not write_once(path, f"{token}\n".encode()):
        raise FileExistsError(f"{path} exists already")
