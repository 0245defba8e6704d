"""`wattveil log`: check the log, prove an entry, hand it to others, and report from it."""

from __future__ import annotations

import argparse
import json
import sqlite3
from pathlib import Path

from wattveil.privacy.command import (
    add_common,
    add_person,
    add_purpose,
    answering,
    person_of,
)
from wattveil.privacy.contracts import Json
from wattveil.privacy.log.heads import LogError, public_key
from wattveil.privacy.log.verify import export, proof, verify
from wattveil.privacy.state import State


def options(parse: argparse.ArgumentParser) -> None:
    """The sub-commands and their options."""
    actions = parse.add_subparsers(required=True, metavar="ACTION")
    check = actions.add_parser("verify", help="exit code 1 if anything is not as it was signed")
    check.add_argument("--witness", type=Path, metavar="DIR",
                       help="a copy kept elsewhere; default: the folder's own")  # fmt: skip
    prove = actions.add_parser("prove", help="evidence that an entry is in the log, as JSON")
    prove.add_argument("entry", type=int, metavar="N", help="index of the entry, from 0")
    prove.add_argument("--since", type=int, metavar="SIZE",
                       help="and that the log begins with the one signed at this size")  # fmt: skip
    out = actions.add_parser("export", help="the whole log, for tools/verify_log.py")
    out.add_argument("file", type=Path, metavar="FILE")
    for action, run_it in ((check, _verify), (prove, _prove), (out, _export)):
        add_common(action)
        action.set_defaults(act=run_it)
    _reports(actions.add_parser("report", help="reports made from the log"))


def _reports(parse: argparse.ArgumentParser) -> None:
    kinds = parse.add_subparsers(required=True, metavar="REPORT")
    all_of_it = kinds.add_parser("compliance", help="principle by principle, rule by rule")
    add_person(all_of_it, required=False)
    all_of_it.add_argument("--purpose", metavar="P", help="not needed; logged if given")
    all_of_it.set_defaults(act=_compliance)
    own = kinds.add_parser("customer", help="which data of a customer went into which output")
    own.add_argument("meter", metavar="METER")
    add_person(own)
    add_purpose(own)
    own.set_defaults(act=_customer)
    for kind in (all_of_it, own):
        kind.add_argument("--html", type=Path, metavar="FILE", help="write it as a page, too")
        add_common(kind)


def run(args: argparse.Namespace) -> int:
    """0; `verify`: 1 for an inconsistency. ValueError for what cannot be asked."""
    return int(args.act(args))


def _verify(args: argparse.Namespace) -> int:
    try:
        state = State.open(args.state_dir)
        verdict = verify(state.gateway(), args.witness or state.path / "witness").fields()
    except (sqlite3.DatabaseError, LogError) as error:
        verdict = {"consistent": False, "problems": [f"gateway.db cannot be read: {error}"]}
    if args.json:
        print(json.dumps(verdict, indent=1))
    elif verdict["consistent"]:
        print(f"consistent: {verdict['entries']} entries, {verdict['heads']} signed heads, "
              f"{verdict['witnessed']} in the witness\nroot {verdict['root']}")  # fmt: skip
    else:
        print("INCONSISTENT\n" + "\n".join(verdict["problems"]))
    return 0 if verdict["consistent"] else 1


def _prove(args: argparse.Namespace) -> int:
    print(json.dumps(proof(State.open(args.state_dir).log(), args.entry, args.since), indent=1))
    return 0


def _export(args: argparse.Namespace) -> int:
    state = State.open(args.state_dir)
    key = public_key(state.path / "witness").public_bytes_raw()
    count = 0
    with args.file.open("x", encoding="ascii") as file:
        for count, line in enumerate(export(state.log(), key), 1):  # noqa: B007
            file.write(line + "\n")
    print(json.dumps({"lines": count}) if args.json else f"{count} lines in {args.file}")
    return 0


def _compliance(args: argparse.Namespace) -> int:
    from wattveil.privacy.compliance import compliance
    from wattveil.privacy.gateway import Gateway

    gateway = Gateway(State.open(args.state_dir))

    def act() -> Json:
        return compliance(gateway, None if args.who is None else person_of(args, gateway))

    return answering(args, lambda: _page(args, act()), _summary)


def _customer(args: argparse.Namespace) -> int:
    from wattveil.privacy.compliance import customer
    from wattveil.privacy.gateway import Gateway

    gateway = Gateway(State.open(args.state_dir))

    def act() -> Json:
        (subject,) = gateway.accountant.subjects([args.meter])
        return customer(gateway, person_of(args, gateway), subject, args.purpose)

    return answering(args, lambda: _page(args, act()), _own)


def _page(args: argparse.Namespace, report: Json) -> Json:
    if args.html is not None:
        from wattveil.privacy.web.pages import report_file

        args.html.write_text(report_file(report), encoding="utf-8")
    return report


def _summary(report: Json) -> str:
    log = report["log"]
    lines = [
        f"data set {report['dataset']}, {report['from'] or 'nothing yet'} to {report['to'] or '-'}",
        f"log: {'consistent' if log['consistent'] else 'INCONSISTENT'}, {log.get('entries', 0)} entries",
        *(f"FINDING {text}" for text in report["findings"]),
        f"findings: {report['finding_count']}",
        "",
    ]
    for principle in report["fipps"]:
        counts = ", ".join(f"{count} {kind}" for kind, count in principle["entries"].items())
        lines.append(f"{principle['name']}: {counts}\n  {principle['what']}")
    lines.append("")
    for rule in report["rules"]:
        lines.append(f"{rule['id']} ({rule['effect']}): decided {rule['decided']}\n  {rule['says']}\n"
                     f"  after: {rule['source']}; original: {rule['original']}")  # fmt: skip
    return "\n".join(lines)


def _own(report: Json) -> str:
    lines = [f"outputs with data of this customer: {len(report['outputs'])}"]
    lines += [
        f"  {row['at']}  {row['kind']} {row['start']} to {row['end']} for {row['purpose']}, "
        f"technique {row['technique']}, epsilon {row['epsilon']}, to the role {row['to']}, log entry "
        f"{row['log_index']}"
        for row in report["outputs"]
    ]
    lines += [f"accesses to the data of this customer alone: {len(report['accesses'])}"]
    lines += [
        f"  {row['at']}  {row['what']} by the role {row['to']}" for row in report["accesses"]
    ]
    lines += [f"epsilon spent {report['spent']}, left {report['remaining'] or 'without limit'}"]
    return "\n".join(lines)
