"""Fig. 7: time of the schemes against the number of users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wattveil.figures.compare import CHOICES, Compared, compared
from wattveil.figures.draw import BLACK, BLUE, GREEN, ORANGE, PURPLE
from wattveil.figures.fit import line, power
from wattveil.figures.sheet import Row, Sheet, digits, prose
from wattveil.figures.study import Study

TICKS = (100, 200, 500, 1000, 2000)
LOOKS = (
    (ORANGE, "s", "-"),
    (PURPLE, "v", "-"),
    (BLACK, "x", "--"),
    (BLUE, "o", "-"),
    (GREEN, "D", "-"),
)


def make(study: Study) -> Sheet:
    """Measure and describe."""
    sizes = study.sizes
    found = [
        one
        for bits in sizes.compare_bits
        for users in sizes.compare_users
        for one in compared(study, bits, users)
    ]
    return Sheet(
        "fig7",
        "Fig. 7: time of the schemes against the number of users",
        "Time for one sum over m users, all parties' work on one core, in s (log), by key size.",
        [_row(one) for one in found],
        lambda figure: _draw(figure, found, sizes.compare_bits),
        [*_findings(found, sizes.compare_bits), *CHOICES],
        size=(11.0 if len(sizes.compare_bits) > 1 else 7.0, 5.2),
    )


def _row(one: Compared) -> Row:
    return {
        "scheme": one.scheme,
        "bits": one.bits,
        "users": one.users,
        "timed_users": one.timed,
        "user_ms": digits(one.user_ms),
        "user_sd_ms": digits(one.user_sd_ms),
        "rest_ms": digits(one.rest_ms),
        "whole_ms": digits(one.whole_ms),
        "checked": one.checked,
    }


def _curves(found: Sequence[Compared], bits: int) -> dict[str, list[tuple[float, float]]]:
    curves: dict[str, list[tuple[float, float]]] = {}
    for one in found:
        if one.bits == bits:
            curves.setdefault(one.scheme, []).append((one.users, one.whole_ms))
    return curves


def _findings(found: Sequence[Compared], sizes: Sequence[int]) -> list[str]:
    notes = []
    for bits in sizes:
        curves = _curves(found, bits)
        parts = []
        for name, points in curves.items():
            fit = line(points)
            half = f" ± {fit.half:.2g}" if len(points) > 2 else ""
            parts.append(f"{name} {fit.slope:.3g}{half}")
        notes.append(
            f"{bits} bits, ms for each further user (95 %): {'; '.join(parts)}. {_order(curves)}"
        )
    growth = [power(points).slope for bits in sizes for points in _curves(found, bits).values()]
    notes.append(
        prose(
            f"""The paper says that the three are close for few users and its own is cheapest
            above 1200. Here all times grow nearly alike, as m^{min(growth):.2f} to
            m^{max(growth):.2f}. DG-APED-like does one short power a user and has no noise
            protocol; ours encrypts γ numbers a user at the cloud and γ + 1 at the meter, so that
            nobody knows which noise counts. The product's tables pay with long keys; with short
            ones its frames, checks and Python's own overhead weigh more."""
        )
    )
    return notes


def _order(curves: dict[str, list[tuple[float, float]]]) -> str:
    """The schemes by time, and where that changes with m."""
    orders: dict[str, list[float]] = {}
    for at, (users, _) in enumerate(next(iter(curves.values()))):
        by_time = sorted(curves, key=lambda name: curves[name][at][1])
        orders.setdefault(" < ".join(by_time), []).append(users)
    if len(orders) == 1:
        return f"At every m: {next(iter(orders))}."
    return (
        "; ".join(f"at m = {', '.join(map(str, at))}: {order}" for order, at in orders.items())
        + "."
    )


def _draw(figure: Any, found: Sequence[Compared], sizes: Sequence[int]) -> None:
    axes = figure.subplots(1, len(sizes), squeeze=False, sharey=True)[0]
    for axis, bits in zip(axes, sizes, strict=True):
        for (name, points), (color, marker, style) in zip(
            _curves(found, bits).items(), LOOKS, strict=False
        ):
            seconds = [(m, ms / 1000) for m, ms in points]
            axis.plot(*zip(*seconds, strict=True), marker=marker, linestyle=style, color=color,
                      markersize=4, label=name)  # fmt: skip
        axis.set(xscale="log", yscale="log", xlabel="users m (log)", title=f"keys of {bits} bits")
        axis.set_xticks(TICKS, [str(m) for m in TICKS])
        axis.minorticks_off()
        axis.yaxis.set_major_formatter("{x:g}")
    axes[0].set_ylabel("s for one sum, all parties on one core (log)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
