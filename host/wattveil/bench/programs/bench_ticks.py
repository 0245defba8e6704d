"""Microseconds on MicroPython and CPython."""

# mypy: ignore-errors
# (a MicroPython program: tools/lint_firmware.py and mpy-cross check it, see tests/test_bench.py)

import time

if hasattr(time, "ticks_us"):
    now = time.ticks_us
    diff = time.ticks_diff
else:

    def now():
        """Microseconds since some fixed moment."""
        return time.perf_counter_ns() // 1000

    def diff(later, earlier):
        """later - earlier."""
        return later - earlier


def since(start):
    """Microseconds since `start`, at most 500 s ago (32-bit builds wrap after that)."""
    return diff(now(), start)
