"""Figures of speed, memory and bytes: each with its baseline from the same run and a checked answer.

A figure counts only when `checked` is true: what was timed was also opened, on the host and by
other code than that which made it. The machines vary by a factor of two, so read ratios, not times.
"""

from __future__ import annotations

from wattveil.bench.figures import Figure
from wattveil.bench.host import run_host
from wattveil.bench.insn import run_insn
from wattveil.bench.meter import RUNTIMES, Plan, run_meter
from wattveil.bench.plot import plot
from wattveil.bench.records import Measured, Record, write_csv
from wattveil.bench.show import show, show_records
from wattveil.bench.targets import figures

__all__ = [
    "RUNTIMES", "Figure", "Measured", "Plan", "Record", "figures", "plot", "run_host", "run_insn",
    "run_meter", "show", "show_records", "write_csv",
]  # fmt: skip
