"""The few things that differ between boards, the unix build and CPython: clock, entropy, name."""

import os
import sys
import time

_ARCHITECTURES = (  # index: sys.implementation._mpy >> 10 (MicroPython, py/persistentcode.h)
    "any x86 x64 armv6 armv6m armv7m armv7em armv7emsp armv7emdp xtensa xtensawin rv32imc"
).split()


class Clock:
    """Monotonic milliseconds that do not wrap (a board's ticks_ms wraps after 12 days)."""

    def __init__(self):
        self._ms = 0
        if hasattr(time, "ticks_ms"):
            self._ticks = time.ticks_ms()

    def ms(self):
        """Milliseconds since some fixed moment; call at least once in six days."""
        if not hasattr(time, "ticks_ms"):
            return time.monotonic_ns() // 1000000  # pyright: ignore[reportAttributeAccessIssue]
        now = time.ticks_ms()
        self._ms += time.ticks_diff(now, self._ticks)
        self._ticks = now
        return self._ms


def entropy():
    """64 bytes from the system's or chip's random source (its grade by board: LIMITS.md)."""
    return os.urandom(64)


def runtime():
    """Name, version and platform of what runs this, for the hello message."""
    name = sys.implementation.name
    version = ".".join([str(part) for part in sys.implementation.version[:3]])
    platform = sys.platform
    code = getattr(sys.implementation, "_mpy", 0) >> 10
    if code:
        machine = _ARCHITECTURES[code] if code < len(_ARCHITECTURES) else "other"
        platform += " " + machine
        if sys.platform == "linux" and machine.startswith("arm"):
            name += "-arm"  # the emulated tier; boards name their own platform
    return name + " " + version + " " + platform
