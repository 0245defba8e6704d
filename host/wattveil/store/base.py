"""A role's durable state: one generic table of bytes, because only the roles understand them.

What the stores of all databases have in common: rows (kind, key) -> bytes, transactions that may
decide by what they read, and the count of starts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple, Protocol, Self

BOOTS = 1 << 32
RESTORED = 1 << 16  # boots skipped after a backup is put back; more than any backup can miss

Synchronous = Literal["FULL", "NORMAL"]


class Change(Protocol):
    """One row to write, or to remove when `value` is None (the roles' Save and Drop)."""

    @property
    def kind(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def value(self) -> bytes | None: ...


class Row(NamedTuple):
    """A change."""

    kind: str
    key: str
    value: bytes | None


_ZERO = Row("", "", b"")


class StoreError(Exception):
    """The store cannot be used; the message says why and what to do."""


class BaseStore(ABC):
    """Rows (kind, key) -> bytes, written in transactions."""

    name: str  # for messages; no password in it

    def _outdated(self, version: int, known: int, brings: bool) -> bool:
        """Whether a store of this schema version is to be brought up to the one we know.

        brings: it is ours to change, as nobody else has it open. StoreError where it cannot be.
        """
        if version > known:
            raise StoreError(
                f"{self.name} has schema version {version}, this wattveil knows {known}: use the "
                "newer wattveil that wrote it, or restore a back-up made before the update"
            )
        if version < known and not brings:
            raise StoreError(
                f"{self.name} has schema version {version}, this wattveil {known}: start its role "
                "with this wattveil first, which brings the store up to date"
            )
        return version < known

    @abstractmethod
    def _transaction(self, durable: bool) -> AbstractContextManager[None]:
        """One that no other process's overlaps. durable: on disk whatever the policy is."""

    @abstractmethod
    def _write(
        self, rows: Iterable[tuple[str, str, bytes]], gone: Iterable[tuple[str, str]]
    ) -> None:
        """Put and remove rows, inside a transaction."""

    @abstractmethod
    def load(self, kind: str) -> Mapping[str, bytes]:
        """All rows of one kind, by key."""

    @abstractmethod
    def get(self, kind: str, key: str) -> bytes | None:
        """One row."""

    @abstractmethod
    def snapshot(self) -> list[tuple[str, str, bytes]]:
        """All rows (kind, key, value) as they are at one moment."""

    @abstractmethod
    def close(self) -> None:
        """Give the database and its lock back; closing twice is fine."""

    def apply(self, changes: Iterable[Change]) -> None:
        """Carry out all changes in one transaction, or none of them."""
        self.transact(lambda rows: changes)

    def transact(self, decide: Callable[[Self], Iterable[Change]], durable: bool = False) -> None:
        """Carry out the changes `decide` returns for what it reads here, in one transaction.

        Nobody else's transaction comes between reading and writing. Nothing is written when
        `decide` raises.
        """
        with self._transaction(durable):
            last = {(change.kind, change.key): change.value for change in decide(self)}
            gone = [at for at, value in last.items() if value is None]
            self._write([(*at, v) for at, v in last.items() if v is not None], gone)

    def boot(self) -> int:
        """Count one more start, durably; no frame may be sent before this returned."""
        # Workers that are one role count frames on from where the others are, past a boot's last.
        sealed = int.from_bytes(self.get("sealed", "") or b"", "little") >> 32
        return self._advance(lambda boot: max(boot, sealed) + 1, [])

    def fresh(self) -> bool:
        """No role has ever started on this store."""
        return self.get("boot", "") is None

    def restored(self, floor: int, now: int, rows: Iterable[Row] = ()) -> int:
        """Put a back-up's rows in, or none into a store that is new while its role is not.

        `now`: UTC s. Returns a boot that no lost start can have used, as long as starts are more
        than a minute apart in the mean. The row "floor" tells a role to refuse every period that
        starts up to `floor`, because what it did since the backup is forgotten.
        """
        put = {(row.kind, row.key): row for row in rows}
        floor = max(floor, int.from_bytes(put.pop(("floor", ""), _ZERO).value or b"", "little"))
        last = int.from_bytes(put.pop(("boot", ""), _ZERO).value or b"", "little")
        row = Row("floor", "", floor.to_bytes(8, "little"))

        def step(boot: int) -> int:
            return max(boot + RESTORED, last + RESTORED, now // 60)

        return self._advance(step, [*put.values(), row])

    def _advance(self, step: Callable[[int], int], changes: list[Row]) -> int:
        boot = 0

        def decide(rows: Self) -> list[Row]:
            nonlocal boot
            boot = step(int.from_bytes(rows.get("boot", "") or b"", "little"))
            if boot >= BOOTS:
                raise StoreError(f"{self.name} has used up its {BOOTS} starts: provision anew")
            return [*changes, Row("boot", "", boot.to_bytes(4, "little"))]

        # Durable: a boot number used twice would use a cipher nonce twice.
        self.transact(decide, durable=True)
        return boot

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
