"""What differs between boards, the unix build and CPython: clock, entropy, name, reset, watchdog."""

import io
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


# The most its counter of 24 bits, in half microseconds, holds (MicroPython, class WDT).
_RP2_WATCHDOG_MS = 8388
_timer = None  # kept, or it would be collected


def _machine(name):
    """A member of the module machine; None where either is missing."""
    try:
        import machine
    except ImportError:  # CPython
        return None
    return getattr(machine, name, None)


def reset_reason():
    """Why the board started: pwron, hard, wdt (also machine.reset() on an RP2040), deepsleep, soft.

    `process` on a PC.
    """
    cause = _machine("reset_cause")
    if cause is None:
        return "process"
    code = cause()
    for name in ("PWRON", "HARD", "WDT", "DEEPSLEEP", "SOFT"):
        if _machine(name + "_RESET") == code:
            return name.lower()
    return str(code)


def is_board():
    """Whether `reset` starts it again by itself."""
    return _machine("reset") is not None


def reset():
    """Start anew: the board, or the process by ending it."""
    note(0)  # nothing hung
    (_machine("reset") or sys.exit)()


def reset_after(seconds):
    """Reset the board then, unless a soft reset (mpremote begins with one) stops the timer."""
    global _timer
    timer = _machine("Timer")
    if timer:
        _timer = timer(0 if sys.platform == "esp32" else -1)
        _timer.init(mode=timer.ONE_SHOT, period=seconds * 1000, callback=lambda _: reset())


def watchdog(limit_ms):
    """The chip's watchdog, which resets it when not fed for limit_ms; None for 0, and on a PC."""
    wdt = _machine("WDT")
    if not limit_ms or wdt is None:
        return None
    return wdt(timeout=min(limit_ms, _RP2_WATCHDOG_MS) if sys.platform == "rp2" else limit_ms)


def _rp2_watchdog():
    """Base address of its registers (datasheets: RP2040 4.7.6, RP2350 12.9.7)."""
    return 0x400D8000 if "RP2350" in sys.implementation._machine else 0x40058000


def note(number):
    """Keep a number below 256 over a reset, for `noted`; the power takes it. Not on a PC."""
    if sys.platform == "rp2":  # SCRATCH0: boot ROM and SDK use SCRATCH4 to 7
        _machine("mem32")[_rp2_watchdog() + 0x0C] = number
    elif sys.platform == "esp32":
        _machine("RTC")().memory(bytes((number,)))


def noted():
    """The last `note`, 0 for none."""
    if sys.platform == "rp2":
        return _machine("mem32")[_rp2_watchdog() + 0x0C]
    if sys.platform == "esp32":
        kept = _machine("RTC")().memory()
        return kept[0] if kept else 0
    return 0


def rest_watchdog():
    """Nobody feeds it at the REPL, where it would cut an upload short: stop it, or make it slow."""
    if sys.platform == "rp2":
        # CTRL, bit 30 ENABLE, by the clearing alias (RP2040 datasheet 2.1.2)
        _machine("mem32")[_rp2_watchdog() + 0x3000] = 1 << 30
    elif sys.platform == "esp32":
        watchdog(3600000)  # cannot be stopped; a second call sets a new limit


def where(error):
    """Type of an exception and the line it came from, never its message: "ValueError meter.py:12"."""
    words = [type(error).__name__]
    if isinstance(error, OSError) and error.args and isinstance(error.args[0], int):
        words.append(str(error.args[0]))
    trace = io.StringIO()
    try:
        sys.print_exception(error, trace)  # pyright: ignore[reportArgumentType]
    except AttributeError:  # CPython
        import traceback

        traceback.print_exception(error, file=trace)
    place = ""
    for line in trace.getvalue().split("\n"):  # pyright: ignore[reportAttributeAccessIssue]
        if line.startswith('  File "') and '", line ' in line:
            file, rest = line[8:].split('", line ', 1)
            place = file.split("/")[-1] + ":" + rest.split(",")[0]
    return " ".join(words + [place])
