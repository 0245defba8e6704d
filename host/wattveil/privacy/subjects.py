"""The accountant's names of households: HMAC of the meter id, under a key that it alone holds.

The control centre charges its periods and the gateway its answers to one ledger, under one key (a
file of 32 bytes, mode 0600, `accountant.key` in the centre's folder). It is never rotated: a
household's name is its account, and another name would be another budget. So the ledger keeps the
key's check value, and refuses charges that were named with another key.

The log has names of its own, made from the ledger's under another label of the same key: who holds
the log alone can neither make them nor look them up in a ledger.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from wattveil import sealed

FILE = "accountant.key"
KEY_BYTES = 32
NAME_BYTES = 16  # of a name; two of 2^40 households share one with chance below 2^-48
_NAME, _LOGGED, _CHECK = (
    f"wattveil accountant {label} 1\0".encode() for label in ("name", "logged", "check")
)


@dataclass(frozen=True)
class Subjects:
    """Names under one key. ValueError for a key that is none."""

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES:
            raise ValueError(f"the accountant's key has {KEY_BYTES} bytes")

    @classmethod
    def read(cls, path: Path) -> Subjects:
        """From the key's file, sealed or not; ValueError, OSError, SealError."""
        if path.stat().st_mode & 0o077:
            raise ValueError(f"{path}: open to other users; chmod 600")
        try:
            return cls(sealed.read(path))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def name(self, meter_id: str) -> str:
        """The ledger's name of a meter."""
        return self._digest(_NAME + meter_id.encode())

    def names(self, meter_ids: Iterable[str]) -> tuple[str, ...]:
        """Those of several, in this order."""
        return tuple(self.name(meter_id) for meter_id in meter_ids)

    def logged(self, name: str) -> str:
        """The log's name of whom the ledger calls `name`."""
        return self._digest(_LOGGED + name.encode())

    @property
    def check(self) -> bytes:
        """What tells this key from others, and tells nothing else."""
        return hmac.digest(self.key, _CHECK, "sha256")[:NAME_BYTES]

    def _digest(self, message: bytes) -> str:
        return hmac.digest(self.key, message, "sha256")[:NAME_BYTES].hex()
