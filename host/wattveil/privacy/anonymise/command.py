"""`wattveil anonymise EXPORT`: what may leave as data, and what an attacker makes of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from wattveil.privacy.command import add_common, add_person


def options(parse: argparse.ArgumentParser) -> None:
    """The options of all methods."""
    parse.add_argument("export", type=Path, metavar="EXPORT", help="file to write, 0600")
    parse.add_argument("--method", choices=("aggregate", "kept", "k-anonymity", "linkage"),
                       default="aggregate",
                       help="sums by the 15/15 rule; those that were kept of deleted readings; "
                       "records of k-anonymous homes; or the linkage attack on files of your own "
                       "(--data), whose figures EXPORT then holds")  # fmt: skip
    parse.add_argument("--from", dest="first", metavar="T", help="ISO 8601")
    parse.add_argument("--to", dest="last", metavar="T")
    parse.add_argument("--segment", action="append", default=[], metavar="K=V",
                       help="only these homes: tariff, region or type")  # fmt: skip
    parse.add_argument("--by", action="append", default=[], metavar="K",
                       help="aggregate: a group for each tariff, region or type")  # fmt: skip
    parse.add_argument(
        "--every", type=int, default=3600, metavar="S", help="aggregate, kept: seconds"
    )
    parse.add_argument("--least", type=int, metavar="N", help="aggregate: homes in a group")
    parse.add_argument("--share", metavar="X", help="aggregate: most of one home, like 0.15")
    parse.add_argument("--k", type=int, default=5, help="homes that look the same")
    parse.add_argument("--l", type=int, default=2, help="types among them")
    parse.add_argument("--rotate", type=int, default=1, metavar="DAYS",
                       help="k-anonymity: a new pseudonym every so many days")  # fmt: skip
    parse.add_argument("--suppress", type=float, default=0.1, metavar="X",
                       help="k-anonymity: share of records that may be left out")  # fmt: skip
    parse.add_argument("--data", type=Path, action="append", default=[], metavar="FILE",
                       help="linkage: load files; without, the household model")  # fmt: skip
    parse.add_argument("--targets", type=int, default=200, help="linkage: homes attacked")
    parse.add_argument("--plot", type=Path, metavar="FILE", help="linkage: PNG or SVG")
    add_common(parse, required=False)
    add_person(parse, required=False)
    parse.add_argument("--purpose", metavar="P", help="one of config.toml's")


def run(args: argparse.Namespace) -> int:
    """0, a refusal included; ValueError for bad input."""
    try:
        from wattveil.privacy.anonymise import actions
    except ImportError as error:
        raise RuntimeError(
            f"anonymising needs more packages: pip install 'wattveil[privacy]' ({error})"
        ) from None
    return actions.linkage_study(args) if args.method == "linkage" else actions.export(args)
