"""What a figure was made on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import gmpy2

from wattveil import __version__
from wattveil.fleet.runtime import RuntimeMissing, find_runtime


def describe() -> str:
    """One line: processor, cores, load, versions."""
    cores = os.cpu_count() or 1
    try:
        busy = f", load {os.getloadavg()[0]:.1f} at the start"
    except OSError:
        busy = ""
    return (
        f"{_processor()}, {cores} cores{busy}; {platform.system()} {platform.machine()}; Python "
        f"{platform.python_version()}, gmpy2 {gmpy2.version()}, "
        f"{_micropython()}; wattveil {__version__}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _micropython() -> str:
    try:
        return f"MicroPython {find_runtime('micropython').version} (unix)"
    except RuntimeMissing:
        return "no MicroPython"
