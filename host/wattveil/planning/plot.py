"""Two panels: the error against the size of the fleet, and a mean day with its band of noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from wattveil.figures.draw import BLACK, BLUE, GREEN, ORANGE, canvas, save
from wattveil.fleet.settings import exact, quorum_count
from wattveil.planning.forecast import Forecast

SIZES = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


def plot(forecast: Forecast, path: Path) -> None:
    """Write the picture: .png or .svg."""
    settings = forecast.settings
    with canvas((11.5, 4.6)) as figure:
        left, right = figure.subplots(1, 2)
        _sizes(left, forecast)
        _day(right, forecast)
        figure.suptitle(
            f"{forecast.meters} meters, Δ {settings.delta:,} Wh, ε {settings.epsilon} a period of "
            f"{settings.period_s / 60:g} min, quorum {settings.quorum}, {settings.colluding} "
            f"colluding, {float(forecast.drop):.0%} silent, {float(forecast.honest):.0%} honest",
            fontsize=10,
        )
        save(figure, path)


def _sizes(axis: Any, forecast: Forecast) -> None:
    colluding = forecast.settings.colluding
    sizes = sorted({*SIZES, forecast.meters})
    fleets = [replace(forecast, meters=m) for m in sizes if m >= 2 and _fits(forecast, m)]
    curves = (("sd_of_load", "standard deviation", BLUE, "o-"),
              ("mean_abs_of_load", "mean error", ORANGE, "s--"))  # fmt: skip
    for name, label, color, line in curves:
        points = [
            (f.meters, 100 * f.error(f.reporting, f.honest * f.reporting)[name])
            for f in fleets
            if f.reporting >= f.quorum_count
        ]
        if points:
            axis.plot(*zip(*points, strict=True), line, color=color, label=label, markersize=4)
    if forecast.reporting >= forecast.quorum_count:
        own = forecast.error(forecast.reporting, forecast.honest * forecast.reporting)
        axis.plot([forecast.meters], [100 * own["sd_of_load"]], "D", color=BLACK, markersize=9,
                  fillstyle="none", label="this plan")  # fmt: skip
    axis.set(
        xscale="log", yscale="log", xlabel="meters of the roster",
        ylabel="error of a total, % of its mean load",
        title=f"error against fleet size (c = {colluding})",
    )  # fmt: skip
    for ticks in (axis.xaxis, axis.yaxis):
        ticks.set_major_formatter("{x:g}")
    axis.legend()


def _fits(forecast: Forecast, meters: int) -> bool:
    quorum = exact(forecast.settings.quorum, "quorum")
    return quorum_count(quorum, meters) > forecast.settings.colluding


def _day(axis: Any, forecast: Forecast) -> None:
    size, load = forecast.reporting, forecast.load
    hours = [at / 3600 for at in load.by_time]
    means = [wh * size / 1000 for wh in load.by_time.values()]
    axis.plot(hours, means, color=GREEN, label=f"mean load of {size} homes")
    if size >= forecast.quorum_count:
        band = forecast.noise(forecast.honest * size)["band90_wh"] / 1000
        low, high = [m - band for m in means], [m + band for m in means]
        axis.fill_between(hours, low, high, color=GREEN, alpha=0.2, linewidth=0,
                          label="where 90 % of released totals lie")  # fmt: skip
    axis.axhline(0, color=BLACK, linewidth=0.6)
    axis.set(
        xlabel="hour of the day, UTC", ylabel="kWh a period", title="a mean day", xlim=(0, 24)
    )
    axis.set_xticks(range(0, 25, 4))
    axis.legend()
