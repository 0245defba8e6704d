"""The open vault: who is in it, and their readings. What it hands out is raw: the gateway alone
calls it, after the policy.

A batch is written in three steps: announced in the catalogue, put in the usage store, made the
present one in the catalogue. After a crash the usage store's mark says whether the second was done.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np
from cryptography.exceptions import InvalidTag

from wattveil.privacy import people
from wattveil.privacy.contracts import Block, Json, Segment
from wattveil.privacy.refusals import Refused
from wattveil.privacy.state import State
from wattveil.privacy.vault.catalogue import CHANGE, Catalogue, day_range
from wattveil.privacy.vault.identities import Identities, Meter, pseudonym_of
from wattveil.privacy.vault.keys import KEPT, KeyRing
from wattveil.privacy.vault.seal import ABSENT, DAY_S, PSEUDONYM_BYTES, Plain, seal, unseal
from wattveil.privacy.vault.usage import UsageStore, open_usage
from wattveil.store import StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK_READINGS = 300_000  # of one block: what a processor's cache holds
_BLOCK_MEMBERS = 1000
_TRIES, _AGAIN_S = 40, 0.05  # to find a day that is being written while we read


class VaultDamaged(RuntimeError):
    """The usage store is not what the catalogue says: rows are missing, changed, swapped or old."""


class Vault:
    """A vault that `create` made; one object for one thread."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.catalogue = Catalogue(state)
        if not self.catalogue.epochs():
            raise StoreError(f"{state.path} holds no vault: make one with `wattveil vault init`")
        self.interval_s = self.catalogue.value("interval")
        if self.interval_s != state.config.interval_s:
            raise ValueError(
                f"config.toml says interval_s = {state.config.interval_s}, the vault was made "
                f"with {self.interval_s}: readings cannot be cut anew"
            )
        self.per_day = DAY_S // self.interval_s
        self.keys = KeyRing(state)
        self._usage: UsageStore | None = None
        self._identities: Identities | None = None

    @classmethod
    def create(cls, state: State) -> Vault:
        """An empty vault, or the one that is there."""
        catalogue = Catalogue(state)
        with state.transaction() as db:
            if not catalogue.epochs():
                catalogue.put("kek", 1)
                catalogue.put("interval", state.config.interval_s)
                check = key_check(state.key(epoch_key(1)))
                db.execute("INSERT INTO vault_epochs VALUES(1, 0, ?)", (check,))
                KeyRing(state).draw(db, KEPT)
                state.log().append(
                    "vault",
                    {
                        "event": "made",
                        "interval_s": state.config.interval_s,
                        "person": people.CONSOLE,
                    },
                )
        vault = cls(state)
        _ = vault.usage, vault.identities  # opened once, so that a wrong URL or key shows now
        return vault

    @property
    def usage(self) -> UsageStore:
        """The sealed rows."""
        if self._usage is None:
            self._usage = open_usage(self.state.config.stores.vault, self.state.path)
        return self._usage

    @property
    def identities(self) -> Identities:
        """Who is who."""
        if self._identities is None:
            key = self.state.key("identities")
            self._identities = Identities(self.state.path / "identities.db", key)
        return self._identities

    def close(self) -> None:
        """Give the connections back; they are opened again when needed."""
        for store in (self._usage, self._identities):
            if store is not None:
                store.close()
        self._usage = self._identities = None

    # Reading: the gateway's contract

    def members(self, segment: Segment, start: int, end: int) -> list[str]:
        """Pseudonyms of a segment's meters, sorted. Refused("epoch_boundary", "no_data")."""
        first, last = day_range(start, end, self.interval_s)
        epoch = self.catalogue.epoch_of(first, last)
        found = self.catalogue.members(epoch, dict(segment))
        if not self.catalogue.days(first, last):
            if first < self.catalogue.value("horizon"):
                kept = "what was kept: `wattveil anonymise FILE --method kept`"
                raise Refused("no_data", f"the readings were deleted after their time; {kept}")
            days = self.catalogue.days()
            there = f"of {_date(days[0][0])} to {_date(days[-1][0])}" if days else "none"
            raise Refused("no_data", f"the vault's readings are {there}")
        return [pseudonym.hex() for pseudonym in found]

    def blocks(self, pseudonyms: Sequence[str], start: int, end: int) -> Iterator[Block]:
        """Their readings in [start, end) UTC s, about 30 MB at a time. Refused, VaultDamaged."""
        first, last = day_range(start, end, self.interval_s)
        epoch = self.catalogue.epoch_of(first, last)
        a, b = ((t - first * DAY_S) // self.interval_s for t in (start, end))
        size = max(1, min(_BLOCK_MEMBERS, _BLOCK_READINGS // ((last - first) * self.per_day)))
        for at in range(0, len(pseudonyms), size):
            part = pseudonyms[at : at + size]
            sealed = self.days([as_bytes(p) for p in part], epoch, first, last)[:, a:b]
            present = sealed != ABSENT
            wh = sealed.astype(np.int64)
            wh *= present
            yield Block(part, wh, present)

    def meter_ids(self, pseudonyms: Sequence[str]) -> list[str]:
        """Whose they are, in this order; KeyError for one that is nobody's."""
        owners = self.identities.owners([as_bytes(p) for p in pseudonyms])
        return [owners[as_bytes(p)][0] for p in pseudonyms]

    def pseudonyms_of(self, meter: str) -> dict[int, str]:
        """A meter's pseudonyms by epoch; none for a meter that is not in the vault."""
        return {epoch: p.hex() for epoch, p in self.identities.pseudonyms(meter).items()}

    def written(self) -> int:
        """Number of the newest batch of readings."""
        return self.catalogue.written()

    def revisions(self, pseudonyms: Sequence[str], start: int, end: int) -> NDArray[np.uint32]:
        """[pseudonym, UTC day]: number of the batch that changed it last; 0 where there is none."""
        first, last = day_range(start, end, self.interval_s)
        return self.catalogue.versions([as_bytes(p) for p in pseudonyms], first, last)

    def days(
        self, pseudonyms: Sequence[bytes], epoch: int, first: int, last: int
    ) -> NDArray[np.uint32]:
        """[pseudonym, interval of the UTC days [first, last)], ABSENT where there is none."""
        width = last - first
        versions = self.catalogue.versions(pseudonyms, first, last).ravel().tolist()
        parts = [np.full(self.per_day, ABSENT, "<u4").tobytes()] * len(versions)
        base = {pseudonym: i * width - first for i, pseudonym in enumerate(pseudonyms)}
        ciphers = self.keys.ciphers()
        for row in self.usage.read(pseudonyms, first, last):
            at = base[row[0]] + row[1]
            if versions[at]:
                try:  # most of a query's time: `suppress` would be felt
                    parts[at] = unseal(row, epoch, versions[at], ciphers)
                except (InvalidTag, KeyError):
                    continue
                versions[at] = 0
        for at, version in enumerate(versions):
            if version:
                found = self._again(pseudonyms[at // width], epoch, first + at % width)
                parts[at] = found or parts[at]
        return np.frombuffer(b"".join(parts), "<u4").reshape(len(pseudonyms), -1)

    def _again(self, pseudonym: bytes, epoch: int, day: int) -> bytes | None:
        """A day that did not open: somebody may be writing or deleting it. VaultDamaged."""
        for _ in range(_TRIES):
            begun = self.catalogue.pending()
            version = int(self.catalogue.versions([pseudonym], day, day + 1)[0, 0])
            if not version:
                return None
            possible = {version}
            if begun is not None:
                possible.add(begun[0])
            for row in self.usage.read([pseudonym], day, day + 1):
                for number in possible:
                    with suppress(InvalidTag, KeyError):
                        return unseal(row, epoch, number, self.keys.ciphers())
            time.sleep(_AGAIN_S)
        raise VaultDamaged(
            f"the usage store does not hold what it was given for {np.datetime64(day, 'D')}: rows "
            "were changed, swapped, deleted or put back. Restore it, and see `wattveil log verify`"
        )

    # Writing: one process at a time

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the vault's lock, and finish or undo what a crash left; StoreError if it is held."""
        lock = os.open(
            self.state.path / "vault.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600
        )
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise StoreError("another process is writing to the vault: wait for it") from None
            self._recover()
            yield
        finally:
            os.close(lock)

    def _recover(self) -> None:
        begun = self.catalogue.pending()
        if begun is not None:
            done = self.usage.mark() == begun[0]
            with self.state.transaction():
                self.catalogue.end() if done else self.catalogue.drop_pending()
        self.keys.remove_old_files()
        self.finish_deleting()

    def finish_deleting(self) -> None:
        """Delete the rows that a retention run has given up; again after a crash."""
        day = self.catalogue.value("deleting")
        if day:
            self.usage.drop_before(day)
            with self.state.transaction():
                self.catalogue.put("deleting", 0)

    def put(
        self,
        rows: Sequence[Plain],
        added: NDArray[np.int64],
        fresh: NDArray[np.bool_],
        mark: bytes,
        line: int,
    ) -> None:
        """Write days, whose version is the catalogue's `next_batch`.

        added: readings each has that it had not; fresh: whether there was no such day. mark, line:
        how far the source is then.
        """
        changes = np.empty(len(rows), CHANGE)
        changes["pseudonym"] = [np.void(row.pseudonym) for row in rows]
        changes["day"] = [row.day for row in rows]
        changes["added"], changes["fresh"] = added, fresh
        sealed = sorted(seal(rows, self.keys.ciphers()))  # the order of arrival tells who is who
        with self.state.transaction():
            batch = self.catalogue.begin(changes, mark, line)
        self.usage.write(sealed, batch)
        with self.state.transaction():
            self.catalogue.end()

    def register(self, meters: Mapping[str, Meter | None], epoch: int) -> dict[str, bytes]:
        """Pseudonyms in an epoch of these meters (None: nothing is known of it), taken in if new."""
        key = self.epoch_key(epoch)
        names = {meter: pseudonym_of(key, meter) for meter in meters}
        there = self.catalogue.joined(epoch, list(names.values()))
        missing = {meter for meter, pseudonym in names.items() if pseudonym not in there}
        if missing:
            self.identities.learn((meters[m] or Meter(m) for m in missing), replace=False)
            known = self.identities.meters(sorted(missing))
            self.identities.name(epoch, {meter: names[meter] for meter in missing})
            with self.state.transaction():
                joining = ((names[meter], known[meter].segment) for meter in missing)
                self.catalogue.join(epoch, joining)
        return names

    def epoch_key(self, epoch: int) -> bytes:
        """The key of an epoch's pseudonyms; StoreError when it is not the one it was."""
        key = self.state.key(epoch_key(epoch))
        row = self.catalogue.db.execute(
            "SELECT key_check FROM vault_epochs WHERE epoch=?", (epoch,)
        ).fetchone()
        if row is None or not hmac.compare_digest(bytes(row[0]), key_check(key)):
            raise StoreError(
                f"keys/{epoch_key(epoch)}.key is not the key this epoch began with: put it back"
            )
        return key

    def stats(self) -> Json:
        """Counts and sizes; no identity, no reading."""
        catalogue = self.catalogue
        days = catalogue.days()
        epoch = catalogue.epochs()[-1][0]
        segments: dict[str, int] = {}
        for tariff, region, kind in catalogue.segments(epoch).values():
            name = f"tariff={tariff},region={region},type={kind}"
            segments[name] = segments.get(name, 0) + 1
        (kept,) = catalogue.db.execute("SELECT count(*) FROM vault_kept").fetchone()
        (keys,) = catalogue.db.execute(
            "SELECT count(*) FROM vault_keys WHERE wrapped IS NOT NULL"
        ).fetchone()
        return {
            "interval_s": self.interval_s,
            "meters": sum(segments.values()),
            "segments": dict(sorted(segments.items())),
            "readings": sum(row[2] for row in days),
            "meter_days": sum(row[1] for row in days),
            "first_day": _date(days[0][0]) if days else None,
            "last_day": _date(days[-1][0]) if days else None,
            "epochs": [{"epoch": e, "from": _date(d)} for e, d in catalogue.epochs()],
            "kept_aggregates": kept,
            "data_keys": keys,
            "key_encryption_key": catalogue.value("kek"),
            "usage_bytes": self.usage.size(),
        }


def _date(day: int) -> str:
    return str(np.datetime64(day, "D"))


def as_bytes(pseudonym: str) -> bytes:
    """The bytes of a pseudonym; ValueError."""
    try:
        raw = bytes.fromhex(pseudonym)
    except ValueError:
        raw = b""
    if len(raw) != PSEUDONYM_BYTES:
        raise ValueError(f"a pseudonym has {2 * PSEUDONYM_BYTES} hexadecimal digits")
    return raw


def epoch_key(epoch: int) -> str:
    """Name of the key file of an epoch's pseudonyms."""
    return f"pseudonyms-{epoch}"


def key_check(key: bytes) -> bytes:
    """What tells whether a key is the same, and nothing else of it."""
    return hmac.digest(key, b"wattveil key check 1", "sha256")[:16]
