"""A claim, answered: "with epsilon <= 1, noise is below 1 % on feeder-level hourly totals".

Westrich, "Privacy-Preserving Analytics for Smart Meter (AMI) Data", executive summary. Whether it
holds depends on the homes m, on the bound Delta of one home's energy in an hour, and on how many
hourly totals the epsilon is for. Run as `python -m wattveil.figures.feeder OUT [DATA.csv]`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from wattveil.figures.draw import BLACK, BLUE, GREEN, ORANGE, RED
from wattveil.figures.machine import describe
from wattveil.figures.sheet import Row, Sheet, digits, prose
from wattveil.importers.csv_file import read_csv
from wattveil.importers.households import DEFAULT_START, generate
from wattveil.importers.readings import LoadData
from wattveil.privacy.query.noise import Mechanism, Norms, calibrate

CLAIM = 0.01  # of the mean hourly total, for the mean absolute error
DELTAS_WH = (2_000, 5_000, 11_500, 23_000)  # 5,000: the paper's own example; 23,000: 100 A, 230 V
SPANS = {"1 hour": 1, "1 day": 24, "4 weeks": 672}  # hourly totals that one epsilon is for
DP_DELTA = Fraction(1, 10**6)
EPSILON = Fraction(1)
SIZES = (50, 100, 200, 675, 2_000, 10_000, 100_000, 1_000_000)
DRAWS = 2_000
HOUR_S = 3_600


def mechanisms(clip: int, hours: int) -> list[Mechanism]:
    """Laplace and Gaussian noise of `hours` hourly totals, one home's whole span at epsilon 1."""
    norms = Norms(hours * clip, hours * clip**2)
    return [calibrate(norms, EPSILON, Fraction(0)), calibrate(norms, EPSILON, DP_DELTA)]


def hourly(data: LoadData) -> list[int]:
    """Every home's energy in every hour that is complete, Wh."""
    each = HOUR_S // data.period_s
    found: list[int] = []
    for row in data.values.values():
        for start in row:
            if start % HOUR_S == 0:
                parts = [row.get(start + k * data.period_s) for k in range(each)]
                if None not in parts:
                    found.append(sum(part for part in parts if part is not None))
    return found


def rows(data: LoadData) -> list[Row]:
    """For each bound and span: the less noisy mechanism, its error, and the m at which 1 % holds."""
    energies = hourly(data)
    mean = sum(energies) / len(energies)
    made: list[Row] = []
    for clip in DELTAS_WH:
        cut = sum(max(0, wh - clip) for wh in energies) / len(energies)
        for span, hours in SPANS.items():
            best = min(mechanisms(clip, hours), key=lambda mechanism: mechanism.mean_abs)
            vector = best.draw([0] * DRAWS)
            drawn = sum(abs(value) for value in vector) / DRAWS
            made.append(
                {
                    "delta_wh": clip,
                    "totals_per_epsilon": span,
                    "hours": hours,
                    "mechanism": best.name,
                    "dp_delta": float(DP_DELTA) if best.name.endswith("Gaussian") else 0.0,
                    "mean_abs_noise_wh": digits(best.mean_abs),
                    "mean_abs_noise_drawn_wh": digits(drawn),
                    "home_mean_wh_per_hour": digits(mean),
                    "clipped_off_share": digits(cut / mean, 3),
                    "homes_for_1_percent": math.ceil(best.mean_abs / (CLAIM * mean)),
                    "error_at_675_homes": digits(best.mean_abs / (675 * mean), 3),
                }
            )
    return made


def draw(figure: Any, made: Sequence[Row]) -> None:
    """Error against m, a line for each bound, a panel for each span."""
    axes = figure.subplots(1, len(SPANS), sharey=True)
    colours = dict(zip(DELTAS_WH, (GREEN, BLUE, ORANGE, RED), strict=True))
    for axis, span in zip(axes, SPANS, strict=True):
        for row in (row for row in made if row["totals_per_epsilon"] == span):
            whole = row["home_mean_wh_per_hour"]
            error = [100 * row["mean_abs_noise_wh"] / (m * whole) for m in SIZES]
            label = f"Δ = {row['delta_wh'] / 1000:g} kWh: m ≥ {row['homes_for_1_percent']:,}"
            axis.loglog(SIZES, error, color=colours[row["delta_wh"]], label=label)
        axis.axhline(100 * CLAIM, color=BLACK, linestyle="--", linewidth=1)
        axis.set_title(f"ε = 1 for {span} of hourly totals")
        axis.set_xlabel("homes m on the feeder")
        axis.set_ylim(1e-3, 1e5)
        axis.legend(loc="upper right", title="below 1 % from")
    axes[0].set_ylabel("mean absolute noise, % of the mean hourly total")


def make(data: LoadData) -> Sheet:
    """Measure and describe."""
    made = rows(data)
    by = {(row["delta_wh"], row["totals_per_epsilon"]): row for row in made}
    best, usual = by[5_000, "1 hour"], by[5_000, "1 day"]
    whole, name = by[23_000, "1 day"], Path(data.source).name
    notes = [
        prose(
            f"""The claim holds for one hourly total an ε from m = {best["homes_for_1_percent"]:,}
            homes at Δ = 5 kWh, the paper's example. A day of 24 such totals for ε = 1 altogether
            needs {usual["homes_for_1_percent"]:,} ({usual["mechanism"]}, δ = 1e-6); with the
            connection limit of 23 kWh {whole["homes_for_1_percent"]:,}. ε = 1 an hour costs a home
            ε = 24 a day."""
        ),
        prose(
            f"""With Δ = 2 kWh fewer are needed, but {by[2_000, "1 day"]["clipped_off_share"]:.1%} of
            the energy is clipped off (5 kWh: {best["clipped_off_share"]:.2%}): below 1 % noise and
            above 1 % bias is no better. Δ comes from public knowledge, never from these readings:
            the share is shown to judge the choice, not to make it."""
        ),
        prose(
            f"""Load: {name}, {len(data.meters)} homes, {best["home_mean_wh_per_hour"]:.0f} Wh in a
            mean hour. Noise of the less noisy of discrete Laplace and discrete Gaussian; drawn
            {DRAWS:,} times, its mean is in the CSV beside the formula's."""
        ),
    ]
    return Sheet(
        "feeder_claim",
        "Is the noise below 1 % on hourly feeder totals at ε = 1?",
        "Mean absolute noise of an hourly total, in % of the mean hourly total of m homes, when one "
        "home's whole span costs ε = 1. Dashed: 1 %.",
        made,
        lambda figure: draw(figure, made),
        notes,
        size=(12.0, 4.8),
    )


def main(arguments: Sequence[str]) -> int:
    """OUT [DATA.csv]; without data, the household model's."""
    out = Path(arguments[0])
    out.mkdir(parents=True, exist_ok=True)
    if len(arguments) > 1:
        data = read_csv(Path(arguments[1]))
    else:
        data = generate(300, 7 * 48, 1, DEFAULT_START, 1800)
    sheet = make(data)
    sheet.write(out, describe())
    print(sheet.text())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
