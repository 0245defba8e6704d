"""Fig. 8: "standard deviation" of the schemes against the number of users, in its three readings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wattveil.baselines import dg_aped
from wattveil.figures.compare import of_times, product
from wattveil.figures.draw import BLUE, ORANGE, PURPLE
from wattveil.figures.errors import DG, OURS, WAV, Spread
from wattveil.figures.fit import power
from wattveil.figures.sheet import Row, Sheet, digits, prose
from wattveil.figures.study import DELTA, EPSILON, FIG5_GAMMA, Study

LOOKS = {WAV: (ORANGE, "s"), DG: (PURPLE, "v"), OURS: (BLUE, "o")}
TIMED = {WAV: "aggregation", DG: "dg_aped"}


def make(study: Study) -> Sheet:
    """Draw and describe."""
    sizes = study.sizes
    found = [study.error(s, m) for s in LOOKS for m in sizes.compare_users if m >= 2]
    times = {(one.scheme, one.users): _time_sd(study, one) for one in found}
    users, s = sizes.compare_users[-1], -(-DELTA // 2)
    lattice = dg_aped.delta_of(users, s, 2 * s, float(EPSILON))
    load = study.load
    ours = {one.users: one.signed[0] for one in found if one.scheme == OURS}
    smallest = all(one.signed[0] > ours[one.users] for one in found if one.scheme != OURS)
    notes = [
        *_findings(found),
        prose(
            f"""The paper calls SD an error rate, says that its own scheme has the smallest for
            every m, most clearly above 800 users, and gives WAV the smallest in Table 1: these
            cannot be one quantity at one setting. Here, where all add noise, ours is
            {"" if smallest else "not "}smallest for every m. It falls as 1/m, WAV-like's too,
            DG-APED-like's only as 1/√m, so that gap widens with m."""
        ),
        prose(
            f"""Load: {load.source}, mean {load.mean:.1f} Wh a home and half-hour; Δ = {DELTA:,}
            Wh, ε = {EPSILON} for all; {found[0].runs} draws a point, seeds in the CSV; bars:
            bootstrap 95 % intervals, lines: closed forms. SD_signed is of (Ŝ − S)/S, SD_rel of |Ŝ
            − S|/S, SD_time of one user's time at {sizes.compare_bits[0]} bits."""
        ),
        prose(
            """WAV-like as cited adds no noise: its SD_rel is 0 (modes A and B; the runs behind
            Fig. 7 check it to the Wh). What is drawn is mode C, Laplace noise on every
            coefficient with sensitivity Δ (L + 1), split over the meters like ours."""
        ),
        prose(
            f"""DG-APED-like: one fair coin of ±Δ/2 a meter. Its privacy is not comparable: sums
            lie on a lattice of step Δ, so a change that is no multiple of Δ is seen with
            certainty (δ = 1); for one of exactly Δ at {users:,} users δ = {lattice:.2g} at ε =
            {EPSILON}. Ours has δ = 0 (`discrete`) or some 2⁻³⁸ a share (`gamma`;
            docs/LIMITS.md)."""
        ),
    ]
    return Sheet(
        "fig8",
        "Fig. 8: standard deviation of the schemes against the number of users",
        prose(
            """Standard deviation of a released sum's error, relative to the sum's mean load
            (left, middle), and of one user's computing time in ms (right), against m; all axes
            logarithmic."""
        ),
        [_row(one, times[one.scheme, one.users]) for one in found],
        lambda figure: _draw(figure, found, times),
        notes,
        size=(12.0, 4.8),
    )


def _time_sd(study: Study, one: Spread) -> float:
    bits = study.sizes.compare_bits[0]
    if one.scheme in TIMED:
        return of_times(study.scheme(TIMED[one.scheme], bits, one.users)).user_sd_ms
    return product(study, "yan2024", bits, one.users).user_sd_ms


def _row(one: Spread, time_sd: float) -> Row:
    return {
        "scheme": one.scheme,
        "users": one.users,
        "draws": one.runs,
        "seed": one.seed,
        "mean_abs_rel": digits(one.mean_abs),
        "sd_rel": digits(one.rel[0]),
        "sd_rel_low95": digits(one.rel[1]),
        "sd_rel_high95": digits(one.rel[2]),
        "sd_signed": digits(one.signed[0]),
        "sd_signed_low95": digits(one.signed[1]),
        "sd_signed_high95": digits(one.signed[2]),
        "sd_signed_formula": digits(one.formula),
        "sd_time_ms": digits(time_sd),
    }


def _findings(found: Sequence[Spread]) -> list[str]:
    notes = []
    for scheme in LOOKS:
        mine = [one for one in found if one.scheme == scheme]
        last = mine[-1]
        text = f"{scheme} at {last.users:,} users: SD_signed {last.signed[0]:.2%}, SD_rel {last.rel[0]:.2%}"
        if len(mine) > 2:
            fit = power([(one.users, one.signed[0]) for one in mine])
            text += f"; it goes as m^({fit.slope:.2f} ± {fit.half:.2g})"
        notes.append(text + ".")
    return notes


def _draw(figure: Any, found: Sequence[Spread], times: dict[tuple[str, int], float]) -> None:
    signed, rel, time = figure.subplots(1, 3)
    for scheme, (color, marker) in LOOKS.items():
        mine = [one for one in found if one.scheme == scheme]
        users = [one.users for one in mine]
        for axis, name in ((signed, "signed"), (rel, "rel")):
            values = [getattr(one, name) for one in mine]
            below = [100 * (v - low) for v, low, _ in values]
            above = [100 * (high - v) for v, _, high in values]
            axis.errorbar(users, [100 * v for v, _, _ in values], yerr=[below, above], color=color,
                          marker=marker, markersize=4, linestyle="none", label=scheme)  # fmt: skip
        signed.plot(users, [100 * one.formula for one in mine], "-", color=color)
        label = scheme.removesuffix(" with noise") + (
            f", γ = {FIG5_GAMMA}" if scheme == OURS else ""
        )
        time.plot(users, [times[scheme, m] for m in users], "-", marker=marker, markersize=4,
                  color=color, label=label)  # fmt: skip
    signed.set(title="SD_signed (lines: closed form)", ylabel="% of the sum (log)")
    rel.set(title="SD_rel", ylabel="% of the sum (log)")
    time.set(title="SD_time, one user", ylabel="ms (log)")
    for axis in (signed, rel, time):
        axis.set(xscale="log", yscale="log", xlabel="users m (log)")
        ticks = [m for m in (10, 100, 200, 500, 1000, 2000) if users[0] <= m <= users[-1]]
        axis.set_xticks(ticks, [str(m) for m in ticks])
        axis.minorticks_off()
        axis.yaxis.set_major_formatter("{x:g}")
    handles, labels = signed.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
