"""What the sub-commands of `wattveil vault` do."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from wattveil.privacy.command import answering, person_of
from wattveil.privacy.config import DEFAULT
from wattveil.privacy.contracts import Json
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.query.ask import parse_time
from wattveil.privacy.state import State
from wattveil.privacy.vault import exports, meters, retention, rotate
from wattveil.privacy.vault.ingest import Progress
from wattveil.privacy.vault.ingest import ingest as take_in
from wattveil.privacy.vault.seal import DAY_S
from wattveil.privacy.vault.vault import Vault

_AGE = re.compile(r"(\d{1,5})\s*(d|days?|m|months?|y|years?)?")


def _show(result: Json) -> str:
    shown = {name: value for name, value in result.items() if name != "refused"}
    return "\n".join(f"{name:20} {_text(value)}" for name, value in shown.items())


def _ingested(result: Json) -> str:
    lines = []
    if "meters" in result:
        lines.append(
            "meters: {read:,} read, {new:,} new, {rejected:,} rejected".format(**result["meters"])
        )
    for number, file in enumerate(result["files"], 1):
        if file["known"]:
            lines.append(f"file {number}: was read before")
            continue
        counts = ", ".join(
            f"{file[name]:,} {what}"
            for name, what in (("added", "new"), ("held", "there already"),
                               ("corrected", "corrected"), ("rejected", "rejected"))
            if file[name] or name == "added"
        )  # fmt: skip
        lines.append(f"file {number}: {file['rows']:,} rows: {counts}")
        lines += [f"  {count:,} x {reason}" for reason, count in file["reasons"].items()]
    if result["rejects"]:
        lines.append(f"rejected lines are told in {result['rejects']}")
    return "\n".join(lines)


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


@contextlib.contextmanager
def _bar(args: argparse.Namespace, what: str) -> Iterator[Progress]:
    """A progress bar on standard error, when that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    quiet = args.json or not console.is_terminal
    with Bar(*columns, console=console, disable=quiet) as bar:
        task = bar.add_task(what)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def init(args: argparse.Namespace) -> int:
    """Make folder and vault, or open what is there."""
    config = DEFAULT
    if args.interval is not None:
        config = config.replace("interval_s = 1800 ", f"interval_s = {args.interval} ", 1)
    if args.store is not None:
        config = config.replace('vault = "usage.db" ', f"vault = {json.dumps(args.store)} ", 1)

    def act() -> Json:
        state = State.create(args.state_dir, config)
        if args.interval not in (None, state.config.interval_s):
            raise ValueError(
                f"{args.state_dir}/config.toml is there already, with another interval"
            )
        vault = Vault.create(state)
        return {"state_dir": str(args.state_dir), "interval_s": vault.interval_s}

    return answering(args, act, _show)


def ingest(args: argparse.Namespace) -> int:
    """Meters table first, then the files in order."""
    if not args.files and args.meters is None:
        raise ValueError("give load files, or --meters FILE")
    columns = dict(_pair(text) for text in args.column)
    state = State.open(args.state_dir)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    rejects = args.rejects or args.state_dir / "rejects" / f"{stamp}.csv"

    def act() -> Json:
        try:
            return taken()
        finally:  # an empty file would only ask to be looked at
            if rejects.exists() and not rejects.stat().st_size:
                rejects.unlink()

    def taken() -> Json:
        _permitted(args, state, "correct" if args.correct else "ingest")
        vault = state.vault()
        result: Json = {"rejected": 0}
        if args.meters is not None:
            rejects.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(
                os.open(rejects, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab"
            ) as f:
                found, bad = meters.read_meters(args.meters, f, columns)
            new = meters.learn_meters(vault, found)
            result["meters"] = {"read": len(found), "new": new, "rejected": bad}
            result["rejected"] += bad
        with _bar(args, "lines") as progress:
            reports = take_in(
                vault,
                args.files,
                rejects,
                stamp_end=args.stamp == "end",
                correct=args.correct,
                progress=progress,
            )
        for name in ("rows", "added", "held", "corrected"):
            result[name] = sum(getattr(report, name) for report in reports)
        result["rejected"] += sum(report.rejected for report in reports)
        result["files"] = [report.json() for report in reports]
        return result | {"rejects": str(rejects) if result["rejected"] else None}

    return answering(args, act, _ingested)


def _pair(text: str) -> tuple[str, str]:
    name, equals, column = text.partition("=")
    if not equals:
        raise ValueError(f"--column is NAME=COLUMN, not {text!r}")
    return name, column


def stats(args: argparse.Namespace) -> int:
    """Counts."""
    vault = State.open(args.state_dir).vault()
    return answering(args, vault.stats, _show)


def _permitted(args: argparse.Namespace, state: State, action: str) -> None:
    """Ask the policy whether this person, or the console's operator, may. Refused."""
    gateway = Gateway(state)
    gateway.permit(person_of(args, gateway), action, {}, {})


def rotate_pseudonyms(args: argparse.Namespace) -> int:
    """A new epoch."""
    state = State.open(args.state_dir)
    first = None if args.first is None else _day(args.first)

    def act() -> Json:
        _permitted(args, state, "rotate-pseudonyms")
        return rotate.rotate_pseudonyms(state.vault(), first)

    return answering(args, act, _show)


def rotate_keys(args: argparse.Namespace) -> int:
    """New keys."""
    state = State.open(args.state_dir)

    def act() -> Json:
        _permitted(args, state, "rotate-keys")
        with _bar(args, "homes") as progress:
            return rotate.rotate_keys(state.vault(), progress, data=args.data)

    return answering(args, act, _show)


def relink(args: argparse.Namespace) -> int:
    """Ask, or carry out what was approved."""
    gateway = Gateway(State.open(args.state_dir))

    def act() -> Json:
        person = person_of(args, gateway)
        if args.approval is None:
            return exports.ask_relink(gateway, person, args.pseudonym, args.epoch)
        return exports.do_relink(gateway, person, args.pseudonym, args.epoch, args.approval)

    return answering(args, act, _show)


def expire(args: argparse.Namespace) -> int:
    """Delete, keep aggregates."""
    state = State.open(args.state_dir)
    today = int(time.time()) // DAY_S
    age = args.older_than or str(state.config.retention.months)
    before = day_before(age, today)

    def act() -> Json:
        _permitted(args, state, "expire")
        return retention.expire(state.vault(), before)

    return answering(args, act, _show)


def day_before(age: str, today: int) -> int:
    """The UTC day index that an age or date names: "18" and "18m" months, "90d", "2y"; ValueError."""
    match = _AGE.fullmatch(age.strip())
    if match is None:
        return _day(age)
    number, unit = int(match[1]), (match[2] or "m")[0]
    if number < 1:
        raise ValueError("--older-than: at least a day, a month or a year")
    if unit == "d":
        return max(0, today - number)
    return max(0, retention.months_before(today, number * (12 if unit == "y" else 1)))


def _day(text: str) -> int:
    try:
        return date.fromisoformat(text).toordinal() - date(1970, 1, 1).toordinal()
    except ValueError:
        raise ValueError(f"{text!r} is no date like 2026-01-31") from None


def export(args: argparse.Namespace) -> int:
    """One customer's readings."""
    gateway = Gateway(State.open(args.state_dir))
    first = None if args.first is None else parse_time(args.first, "--from")
    last = None if args.last is None else parse_time(args.last, "--to")
    written: list[str] = []

    def act() -> Json:
        person = person_of(args, gateway)
        xml, result = exports.export_greenbutton(
            gateway, person, args.meter, args.purpose, first, last
        )
        if args.out is None:
            written.append(xml)
            return result | ({"xml": xml} if args.json else {})
        with open(os.open(args.out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(xml)
        return result | {"out": str(args.out)}

    def text(result: Json) -> str:
        if args.out is None:
            print(f"log entry {result['log_index']}", file=sys.stderr)
            return written[0].rstrip("\n")
        return _show(result)

    return answering(args, act, text)
