"""Signed tree heads, and the witness folder that keeps copies of them.

    heads.jsonl   one head a line, as they were committed     log.pub   the log's key, hexadecimal

Copy or mount the folder where nobody of the gateway's can change what is there: a witness is worth
what its distance is.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from wattveil.privacy.log.merkle import HASH_BYTES

KEY = "log-signing"  # State.key: the Ed25519 seed
HEADS, PUBLIC = "heads.jsonl", "log.pub"
LINE_BYTES = 512  # more than a head has
_TREE_HEAD = struct.Struct(">BBQQ32s")


class LogError(ValueError):
    """The log cannot be read or added to; the message says what to do."""


class Head(NamedTuple):
    """A signed tree head. at: ms since 1970, UTC. Signed: RFC 6962 section 3.5, with Ed25519."""

    size: int
    at: int
    root: bytes
    signature: bytes

    @property
    def signed(self) -> bytes:
        """TreeHeadSignature: version v1, type tree_hash, timestamp, tree size, root."""
        return _TREE_HEAD.pack(0, 1, self.at, self.size, self.root)

    def valid(self, key: Ed25519PublicKey) -> bool:
        """Whether the holder of the log's key signed it."""
        try:
            key.verify(self.signature, self.signed)
        except (InvalidSignature, ValueError):
            return False
        return True

    def fields(self) -> dict[str, int | str]:
        """As JSON has it."""
        return {
            "size": self.size,
            "at": self.at,
            "root": self.root.hex(),
            "signature": self.signature.hex(),
        }

    @classmethod
    def parse(cls, text: str | bytes) -> Head:
        """One line of a witness; ValueError."""
        found: object = json.loads(text)
        if not isinstance(found, dict) or set(found) != set(cls._fields):
            raise ValueError("no signed head")
        size, at = found["size"], found["at"]
        if type(size) is not int or type(at) is not int or size < 1 or not 0 <= at < 2**63:
            raise ValueError("no signed head")
        if not isinstance(found["root"], str) or not isinstance(found["signature"], str):
            raise ValueError("no signed head")
        head = cls(size, at, bytes.fromhex(found["root"]), bytes.fromhex(found["signature"]))
        if len(head.root) != HASH_BYTES or len(head.signature) != 64:
            raise ValueError("no signed head")
        return head


def private_key(seed: bytes) -> Ed25519PrivateKey:
    """The log's signing key from its 32 bytes."""
    return Ed25519PrivateKey.from_private_bytes(seed)


def canonical(value: object) -> str:
    """JSON with sorted names, no spaces, ASCII only; TypeError, ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def publish(folder: Path, head: Head, seed: Callable[[], bytes]) -> None:
    """Add a committed head to the witness."""
    path = folder / HEADS
    flags = os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        end = file.seek(0, os.SEEK_END)
        if end == 0:
            public = private_key(seed()).public_key().public_bytes_raw()
            (folder / PUBLIC).write_text(public.hex() + "\n")
        else:
            file.seek(max(0, end - LINE_BYTES))
            torn = len(file.read().rpartition(b"\n")[2])  # by a crash: was never a whole head
            if torn:
                file.truncate(end - torn)
        file.write(canonical(head.fields()).encode() + b"\n")
        os.fsync(file.fileno())


def witnessed(folder: Path) -> Iterator[Head]:
    """All heads of a witness, in the order they came; LogError for a line that is none."""
    try:
        with (folder / HEADS).open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return  # torn by a crash, see `publish`
                try:
                    yield Head.parse(line)
                except ValueError:
                    raise LogError(f"witness: line {number} of {HEADS} is no head") from None
    except FileNotFoundError:
        return


def newest(folder: Path) -> int:
    """The size of the last head in a witness, 0 without one; LogError."""
    try:
        with (folder / HEADS).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 2 * LINE_BYTES))
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return 0
    if not lines:
        return 0
    try:
        return Head.parse(lines[-1]).size
    except ValueError:
        raise LogError(f"witness: the last line of {HEADS} is no head") from None


def public_key(folder: Path) -> Ed25519PublicKey:
    """The key that a witness holds; LogError."""
    try:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex((folder / PUBLIC).read_text()))
    except (OSError, ValueError):
        raise LogError(f"witness: {PUBLIC} is missing or no Ed25519 key") from None
