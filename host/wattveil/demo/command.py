"""`wattveil demo`: options and run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from wattveil.demo.plan import LINKS, RUNTIMES, DemoOptions, make_plan
from wattveil.demo.run import preflight, run_demo
from wattveil.demo.screen import Quiet, Screen
from wattveil.fleet.settings import LEVELS, NOISES, SETS_KIB, SUITES
from wattveil.web.command import demo_options as page_options


def fleet_options(parse: argparse.ArgumentParser) -> None:
    """What a fleet is made of: for `demo` and `keygen`."""
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
    parse.add_argument(
        "--quorum", default=default.quorum, help="share of the roster a total needs"
    )
    parse.add_argument("--colluding", type=int, default=default.colluding, metavar="C",
                       help="meters that may collude or add no noise")  # fmt: skip
    parse.add_argument("--insecure-test-key", action="store_true", help="allow tiny keys")
    parse.add_argument("--no-row-check", action="store_true",
                       help="skip the check of the cloud's rows: gives up all protection against a "
                       "cloud that sends all-zero rows to remove the noise")  # fmt: skip
    parse.add_argument("--own-noise", action="store_true",
                       help="one more noise share, out of reach of cloud and centre together")  # fmt: skip


def options(parse: argparse.ArgumentParser) -> None:
    """Arguments of `wattveil demo`."""
    parse.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    default = DemoOptions
    parse.add_argument("--meters", type=int, metavar="N",
                       help="the first N of the data; 12, or all if the data hold fewer")  # fmt: skip
    parse.add_argument("--periods", type=int, metavar="K",
                       help="the first K intervals; 4, or all if the data hold fewer")  # fmt: skip
    fleet_options(parse)
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
    page_options(parse)


def run(args: argparse.Namespace) -> int:
    """Run it; the exit code."""
    chosen = DemoOptions(
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

        return run_live(chosen, args)
    plan = make_plan(chosen)
    preflight(plan)
    with Quiet() if args.json else Screen() as screen:
        result = run_demo(plan, screen)
    if args.json:
        print(json.dumps(result, indent=1))
    return 0
