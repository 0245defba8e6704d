"""Records and figures as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from wattveil.bench.figures import Figure
from wattveil.bench.records import Record

_COLUMNS = "suite γ kernel noise prepare report link modmuls heap firmware flash up down textbook ratio ok"


def show_records(records: Sequence[Record]) -> list[RenderableType]:
    """One table for each runtime and size: ms, KiB and bytes."""
    groups: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        groups.setdefault((record["runtime"], record["bits"]), []).append(record)
    shown: list[RenderableType] = []
    for (runtime, bits), group in groups.items():
        head = group[0]
        title = f"{runtime}, n of {bits} bits, level {head['level']}, tables {head['tables']}"
        table = _table(f"{title}; ms, KiB, bytes; medians of {head['periods']}")
        for at, name in enumerate(_COLUMNS.split()):
            left = at in (0, 2, 3)
            table.add_column(name, justify="left" if left else "right", no_wrap=True)
        for r in group:
            table.add_row(
                r["suite"],
                str(r["gamma"]),
                r["kernel"],
                r["noise"],
                f"{number(r['prepare_ms'])} ±{r['mad_ms']:.2g}",
                number(r["report_ms"]),
                number(r["link_ms"]),
                str(r["modmuls"]),
                _kib(r["heap_peak_bytes"]),
                _kib(r["heap_firmware_bytes"]),
                _kib(r["flash_bytes"]),
                str(r["bytes_up"]),
                str(r["bytes_down"]),
                number(r["textbook_ms"]) + "*" * r["textbook_extrapolated"],
                f"{r['ratio']:.3g}x",
                "yes" if r["checked"] else "NO",
            )
        shown.append(table)
        if any(r["textbook_extrapolated"] for r in group):
            shown.append(Text("* extrapolated from what was measured in the same periods"))
    return shown


def show(figures: Iterable[Figure]) -> list[RenderableType]:
    """A table for each runtime, in the order of the figures, each with its notes under it."""
    runtimes: dict[str, list[Figure]] = {}
    for one in figures:
        runtimes.setdefault(one["runtime"], []).append(one)
    shown: list[RenderableType] = []
    for runtime, group in runtimes.items():
        table = _table(runtime)
        table.add_column("figure")
        for name in ("n", "γ", "value", "baseline", "ratio", "target", "checked"):
            table.add_column(name, justify="right", no_wrap=True)
        notes: list[str] = []
        for one in group:
            table.add_row(*_cells(one, notes))
        shown.append(table)
        shown += [Text(f"{mark}) {note}") for mark, note in enumerate(notes, 1)]
    return shown


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def _cells(one: Figure, notes: list[str]) -> list[str]:
    """A row; what needs words goes to `notes` and is named by its number there."""
    ratio, gamma = one["ratio"], one["gamma"]
    met = {True: " met", False: " MISSED", None: ""}[one["met"]]
    mark = "*" if one["extrapolated"] else ""
    words = [one["note"], f"baseline: {one['baseline_is']}" * bool(one["baseline_is"])]
    note = "; ".join(filter(None, [*words, "* extrapolated" * bool(mark)]))
    if note and note not in notes:
        notes.append(note)
    return [
        one["figure"] + (f" [{notes.index(note) + 1}]" if note else "").replace("[", r"\["),
        str(one["bits"]),
        "" if gamma is None else str(gamma),
        f"{number(one['value'])} {one['unit']}",
        "" if one["baseline"] is None else number(one["baseline"]) + mark,
        "" if ratio is None else f"{ratio:.3g}x{mark}",
        one["target"] + met,
        "yes" if one["checked"] else "NO",
    ]


def _kib(value: int | None) -> str:
    return "" if value is None else f"{value / 1024:.1f}"


def number(value: float) -> str:
    """Three digits, or the whole number when it has more."""
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
