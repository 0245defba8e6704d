"""Table 1: average execution time and "SD" of the schemes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wattveil.figures.compare import CHOICES, Compared, compared, of_times
from wattveil.figures.draw import BLUE, GREEN, ORANGE, PAPER
from wattveil.figures.errors import DG, OURS, WAV, Spread
from wattveil.figures.paper import CLOUD_S, GAMMA, MACHINE, METER_MS, SOURCE, TABLE, USERS
from wattveil.figures.sheet import Row, Sheet, digits, prose
from wattveil.figures.study import DELTA, EPSILON, Study

MEANT = {"WAV-like": "WAV", "DG-APED-like": "DG-APED", "ours, yan2024": "own"}
COLORS = (BLUE, ORANGE, GREEN)
AES = "AES-256"  # of a row that has no key size
MARKERS = ("o", "s", "D")


def make(study: Study) -> Sheet:
    """Measure and describe."""
    sizes, users = study.sizes, study.sizes.table_users
    access = of_times(study.scheme("access", 0, users))
    found = [access] + [one for bits in sizes.compare_bits for one in compared(study, bits, users)]
    spreads = {scheme: study.error(scheme, users) for scheme in (WAV, DG, OURS)}
    rows = [_row(one, spreads) for one in found]
    return Sheet(
        "table1",
        "Table 1: average execution time and SD",
        prose(
            f"""Left: time of one user's share of a sum over {users:,} users, in ms (log):
            everybody's work over m; bars: SD_time, the standard deviation over users of one
            user's own part. Right: SD of the released sum's error in its two readings, for Δ =
            {DELTA:,} Wh, ε = {EPSILON}. Stars: the paper's numbers, from another machine, with
            key size and meaning of SD not stated."""
        ),
        rows,
        lambda figure: _draw(figure, rows, sizes.compare_bits),
        [*_table(rows), *_findings(rows), *CHOICES],
        size=(12.0, 5.2),
    )


def _meant(scheme: str) -> str:
    """The row of the paper's table, or ""."""
    name = next((name for name in MEANT if scheme.startswith(name) and "access" not in scheme), "")
    return MEANT.get(name, "")


def _row(one: Compared, spreads: dict[str, Spread]) -> Row:
    meant = _meant(one.scheme)
    time, sd = TABLE.get(meant, ("", ""))
    noise = spreads[WAV if meant == "WAV" else DG if meant == "DG-APED" else OURS]
    exact = "access" in one.scheme  # no noise, no error
    return {
        "scheme": one.scheme,
        "bits": one.bits or AES,
        "users": one.users,
        "timed_users": one.timed,
        "time_ms": digits(one.whole_ms / one.users),
        "user_ms": digits(one.user_ms),
        "sd_time_ms": digits(one.user_sd_ms),
        "sd_rel": 0.0 if exact else digits(noise.rel[0]),
        "sd_signed": 0.0 if exact else digits(noise.signed[0]),
        "paper_time_ms": time,
        "paper_sd": sd,
        "checked": one.checked,
    }


def _table(rows: Sequence[Row]) -> list[str]:
    notes = []
    for r in rows:
        cv = r["sd_time_ms"] / r["user_ms"] if r["user_ms"] else 0
        text = (
            f"{r['scheme']} ({r['bits']}{' bits' if r['bits'] != AES else ''}): {r['time_ms']:.3g} ms "
            f"a user; SD_time {r['sd_time_ms']:.2g} ms ({cv:.0%}); SD_rel {r['sd_rel']:.2%}, SD_signed "
            f"{r['sd_signed']:.2%}"
        )
        if r["paper_sd"] != "":
            text += f". Paper: {r['paper_time_ms']} ms, SD {r['paper_sd']}"
        notes.append(text + ".")
    return notes


def _findings(rows: Sequence[Row]) -> list[str]:
    sizes = [bits for bits in dict.fromkeys(r["bits"] for r in rows) if bits != AES]
    named = {
        bits: [r for r in rows if r["bits"] == bits and r["paper_sd"] != ""] for bits in sizes
    }

    def order(column: str, bits: object = sizes[0]) -> str:
        by_value = sorted(named[bits], key=lambda r: float(r[column]))
        return " < ".join(_meant(r["scheme"]) for r in by_value)

    measured = "; ".join(f"{order('time_ms', bits)} at {bits} bits" for bits in sizes)
    return [
        prose(
            f"""The paper ({SOURCE}; {MACHINE}) has {order("paper_time_ms")} by time. Measured
            with all parts, its noise protocol too: {measured}."""
        ),
        prose(
            f"""By SD the paper has {order("paper_sd")}. Here SD_signed gives
            {order("sd_signed")}, SD_rel {order("sd_rel")}, SD_time {order("sd_time_ms")}; and WAV
            without noise, as cited, has an error of 0. As standard deviations of times the
            paper's would be 12 to 21 % of the time: ordinary jitter, and the likeliest reading of
            its table."""
        ),
        prose(
            f"""The paper's 0.2198 ms cannot contain its noise protocol: its section 6.2 gives
            {METER_MS:g} ms to {GAMMA} slots of a meter and {CLOUD_S:g} s to {USERS * GAMMA:,}
            encryptions of the cloud, 2.1 and 0.4 ms each."""
        ),
    ]


def _draw(figure: Any, rows: Sequence[Row], sizes: Sequence[int]) -> None:
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    names = list(dict.fromkeys(r["scheme"] for r in rows))[::-1]
    kinds = [AES, *sizes]
    for r in rows:
        at, kind = names.index(r["scheme"]), kinds.index(r["bits"])
        y = at + 0.12 * (1 - kind)
        low = min(r["sd_time_ms"], 0.9 * r["time_ms"])
        left.errorbar([r["time_ms"]], [y], xerr=[[low], [r["sd_time_ms"]]], color=COLORS[kind],
                      marker=MARKERS[kind], markersize=5, linestyle="none", capsize=2)  # fmt: skip
        left.annotate(f"{r['time_ms']:.3g}", (r["time_ms"], y), textcoords="offset points",
                      xytext=(0, 6), ha="center", fontsize=7, color=COLORS[kind])  # fmt: skip
    stars = [(r["paper_time_ms"], r["paper_sd"], names.index(r["scheme"])) for r in rows
             if r["paper_sd"] != ""]  # fmt: skip
    left.plot(
        [s[0] for s in stars], [s[2] - 0.25 for s in stars], label="paper, its machine", **PAPER
    )
    for kind, name in enumerate(kinds):
        label = name if isinstance(name, str) else f"{name}-bit keys"
        left.plot([], [], MARKERS[kind], color=COLORS[kind], markersize=5, label=label)
    left.set(xscale="log", xlabel="ms a user (log)", title="time", ylim=(-0.6, len(names) - 0.4))
    left.set_yticks(range(len(names)), names)
    left.xaxis.set_major_formatter("{x:g}")
    for name, color, marker, shift in (
        ("sd_rel", BLUE, "o", 0.1),
        ("sd_signed", ORANGE, "s", -0.1),
    ):
        once = {r["scheme"]: r[name] for r in rows}
        points = [(max(100 * v, 0.0), names.index(s) + shift) for s, v in once.items()]
        right.plot(*zip(*points, strict=True), marker, color=color, markersize=5,
                   label=name.replace("sd_", "SD_"))  # fmt: skip
    right.plot([100 * s[1] for s in stars], [s[2] - 0.25 for s in stars],
               label="paper's SD, read as a share", **PAPER)  # fmt: skip
    right.set(xscale="symlog", xlabel="% of the sum (log, 0 at the left)", title="SD of the error")
    right.set_xlim(left=-0.2)
    right.set_xticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    for axis in (left, right):
        axis.legend(loc="lower left")
