"""`wattveil keygen`: options and run."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from wattveil.demo.command import fleet_options
from wattveil.fleet.provision import provision
from wattveil.fleet.settings import SUITES, FleetSettings, exact
from wattveil.paillier.keyfile import save_public
from wattveil.paillier.keys import check_bits, generate
from wattveil.privacy.ledger import Limits


def options(parse: argparse.ArgumentParser) -> None:
    """Arguments of `wattveil keygen`."""
    parse.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    parse.add_argument("--out", type=Path, required=True, help="new folder of the fleet")
    who = parse.add_mutually_exclusive_group()
    who.add_argument("--meters", type=int, default=12, metavar="N", help="meter-0001 ...")
    who.add_argument("--roster", type=Path, metavar="FILE", help="meter ids, one a line")
    parse.add_argument("--period", type=int, default=1800, metavar="S", help="length, seconds")
    for option, when in (("per-day", "in the periods of a UTC day"), ("lifetime", "ever")):
        text = f"most that one household may spend {when}; the centre refuses more"
        parse.add_argument(f"--epsilon-{option}", metavar="EPSILON", help=text)
    fleet_options(parse)


def _limits(args: argparse.Namespace) -> Limits:
    """The centre's; ValueError for one that would never let a period through."""
    given = {"day": args.epsilon_per_day, "lifetime": args.epsilon_lifetime}
    limits = Limits.parse({name: text for name, text in given.items() if text is not None})
    for limit in (limits.day, limits.lifetime):
        if limit is not None and limit < exact(args.epsilon, "epsilon"):
            raise ValueError(f"a limit of {limit} is less than one period costs ({args.epsilon})")
    return limits


def run(args: argparse.Namespace) -> int:
    """Make the fleet; the exit code."""
    console = Console(stderr=True)
    warning = check_bits(args.bits, args.insecure_test_key)
    if warning:
        console.print(f"warning: {warning}", style="yellow", markup=False)
    ids = [f"meter-{n:04}" for n in range(1, args.meters + 1)]
    if args.roster:
        ids = [line.strip() for line in args.roster.read_text().splitlines() if line.strip()]
    settings = FleetSettings(
        delta=args.delta,
        epsilon=args.epsilon,
        quorum=args.quorum,
        colluding=args.colluding,
        gamma=args.gamma,
        suite=args.suite,
        noise=args.noise or SUITES[args.suite],
        level=args.level,
        tables=args.tables,
        bits=args.bits,
        row_check=not args.no_row_check,
        own_noise=args.own_noise,
        period_s=args.period,
    )
    settings.check(len(ids))
    limits = _limits(args)
    with console.status("looking for safe primes") as status:

        def tested(count: int) -> None:
            status.update(f"looking for safe primes: {count} candidates tested")

        key = generate(args.bits, tested, insecure_test_key=args.insecure_test_key)
    fleet = provision(args.out, key, ids, settings, limits=limits)
    save_public(key.public, args.out / "public.json")
    print(f"key      {key.public.fingerprint.hex()}  {args.bits} bits")
    print(f"record   {fleet.record.fingerprint.hex()}")
    print(f"fleet    {fleet.record.fleet.hex()}  {len(ids)} meters, quorum "
          f"{fleet.record.quorum_count}")  # fmt: skip
    print(
        f"folders  {args.out}/center, cloud, dealer, meters/ID: one machine each, then delete them"
    )
    return 0
