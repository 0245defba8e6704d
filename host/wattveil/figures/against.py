"""Time of the double-blind noise protocol against one number: what Figs. 5 and 6 have in common."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median, quantiles
from typing import Any

from wattveil.bench.records import Record
from wattveil.figures.draw import BLUE, GREEN, GREY, ORANGE, PAPER, PURPLE, RED
from wattveil.figures.fleet import FleetTimes
from wattveil.figures.paper import CLOUD_S, METER_MS
from wattveil.figures.sheet import Row, digits, prose
from wattveil.figures.study import Study
from wattveil.paillier.textbook import encrypt_textbook

TEXTBOOK_REPEATS = 20

CHOICES = tuple(
    map(
        prose,
        (
            """Meter: everything one meter computes for one period (noise, masks, γ slots, the
            reading, its frames). The paper does not say whether the reading counts; it is one of
            γ + 1 ciphertexts.""",
            """Cloud: `rows` is encrypting the bits B_ij and serving them, which is what the
            paper's text calls the cloud's encryption; `uploads` checks what comes in and
            multiplies it up; `sum` is what is left of that at the end. The paper shows one curve.""",
            """A meter computes with gmpy2 in the in-memory fleet, as fast as this processor can,
            and as the firmware itself under unix MicroPython, where one meter at a time is timed:
            it does not know m. Times are processor time of one thread; those under MicroPython
            are wall time.""",
            """Dashed lines are formulas without tables: on the meter Eq. 18 and 22 by pow() in
            MicroPython (extrapolated from timed slots where the CSV says so); at the cloud one
            timed g^b r^n, times m γ.""",
        ),
    )
)


def row(study: Study, one: FleetTimes, record: Record | None) -> Row:
    """A line of the CSV, ms."""
    cuts = quantiles(one.meter, n=20) if len(one.meter) > 1 else [one.meter[0]] * 19
    return {
        "users": one.users,
        "gamma": one.gamma,
        "bits": one.bits,
        "meter_gmpy2_ms": digits(median(one.meter)),
        "meter_gmpy2_p5_ms": digits(cuts[0]),
        "meter_gmpy2_p95_ms": digits(cuts[-1]),
        "meter_micropython_ms": _micropython(record),
        "meter_micropython_mad_ms": digits(record["mad_ms"]) if record else "",
        "meter_plain_micropython_ms": digits(record["textbook_ms"]) if record else "",
        "meter_plain_extrapolated": record["textbook_extrapolated"] if record else "",
        "cloud_rows_ms": digits(one.rows),
        "cloud_uploads_ms": digits(one.uploads),
        "cloud_sum_ms": digits(one.total),
        "dealer_ms": digits(one.dealer),
        "centre_ms": digits(one.center),
        "stores_ms": digits(one.stores),
        "cloud_plain_ms": digits(textbook_ms(study, study.sizes.bits) * one.users * one.gamma),
        "cloud_plain_small_ms": digits(
            textbook_ms(study, study.sizes.small) * one.users * one.gamma
        ),
        "checked": one.checked and (record is None or record["checked"]),
    }


def _micropython(record: Record | None) -> float | str:
    return digits(record["prepare_ms"] + record["report_ms"]) if record else ""


def meter_words(r: Row) -> str:
    """What one meter needs, for a sentence."""
    text = f"a meter needs {r['meter_gmpy2_ms']:.3g} ms (gmpy2)"
    if r["meter_micropython_ms"] != "":
        text += f" or {r['meter_micropython_ms']:.3g} ms (unix MicroPython)"
    return text


def textbook_ms(study: Study, bits: int) -> float:
    """One encryption by Paillier's own formula, ms: the median."""

    def measure() -> float:
        public, taken = study.key(bits).public, []
        for turn in range(TEXTBOOK_REPEATS):
            begun = time.thread_time()
            encrypt_textbook(public, turn % 2)
            taken.append((time.thread_time() - begun) * 1000)
        return median(taken)

    return study.once(("textbook", bits), measure)


def draw(figure: Any, rows: Sequence[Row], x: str, label: str, small: int, paper: bool) -> None:
    """Two panels: one meter, and the cloud. x: a column. paper: its two numbers as stars."""
    meter, cloud = figure.subplots(1, 2)
    xs = [r[x] for r in rows]

    def curve(axis: Any, name: str, text: str, scale: float = 1.0, **style: Any) -> None:
        points = [(r[x], scale * r[name]) for r in rows if r[name] != ""]
        if points:
            axis.plot(*zip(*points, strict=True), label=text, **({"markersize": 4} | style))

    bits = rows[0]["bits"]
    once: dict[str, Any] = {"marker": ""} if x == "users" else {}  # one measurement, whatever m is
    curve(meter, "meter_plain_micropython_ms", "plain formulas, unix MicroPython",
          **{"color": GREY, "linestyle": "--", "marker": "x"} | once)  # fmt: skip
    curve(meter, "meter_micropython_ms", "firmware, unix MicroPython",
          **{"color": ORANGE, "marker": "s"} | once)  # fmt: skip
    curve(meter, "meter_gmpy2_ms", "firmware, CPython with gmpy2 (5-95 %)", color=BLUE, marker="o")
    low, high = ([r[f"meter_gmpy2_{p}_ms"] for r in rows] for p in ("p5", "p95"))
    meter.fill_between(xs, low, high, color=BLUE, alpha=0.2, linewidth=0)
    meter.set(title=f"one meter, n of {bits} bits", ylabel="ms a period (log)")
    curve(cloud, "cloud_plain_ms", f"plain g^b r^n, {bits} bits", 0.001, color=GREY, linestyle="--",
          marker="x")  # fmt: skip
    curve(cloud, "cloud_plain_small_ms", f"plain g^b r^n, {small} bits", 0.001, color=GREY,
          linestyle=":", marker="+")  # fmt: skip
    curve(cloud, "cloud_rows_ms", "rows: encrypt and serve bits", 0.001, color=GREEN, marker="o")
    curve(cloud, "cloud_uploads_ms", "uploads: check", 0.001, color=PURPLE, marker="v")
    curve(cloud, "cloud_sum_ms", "sum: what is left at the end", 0.001, color=RED, marker="^")
    cloud.set(title=f"the cloud, all meters, n of {bits} bits", ylabel="s a period (log)")
    if paper:
        at = rows[-1][x]
        meter.plot([at], [METER_MS], label="paper: 42 ms, its machine", **PAPER)
        cloud.plot([at], [CLOUD_S], label="paper: about 4 s, its machine", **PAPER)
    for axis in (meter, cloud):
        axis.set(yscale="log", xlabel=label)
        axis.set_xlim(left=0)
        axis.locator_params(axis="x", integer=True)
    # room under the curves: legends never lie on them
    for axis, lines in ((meter, 4 if paper else 3), (cloud, 6 if paper else 5)):
        low, high = axis.get_ylim()
        axis.set_ylim(low * (low / high) ** (0.1 * lines), high)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.legend(loc="lower right")
