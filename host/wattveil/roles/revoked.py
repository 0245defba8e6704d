"""Meters whose keys are no longer trusted: refused by name, and out of every later sum.

A row per meter, written by `wattveil meter revoke` beside or before a run of the role and taken up
at its next start. Each role keeps its own: none believes another about it.
"""

from __future__ import annotations

from collections.abc import Iterable

from wattveil.roles.common import Load, number_of, u64
from wattveil.roles.effects import Save
from wattveil_meter.fields import pack, unpack

KIND = "revoked"


class Revoked:
    """Numbers of revoked meters, and since when (UTC s)."""

    def __init__(self, roster: tuple[str, ...]) -> None:
        self._roster = roster
        self._since: dict[int, int] = {}

    def restore(self, load: Load) -> None:
        """Take up the stored rows; ids that are not of this roster mean nothing here."""
        rows = load(KIND)
        for number, name in enumerate(self._roster, 1):
            if name in rows:
                self._since[number] = number_of(unpack(rows[name], 2)[0])

    def __contains__(self, number: int) -> bool:
        return number in self._since

    def out(self, end: int) -> set[int]:
        """Who may not be in the sum of a period that ends at `end` (UTC s)."""
        return {number for number, since in self._since.items() if end > since}

    def names(self) -> list[str]:
        """Ids, for the status."""
        return [self._roster[number - 1] for number in sorted(self._since)]


def revoke(names: Iterable[str], roster: tuple[str, ...], now: int, reason: str) -> list[Save]:
    """The rows that revoke these meters from `now` on; ValueError for one that is not there."""
    rows = []
    for name in names:
        if name not in roster:
            raise ValueError(f"{name} is not in the roster")
        rows.append(Save(KIND, name, pack(u64(now), reason.encode())))
    return rows
