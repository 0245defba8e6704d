"""Who is who: meter ids, customers and their pseudonyms, in SQLCipher under a key of its own.

A pseudonym is the first 128 bits of HMAC-SHA-256 of the meter id under the epoch's key. No table
keeps the order in which rows came: it would tie the pseudonyms of two epochs together.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from wattveil.privacy.vault.database import connect, transaction
from wattveil.privacy.vault.seal import PSEUDONYM_BYTES
from wattveil.store import StoreError

SEGMENTS = ("tariff", "region", "type")
_AT_ONCE = 500
_TABLES = """
CREATE TABLE IF NOT EXISTS meters(
    meter TEXT PRIMARY KEY, customer TEXT NOT NULL, tariff TEXT NOT NULL, region TEXT NOT NULL,
    type TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pseudonyms(
    pseudonym BLOB PRIMARY KEY, epoch INTEGER NOT NULL, meter TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS of_meter ON pseudonyms(meter, epoch);
"""


class Meter(NamedTuple):
    """What is known of a meter besides its readings."""

    meter: str
    customer: str = ""
    tariff: str = ""
    region: str = ""
    type: str = ""

    @property
    def segment(self) -> tuple[str, str, str]:
        """The public part."""
        return self.tariff, self.region, self.type


def pseudonym_of(key: bytes, meter: str) -> bytes:
    """A meter's pseudonym in the epoch of this key."""
    return hmac.digest(key, b"wattveil pseudonym 1|" + meter.encode(), "sha256")[:PSEUDONYM_BYTES]


class Identities:
    """The open identity store."""

    def __init__(self, path: Path, key: bytes) -> None:
        try:
            from sqlcipher3 import dbapi2
        except ImportError as error:
            raise StoreError(
                f"the vault needs wattveil[privacy]: pip install 'wattveil[privacy]' ({error})"
            ) from None
        self._error: type[Exception] = dbapi2.Error
        try:
            self._db: Any = connect(dbapi2, path, _TABLES, f"key = \"x'{key.hex()}'\"")
        except OSError as error:
            raise StoreError(f"the identity store {path} cannot be opened: {error}") from None
        except dbapi2.Error:
            raise StoreError(
                f"the identity store {path} cannot be read: it is damaged, or "
                "keys/identities.key is not its key"
            ) from None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with transaction(self._db):
                yield
        except self._error as error:
            raise StoreError(f"the identity store failed: {type(error).__name__}") from None

    def learn(self, meters: Iterable[Meter], *, replace: bool) -> None:
        """Take meters in; what is known of one already stays unless `replace`."""
        clash = (
            "DO UPDATE SET customer=excluded.customer, tariff=excluded.tariff, "
            "region=excluded.region, type=excluded.type"
            if replace
            else "DO NOTHING"
        )
        with self._transaction():
            self._db.executemany(
                f"INSERT INTO meters VALUES(?,?,?,?,?) ON CONFLICT(meter) {clash}", meters
            )

    def name(self, epoch: int, pseudonyms: Mapping[str, bytes]) -> None:
        """Keep whose pseudonyms these are (meter -> pseudonym) in an epoch."""
        with self._transaction():
            self._db.executemany(
                "INSERT INTO pseudonyms VALUES(?,?,?) ON CONFLICT(pseudonym) DO NOTHING",
                ((p, epoch, meter) for meter, p in pseudonyms.items()),
            )

    def meters(self, wanted: Sequence[str] | None = None) -> dict[str, Meter]:
        """All meters, or those of these ids that are known."""
        if wanted is None:
            rows = self._db.execute("SELECT * FROM meters")
            return {row[0]: Meter(*row) for row in rows}
        found = {}
        for row in self._chunks("SELECT * FROM meters WHERE meter IN", wanted):
            found[row[0]] = Meter(*row)
        return found

    def owners(self, pseudonyms: Sequence[bytes]) -> dict[bytes, tuple[str, int]]:
        """Meter and epoch by pseudonym, of those that are known."""
        query = "SELECT pseudonym, meter, epoch FROM pseudonyms WHERE pseudonym IN"
        return {bytes(p): (meter, epoch) for p, meter, epoch in self._chunks(query, pseudonyms)}

    def pseudonyms(self, meter: str) -> dict[int, bytes]:
        """A meter's pseudonyms by epoch."""
        query = "SELECT epoch, pseudonym FROM pseudonyms WHERE meter=?"
        return {epoch: bytes(p) for epoch, p in self._db.execute(query, (meter,))}

    def _chunks(self, query: str, values: Sequence[Any]) -> Iterator[Any]:
        for at in range(0, len(values), _AT_ONCE):
            part = values[at : at + _AT_ONCE]
            yield from self._db.execute(f"{query} ({','.join('?' * len(part))})", tuple(part))

    def close(self) -> None:
        """Give the connection back."""
        self._db.close()
