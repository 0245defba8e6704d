"""The audit's laboratory on the tests' own tiny key, so that attacks and whole meters share it."""

from __future__ import annotations

from typing import Any

import support
from wattveil.audit import bench
from wattveil.audit.bench import SEEDS, START, Play, Shares, drbg
from wattveil_meter import compact, yan2024

__all__ = ["CORE", "PERIOD", "SEEDS", "START", "Bench", "Play", "Shares", "drbg"]

PERIOD = support.PERIOD
CORE: dict[str, Any] = {"yan2024": yan2024, "compact": compact}  # where rules are taken away


class Bench(bench.Bench):
    """See wattveil.audit.bench."""

    def __init__(self, p: int = support.P, q: int = support.Q, *args: Any, **changes: Any) -> None:
        super().__init__(p, q, *args, **({"fleet": support.FLEET} | changes))
