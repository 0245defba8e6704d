"""`wattveil ledger`: what every household has spent, and the entries that say for what.

It reads beside the running centre; nothing here writes. The ledger knows households by the
accountant's names; whoever has its key may ask for one by meter id, or for the ids of a roster.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.table import Table

from wattveil.operate.stores import add_store_options, store_of
from wattveil.privacy.ledger import Damaged, Limits, audit, entries, spending
from wattveil.roles.common import ConfigError
from wattveil.roles.folders import load_limits, load_record, load_subjects

Load = Callable[[str], Mapping[str, bytes]]
DAY_S = 86400


def options(parse: argparse.ArgumentParser) -> None:
    """The sub-commands and their options."""
    commands = parse.add_subparsers(required=True, metavar="ACTION")
    show = commands.add_parser("show", help="what each household has spent, and the limits")
    show.add_argument("--meter", metavar="ID", help="only this one's")
    show.add_argument("--day", metavar="YYYY-MM-DD", help="of the daily sums; default: the newest")
    show.add_argument("--json", action="store_true")
    export = commands.add_parser("export", help="all entries, one a line")
    export.add_argument("--out", type=Path, help="file to write; default: standard output")
    export.add_argument("--json", action="store_true", help="JSON instead of CSV")
    check = commands.add_parser("check", help="add all entries up again and compare the sums")
    for action in (show, export):
        action.add_argument("--ids", action="store_true",
                            help="meter ids of the roster in place of the ledger's names")  # fmt: skip
        action.add_argument("--center", type=Path, metavar="DIR",
                            help="with --store: the centre's folder, for its accountant.key")  # fmt: skip
    for action, run in ((show, _show), (export, _export), (check, _check)):
        add_store_options(action, "center")
        action.set_defaults(action=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out one; the exit status."""
    with store_of(arguments, shared=True) as store:
        try:
            status: int = arguments.action(arguments, store.load)
        except (Damaged, ConfigError) as error:
            raise ValueError(str(error)) from None
    return status


def date(day: int) -> str:
    """A UTC day index as text."""
    return datetime.fromtimestamp(day * DAY_S, UTC).strftime("%Y-%m-%d")


def day_of(text: str) -> int:
    """Inverse of `date`; ValueError."""
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) // DAY_S
    except ValueError:
        raise ValueError(f"--day {text}: a day is written YYYY-MM-DD") from None


def _folder(arguments: argparse.Namespace) -> Path:
    folder: Path | None = arguments.center or arguments.state_dir
    if folder is None:
        raise ValueError("--meter and --ids need the centre's folder: --center DIR")
    return folder


def _shown(arguments: argparse.Namespace) -> Callable[[str], str]:
    """How a name of the ledger's is shown: a meter id, where it is of the roster and asked for."""
    if not arguments.ids:
        return str
    folder = _folder(arguments)
    _, roster = load_record(folder)
    ids = dict(zip(load_subjects(folder).names(roster), roster, strict=True))
    return lambda name: ids.get(name, name)


def _show(arguments: argparse.Namespace, load: Load) -> int:
    folder = arguments.center or arguments.state_dir
    limits = load_limits(folder / "limits.json") if folder else Limits()
    shown = _shown(arguments)
    days = [charge.day for charge in entries(load)]
    day = day_of(arguments.day) if arguments.day else max(days, default=0)
    lifetime, daily = spending(load), spending(load, day)
    if arguments.meter is not None:
        name = load_subjects(_folder(arguments)).name(arguments.meter)
        if name not in lifetime:
            raise ValueError(f"{arguments.meter}: nothing was ever charged to a meter of that id")
        lifetime = {name: lifetime[name]}
    if arguments.json:
        accounts = {
            shown(s): {"day": str(daily.get(s, 0)), "lifetime": str(v)}
            for s, v in lifetime.items()
        }
        result = {
            "day": date(day),
            "limits": limits.text(),
            "entries": len(days),
            "spent": accounts,
        }
        print(json.dumps(result, indent=1))
        return 0
    limit = limits.text()
    table = Table("household", f"epsilon on {date(day)}", "epsilon in its lifetime")
    table.add_row("limit", limit["day"] or "none", limit["lifetime"] or "none", style="bold")
    for subject, spent in lifetime.items():
        table.add_row(shown(subject), _number(daily.get(subject, Fraction(0))), _number(spent))
    Console().print(table)
    print(f"{len(days)} entries")
    return 0


def _number(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else f"{value} ({float(value):g})"


def _export(arguments: argparse.Namespace, load: Load) -> int:
    if arguments.out is None:
        _write(sys.stdout, load, arguments.json, _shown(arguments))
    else:
        with arguments.out.open("w", newline="") as file:
            _write(file, load, arguments.json, _shown(arguments))
    return 0


def _write(file: TextIO, load: Load, as_json: bool, shown: Callable[[str], str]) -> None:
    """name, day, epsilon (exact), households; in CSV the households are joined by blanks."""
    rows = [
        {
            "name": charge.name,
            "day": date(charge.day),
            "epsilon": str(charge.epsilon),
            "note": charge.note,
            "households": [shown(name) for name in charge.subjects()],
        }
        for charge in entries(load)
    ]
    if as_json:
        json.dump(rows, file, indent=1)
        file.write("\n")
        return
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["name", "day", "epsilon", "note", "households"])
    for row in rows:
        writer.writerow([*list(row.values())[:-1], " ".join(row["households"])])


def _check(arguments: argparse.Namespace, load: Load) -> int:
    wrong = audit(load)
    for line in wrong:
        print(line)
    print("the sums are those of the entries" if not wrong else f"{len(wrong)} sums are wrong")
    return 1 if wrong else 0
