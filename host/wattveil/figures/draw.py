"""Matplotlib, the extra `bench`, set up once: a palette for all eyes (Okabe and Ito 2008), and files."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MISSING = "figures need matplotlib: pip install 'wattveil[bench]'"

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, RED, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#777777"
# Never a line or a filled marker: what the paper says is not what was measured here.
PAPER = {"marker": "*", "markersize": 15, "color": BLACK, "fillstyle": "none", "linestyle": "none"}

_STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.grid": True,
    "axes.grid.which": "major",
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 8,
    "legend.framealpha": 0.9,
    "svg.fonttype": "path",
    "svg.hashsalt": "wattveil",
}


def check() -> None:
    """ValueError before anything is measured in vain."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError(MISSING)


@contextmanager
def canvas(size: tuple[float, float]) -> Iterator[Any]:
    """An empty figure of this size in inches; closed at the end."""
    check()
    matplotlib = importlib.import_module("matplotlib")  # an extra: there or not
    matplotlib.use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    with matplotlib.rc_context(_STYLE):
        figure = pyplot.figure(figsize=size, layout="constrained")
        try:
            yield figure
        finally:
            pyplot.close(figure)


def save(figure: Any, path: Path) -> None:
    """Write .png or .svg; the same picture gives the same SVG."""
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else {}
    figure.savefig(path, dpi=110, metadata=metadata)
