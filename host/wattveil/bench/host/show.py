"""Host records as a table, each with what was promised of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.table import Table

from wattveil.bench.host.record import HostRecord
from wattveil.bench.show import number


class Target(NamedTuple):
    """A promise about the records of which each of `of` is (or, for texts, begins) the value.

    at_least: a ratio; at_most: a value. They hold for n = 2048 on an idle machine.
    """

    of: dict[str, str | int]
    at_least: float | None = None
    at_most: float | None = None


TARGETS = (
    Target({"what": "rows", "level": "short", "baseline": "g^b r^n"}, at_least=60),
    Target({"what": "rows", "level": "short", "baseline": "phe"}, at_least=60),
    Target({"what": "period", "stage": "pool to payloads", "baseline": "the paper"}, at_least=250),
    Target(
        {"what": "period", "stage": "pool to payloads", "meters": 500, "gamma": 20}, at_most=15
    ),
    Target({"what": "product", "stage": "one core"}, at_least=1 / 1.35),
    Target({"what": "product", "stage": "2 processes", "unit": "us"}, at_least=1.6),
    Target({"what": "product", "stage": "1 process", "unit": "MB"}, at_most=60),
    Target({"what": "product", "stage": "2 processes", "unit": "MB"}, at_most=60),
    Target({"what": "product", "stage": "Dask", "unit": "us"}, at_least=1 / 1.4),
    # 4,000 reports a second; 1,000 with their slots
    Target(
        {"what": "ingest", "suite": "compact", "stage": "a REPORT", "processes": 3}, at_most=250
    ),
    Target({"what": "ingest", "suite": "yan2024", "stage": "a meter: 8 SLOTs"}, at_most=1000),
)
TARGET_BITS = 2048


def promised(one: HostRecord) -> list[tuple[str, bool]]:
    """Each promise about a record as text, and whether it was kept."""
    kept: list[tuple[str, bool]] = []
    for target in TARGETS:
        if one["bits"] != TARGET_BITS or not all(
            str(one[key]).startswith(value) if isinstance(value, str) else one[key] == value  # type: ignore[literal-required]
            for key, value in target.of.items()
        ):
            continue
        if target.at_least is not None and one["ratio"] is not None:
            kept.append((f">= {target.at_least:.3g}x", one["ratio"] >= target.at_least))
        if target.at_most is not None:
            kept.append((f"<= {target.at_most:g} {one['unit']}", one["value"] <= target.at_most))
    return kept


def show_host(records: Sequence[HostRecord]) -> list[Table]:
    """One table, or none without records."""
    if not records:
        return []
    title = "host; medians; ratio: how many times less than the baseline"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("what", "stage", "n", "γ", "meters", "processes", "level"):
        table.add_column(name)
    for name in ("value", "baseline value", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("baseline", "target", "checked"):
        table.add_column(name)
    for one in records:
        options = (one["bits"], one["gamma"], one["meters"], one["processes"], one["level"])
        ratio, base = one["ratio"], one["baseline_value"]
        targets = [f"{text} {'met' if met else 'MISSED'}" for text, met in promised(one)]
        table.add_row(
            one["what"],
            one["stage"],
            *("" if option is None else str(option) for option in options),
            f"{number(one['value'])} {one['unit']}",
            "" if base is None else number(base),
            "" if ratio is None else f"{ratio:.3g}x",
            one["baseline"] or "",
            ", ".join(targets),
            "yes" if one["checked"] else "NO",
        )
    return [table]
