"""Time against the number of slots, with what each slot adds: matplotlib, the extra `bench`."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wattveil.bench.records import Record

MISSING = "--plot needs matplotlib: pip install 'wattveil[bench]'"
SUFFIXES = (".png", ".svg")


def check_plot(path: Path) -> None:
    """ValueError before anything is measured in vain."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--plot {path}: the name must end in {' or '.join(SUFFIXES)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError(MISSING)


def fit(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(slope, value at 0) of the least-squares line; slope 0 for a single x."""
    count = len(points)
    x = sum(point[0] for point in points) / count
    y = sum(point[1] for point in points) / count
    spread = sum((point[0] - x) ** 2 for point in points)
    slope = sum((a - x) * (b - y) for a, b in points) / spread if spread else 0.0
    return slope, y - slope * x


def plot(records: Sequence[Record], path: Path) -> None:
    """One panel for each runtime and size; the textbook above, each suite below."""
    check_plot(path)
    matplotlib = importlib.import_module("matplotlib")  # an extra: there or not

    matplotlib.use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")

    panels = sorted({(r["runtime"], r["bits"]) for r in records})
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(6 * len(panels), 5), squeeze=False, sharey=True
    )
    for axis, (runtime, bits) in zip(axes[0], panels, strict=True):
        _panel(axis, [r for r in records if (r["runtime"], r["bits"]) == (runtime, bits)])
        axis.set_title(f"{runtime}, n of {bits} bits")
        axis.set_xlabel("slots of a row, γ")
    axes[0][0].set_ylabel("prepare and report, ms (log)")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _panel(axis: Any, records: Sequence[Record]) -> None:
    axis.set_yscale("log")
    lines: dict[str, list[tuple[float, float]]] = {}
    for r in records:
        name = f"{r['suite']}, {r['kernel']}"
        lines.setdefault("textbook", []).append((r["gamma"], r["textbook_ms"]))
        lines.setdefault(name, []).append((r["gamma"], r["prepare_ms"] + r["report_ms"]))
    for color, (name, points) in enumerate(lines.items()):
        slope, start = fit(points)
        axis.plot(*zip(*sorted(points), strict=True), "o", color=f"C{color}")
        ends = sorted({point[0] for point in points})
        curve = [ends[0] + (ends[-1] - ends[0]) * step / 50 for step in range(51)]
        line = [(x, start + slope * x) for x in curve if start + slope * x > 0]
        label = f"{name}: {slope:.3g} ms a slot"
        axis.plot(*zip(*line, strict=True), "-", color=f"C{color}", label=label)
    axis.grid(alpha=0.3, which="both")
    axis.legend()
