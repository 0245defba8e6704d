"""Heap a period needs above the idle meter, found from outside.

`micropython.mem_peak()` does not tell: it adds what is allocated and never takes off what the collector
frees (500 times 1 kB counts 500 kB in a heap of 192 kB). So a period is run again with less and less
memory: everything is imported from .mpy files, the real meter built, the heap collected (that is "idle"),
and a ballast takes all but F bytes. The smallest F with which a whole period, registration to report,
ends without MemoryError is the peak: fragmentation and the serial link's buffers included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wattveil.bench.rig import BenchError, OutOfMemory

LARGEST = 512 * 1024


def peak(period: Callable[..., Any], guess: int, step: int) -> int:
    """The smallest multiple of `step` that period(free=...) lives with. guess: that of a case like it,
    or 0. BenchError when LARGEST is not enough."""

    def works(blocks: int) -> bool:
        try:
            period(free=blocks * step)
        except OutOfMemory:
            return False
        return True

    return smallest(works, max(1, (guess or 32 * 1024) // step), LARGEST // step) * step


def smallest(works: Callable[[int], bool], guess: int, largest: int) -> int:
    """The smallest whole number above 0 that works: steps that double away from the guess, then
    bisection between the last two."""
    low, high, width = 0, guess, 1
    if works(guess):
        while (at := high - width) > 0:
            if not works(at):
                low = at
                break
            high, width = at, 2 * width
    else:
        low = guess
        while not works(high := low + width):
            low, width = high, 2 * width
            if low >= largest:
                raise BenchError(f"a period needs more than {largest} blocks of heap")
    while high - low > 1:
        middle = (low + high) // 2
        if works(middle):
            high = middle
        else:
            low = middle
    return high
