"""`wattveil figures`: its options, and the files it leaves."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from wattveil.figures import complexity, fig5, fig6, fig7, fig8, table1
from wattveil.figures.draw import check
from wattveil.figures.machine import describe
from wattveil.figures.sheet import Sheet
from wattveil.figures.study import FULL, QUICK, Study

FIGURES: dict[str, Callable[[Study], Sheet]] = {
    "fig5": fig5.make,
    "fig6": fig6.make,
    "complexity": complexity.make,
    "table1": table1.make,
    "fig7": fig7.make,
    "fig8": fig8.make,
}
TEXT = "figures.md"


def options(parse: argparse.ArgumentParser) -> None:
    """Add the command line's options to a parser."""
    parse.add_argument("--quick", action="store_true",
                       help="fewer points, 1024-bit keys, 512 in the comparison: minutes")  # fmt: skip
    parse.add_argument("--out", type=Path, default=Path("figures"), metavar="DIR",
                       help="folder for PNG, SVG, CSV and figures.md; default figures")  # fmt: skip
    parse.add_argument("--what", action="append", choices=FIGURES, default=None,
                       help="only this one (repeatable); default all")  # fmt: skip
    parse.add_argument("--data", type=Path, metavar="FILE",
                       help="half-hourly CSV for Fig. 8's load; default the household model")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """The command; 1 when a total that was timed was wrong."""
    check()
    args.out.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(),
               MofNCompleteColumn(), TimeElapsedColumn())  # fmt: skip
    with Progress(*columns, console=console) as bar:
        all_of_it = bar.add_task("figures", total=len(args.what or FIGURES))
        now = bar.add_task("starting", total=None)

        def progress(text: str, done: int, of: int | None) -> None:
            bar.update(now, description=text, completed=done, total=of)

        study = Study(QUICK if args.quick else FULL, args.data, progress)
        if args.data:
            study.load  # noqa: B018 - what is wrong with it is said before anything is measured
        sheets = build(study, args.what or list(FIGURES), args.out, lambda: bar.advance(all_of_it))
    for sheet in sheets:
        print(args.out / f"{sheet.name}.png")
    print(args.out / TEXT)
    right = all(row.get("checked", True) for sheet in sheets for row in sheet.rows)
    if not right:
        console.print("a total that was timed was wrong: see `checked` in the CSV files")
    return 0 if right else 1


def build(
    study: Study, names: Sequence[str], out: Path, done: Callable[[], None] = lambda: None
) -> list[Sheet]:
    """Make and write figures, and the text of them all."""
    machine, begun, sheets, sections = describe(), time.monotonic(), [], []
    said: set[str] = set()  # Figs. 5 and 6 have much in common, and Table 1 and Fig. 7
    for name in FIGURES:
        if name in names:
            sheets.append(FIGURES[name](study))
            sheets[-1].write(out, machine)
            sections.append(sheets[-1].text(said))
            said.update(sheets[-1].notes)
            done()
    took = (time.monotonic() - begun) / 60
    head = (
        "# The paper's evaluation on this machine\n\n"
        "Yan, Zheng, Yu, Liang, BDMA 7(1), 2024, section 6. Everything drawn was measured here but for the\n"
        f"hollow stars, which are the paper's own numbers.\n\nMachine: {machine}. Took {took:.1f} min.\n\n"
    )
    (out / TEXT).write_text(head + "\n".join(sections))
    return sheets
