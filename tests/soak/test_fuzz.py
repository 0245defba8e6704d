"""Mutated frames against every parser: no crash, nothing wrongly accepted, memory flat.

CI runs a little; `make soak` more than 10^7. See fuzzing.py for targets and corpus.
"""

from __future__ import annotations

import gc
import logging
from pathlib import Path
from random import Random

import pytest

from plainworld import SUITES
from soak.fuzzing import TARGETS
from soak.scale import SOAK, scale

GROWTH_MB = 8.0


def resident_mb() -> float:
    """Of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


@pytest.mark.timeout(scale(300, 7200))
@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("name", TARGETS)
def test_mutated_input(name: str, suite: str, caplog: pytest.LogCaptureFixture) -> None:
    make, runs = TARGETS[name]
    runs = scale(max(runs // 400, 500), runs // 2)
    caplog.set_level(logging.CRITICAL, "wattveil")  # the counters tell; put back afterwards
    seed = sum(name.encode()) + sum(suite.encode()) + (1_000_003 if SOAK else 0)
    one = make(suite, Random(seed))
    warm = runs // 5
    for _ in range(warm):
        one()
    before = resident_mb()
    for _ in range(runs - warm):
        one()
    growth = resident_mb() - before
    print(f"fuzz {name} ({suite}): {runs} inputs, seed {seed}, {growth:+.1f} MB")
    assert growth < GROWTH_MB
