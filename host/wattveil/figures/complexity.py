"""Section 6.1's complexity claims as measured slopes, from the runs of Figs. 5 and 6."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from wattveil.figures import fig5, fig6
from wattveil.figures.draw import BLUE, GREEN, ORANGE, PURPLE, RED
from wattveil.figures.fit import Line, line, power
from wattveil.figures.sheet import Row, Sheet, digits
from wattveil.figures.study import FIG5_GAMMA, Study

# what, against, column, the paper's claim, the exponent it means
SERIES = (
    ("meter, gmpy2", "users", "meter_gmpy2_ms", "O(1)", 0),
    ("cloud rows", "users", "cloud_rows_ms", "O(m γ)", 1),
    ("cloud uploads", "users", "cloud_uploads_ms", "O(m)", 1),
    ("cloud sum", "users", "cloud_sum_ms", "O(m)", 0),
    ("meter, gmpy2", "gamma", "meter_gmpy2_ms", "O(γ)", 1),
    ("meter, MicroPython", "gamma", "meter_micropython_ms", "O(γ)", 1),
    ("cloud rows", "gamma", "cloud_rows_ms", "O(m γ)", 1),
)
_LOOK = {
    "meter, gmpy2": (BLUE, "o"),
    "meter, MicroPython": (ORANGE, "s"),
    "cloud rows": (GREEN, "D"),
    "cloud uploads": (PURPLE, "v"),
    "cloud sum": (RED, "^"),
}

Points = Sequence[tuple[float, float]]


def make(study: Study) -> Sheet:
    """Measure and fit."""
    runs = {"users": fig5.rows(study), "gamma": fig6.rows(study)}
    rows, curves = [], []
    for what, against, column, claim, exponent in SERIES:
        points = [(r[against], r[column]) for r in runs[against] if r[column] != ""]
        if len(points) < 3:
            continue
        straight, bent = line(points), power(points)
        rows.append(_row(what, against, claim, exponent, points, straight, bent))
        curves.append((what, against, points, bent))
    sizes = study.sizes
    notes = [f"{r['what']} against {_name(r['against'])}: {_words(r)}." for r in rows]
    return Sheet(
        "complexity",
        "Section 6.1: complexity claims as measured slopes",
        f"Time in ms against m at γ = {FIG5_GAMMA} (left) and against γ at m = {sizes.fig6_users} (right), "
        f"{sizes.bits}-bit n, both axes logarithmic: a slope of 1 is linear, of 0 constant.",
        rows,
        lambda figure: _draw(figure, curves),
        [
            *notes,
            (
                "The paper's sum is O(m) at the period's end. Ours is multiplied up as reports come in: the "
                "O(m) is in the uploads, and what is left at the end does not depend on m."
            ),
            (
                "± is the 95 % interval of the least-squares slope. A cost a + b γ with a large a, such as a "
                "meter's (the reading and the row check do not depend on γ), has an exponent below 1 on log "
                "axes although each slot costs the same; R² of the straight line is the better judge there."
            ),
            (
                "O(m) for a meter and O(m²) for the aggregator of the paper's [25] were not measured: that "
                "scheme is not built here."
            ),
        ],
    )


def _row(
    what: str, against: str, claim: str, exponent: int, points: Points, straight: Line, bent: Line
) -> Row:
    return {
        "what": what,
        "against": against,
        "claim": claim,
        "claimed_exponent": exponent,
        "exponent": digits(bent.slope, 3),
        "exponent_half95": digits(bent.half, 2),
        "ms_per_unit": digits(straight.slope),
        "ms_per_unit_half95": digits(straight.half, 2),
        "ms_at_0": digits(straight.start),
        "r2": round(straight.r2, 5),
        "points": len(points),
        "from": points[0][0],
        "to": points[-1][0],
    }


def _name(against: str) -> str:
    return "m" if against == "users" else "γ"


def _words(r: Row) -> str:
    text = (
        f"claimed {r['claim']}, exponent {r['exponent']:.2f} ± {r['exponent_half95']:.2g}; "
        f"{r['ms_per_unit']:.3g} ± {r['ms_per_unit_half95']:.2g} ms for each more, "
        f"{r['ms_at_0']:.3g} ms at 0 (R² {r['r2']:.4f})"
    )
    change = abs(r["ms_per_unit"]) * (r["to"] - r["from"])
    if r["claimed_exponent"] == 0:
        part = change / abs(r["ms_at_0"]) if r["ms_at_0"] else math.inf
        return f"{text}: {part:.0%} over the whole range"
    return text


def _draw(figure: Any, curves: Sequence[tuple[str, str, Points, Line]]) -> None:
    for axis, against in zip(figure.subplots(1, 2, sharey=True), ("users", "gamma"), strict=True):
        for what, where, points, bent in curves:
            if where != against:
                continue
            color, marker = _LOOK[what]
            xs = [x for x, _ in points]
            axis.plot(*zip(*points, strict=True), marker, color=color, markersize=5,
                      label=f"{what}: slope {bent.slope:.2f} ± {bent.half:.2g}")  # fmt: skip
            axis.plot(xs, [math.exp(bent.start) * x**bent.slope for x in xs], "-", color=color)
        axis.set(xscale="log", yscale="log", ylabel="ms a period (log)",
                 xlabel=("users m" if against == "users" else "slots of a row γ") + " (log)")  # fmt: skip
        ticks = sorted(
            {x for _, where, points, _ in curves if where == against for x, _ in points}
        )
        shown = ticks if len(ticks) < 6 else [t for t in ticks if t in (ticks[0], ticks[-1]) or
                                              t in (200, 500, 4, 10)]  # fmt: skip
        axis.set_xticks(shown, [str(t) for t in shown])
        axis.minorticks_off()
        axis.yaxis.set_major_formatter("{x:g}")
        axis.legend(loc="upper left")
    low, high = axis.get_ylim()  # shared; room for the legends
    axis.set_ylim(low, high * (high / low) ** 0.25)
