"""What a role asks its runner to do, in this order and no other.

A runner carries effects out one after the other: everything before an effect has happened, and
every `Save` and `Drop` before it is on disk, when that effect happens. That is how "stored before
it is sent" and "in the ledger before it is decrypted" are written down in a role.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from wattveil.privacy.ledger import Charge, Limits


@dataclass(frozen=True, slots=True)
class Save:
    """Write one row, replacing what stood under the same kind and key."""

    kind: str
    key: str
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Drop:
    """Remove one row; nothing happens when there is none."""

    kind: str
    key: str

    @property
    def value(self) -> None:
        """No value: how a store tells a Drop from a Save."""
        return None


@dataclass(frozen=True, slots=True)
class Send:
    """Give one frame to a link; frames may get lost, roles repeat what matters."""

    peer: str
    frame: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Again:
    """Once all before is on disk, call `role.resume(event)` and carry out what it returns."""

    event: tuple[str, int]


Change: TypeAlias = Save | Drop


@dataclass(frozen=True, slots=True)
class Debit:
    """Enter a charge in the privacy ledger and make changes, in one transaction.

    Then call `role.resume(event)`. When the charge is denied nothing is written, and the reason
    takes the place of the event's name.
    """

    charge: Charge
    limits: Limits
    changes: tuple[Change, ...]
    event: tuple[str, int]


Effect: TypeAlias = Save | Drop | Send | Again | Debit
