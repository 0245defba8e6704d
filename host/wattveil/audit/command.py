"""`wattveil audit`: its options, the report it leaves, and what a person reads."""

from __future__ import annotations

import argparse
import json
import logging
import os
import secrets
import time
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:  # what is played is imported only where it is
    from wattveil.audit.finding import Finding, Study
    from wattveil.audit.report import Results

PAGE = "privacy.html"
DATA = "WATTVEIL_DATA"  # environment: where data sets are, when --data does not say


def options(parse: argparse.ArgumentParser) -> None:
    """Add the command line's options to a parser."""
    parse.add_argument("subject", choices=("privacy",), help="the privacy promise, attacked")
    size = parse.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="under a minute; the default")
    size.add_argument("--long", action="store_true", help="ten times as much and more")
    parse.add_argument("--out", type=Path, default=Path("audit"), metavar="DIR",
                       help=f"folder for {PAGE}; default audit")  # fmt: skip
    parse.add_argument("--json", action="store_true", help="a list of findings, nothing else")
    parse.add_argument("--what", action="append", metavar="CHECK",
                       help="only this one: epsilon, release, coalitions, rules, printed, inference, "
                       "floor, gateway or books (repeatable); default all")  # fmt: skip
    parse.add_argument("--data", type=Path, metavar="DIR",
                       help=f"folder with REFIT and LCL files; default ${DATA}, else the household "
                       "model")  # fmt: skip
    parse.add_argument("--seed", type=int, metavar="N",
                       help="of all that the attacks draw, to repeat a run; default a new one")  # fmt: skip
    parse.add_argument("--bits", type=int, default=512, metavar="N",
                       help="of the key that is attacked; 1024 takes twice as long, 2048 "
                       "six times; default 512")  # fmt: skip
    # For the audit's own tests: the product with one protection taken away.
    parse.add_argument("--plant", metavar="NAME", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """The command; 1 when any verdict is not `holds`."""
    data = args.data or (Path(os.environ[DATA]) if os.environ.get(DATA) else None)
    if data and not data.is_dir():
        raise ValueError(f"--data {data}: no such folder")
    if not find_spec("scipy"):
        raise ValueError("the bounds need SciPy: pip install 'wattveil[audit]'")
    from wattveil.audit import report
    from wattveil.audit.bench import laboratory
    from wattveil.audit.finding import Study
    from wattveil.audit.registry import CHECKS
    from wattveil.audit.weak import WEAKNESSES
    from wattveil.figures.machine import describe

    names = [name for name in CHECKS if not args.what or name in args.what]
    _known("--what", args.what or [], CHECKS)
    if {"gateway", "books"} & set(names) and not find_spec("opendp"):
        raise ValueError(
            "the privacy gateway is audited, too: pip install 'wattveil[privacy]', or name others "
            "with --what"
        )
    _known("--plant", [args.plant] if args.plant else [], WEAKNESSES)
    weak = WEAKNESSES[args.plant] if args.plant else None
    args.out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    args.seed = secrets.randbits(32) if args.seed is None else args.seed
    with laboratory(args.seed, args.bits), weak.planted() if weak else nullcontext():
        results = audit(Study(args.long, data), names)
    commands = {name: _command(args, [name]) for name in names}
    about = report.About(
        _command(args, args.what or []),
        describe(),
        (time.monotonic() - begun) / 60,
        f"{weak.name}, {weak.what}" if weak else None,
        args.bits,
    )
    (args.out / PAGE).write_text(report.page(CHECKS, results, commands, about))
    if args.json:
        print(
            json.dumps(
                report.as_list(CHECKS, results, commands, args.bits), indent=1, ensure_ascii=False
            )
        )
    else:
        _show(results, args.out / PAGE)
    return 0 if report.all_hold(results) else 1


def audit(study: Study, names: Sequence[str]) -> dict[str, Sequence[Finding]]:
    """Play checks. The roles' own words on the attacks they refuse are left out."""
    from wattveil.audit.registry import CHECKS

    results = {}
    logging.disable(logging.CRITICAL)
    try:
        with Console(stderr=True).status("") as status:
            for name in names:
                status.update(CHECKS[name].title)
                results[name] = CHECKS[name].run(study)
    finally:
        logging.disable(logging.NOTSET)
    return results


def _known(option: str, given: Sequence[str], names: Collection[str]) -> None:
    for name in given:
        if name not in names:
            raise ValueError(f"{option}: {name!r} is not one of {', '.join(names)}")


def _command(args: argparse.Namespace, what: Sequence[str]) -> str:
    words = ["wattveil audit privacy", "--long" if args.long else "--quick"]
    words += [f"--what {name}" for name in what]
    words += [f"--data {args.data}"] if args.data else []
    words += [f"--bits {args.bits}"] if args.bits != 512 else []
    words += [f"--seed {args.seed}"]
    return " ".join(words)


def _show(results: Results, page: Path) -> None:
    from wattveil.audit import report
    from wattveil.audit.finding import HOLDS
    from wattveil.audit.registry import CHECKS

    console = Console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("check")
    table.add_column("claims", justify="right")
    table.add_column("hold", justify="right")
    for name, findings in results.items():
        held = sum(finding.verdict == HOLDS for finding in findings)
        table.add_row(CHECKS[name].title, str(len(findings)), str(held))
    console.print(table)
    for findings in results.values():
        for f in findings:
            if f.verdict != HOLDS:
                text = f"{report.SAID[f.verdict]}: {f.claim}. Claimed {f.claimed}; measured {f.measured}."
                console.print(text, style="red", markup=False, highlight=False)
    console.print(f"{report.summary(results)} Report: {page}", markup=False, highlight=False)
