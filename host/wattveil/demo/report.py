"""The outcome of a demo run as plain data: what `--json` prints and the screen shows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from wattveil.demo.plan import Plan
from wattveil.fleet.settings import exact

Json = dict[str, Any]


def iso(utc_s: int) -> str:
    """UTC seconds as ISO 8601 with Z."""
    return datetime.fromtimestamp(utc_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def number(value: Fraction) -> int | float:
    """A fraction as the JSON number people expect."""
    return int(value) if value.denominator == 1 else float(value)


def period_row(plan: Plan, start: int, cloud: Json, release: Json | None) -> Json:
    """One period's row. cloud: its entry in the cloud's status; release: in the centre's, or None.

    `true_wh` and `noise_wh` exist in the demo only: it knows the readings it handed out.
    """
    members = list(release["members"]) if release else list(cloud["reported"])
    true_wh = sum(plan.clamped(n, start) or 0 for n in members)
    total = release["total_wh"] if release else None
    outcome = (release["refused"] if release else cloud["outcome"]) or None
    return {
        "start": iso(start),
        "end": iso(start + plan.settings.period_s),
        "roster": len(plan.roster),
        "reported": len(members),
        "clamped": sum(plan.was_clamped(n, start) for n in members),
        "epsilon": number(Fraction(release["epsilon"])) if release else 0,
        "epsilon_received": release["epsilon_received"] if release and total is not None else 0,
        "released_wh": total,
        "true_wh": true_wh,
        "noise_wh": None if total is None else total - true_wh,
        "refused": outcome if total is None else None,
    }


def runtimes(meters: Mapping[str, Json]) -> list[Json]:
    """How many meters run on what, as their hello messages say."""
    counts: dict[tuple[str, str], int] = {}
    for meter in meters.values():
        if meter.get("runtime"):
            name, _, rest = meter["runtime"].partition(" ")
            told = (name, rest.partition(" ")[0])
            counts[told] = counts.get(told, 0) + 1
    return [{"name": n, "version": v, "meters": c} for (n, v), c in sorted(counts.items())]


def summary(plan: Plan, rows: list[Json], cloud: Json, center: Json) -> Json:
    """The whole run, in the order the documentation lists it."""
    options, settings = plan.options, plan.settings
    return {
        "suite": settings.suite,
        "noise": settings.noise,
        "bits": options.bits,
        "gamma": settings.gamma,
        "epsilon": number(plan.epsilon),
        "delta_wh": settings.delta,
        "quorum": number(exact(settings.quorum, "quorum")),
        "quorum_count": plan.quorum_count,
        "colluding": settings.colluding,
        "row_check": settings.row_check,
        "own_noise": settings.own_noise,
        "period_s": settings.period_s,
        "offset": settings.offset,
        "link": options.link,
        "runtime": runtimes(cloud["meters"]),
        "meters": len(plan.roster),
        "epsilon_spent": number(Fraction(center["epsilon_spent"])),
        "periods": rows,
    }
