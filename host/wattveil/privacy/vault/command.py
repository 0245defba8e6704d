"""`wattveil vault`: readings in, sealed; what keeps them; and one customer's out."""

from __future__ import annotations

import argparse
from pathlib import Path

from wattveil.privacy.command import add_common, add_person, add_purpose


def options(parse: argparse.ArgumentParser) -> None:
    """The sub-commands and their options."""
    commands = parse.add_subparsers(required=True, metavar="ACTION")

    def action(name: str, run: str, text: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = commands.add_parser(name, help=text)
        add_common(made)
        made.set_defaults(action=run)
        return made

    made = action("init", "init", "make the gateway's folder and an empty vault")
    made.add_argument("--interval", type=int, metavar="S", help="of a reading; default 1800 s")
    made.add_argument("--store", metavar="URL", help="of the sealed rows: postgresql://...")
    made = action("ingest", "ingest", "read load files, once; on after an interruption")
    made.add_argument("files", nargs="*", type=Path, metavar="FILE",
                      help="CSV, Green Button XML, DSMR telegrams or DLMS dump; plain or gzip")  # fmt: skip
    made.add_argument("--meters", type=Path, metavar="FILE",
                      help="CSV meter_id,tariff,region,type,customer")  # fmt: skip
    made.add_argument("--column", action="append", default=[], metavar="NAME=COLUMN",
                      help="which column of --meters is the tariff, region, type or customer")  # fmt: skip
    made.add_argument("--stamp", choices=("start", "end"), default="start",
                      help="what a timestamp in a CSV marks")  # fmt: skip
    made.add_argument("--rejects", type=Path, metavar="FILE",
                      help="lines that were not used; default: in the gateway's folder")  # fmt: skip
    made.add_argument("--correct", action="store_true",
                      help="put other values in the place of those that are held")  # fmt: skip
    add_person(made, required=False)
    action("stats", "stats", "what the vault holds: counts, no identity, no reading")
    made = action("rotate-pseudonyms", "rotate_pseudonyms", "new pseudonyms from a day on")
    made.add_argument("--from", dest="first", metavar="DATE",
                      help="first day, UTC; default: after the newest day that has readings")  # fmt: skip
    add_person(made, required=False)
    made = action("rotate-keys", "rotate_keys", "a new key-encryption key")
    made.add_argument("--data", action="store_true", help="new data keys, too: seal all rows anew")
    add_person(made, required=False)
    made = action(
        "relink", "relink", "a pseudonym's counterpart in another epoch; takes two roles"
    )
    made.add_argument("pseudonym", metavar="PSEUDONYM")
    made.add_argument("--epoch", type=int, required=True, metavar="N", help="the other epoch")
    made.add_argument("--approval", type=int, metavar="ID", help="what somebody else approved")
    add_person(made, required=False)
    made = action("expire", "expire", "delete old readings; aggregates stay")
    made.add_argument("--older-than", metavar="AGE",
                      help="18, 18m, 90d, 2y or a date; default: config.toml's months")  # fmt: skip
    add_person(made, required=False)
    made = action("export-greenbutton", "export", "one customer's readings as Green Button XML")
    made.add_argument("meter", metavar="METER")
    made.add_argument("--from", dest="first", metavar="T", help="ISO 8601; default: all")
    made.add_argument("--to", dest="last", metavar="T")
    made.add_argument("--out", type=Path, metavar="FILE", help="0600; default: standard output")
    add_person(made)
    add_purpose(made)


def run(args: argparse.Namespace) -> int:
    """0, a refusal included; ValueError for bad input."""
    try:
        from wattveil.privacy.vault import actions
    except ImportError as error:
        raise RuntimeError(
            f"the vault needs more packages: pip install 'wattveil[privacy]' ({error})"
        ) from None
    status: int = getattr(actions, args.action)(args)
    return status
