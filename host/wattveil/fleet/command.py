"""`wattveil fleet renew`: a newer record for a fleet that runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from wattveil.fleet.renew import renew
from wattveil.paillier.keyfile import save_public
from wattveil.paillier.keys import check_bits, generate
from wattveil.roles.folders import load_record


def options(parse: argparse.ArgumentParser) -> None:
    """The sub-command and its options."""
    actions = parse.add_subparsers(required=True, metavar="ACTION")
    text = "meters join or leave, or a new key; keys and counters of meters that stay live on"
    one = actions.add_parser("renew", help=text, description=text)
    one.add_argument("old", type=Path, metavar="OLD", help="the fleet's folder; its roles stopped")
    one.add_argument("--out", type=Path, required=True, metavar="NEW", help="its new folder")
    one.add_argument("--roster", type=Path, metavar="FILE", help="all meter ids, one a line")
    one.add_argument("--quorum", help="share of the new roster; default: the old share")
    one.add_argument("--new-key", action="store_true", help="a new Paillier key, and new tables")
    one.add_argument("--insecure-test-key", action="store_true", help="allow tiny keys")
    one.set_defaults(act=_renew)


def run(args: argparse.Namespace) -> int:
    """Carry out one command line; its exit status."""
    return int(args.act(args))


def _renew(args: argparse.Namespace) -> int:
    roster = None
    if args.roster:
        roster = [line.strip() for line in args.roster.read_text().splitlines() if line.strip()]
    key = None
    if args.new_key:
        bits = load_record(args.old / "cloud")[0].n.bit_length()
        check_bits(bits, args.insecure_test_key)
        print(f"looking for safe primes of a key of {bits} bits")
        key = generate(bits, insecure_test_key=args.insecure_test_key)
    done = renew(args.old, args.out, roster=roster, key=key, quorum=args.quorum)
    record = done.fleet.record
    if key is not None:
        save_public(key.public, args.out / "public.json")
    print(f"record   {record.fingerprint.hex()}")
    print(f"epochs   key {record.key_epoch}, roster {record.roster_epoch}")
    print(f"roster   {len(done.fleet.roster)} meters, quorum {record.quorum_count}")
    for what, names in (("stayed", done.stayed), ("joined", done.joined), ("left", done.left)):
        print(f"{what:<8} {', '.join(names) or 'none'}")
    print(f"stores   moved along: {', '.join(done.stores) or 'none'}; bring the others' state.db")
    print(
        "next     wattveil board provision for each meter, then start the roles in the new folders"
    )
    return 0
