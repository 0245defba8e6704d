"""One figure: its data, its picture and its words, and the files they become."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill
from typing import Any

from wattveil.figures.draw import GREY, canvas, save

Row = Mapping[str, Any]
FOOT_WIDTH = 16.5  # characters an inch at the foot's size


@dataclass
class Sheet:
    """name: of the files. caption: one sentence, with units. rows: the CSV, units in its names.

    notes: what was chosen and what came out, for the text. draw(figure) fills a matplotlib figure.
    """

    name: str
    title: str
    caption: str
    rows: Sequence[Row]
    draw: Callable[[Any], None]
    notes: Sequence[str] = field(default_factory=list)
    size: tuple[float, float] = (11.0, 4.8)

    def write(self, folder: Path, machine: str) -> None:
        """Write NAME.png, .svg and .csv. OSError."""
        with canvas(self.size) as figure:
            body, foot = figure.subfigures(2, 1, height_ratios=[self.size[1] - 0.5, 0.5])
            self.draw(body)
            words = fill(f"{machine}. Data: {self.name}.csv", int(self.size[0] * FOOT_WIDTH))
            foot.text(0.01, 0.5, words, fontsize=6.5, color=GREY, va="center")
            for suffix in (".png", ".svg"):
                save(figure, folder / f"{self.name}{suffix}")
        with (folder / f"{self.name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)

    def text(self, said: Collection[str] = ()) -> str:
        """Markdown: title, picture, caption, and the notes that were not said before."""
        lines = [f"## {self.title}", "", f"![{self.title}]({self.name}.png)", "", self.caption, ""]
        lines += [f"- {note}" for note in self.notes if note not in said]
        return "\n".join([*lines, "", f"Data: [{self.name}.csv]({self.name}.csv)", ""])


def prose(text: str) -> str:
    """Text written over several lines of source, as one line."""
    return " ".join(text.split())


def digits(value: float, count: int = 4) -> float:
    """A figure for the CSV: rounded to `count` significant digits."""
    return float(f"{value:.{count}g}")
