"""One meter's day, sealed: AES-256-GCM (NIST SP 800-38D) under the data key of its month.

Plaintext: one little-endian 32-bit count of Wh for each interval of the UTC day, ABSENT where there
is no reading, so that a row's length tells nothing. Associated data: pseudonym, day, epoch, key
and version. The version is not kept beside the row but in the catalogue: an older row of the same
day, put back, does not open.

Nonces are random, 96 bits: at most 2^32 rows a key (SP 800-38D, 8.3), and a key has a month's.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

DAY_S = 86_400
ABSENT = 0xFFFFFFFF
PSEUDONYM_BYTES = 16
NONCE_BYTES = 12

_ASSOCIATED = struct.Struct("<20s16sIIII")
_LABEL = b"wattveil vault row 1"


Row: TypeAlias = tuple[bytes, int, int, bytes]
"""As the usage store holds it: pseudonym, UTC day index, id of the data key, nonce and ciphertext."""


class Plain(NamedTuple):
    """A meter's day to seal."""

    pseudonym: bytes
    day: int
    epoch: int
    key: int
    version: int
    wh: bytes


def seal(rows: Iterable[Plain], ciphers: Mapping[int, AESGCM]) -> list[Row]:
    """Each row under its key, with a nonce of its own."""
    sealed: list[Row] = []
    for pseudonym, day, epoch, key, version, wh in rows:
        nonce = os.urandom(NONCE_BYTES)
        bound = _ASSOCIATED.pack(_LABEL, pseudonym, day, epoch, key, version)
        box = nonce + ciphers[key].encrypt(nonce, wh, bound)
        sealed.append((pseudonym, day, key, box))
    return sealed


def unseal(row: Row, epoch: int, version: int, ciphers: Mapping[int, AESGCM]) -> bytes:
    """The day's readings; InvalidTag, or KeyError for a key that is not there (any more)."""
    pseudonym, day, key, box = row
    bound = _ASSOCIATED.pack(_LABEL, pseudonym, day, epoch, key, version)
    return ciphers[key].decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], bound)
