"""How a city's stages grow with its meters, as a picture."""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from wattveil.bench.host.record import HostRecord
from wattveil.bench.plot import check_plot

OF = ", processor time of "
MEMORY = "most memory of "


def plot_growth(records: Sequence[HostRecord], path: Path) -> None:
    """Processor time by stage, of all processes, and memory by role, against meters; both axes
    logarithmic: a slope of 1 is linear growth. ValueError without records of a city."""
    check_plot(path)
    seconds: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    memory: dict[str, dict[int, float]] = defaultdict(dict)
    for one in records:
        if one["what"] != "city" or one["meters"] is None:
            continue
        stage, whose, who = one["stage"].partition(OF)
        if whose and (who != "meters" or stage == "meters' own work"):
            # rows are made for the next periods while other stages run
            name = "rows made" if who == "rows" else stage
            seconds[name][one["meters"]] += one["value"] / 1000
        elif one["stage"].startswith(MEMORY):
            memory[one["stage"].removeprefix(MEMORY)][one["meters"]] = one["value"]
    if not seconds:
        raise ValueError("--plot: of the host's work, a city's is drawn: --what city")
    matplotlib = importlib.import_module("matplotlib")  # an extra: there or not
    matplotlib.use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 5))
    for axis, lines, label in (
        (left, seconds, "processor time of all processes, s"),
        (right, memory, "most resident memory, MB"),
    ):
        for marker, (name, points) in zip("os^vD*Px", lines.items(), strict=False):
            axis.plot(*zip(*sorted(points.items()), strict=True), marker=marker, label=name)
        axis.set(xscale="log", yscale="log", xlabel="meters", ylabel=label)
        axis.grid(alpha=0.3, which="both")
        axis.legend()
    bits, gamma = records[0]["bits"], records[0]["gamma"]
    figure.suptitle(f"one period of a city: suite compact, n of {bits} bits, γ = {gamma}")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
