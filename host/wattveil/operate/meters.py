"""`wattveil meter`: revoke a meter, or move it to new keys without a gap.

Revoking is told to each role on its own machine. Rotating is provisioning: it knows both ends'
keys while it runs, and its output goes by cable to the meter and by hand to cloud and centre.
"""

from __future__ import annotations

import argparse
import json
import secrets
import time
from pathlib import Path
from typing import Any

from wattveil import sealed
from wattveil.operate.stores import add_store_options, store_of
from wattveil.roles.folders import load_json, load_record
from wattveil.roles.revoked import revoke
from wattveil_meter.fields import pack, unpack

DAY_S = 86400
LINK, REGISTRATION = 3, 4  # fields of meter.bin (PROTOCOL.md, appendix A)


def options(parse: argparse.ArgumentParser) -> None:
    """The sub-commands and their options."""
    commands = parse.add_subparsers(required=True, metavar="ACTION")
    one = commands.add_parser(
        "revoke", help="trust a meter's keys no more, from now on and for good; for each role"
    )
    one.add_argument("meters", nargs="+", metavar="ID")
    one.add_argument("--reason", required=True, help="kept in the store")
    add_store_options(one)
    one.set_defaults(action=_revoke)
    two = commands.add_parser("rotate", help="new link and registration keys for a meter")
    two.add_argument("fleet", type=Path, help="folder with cloud, center and meters/ID")
    two.add_argument("meter", metavar="ID")
    two.add_argument("--days", type=int, default=7, help="how long the old keys are taken too")
    two.set_defaults(action=_rotate)


def run(arguments: argparse.Namespace) -> int:
    """Carry out one; the exit status."""
    status: int = arguments.action(arguments)
    return status


def _revoke(arguments: argparse.Namespace) -> int:
    if arguments.state_dir is None:
        raise ValueError("--state-dir is needed: the roster is in the role's folder")
    _, roster = load_record(arguments.state_dir)
    rows = revoke(arguments.meters, roster, int(time.time()), arguments.reason)
    with store_of(arguments, shared=True) as store:
        store.apply(rows)
    print(f"revoked: {', '.join(arguments.meters)}; restart the role (SIGHUP) to make it hold")
    return 0


def _rotate(arguments: argparse.Namespace) -> int:
    root, name = arguments.fleet, arguments.meter
    until = int(time.time()) + arguments.days * DAY_S
    secret = root / "meters" / name / "meter.bin"
    parts = unpack(secret.read_bytes(), 6)
    tables: dict[str, dict[str, Any]] = {}
    for role, at in (("cloud", LINK), ("center", REGISTRATION)):
        table = tables[role] = load_json(root / role / "meters.json")
        if name not in table:
            raise ValueError(f"{name} is not in {root / role / 'meters.json'}")
        old = table[name].pop("next_key", None)  # of a rotation before this one
        if old is not None and parts[at].hex() == old:
            key = "link_key" if role == "cloud" else "registration_key"
            table[name][key] = old
        parts[at] = secrets.token_bytes(32)
        table[name] |= {"next_key": parts[at].hex(), "until": until}
    # The roles first: a meter that has its keys before them is refused until they have theirs.
    for role, table in tables.items():
        sealed.replace(root / role / "meters.json", (json.dumps(table, indent=1) + "\n").encode())
    sealed.replace(secret, pack(*parts))
    print(f"{name}: new keys in {secret}, for the meter by cable")
    print(f"restart cloud and center with their new meters.json; old keys end {arguments.days} days "
          "from now, or when the new ones are first used")  # fmt: skip
    return 0
