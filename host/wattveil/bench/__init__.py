"""Figures of speed, memory and bytes: each with its baseline from the same run and a checked answer.

A figure counts only when `checked` is true: what was timed was also opened, on the host and by
other code than that which made it. The machines vary by a factor of two, so read ratios, not times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from wattveil.bench.figures import Figure
from wattveil.bench.host import run_host
from wattveil.bench.meter import run_meter

__all__ = ["Figure", "run_all", "run_host", "run_meter", "show"]

Progress = Callable[[str], None]


def run_all(
    bits: Sequence[int],
    gammas: Sequence[int],
    runtimes: Sequence[str],
    repeats: int,
    progress: Progress,
) -> list[Figure]:
    """`run_meter` and `run_host`."""
    meter = run_meter(bits, gammas, runtimes, repeats, progress)
    return meter + run_host(bits, repeats, progress)


def show(records: Iterable[Figure]) -> list[RenderableType]:
    """A table for each runtime, in the order of the figures, each with its notes under it."""
    runtimes: dict[str, list[Figure]] = {}
    for record in records:
        runtimes.setdefault(record["runtime"], []).append(record)
    shown: list[RenderableType] = []
    for runtime, figures in runtimes.items():
        table = Table(title=runtime, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("figure")
        for name in ("n", "γ", "value", "baseline", "ratio", "target", "checked"):
            table.add_column(name, justify="right", no_wrap=True)
        notes: list[str] = []
        for record in figures:
            table.add_row(*_cells(record, notes))
        shown.append(table)
        shown += [Text(f"{mark}) {note}") for mark, note in enumerate(notes, 1)]
    return shown


def _cells(record: Figure, notes: list[str]) -> list[str]:
    """A row; what needs words goes to `notes` and is named by its number there."""
    ratio, gamma = record["ratio"], record["gamma"]
    met = {True: " met", False: " MISSED", None: ""}[record["met"]]
    mark = "*" if record["extrapolated"] else ""
    words = [record["note"], f"baseline: {record['baseline_is']}" * bool(record["baseline_is"])]
    note = "; ".join(filter(None, [*words, "* extrapolated" * bool(mark)]))
    if note and note not in notes:
        notes.append(note)
    return [
        record["figure"] + (f" [{notes.index(note) + 1}]" if note else "").replace("[", r"\["),
        str(record["bits"]),
        "" if gamma is None else str(gamma),
        f"{number(record['value'])} {record['unit']}",
        "" if record["baseline"] is None else number(record["baseline"]) + mark,
        "" if ratio is None else f"{ratio:.3g}x{mark}",
        record["target"] + met,
        "yes" if record["checked"] else "NO",
    ]


def number(value: float) -> str:
    """Three digits, or the whole number when it has more."""
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
