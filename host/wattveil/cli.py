"""The `wattveil` command. Exit codes: 0 done (a refusal the rules ask for included), 2 bad usage or
input, 1 anything else."""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from wattveil import __version__
from wattveil.demo.plan import LINKS, RUNTIMES, DemoOptions
from wattveil.fleet.settings import LEVELS, NOISES, SETS_KIB, SUITES
from wattveil.links import LinkDown
from wattveil.sealed import SealError
from wattveil.store import StoreError

ROLES = ("center", "cloud", "dealer")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] and arguments[0] in ROLES:  # a parser of its own: see runners/process.py
        from wattveil.runners import process

        return process.main(arguments)
    parsed = parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = parsed.run
    for sign in (signal.SIGTERM, signal.SIGHUP):  # clean up as after Ctrl-C
        signal.signal(sign, _interrupt)
    try:
        return run(parsed)
    except KeyboardInterrupt:
        print("wattveil: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head`
        sys.stderr.close()
        return 1
    except (ValueError, FileExistsError) as error:  # what the user gave; includes DataError
        print(f"wattveil: {error}", file=sys.stderr)
        return 2
    except (OSError, RuntimeError, StoreError, SealError, LinkDown) as error:
        print(f"wattveil: {error}", file=sys.stderr)
        return 1


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def parser() -> argparse.ArgumentParser:
    """The whole command line but for the roles' options."""
    top = argparse.ArgumentParser(
        prog="wattveil",
        description="Smart meters whose single readings nobody can see, and their noisy totals.",
        epilog="Roles as processes: wattveil center|cloud|dealer --help",
    )
    top.add_argument("--version", action="version", version=f"wattveil {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    shown = argparse.ArgumentDefaultsHelpFormatter
    _demo(commands.add_parser("demo", help="all roles and a whole fleet on this machine",
                              formatter_class=shown))  # fmt: skip
    _keygen(commands.add_parser("keygen", help="make a fleet: keys, record, folders of all roles",
                                formatter_class=shown))  # fmt: skip
    _import(commands.add_parser("import", help="other load files to the common CSV",
                                formatter_class=shown))  # fmt: skip
    _inspect(
        commands.add_parser("inspect", help="show what a key, record or fleet is; no secrets")
    )
    for role in ROLES:
        commands.add_parser(role, help=f"run the {role} of a fleet (wattveil {role} --help)")
    _vectors(commands.add_parser("vectors", help="check protocol test vectors"))
    _board(commands.add_parser("board", help="real boards: flash, deploy, provision, doctor ..."))
    _fleet(commands.add_parser("fleet", help="renew a fleet: its roster, its key"))
    _broker(
        commands.add_parser("broker", help="accounts and certificates of a fleet's MQTT broker")
    )
    _ledger(commands.add_parser("ledger", help="what each household has spent of its epsilon"))
    _status(commands.add_parser("status", help="state, periods and refusals of running roles"))
    _tls(commands.add_parser("tls", help="certificates by which roles know each other"))
    _meter(commands.add_parser("meter", help="revoke a meter's keys, or give it new ones"))
    _store(commands.add_parser("store", help="back up a role's store, put a back-up back"))
    _bench(commands.add_parser("bench", help="time it, with checked answers and ratios"))
    _plan(commands.add_parser("plan", help="error and privacy cost to expect, before enrolling"))
    _web(commands.add_parser("web", help="a live page of a fleet that runs; reads, never writes",
                             formatter_class=shown))  # fmt: skip
    _figures(commands.add_parser("figures", help="the paper's evaluation, done again here"))
    _audit(commands.add_parser("audit", help="the privacy promise, attacked by programs"))
    _later(commands, "query", "privacy.query.command", "ask about a group of homes, protected")
    _later(commands, "feeders", "operate.feeders", "totals of a tree of feeders, each a fleet")
    _later(
        commands, "policy", "privacy.policy.command", "what the rules say to a request, and why"
    )
    _later(commands, "vault", "privacy.vault.command", "readings, sealed; who is who kept apart")
    _later(commands, "anonymise", "privacy.anonymise.command", "15/15 sums, k-anonymous records")
    for name, text in (("role", "who may use the privacy gateway"),
                       ("consent", "customers' consents and their history"),
                       ("approve", "agree to what takes two persons"),
                       ("budget", "what may be spent, what was, and alarms")):  # fmt: skip
        _later(commands, name, "privacy.desk", text, f"{name}_options")
    _later(commands, "log", "privacy.log.command", "check the privacy gateway's log, report from it")
    _later(commands, "gateway", "privacy.web.command", "the privacy gateway's API and pages")
    return top


def _later(commands: Any, name: str, module: str, text: str, options: str = "options") -> None:
    """A command of a module with `options(parser)` and `run(arguments)`."""
    made = importlib.import_module(f"wattveil.{module}")
    parse = commands.add_parser(name, help=text)
    getattr(made, options)(parse)
    parse.set_defaults(run=made.run)


def _fleet_options(parse: argparse.ArgumentParser, quorum: str) -> None:
    default = DemoOptions
    parse.add_argument("--suite", choices=SUITES, default=default.suite,
                       help="yan2024: the paper's, corrected; compact: one ciphertext a meter")  # fmt: skip
    parse.add_argument("--noise", choices=NOISES, help="default: gamma, with compact discrete")
    parse.add_argument("--level", choices=LEVELS, default=default.level,
                       help="length of randomiser exponents")  # fmt: skip
    parse.add_argument("--tables", type=int, choices=SETS_KIB, default=default.tables,
                       help="KiB of flash a meter gives to its tables, at 2048 bits")  # fmt: skip
    parse.add_argument("--bits", type=int, default=default.bits, help="of the Paillier modulus")
    parse.add_argument("--gamma", type=int, default=default.gamma, help="slots of a noise row")
    parse.add_argument("--epsilon", default=default.epsilon, help="privacy cost of one period")
    parse.add_argument("--delta", type=int, default=default.delta, metavar="WH",
                       help="largest reading of one period, Wh, from the connection limit")  # fmt: skip
    parse.add_argument("--quorum", default=quorum, help="share of the roster a total needs")
    parse.add_argument("--colluding", type=int, default=default.colluding, metavar="C",
                       help="meters that may collude or add no noise")  # fmt: skip
    parse.add_argument("--insecure-test-key", action="store_true", help="allow tiny keys")
    parse.add_argument("--no-row-check", action="store_true",
                       help="skip the check of the cloud's rows: gives up all protection against a "
                       "cloud that sends all-zero rows to remove the noise")  # fmt: skip
    parse.add_argument("--own-noise", action="store_true",
                       help="one more noise share, out of reach of cloud and centre together")  # fmt: skip


def _demo(parse: argparse.ArgumentParser) -> None:
    default = DemoOptions
    parse.add_argument("--meters", type=int, metavar="N",
                       help="the first N of the data; 12, or all if the data hold fewer")  # fmt: skip
    parse.add_argument("--periods", type=int, metavar="K",
                       help="the first K intervals; 4, or all if the data hold fewer")  # fmt: skip
    _fleet_options(parse, default.quorum)
    parse.add_argument("--drop", default=default.drop, help="share of meters silent each period")
    parse.add_argument("--data", type=Path, action="append", default=[], metavar="FILE",
                       help="readings: CSV meter_id,timestamp,wh, Green Button XML, DSMR telegrams, "
                       "DLMS dump; plain or gzip (repeatable)")  # fmt: skip
    parse.add_argument("--stamp", choices=("start", "end"), default="start",
                       help="what a timestamp in a CSV of --data marks")  # fmt: skip
    parse.add_argument("--skip-bad", action="store_true", help="count bad readings as absent")
    parse.add_argument("--runtime", choices=RUNTIMES, help="what the emulated meters run on")
    parse.add_argument("--port", action="append", default=[], metavar="ID",
                       help="a real board, by USB serial number or path (repeatable)")  # fmt: skip
    parse.add_argument("--link", choices=LINKS, default=default.link,
                       help="serial: processes and ports; mqtt: processes and a private broker, "
                       "TLS; memory: all in this process")  # fmt: skip
    parse.add_argument("--deadline", type=float, default=default.deadline, metavar="S",
                       help="seconds after a period's end until missing meters are given up")  # fmt: skip
    parse.add_argument("--seed-data", type=int, default=default.seed_data, metavar="N",
                       help="of the household model and of --drop; never of keys or noise")  # fmt: skip
    ending = parse.add_mutually_exclusive_group()
    ending.add_argument("--json", action="store_true", help="one JSON object, nothing else")
    ending.add_argument("--web", action="store_true",
                        help="go on until Ctrl-C, with a live page in the browser")  # fmt: skip
    _page_options(parse)
    parse.set_defaults(run=_run_demo)


def _run_demo(args: argparse.Namespace) -> int:
    from wattveil.demo.plan import make_plan
    from wattveil.demo.run import preflight, run_demo
    from wattveil.demo.screen import Quiet, Screen

    options = DemoOptions(
        meters=args.meters,
        periods=args.periods,
        suite=args.suite,
        noise=args.noise,
        level=args.level,
        tables=args.tables,
        bits=args.bits,
        gamma=args.gamma,
        epsilon=args.epsilon,
        delta=args.delta,
        quorum=args.quorum,
        colluding=args.colluding,
        drop=args.drop,
        data=tuple(args.data),
        stamp=args.stamp,
        skip_bad=args.skip_bad,
        runtime=args.runtime,
        ports=tuple(args.port),
        link=args.link,
        deadline=args.deadline,
        seed_data=args.seed_data,
        insecure_test_key=args.insecure_test_key,
        row_check=not args.no_row_check,
        own_noise=args.own_noise,
    )
    if args.web:
        from wattveil.web.command import run_demo as run_live

        return run_live(options, args)
    plan = make_plan(options)
    preflight(plan)
    with Quiet() if args.json else Screen() as screen:
        result = run_demo(plan, screen)
    if args.json:
        print(json.dumps(result, indent=1))
    return 0


def _keygen(parse: argparse.ArgumentParser) -> None:
    parse.add_argument("--out", type=Path, required=True, help="new folder of the fleet")
    who = parse.add_mutually_exclusive_group()
    who.add_argument("--meters", type=int, default=12, metavar="N", help="meter-0001 ...")
    who.add_argument("--roster", type=Path, metavar="FILE", help="meter ids, one a line")
    parse.add_argument("--period", type=int, default=1800, metavar="S", help="length, seconds")
    _fleet_options(parse, DemoOptions.quorum)
    parse.set_defaults(run=_run_keygen)


def _run_keygen(args: argparse.Namespace) -> int:
    from wattveil.fleet.provision import provision
    from wattveil.fleet.settings import FleetSettings
    from wattveil.paillier.keyfile import save_public
    from wattveil.paillier.keys import check_bits, generate

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
    with console.status("looking for safe primes") as status:

        def tested(count: int) -> None:
            status.update(f"looking for safe primes: {count} candidates tested")

        key = generate(args.bits, tested, insecure_test_key=args.insecure_test_key)
    fleet = provision(args.out, key, ids, settings)
    save_public(key.public, args.out / "public.json")
    print(f"key      {key.public.fingerprint.hex()}  {args.bits} bits")
    print(f"record   {fleet.record.fingerprint.hex()}")
    print(f"fleet    {fleet.record.fleet.hex()}  {len(ids)} meters, quorum "
          f"{fleet.record.quorum_count}")  # fmt: skip
    print(
        f"folders  {args.out}/center, cloud, dealer, meters/ID: one machine each, then delete them"
    )
    return 0


def _import(parse: argparse.ArgumentParser) -> None:
    from wattveil.importers import command

    command.options(parse)
    parse.set_defaults(run=command.run)


def _inspect(parse: argparse.ArgumentParser) -> None:
    parse.add_argument("path", type=Path, help="fleet or role folder, record, key or table file")
    parse.set_defaults(run=_run_inspect)


def _run_inspect(args: argparse.Namespace) -> int:
    from wattveil.inspect import describe

    for line in describe(args.path):
        print(line)
    return 0


def _vectors(parse: argparse.ArgumentParser) -> None:
    parse.add_argument("action", choices=("check",))
    parse.add_argument("folder", type=Path, metavar="DIR", help="docs/vectors")
    parse.set_defaults(run=_run_vectors)


def _run_vectors(args: argparse.Namespace) -> int:
    from wattveil import vectors

    return int(vectors.main(args.folder))


def _board(parse: argparse.ArgumentParser) -> None:
    from wattveil.boards import command

    command.options(parse)
    parse.set_defaults(run=command.run)


def _fleet(parse: argparse.ArgumentParser) -> None:
    from wattveil.fleet import command

    command.options(parse)
    parse.set_defaults(run=command.run)


def _broker(parse: argparse.ArgumentParser) -> None:
    from wattveil.fleet import mqtt_command

    mqtt_command.options(parse)
    parse.set_defaults(run=mqtt_command.run)


def _ledger(parse: argparse.ArgumentParser) -> None:
    from wattveil.operate import ledger

    ledger.options(parse)
    parse.set_defaults(run=ledger.run)


def _tls(parse: argparse.ArgumentParser) -> None:
    from wattveil.operate import tls

    tls.options(parse)
    parse.set_defaults(run=tls.run)


def _status(parse: argparse.ArgumentParser) -> None:
    from wattveil.operate import status

    status.options(parse)
    parse.set_defaults(run=status.run)


def _meter(parse: argparse.ArgumentParser) -> None:
    from wattveil.operate import meters

    meters.options(parse)
    parse.set_defaults(run=meters.run)


def _store(parse: argparse.ArgumentParser) -> None:
    from wattveil.operate import stores

    stores.options(parse)
    parse.set_defaults(run=stores.run)


def _bench(parse: argparse.ArgumentParser) -> None:
    from wattveil.bench import command

    command.options(parse)
    parse.set_defaults(run=_run_bench)


def _run_bench(args: argparse.Namespace) -> int:
    from wattveil.bench import command

    return command.run(args)


def _plan(parse: argparse.ArgumentParser) -> None:
    from wattveil.planning import command

    command.options(parse)
    parse.set_defaults(run=command.run)


def _figures(parse: argparse.ArgumentParser) -> None:
    from wattveil.figures import command

    command.options(parse)
    parse.set_defaults(run=command.run)


def _page_options(parse: argparse.ArgumentParser) -> None:
    from wattveil.web import command

    command.demo_options(parse)


def _web(parse: argparse.ArgumentParser) -> None:
    from wattveil.web import command

    command.options(parse)
    parse.set_defaults(run=command.run)


def _audit(parse: argparse.ArgumentParser) -> None:
    from wattveil.audit import command

    command.options(parse)
    parse.set_defaults(run=command.run)


if __name__ == "__main__":
    sys.exit(main())
