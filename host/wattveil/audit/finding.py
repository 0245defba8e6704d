"""What the audit says, and what it is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wattveil.audit.weak import WEAKNESSES, Weakness

HOLDS, BROKEN, BLIND = "holds", "broken", "blind"
"""The claim held; it did not; the method could not have seen it break (which is no pass)."""

ALPHA = 1e-4  # of each one-sided bound: some hundred of them are in a report


@dataclass(frozen=True)
class Finding:
    """One line of the report. chart: an SVG picture, if there is one; notes: what else to know."""

    claim: str
    method: str
    claimed: str
    measured: str
    verdict: str
    chart: str = field(default="", repr=False)
    notes: str = ""


@dataclass(frozen=True)
class Study:
    """How much to do. long: the version run by hand. data: folder with the data sets, if any. part: of the
    quick version, where a gross fault is all that is looked for."""

    long: bool = False
    data: Path | None = None
    part: float = 1.0

    def tries(self, quick: int, long: int) -> int:
        """One of the two."""
        return long if self.long else round(self.part * quick)


@dataclass(frozen=True)
class Check:
    """One promise. run: its findings. weak: a weakness that it must find, once planted. keyed: whether
    ciphertexts under the audit's own key are in it."""

    name: str
    title: str
    words: str
    run: Callable[[Study], Sequence[Finding]]
    weak: tuple[str, ...]
    keyed: bool = False

    def weaknesses(self) -> list[Weakness]:
        """By name."""
        return [WEAKNESSES[name] for name in self.weak]


def verdict(held: bool, seen: bool = True) -> str:
    """seen: the method does find the claim broken where it is."""
    return (HOLDS if held else BROKEN) if seen else BLIND
