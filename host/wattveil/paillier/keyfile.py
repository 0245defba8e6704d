"""Key files: versioned JSON, numbers in hexadecimal, written whole or not at all.

A private key file has mode 0600 and is refused when anyone but its owner may read or write it.
Errors never quote the contents.
"""

import json
import os
import secrets
import stat
from pathlib import Path

from gmpy2 import mpz

from wattveil import sealed
from wattveil.paillier.keys import InvalidKey, PrivateKey, PublicKey

VERSION = 1
PRIVATE = "wattveil private key"
PUBLIC = "wattveil public key"
MAX_BYTES = 65_536

StrPath = str | os.PathLike[str]


class InsecureKeyFile(PermissionError):
    """A private key file that others than its owner may read or write."""


def save_private(key: PrivateKey, path: StrPath, *, overwrite: bool = False) -> None:
    """Write a private key with mode 0600; FileExistsError unless `overwrite`, OSError."""
    record = _public_record(key.public)
    record |= {"format": PRIVATE, "p": f"{key.p:x}", "q": f"{key.q:x}"}
    _write(Path(path), record, 0o600, overwrite)


def load_private(path: StrPath) -> PrivateKey:
    """Read a private key and verify it: safe primes, product, size, fingerprint.

    InsecureKeyFile when group or others have any access (on POSIX systems), InvalidKey for wrong
    contents, OSError, SealError.
    """
    record = _read(Path(path), PRIVATE, private=True)
    key = PrivateKey(_number(record, "p"), _number(record, "q"))
    _check_public(key.public, record)
    key.verify()
    return key


def save_public(key: PublicKey, path: StrPath, *, overwrite: bool = False) -> None:
    """Write a public key with mode 0644; FileExistsError unless `overwrite`, OSError."""
    _write(Path(path), _public_record(key), 0o644, overwrite)


def load_public(path: StrPath) -> PublicKey:
    """Read a public key; InvalidKey when size or fingerprint do not fit the modulus, OSError.

    The fingerprint in the file guards against damage only: compare it with one you trust.
    """
    record = _read(Path(path), PUBLIC, private=False)
    key = PublicKey(_number(record, "n"))
    _check_public(key, record)
    return key


def _public_record(key: PublicKey) -> dict[str, str | int]:
    return {
        "format": PUBLIC,
        "version": VERSION,
        "bits": key.bits,
        "fingerprint": key.fingerprint.hex(),
        "n": f"{key.n:x}",
    }


def _check_public(key: PublicKey, record: dict[str, object]) -> None:
    """InvalidKey unless n, bits and fingerprint in the file are those of `key`."""
    for name, value in _public_record(key).items():
        if name not in ("format", "version") and record[name] != value:
            raise InvalidKey(f'the key file contradicts itself: "{name}" does not fit')


def _number(record: dict[str, object], name: str) -> mpz:
    """A positive number from its shortest lower-case hexadecimal form; InvalidKey."""
    text = record[name]
    if (
        not isinstance(text, str)
        or not text
        or text[0] == "0"
        or set(text) - set("0123456789abcdef")
    ):
        raise InvalidKey(f'the key file\'s "{name}" is not a hexadecimal number')
    return mpz(text, 16)


def _read(path: Path, kind: str, private: bool) -> dict[str, object]:
    """The JSON object of a key file of the given kind and this version; exactly its fields."""
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if private and os.name == "posix" and stat.S_IMODE(mode) & 0o077:
            raise InsecureKeyFile(
                f"{path}: private key open to other users (mode {stat.S_IMODE(mode):04o});"
                f" if nobody else has read it, run: chmod 600 '{path}'"
            )
        data = file.read(MAX_BYTES + 1)
    if private and sealed.is_sealed(data):
        data = sealed.unseal(data, path.name, sealed.passphrase())
    try:
        record = json.loads(data) if len(data) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or record.get("format") not in (PRIVATE, PUBLIC):
        raise InvalidKey(f"{path}: not a wattveil key file") from None
    if record["format"] != kind:
        raise InvalidKey(f"{path}: holds a {record['format']}, expected a {kind}")
    if record.get("version") != VERSION:
        raise InvalidKey(f"{path}: key file version unknown to this wattveil (it reads {VERSION})")
    fields = {"format", "version", "bits", "fingerprint", "n"} | ({"p", "q"} if private else set())
    if set(record) != fields:
        raise InvalidKey(f"{path}: key file fields missing or unknown")
    return record


def _write(path: Path, record: dict[str, str | int], mode: int, overwrite: bool) -> None:
    """Write through a new temporary file beside `path`, synced to disk, then renamed."""
    if not overwrite and os.path.lexists(path):
        raise FileExistsError(f"{path}: exists already; move it away or choose another name")
    data = (json.dumps(record, indent=1) + "\n").encode()
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            os.chmod(temporary, mode)  # the umask may have taken bits away
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
