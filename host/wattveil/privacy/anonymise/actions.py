"""What `wattveil anonymise` does."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from wattveil.importers.files import read_load
from wattveil.importers.households import generate
from wattveil.privacy.anonymise import linkage
from wattveil.privacy.anonymise.export import export_kept, export_records, export_sums
from wattveil.privacy.anonymise.kanonymity import DAY_S
from wattveil.privacy.anonymise.profiles import of_load
from wattveil.privacy.command import answering, person_of
from wattveil.privacy.config import amount
from wattveil.privacy.contracts import Json
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.people import Person
from wattveil.privacy.query.ask import parse_time
from wattveil.privacy.state import State

MODEL = (200, 14, 1)  # homes, days, seed


def export(args: argparse.Namespace) -> int:
    """Sums or records out of the vault, through the gateway."""
    for name in ("state_dir", "who", "purpose", "first", "last"):
        if getattr(args, name) is None:
            raise ValueError("an export needs --state-dir, --as, --purpose, --from and --to")
    gateway = Gateway(State.open(args.state_dir))
    segment = dict(_pair(text) for text in args.segment)
    if args.method == "kept" and (segment or args.by):
        raise ValueError("kept sums are of the groups they were made of: no --segment, no --by")
    start, end = parse_time(args.first, "--from"), parse_time(args.last, "--to")

    def act() -> Json:
        person = person_of(args, gateway)
        with gateway.refusing(person, "anonymise"):
            text, made = export_of(person)
        _write(args.export, text)
        return made | {"export": str(args.export)}

    def export_of(person: Person) -> tuple[str, Json]:
        if args.method == "aggregate":
            share = None if args.share is None else amount(args.share, "--share")
            return export_sums(
                gateway, person, args.purpose, segment=segment, start=start, end=end,
                every_s=args.every, by=args.by, least=args.least, share=share,
            )  # fmt: skip
        if args.method == "kept":
            return export_kept(
                gateway, person, args.purpose, start=start, end=end, every_s=args.every
            )
        return export_records(
            gateway, person, args.purpose, segment=segment, start=start, end=end, k=args.k,
            l_diverse=args.l, window_s=args.rotate * DAY_S, most_suppressed=args.suppress,
        )  # fmt: skip

    return answering(args, act, _show)


def linkage_study(args: argparse.Namespace) -> int:
    """The attack on the data owner's own files, or on the household model. No vault is opened."""

    def act() -> Json:
        if args.data:
            data = read_load(args.data, skip_bad=True)
        else:
            homes, days, seed = MODEL
            data = generate(homes, 48 * days, seed)
        result = linkage.study(of_load(data), targets=args.targets, k=args.k, l_diverse=1)
        _write(args.export, json.dumps(result, indent=1) + "\n")
        if args.plot is not None:
            linkage.plot(result, args.plot)
        return result

    def show(result: Json) -> str:
        lines = [
            f"{result['homes']} homes, {result['days']} days; identified, by known readings p"
        ]
        for attacker in linkage.ATTACKERS:
            lines.append(f"{attacker}: " + ", ".join(f"p = {p}" for p in linkage.KNOWN))
            rows: dict[str, list[str]] = {}
            for outcome in result["outcomes"]:
                if outcome["attacker"] == attacker:
                    rows.setdefault(outcome["step"], []).append(f"{outcome['identified']:4.0%}")
            lines += [f"  {step:44}{' '.join(values)}" for step, values in rows.items()]
        return "\n".join(lines)

    return answering(args, act, show)


def _write(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--segment is K=V, not {text!r}")
    return key, value


def _show(result: Json) -> str:
    return "\n".join(f"{name:12} {value}" for name, value in result.items())
