"""What one measurement is, in the form the command line prints and writes as JSON."""

from __future__ import annotations

from typing import TypedDict


class Figure(TypedDict):
    """One figure. value and baseline are medians in `unit`.

    ratio: baseline / value, how many times less the figure needs; None without a baseline that
    does the same work. target: as text, "" when there is none; met: whether it was reached, None
    without one. checked: the answers that were timed were verified. extrapolated: part of the
    baseline was computed from measured parts.
    """

    figure: str
    runtime: str
    bits: int
    gamma: int | None
    unit: str
    value: float
    baseline: float | None
    baseline_is: str
    ratio: float | None
    target: str
    met: bool | None
    checked: bool
    extrapolated: bool
    note: str


def figure(
    name: str,
    runtime: str,
    bits: int,
    unit: str,
    value: float,
    checked: bool,
    *,
    gamma: int | None = None,
    baseline: float | None = None,
    baseline_is: str = "",
    same_work: bool = True,
    at_least: float | None = None,
    at_most: float | None = None,
    extrapolated: bool = False,
    note: str = "",
) -> Figure:
    """A figure; `at_least` is a target for the ratio, `at_most` one for the value."""
    ratio = baseline / value if baseline is not None and same_work and value else None
    target, met = "", None
    if at_least is not None and ratio is not None:
        target, met = f">= {at_least:g}x", ratio >= at_least
    elif at_most is not None:
        target, met = f"<= {at_most:g} {unit}", value <= at_most
    return Figure(
        figure=name,
        runtime=runtime,
        bits=bits,
        gamma=gamma,
        unit=unit,
        value=value,
        baseline=baseline,
        baseline_is=baseline_is,
        ratio=ratio,
        target=target,
        met=met,
        checked=checked,
        extrapolated=extrapolated,
        note=note,
    )
