"""A small world behind the privacy gateway: a vault in memory, people with keys, the real rest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wattveil.privacy import people
from wattveil.privacy.config import DEFAULT
from wattveil.privacy.contracts import Block
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.people import Person
from wattveil.privacy.query import ask
from wattveil.privacy.refusals import Refused
from wattveil.privacy.state import State

START, DAY = "2013-01-14", "2013-01-15"
T0 = ask.parse_time(START, "from")
HALF_HOUR = 1800


class MemoryVault:
    """The contract of a vault over an array: readings [homes, intervals] from T0 on."""

    def __init__(
        self, wh: NDArray[np.int64], segments: Sequence[Mapping[str, str]] | None = None
    ) -> None:
        self.wh = wh
        self.segments = segments or [{}] * len(wh)
        self.reads = 0

    def members(self, segment: Mapping[str, str], start: int, end: int) -> list[str]:
        if end > T0 + self.wh.shape[1] * HALF_HOUR or start < T0:
            raise Refused("no_data")
        return [
            f"{i:08d}" for i, has in enumerate(self.segments) if segment.items() <= has.items()
        ]

    def blocks(self, pseudonyms: Sequence[str], start: int, end: int) -> Iterator[Block]:
        self.reads += 1
        a, b = (start - T0) // HALF_HOUR, (end - T0) // HALF_HOUR
        for at in range(0, len(pseudonyms), 100):
            part = pseudonyms[at : at + 100]
            wh = self.wh[[int(p) for p in part], a:b]
            yield Block(part, np.maximum(wh, 0), wh >= 0)  # a negative one stands for absent

    def written(self) -> int:
        return 1

    def revisions(self, pseudonyms: Sequence[str], start: int, end: int) -> NDArray[np.uint32]:
        days = -(-end // 86_400) - start // 86_400
        return np.ones((len(pseudonyms), days), np.uint32)

    def meter_ids(self, pseudonyms: Sequence[str]) -> list[str]:
        return [f"meter-{p}" for p in pseudonyms]


def homes(count: int, intervals: int = 48, seed: int = 1) -> NDArray[np.int64]:
    """Readings with the shape of a winter day, Wh."""
    rng = np.random.default_rng(seed)
    hours = np.arange(intervals) / 2 % 24
    shape = (
        120 + 250 * np.exp(-(((hours - 18.5) / 3) ** 2)) + 90 * np.exp(-(((hours - 8) / 2) ** 2))
    )
    drawn: NDArray[np.int64] = rng.gamma(1.5, shape / 1.5, (count, intervals)).astype(np.int64)
    return drawn


def settings(**changes: str) -> str:
    """config.toml with other values of some entries of its tables, as they stand there."""
    top, tables = DEFAULT.split("[budgets]")
    lines = []
    for line in tables.splitlines():
        name = line.partition(" =")[0]
        lines.append(f"{name} = {changes.pop(name)}" if name in changes else line)
    assert not changes
    return top + "[budgets]" + "\n".join(lines)


class World:
    """A gateway in a folder, and people to ask it."""

    def __init__(self, path: Path, vault: MemoryVault | None = None, **changes: str) -> None:
        self.path = path
        self.state = State.create(path, settings(**changes))
        self.vault = vault or MemoryVault(homes(60))
        self.gateway = Gateway(self.state, vault=self.vault)

    def person(self, who: str, meter: str | None = None) -> Person:
        """Somebody who was taken in, and authenticated by the token."""
        subject = self.gateway.accountant.subjects([meter])[0] if meter else None
        token = people.add(self.state, who, subject)
        return self.gateway.authenticate(who, token)

    def query(self, kind: str = "sum", purpose: str = "research", **rest: Any) -> ask.Query:
        """A query over the first day unless said otherwise."""
        rest = {"start": START, "end": DAY, "clip": 2000} | rest
        if rest.get("technique", "dp") == "dp":
            rest = {"epsilon": "0.5"} | rest
        return ask.make(self.state.config, kind, purpose=purpose, **rest)

    def ask(self, person: Person, kind: str = "sum", **rest: Any) -> dict[str, Any]:
        """An answer."""
        preview = rest.pop("preview", False)
        return self.gateway.query(person, self.query(kind, **rest), preview=preview)

    def logged(self) -> list[dict[str, Any]]:
        """All entries of the log."""
        rows = self.state.gateway().execute("SELECT leaf FROM log_leaves ORDER BY idx")
        return [json.loads(leaf) for (leaf,) in rows]
