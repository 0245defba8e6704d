"""Fig. 5: time against the number of users m, gamma = 4."""

from __future__ import annotations

from wattveil.figures.against import CHOICES, draw, meter_words, row
from wattveil.figures.fit import line
from wattveil.figures.sheet import Row, Sheet, prose
from wattveil.figures.study import FIG5_GAMMA, Study


def rows(study: Study) -> list[Row]:
    """One for each number of users."""
    sizes = study.sizes
    record = study.micropython(sizes.fig6_gammas).get(FIG5_GAMMA)
    return [
        row(study, study.fleet(sizes.bits, "yan2024", users, FIG5_GAMMA), record)
        for users in sizes.fig5_users
    ]


def make(study: Study) -> Sheet:
    """Measure and describe."""
    made = rows(study)
    last, bits = made[-1], study.sizes.bits
    slope = line([(r["users"], r["cloud_rows_ms"]) for r in made])
    meter = line([(r["users"], r["meter_gmpy2_ms"]) for r in made])
    notes = [
        prose(
            f"""At {last["users"]} users {meter_words(last)}; the cloud's rows take
            {last["cloud_rows_ms"] / 1000:.3g} s, its sum {last["cloud_sum_ms"] / 1000:.3g} s."""
        ),
        prose(
            f"""Each further user costs the cloud {slope.slope:.3g} ± {slope.half:.2g} ms of rows
            (95 %, R² {slope.r2:.4f}), and a meter {1000 * meter.slope:.2g} ±
            {1000 * meter.half:.2g} µs."""
        ),
        "The paper gives no number for this figure in its text, so none is drawn.",
        *CHOICES,
    ]
    return Sheet(
        "fig5",
        f"Fig. 5: time against the number of users, γ = {FIG5_GAMMA}",
        f"Time of one period, `yan2024` with a {bits}-bit n, gamma noise, row check on, level short: "
        "left one meter in ms, right the cloud for all m meters in s.",
        made,
        lambda figure: draw(figure, made, "users", "users m", study.sizes.small, False),
        notes,
    )
