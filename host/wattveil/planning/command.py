"""`wattveil plan`: its options, and what a person reads."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from wattveil.bench.plot import check_plot
from wattveil.fleet.settings import NOISES, FleetSettings
from wattveil.planning.forecast import LEVEL, Forecast, Json
from wattveil.planning.load import USUAL_S, from_file, from_model
from wattveil.planning.plot import plot

METERS = 500


def options(parse: argparse.ArgumentParser) -> None:
    """Add the command line's options to a parser."""
    parse.add_argument("--meters", type=int, default=METERS, metavar="N",
                       help=f"of the roster; default {METERS}")  # fmt: skip
    parse.add_argument("--delta", type=int, default=11_500, metavar="WH",
                       help="largest reading, by the connection limit; default 11500")  # fmt: skip
    parse.add_argument("--epsilon", default="1", help="privacy cost of one period; default 1")
    parse.add_argument("--period", type=int, metavar="S",
                       help=f"length in seconds; default the data's, or {USUAL_S}")  # fmt: skip
    parse.add_argument("--quorum", default="0.7",
                       help="share of the roster a total needs; default 0.7")  # fmt: skip
    parse.add_argument("--colluding", type=int, default=0, metavar="C",
                       help="meters that may collude or add no noise; default 0")  # fmt: skip
    parse.add_argument("--drop", default="0", metavar="SHARE",
                       help="of meters that are silent in a period; default 0")  # fmt: skip
    parse.add_argument("--honest", default="1", metavar="SHARE",
                       help="of the reporting meters that do add their noise; default 1")  # fmt: skip
    parse.add_argument("--noise", choices=NOISES, default="gamma", help="default gamma")
    parse.add_argument("--own-noise", action="store_true", help="one more share, as in `demo`")
    parse.add_argument("--data", type=Path, metavar="FILE",
                       help="CSV meter_id,timestamp,wh (or gzip); default: the household model")  # fmt: skip
    parse.add_argument("--stamp", choices=("start", "end"), default="start",
                       help="what a timestamp in --data marks")  # fmt: skip
    parse.add_argument("--skip-bad", action="store_true", help="count bad readings as absent")
    parse.add_argument("--json", action="store_true", help="one JSON object, nothing else")
    parse.add_argument("--plot", type=Path, metavar="FILE", help="a picture too: .png or .svg")


def run(args: argparse.Namespace) -> int:
    """The command; ValueError for what cannot be planned."""
    if args.plot:
        check_plot(args.plot)
    settings = FleetSettings(
        delta=args.delta,
        epsilon=args.epsilon,
        quorum=args.quorum,
        colluding=args.colluding,
        noise=args.noise,
        own_noise=args.own_noise,
        period_s=USUAL_S if args.period is None else args.period,
    )
    settings.check(args.meters)
    if args.data:
        load = from_file(args.data, settings.hi, args.stamp, args.skip_bad)
        if args.period is None:
            settings = replace(settings, period_s=load.period_s)
    else:
        load = from_model(settings.period_s, settings.hi)
    forecast = Forecast.make(settings, args.meters, args.drop, args.honest, load)
    summary = forecast.summary()
    if args.plot:
        plot(forecast, args.plot)
    if args.json:
        print(json.dumps(summary, indent=1))
    else:
        _show(summary)
    return 0


def sentence(summary: Json) -> str:
    """The plan in plain words."""
    homes, minutes = summary["reporting"], summary["period_s"] / 60
    if not summary["released"]:
        return (
            f"No total would be released: {homes} of {summary['meters']} meters report and the "
            f"quorum is {summary['quorum_count']}."
        )
    error, load, day = summary["error"], summary["load"], summary["day"]
    text = (
        f"A released {minutes:g}-minute total of {homes} homes will be off by "
        f"{_kwh(error['mean_abs_wh'])} on average, {error['mean_abs_of_load']:.1%} of the "
        f"{_kwh(load['fleet_mean_wh'])} that they use in a mean period (standard deviation "
        f"{error['sd_of_load']:.1%}), and by less than {_kwh(error['band90_wh'])} in "
        f"{LEVEL:.0%} of periods. A household that reports all day spends epsilon "
        f"{day['epsilon_basic']:g}"
    )
    received = summary["epsilon_received"]
    if received is None:
        return f"{text} on paper, but with so few honest meters no epsilon holds at all."
    if received > summary["epsilon"]:
        text += (
            f" on paper; but {summary['shares_honest']:g} honest shares are {summary['shape']:.0%} "
            f"of a full noise, so it is {received:.3g} a period instead of {summary['epsilon']:g}"
        )
    return text + "."


def _show(summary: Json) -> None:
    console = Console()
    load, error, day = summary["load"], summary["error"], summary["day"]
    say = console.print
    say(sentence(summary), markup=False, highlight=False)
    words = (
        f"\nload: {load['source']}, {load['homes']} homes, {load['readings']:,} readings, mean "
        f"{load['mean_wh']:.1f} Wh"
    )
    if load["above_delta"]:
        words += (
            f"; {load['above_delta']:.2g} of them are above delta: clamping takes "
            f"{load['cut_wh']:,.0f} Wh off a total"
        )
    say(words, markup=False, highlight=False)
    if error:
        both = summary["error_all_honest"]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("error of a total")
        for title in ("Wh", "of the load"):
            table.add_column(title, justify="right", no_wrap=True)
        names = (("mean_abs", "mean"), ("sd", "standard deviation"), ("band90", "90 % band, ±"))
        for name, title in names:
            table.add_row(title, f"{error[name + '_wh']:,.0f}", f"{error[name + '_of_load']:.1%}")
        if (averaged := error["mean_abs_over_periods"]) is not None:
            table.add_row("mean, averaged over periods", "", f"{averaged:.1%}")
        if summary["honest"] < 1:
            table.add_row(
                "standard deviation if all add noise",
                f"{both['sd_wh']:,.0f}",
                f"{both['sd_of_load']:.1%}",
            )
        say(table)
        received = ""
        if day["epsilon_received_basic"] != day["epsilon_basic"]:
            received = f", {_number(day['epsilon_received_basic'])} at the epsilon received"
        say(
            f"epsilon a day: {day['epsilon_basic_exact']} by adding up {day['releases']:g} releases "
            f"(exact){received}; {_number(day['epsilon_optimal'])} up to delta = {day['optimal_delta']:g} "
            "by optimal composition",
            markup=False,
            highlight=False,
        )
    say(_dropouts(summary))
    chance = 1 - summary["release_chance"]
    if summary["drop"]:
        say(
            f"If each meter is silent by itself with chance {summary['drop']:g}, "
            f"{chance:.2g} of all periods miss the quorum of {summary['quorum_count']}.",
            markup=False,
            highlight=False,
        )


def _dropouts(summary: Json) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="silent meters", title_justify="left")
    for title in ("reporting", "silent", "mean error, Wh", "of the load", "sd", "ε received"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in summary["dropouts"]:
        who = (f"{row['reporting']}", f"{row['silent']}")
        if not row["released"]:
            table.add_row(*who, "not released", "", "", "")
            continue
        table.add_row(
            *who,
            f"{row['mean_abs_wh']:,.0f}",
            f"{row['mean_abs_of_load']:.1%}",
            f"{row['sd_of_load']:.1%}",
            _number(row["epsilon_received"]),
        )
    return table


def _kwh(wh: float) -> str:
    kwh = wh / 1000
    return f"{kwh:.3g} kWh" if kwh < 100 else f"{kwh:,.0f} kWh"


def _number(value: float | None) -> str:
    return "no bound" if value is None else f"{value:.4g}"
