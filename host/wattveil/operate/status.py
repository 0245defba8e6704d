"""`wattveil status`: what running roles say of themselves, from where they are observed."""

from __future__ import annotations

import argparse
import json
import urllib.error
import urllib.request
from datetime import UTC, datetime
from typing import Any

TIMEOUT_S = 15.0
SHOWN = 5  # newest periods
WORST = 1 << 24  # bytes of an answer


def options(parse: argparse.ArgumentParser) -> None:
    """The options."""
    parse.add_argument(
        "roles", nargs="+", metavar="[HOST:]PORT", help="what the roles were given as --observe"
    )
    parse.add_argument("--json", action="store_true", help="all they say, as a list")


def run(arguments: argparse.Namespace) -> int:
    """Print it; 1 when a role does not answer or its fleet is stopped."""
    found = [_ask(where) for where in arguments.roles]
    if arguments.json:
        print(json.dumps(found, indent=1))
    else:
        for status in found:
            print("\n".join(_lines(status)))
    return int(any("error" in status or status.get("stopped") for status in found))


def _ask(where: str) -> dict[str, Any]:
    address = where if ":" in where else f"127.0.0.1:{where}"
    try:
        with urllib.request.urlopen(f"http://{address}/status", timeout=TIMEOUT_S) as answer:
            status: dict[str, Any] = json.loads(answer.read(WORST))
    except (urllib.error.URLError, OSError, ValueError) as error:
        return {"at": where, "error": str(getattr(error, "reason", error))}
    return {"at": where, **status}


def _lines(status: dict[str, Any]) -> list[str]:
    if "error" in status:
        return [f"{status['at']}: no answer: {status['error']}"]
    now = datetime.fromtimestamp(status["clock"], UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    lines = [f"{status['role']} at {status['at']}: start {status['boot']}, its clock {now}"]
    if "meters" in status:
        states = [meter["state"] for meter in status["meters"].values()]
        counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
        lines.append(f"  meters: {counts}")
        rows = status["rows"]
        lines.append(f"  rows: {rows['ready']} of {rows['capacity']} ready, {rows['taken']} taken of "
                     f"{rows['made']} made ahead, {rows['inline']} made when asked for")  # fmt: skip
        for start, period in list(status["periods"].items())[-SHOWN:]:
            reported = len(period["reported"])
            outcome = period["outcome"] or "under way"
            lines.append(f"  {_when(start)}  {reported} of {len(states)} reported  {outcome}")
    for start, release in list(status.get("releases", {}).items())[-SHOWN:]:
        total = release["refused"] or f"{release['total_wh']} Wh"
        lines.append(f"  {_when(start)}  {total} over {len(release['members'])} meters")
    if "releases" in status:
        limits = [f"{limit} a {name}" for name, limit in status["epsilon_limits"].items() if limit]
        lines.append(f"  epsilon spent, at most: {status['epsilon_spent']}; "
                     f"limits: {', '.join(limits) or 'none'}")  # fmt: skip
        if status["stopped"]:
            lines.append("  STOPPED by three invalid sums in a row: see wattveil store unstop")
    for start, size in list(status.get("closings", {}).items())[-SHOWN:]:
        lines.append(f"  {_when(start)}  closed over {size} meters")
    if status["revoked"]:
        lines.append(f"  revoked: {', '.join(status['revoked'])}")
    refused = sorted(status["refused"].items(), key=lambda item: -item[1])
    lines.append(
        "  refused: " + (", ".join(f"{n} {reason}" for reason, n in refused) or "nothing")
    )
    return lines


def _when(start: str) -> str:
    return datetime.fromtimestamp(int(start), UTC).strftime("%Y-%m-%d %H:%M:%SZ")
