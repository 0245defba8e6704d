"""Secret files encrypted at rest: scrypt (RFC 7914) makes a key of a passphrase, AES-256-GCM seals.

A sealed file is the magic, 16 bytes of salt, 12 of nonce, and the ciphertext with its tag; the
file's name is authenticated with it, so that one cannot stand in for another. The passphrase is
the content of a file (mode 0600) that WATTVEIL_PASSPHRASE_FILE names, on another disk, a
smartcard's mount or a service manager's credentials; never an argument, never a variable's value.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

MAGIC = b"wattveil sealed 1\n"
VARIABLE = "WATTVEIL_PASSPHRASE_FILE"
SALT, NONCE = 16, 12  # bytes
COST = 1 << 15  # scrypt's N, with r = 8: 32 MB and some 0.1 s for each file
LEAST = 12  # bytes of a passphrase


class SealError(Exception):
    """A sealed file cannot be opened; the message says what to do and holds no secret."""


def is_sealed(data: bytes) -> bool:
    """Whether a file's content is sealed."""
    return data.startswith(MAGIC)


def passphrase() -> bytes:
    """The content of the file that the variable names; SealError."""
    name = os.environ.get(VARIABLE)
    if not name:
        raise SealError(f"the secrets are sealed: --key-file or {VARIABLE} names the passphrase")
    path = Path(name)
    try:
        mode, text = path.stat().st_mode, path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise SealError(f"{path}: {error.strerror}") from None
    if mode & 0o077:
        raise SealError(f"{path}: open to other users; chmod 600")
    if len(text) < LEAST:
        raise SealError(f"{path}: a passphrase of fewer than {LEAST} bytes is none")
    return text


def _cipher(secret: bytes, salt: bytes) -> AESGCM:
    return AESGCM(Scrypt(salt=salt, length=32, n=COST, r=8, p=1).derive(secret))


def seal(data: bytes, name: str, secret: bytes) -> bytes:
    """The content of a sealed file of this name."""
    salt, nonce = secrets.token_bytes(SALT), secrets.token_bytes(NONCE)
    sealed: bytes = _cipher(secret, salt).encrypt(nonce, data, MAGIC + name.encode())
    return MAGIC + salt + nonce + sealed


def unseal(data: bytes, name: str, secret: bytes) -> bytes:
    """Inverse of `seal`; SealError."""
    salt, rest = data[len(MAGIC) :][:SALT], data[len(MAGIC) + SALT :]
    if len(rest) < NONCE + 16:
        raise SealError(f"{name}: cut short")
    try:
        plain: bytes = _cipher(secret, salt).decrypt(
            rest[:NONCE], rest[NONCE:], MAGIC + name.encode()
        )
    except InvalidTag:
        raise SealError(f"{name}: another passphrase, or changed") from None
    return plain


def read(path: Path) -> bytes:
    """A secret file's content, sealed or not; OSError, SealError."""
    data = path.read_bytes()
    return unseal(data, path.name, passphrase()) if is_sealed(data) else data


def replace(
    path: Path, data: bytes, secret: bytes | None = None, like: Path | None = None
) -> None:
    """Write a file of mode 0600 in the place of another, whole or not at all.

    Sealed with `secret`, or when the one before it or the one `like` it is sealed. What the old one
    held is overwritten, as far as a file system lets anyone do that.
    """
    if secret is None and any(
        p and p.exists() and is_sealed(p.read_bytes()) for p in (path, like)
    ):
        secret = passphrase()
    if secret is not None:
        data = seal(data, path.name, secret)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    old = path.open("r+b") if path.exists() else None
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    if old is not None:
        with old:
            state = os.fstat(old.fileno())
            if not state.st_nlink:  # else it is somebody's back-up by hard link
                old.write(bytes(state.st_size))
                old.flush()
                os.fsync(old.fileno())
