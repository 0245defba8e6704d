"""How much of a long test is run: a little in CI, all of it with WATTVEIL_SOAK=1 (`make soak`)."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")

SOAK = os.environ.get("WATTVEIL_SOAK", "") not in ("", "0")


def scale(short: T, long: T) -> T:
    """`long` under `make soak`, else `short`."""
    return long if SOAK else short
