"""Fig. 6: time against the security parameter gamma, m = 500."""

from __future__ import annotations

from wattveil.figures.against import CHOICES, draw, meter_words, row
from wattveil.figures.paper import CLOUD_S, GAMMA, MACHINE, METER_MS, SOURCE, USERS
from wattveil.figures.sheet import Row, Sheet, prose
from wattveil.figures.study import Study


def rows(study: Study) -> list[Row]:
    """One for each number of slots."""
    sizes = study.sizes
    records = study.micropython(sizes.fig6_gammas)
    return [
        row(study, study.fleet(sizes.bits, "yan2024", sizes.fig6_users, gamma), records.get(gamma))
        for gamma in sizes.fig6_gammas
    ]


def make(study: Study) -> Sheet:
    """Measure and describe."""
    made, sizes = rows(study), study.sizes
    last = made[-1]
    theirs = last["gamma"] == GAMMA and sizes.fig6_users == USERS
    cloud = last["cloud_rows_ms"] / 1000
    plain, small = last["cloud_plain_ms"] / 1000, last["cloud_plain_small_ms"] / 1000
    notes = [
        prose(
            f"""At γ = {last["gamma"]} {meter_words(last)}; the cloud {cloud:.3g} s for rows,
            {last["cloud_uploads_ms"] / 1000:.3g} s for uploads, {last["cloud_sum_ms"] / 1000:.3g}
            s for the sum."""
        ),
        prose(
            f"""The paper ({SOURCE}; {MACHINE}) gives {METER_MS:g} ms for a meter and about
            {CLOUD_S:g} s for the cloud, at γ = {GAMMA} and {USERS} users: 2.1 ms a slot and 0.4
            ms an encryption. As many plain encryptions would take {small:.3g} s here with
            {sizes.small} bits and {plain:.3g} s with {sizes.bits}: its key was most likely
            shorter than what is secure today, and its times cannot be compared with ours one to
            one."""
        ),
        *CHOICES,
    ]
    return Sheet(
        "fig6",
        f"Fig. 6: time against γ, m = {sizes.fig6_users}",
        f"Time of one period, `yan2024` with a {sizes.bits}-bit n, gamma noise, row check on, level "
        f"short: left one meter in ms, right the cloud for all {sizes.fig6_users} meters in s. Stars: "
        "the paper's two numbers, from another machine and an unknown key.",
        made,
        lambda figure: draw(figure, made, "gamma", "slots of a row γ", sizes.small, theirs),
        notes,
    )
