"""`wattveil bench`: what its options mean, and what is printed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from wattveil.bench.figures import Figure
from wattveil.bench.host import RUNS, run_host
from wattveil.bench.host.growth import plot_growth
from wattveil.bench.host.record import HostPlan, HostRecord
from wattveil.bench.host.show import show_host
from wattveil.bench.insn import run_insn
from wattveil.bench.meter import RUNTIMES, Plan, run_meter
from wattveil.bench.plot import check_plot, plot
from wattveil.bench.records import Measured, write_csv
from wattveil.bench.show import show, show_records
from wattveil.bench.targets import figures
from wattveil.fleet.pico import find_images
from wattveil.fleet.runtime import RuntimeMissing
from wattveil.fleet.settings import LEVELS, NOISES, SETS_KIB, SUITES
from wattveil_meter.kernels import NAMES as KERNELS

PARTS = ("meter", "insn", "host", "all")
DEFAULT = Plan()
FILE_WIDTH = 160  # of tables that go elsewhere than to a terminal


@dataclass
class Results:
    """What was measured: meters' records, and figures of other kinds."""

    meter: list[Measured] = field(default_factory=list)
    others: list[Figure] = field(default_factory=list)
    host: list[HostRecord] = field(default_factory=list)

    @property
    def checked(self) -> bool:
        """Whether every answer was right."""
        records = all(one.record["checked"] for one in self.meter)
        others = all(one["checked"] for one in self.others)
        return records and others and all(one["checked"] for one in self.host)


def options(parse: argparse.ArgumentParser) -> None:
    """Add the command line's options to a parser."""
    parse.add_argument("what", choices=PARTS, help="insn: instructions on ARM, counted by QEMU")
    parse.add_argument("--suite", choices=(*SUITES, "all"), default="all")
    parse.add_argument("--bits", type=_numbers, default=[2048], metavar="LIST",
                       help="of the modulus: 1024,2048,3072; default 2048")  # fmt: skip
    parse.add_argument("--gamma", type=_numbers, default=list(DEFAULT.gammas), metavar="LIST",
                       help="slots of a row; default 1,2,5,10,20")  # fmt: skip
    parse.add_argument("--runtime", type=_names, metavar="LIST",
                       help=f"of {','.join(RUNTIMES)}; default the first two, with `all` the emulated"
                       " Pico as well when its images are there")  # fmt: skip
    parse.add_argument("--port", action="append", default=[], metavar="PORT",
                       help="a real board too, by USB serial number or path (repeatable)")  # fmt: skip
    parse.add_argument("--noise", choices=NOISES, help="default: gamma, with compact discrete")
    parse.add_argument("--level", choices=LEVELS, default=DEFAULT.level,
                       help="length of randomiser exponents")  # fmt: skip
    parse.add_argument("--tables", type=int, choices=SETS_KIB, default=DEFAULT.tables,
                       metavar="KIB", help="of flash at 2048 bits: 128, 256, 384 or 512")  # fmt: skip
    parse.add_argument("--kernel", choices=("auto", *KERNELS), default=DEFAULT.kernel,
                       help="auto: what the meter would choose itself")  # fmt: skip
    parse.add_argument("--no-row-check", action="store_true", help="provision without it")
    parse.add_argument("--repeats", type=int, default=DEFAULT.repeats, metavar="N",
                       help="periods of each row length")  # fmt: skip
    parse.add_argument("--instructions", action="store_true",
                       help="with meter: count instructions too, as `bench insn` does")  # fmt: skip
    parse.add_argument("--what", type=_names, dest="work", default=[], metavar="LIST",
                       help=f"with host: of {','.join(RUNS)}; default all")  # fmt: skip
    parse.add_argument("--meters", type=int, metavar="N", help="with host: of a period")
    parse.add_argument("--ciphertexts", type=int, default=HostPlan.ciphertexts, metavar="N",
                       help="with host: of the product")  # fmt: skip
    parse.add_argument("--processes", type=int, default=HostPlan.processes, metavar="N",
                       help="with host: the most that work at a time")  # fmt: skip
    parse.add_argument("--json", action="store_true", help="a list of records, nothing else")
    parse.add_argument("--csv", type=Path, metavar="FILE", help="write the records there too")
    parse.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="time against γ, of a city against meters: .png or .svg",
    )


def run(args: argparse.Namespace) -> int:
    """The command; 1 when an answer was wrong."""
    plan = _plan(args)
    if args.plot:
        check_plot(args.plot)
    if args.json and args.instructions:
        raise ValueError("--instructions goes with tables: use `wattveil bench insn --json`")
    console = Console(stderr=True)
    with console.status("starting") as status:

        def progress(text: str) -> None:
            if text.startswith("skipped"):
                console.print(text, markup=False)
            status.update(text)

        results = _run(args, plan, progress)
    records = [one.record for one in results.meter]
    if args.csv:
        write_csv(records, args.csv)
    if args.plot:
        if args.what == "host":
            plot_growth(results.host, args.plot)
        else:
            plot(records, args.plot)
    if args.json:
        only = {"meter": records, "insn": results.others, "host": results.host}
        both = {"meter": records, "figures": figures(results.meter) + results.others}
        print(json.dumps(only.get(args.what, both | {"host": results.host}), indent=1))
    else:
        out = Console()
        if not out.is_terminal:
            out = Console(width=FILE_WIDTH)
        tables = show_records(records) + show(figures(results.meter) + results.others)
        for shown in [*tables, *show_host(results.host)]:
            out.print(shown)
    return 0 if results.checked else 1


def _run(args: argparse.Namespace, plan: Plan, progress: Callable[[str], None]) -> Results:
    results = Results()
    if args.what in ("meter", "all"):
        results.meter = run_meter(plan, progress)
    if args.what in ("insn", "all") or args.instructions:
        try:
            results.others += run_insn(plan.bits, progress)
        except RuntimeMissing as missing:
            if args.what == "insn":
                raise
            progress(f"skipped: {missing}")
    if args.what in ("host", "all"):
        results.host = run_host(_host_plan(args), progress)
    return results


def _plan(args: argparse.Namespace) -> Plan:
    """ValueError for what cannot be measured."""
    runtimes = args.runtime
    if runtimes is None:
        runtimes = list(RUNTIMES[:2]) if not args.port or args.what == "all" else []
        if args.what == "all" and _pico():
            runtimes.append("pico-emulated")
    if unknown := sorted(set(runtimes) - set(RUNTIMES)):
        raise ValueError(f"--runtime: {', '.join(unknown)} is none of {', '.join(RUNTIMES)}")
    if args.repeats < 1:
        raise ValueError("--repeats: at least 1")
    for gamma in args.gamma:
        if not 1 <= gamma <= 250:
            raise ValueError(f"--gamma: {gamma} is not between 1 and 250")
    return Plan(
        suites=tuple(SUITES) if args.suite == "all" else (args.suite,),
        bits=args.bits,
        gammas=sorted(set(args.gamma)),
        runtimes=runtimes,
        ports=args.port,
        noise=args.noise,
        level=args.level,
        tables=args.tables,
        row_check=not args.no_row_check,
        kernel=args.kernel,
        repeats=args.repeats,
    )


def _host_plan(args: argparse.Namespace) -> HostPlan:
    """ValueError for what cannot be measured."""
    if min(args.processes, args.ciphertexts, args.meters or 1) < 1:
        raise ValueError("--meters, --ciphertexts and --processes: at least 1")
    return HostPlan(
        bits=args.bits,
        what=args.work,
        repeats=args.repeats,
        gamma=max(args.gamma),
        meters=args.meters,
        processes=args.processes,
        ciphertexts=args.ciphertexts,
    )


def _pico() -> bool:
    try:
        find_images()
    except RuntimeMissing:
        return False
    return True


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _names(text: str) -> list[str]:
    return text.split(",")
