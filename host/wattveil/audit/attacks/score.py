"""How an attack did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """hits: tries in which the attackers had what they wanted, exactly."""

    hits: int
    tries: int

    @classmethod
    def of(cls, outcomes: Iterable[bool]) -> Score:
        """One outcome a try."""
        each = [bool(outcome) for outcome in outcomes]
        return cls(sum(each), len(each))

    def __str__(self) -> str:
        return f"{self.hits} of {self.tries}"
