"""`wattveil board`: list, flash, deploy, provision, doctor, calibrate, console, monitor."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from wattveil.boards import console as consoles
from wattveil.boards.calibration import calibrated
from wattveil.boards.deploy import deploy, firmware_files
from wattveil.boards.doctor import Report, examine
from wattveil.boards.flash import flash, plan
from wattveil.boards.inventory import Bench, Place, by_serial, load_bench
from wattveil.boards.provision import provision_board
from wattveil.boards.repl import BoardError, RawRepl
from wattveil.boards.schema import Board, boards, find_board
from wattveil.fleet.packages import load_package
from wattveil.fleet.provision import check_registered, rekey
from wattveil.fleet.settings import SETS_KIB
from wattveil.links.serial import LinkDown, find_port, ports

Told = Callable[[str, int, int], None]
Work = Callable[[Place, Told], str]  # one board; the line that says what came of it


def options(parse: argparse.ArgumentParser) -> None:
    """The sub-commands and their options."""
    actions = parse.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="the boards wattveil knows")
    listing.add_argument("--json", action="store_true", help="everything in their board.toml")
    listing.set_defaults(act=_list)

    one = _action(actions, "flash", _flash, "put MicroPython on a board")
    one.add_argument("--image", type=Path, metavar="FILE",
                     help=".uf2 or .bin at hand, instead of a download by mpflash")  # fmt: skip
    one.add_argument("--version", default="stable", help="of MicroPython, to download")
    one.add_argument("--drive", type=Path, metavar="DIR",
                     help="the drive of a board in its bootloader")  # fmt: skip
    one.add_argument("--erase", action="store_true", help="its files too, secrets included")
    one.add_argument("--dry-run", action="store_true", help="only print the commands")

    one = _action(actions, "deploy", _deploy, "bring the meter's program up to date")
    one.add_argument("--tables", type=int, choices=SETS_KIB, default=0, metavar="KIB",
                     help="refuse a board on which a table set of this size does not fit")  # fmt: skip

    one = _action(actions, "provision", _provision, "make a board a meter of a fleet, or renew it")
    one.add_argument("--fleet", type=Path, metavar="DIR", help="folder of the fleet (keygen)")
    one.add_argument("--meter", metavar="ID", help="default: the board's name in bench.toml")
    one.add_argument("--settings", type=Path, action="append", default=[], metavar="FILE",
                     help="TOML with the tables sensor or link of config.json (repeatable)")  # fmt: skip
    one.add_argument("--sensor", metavar="KIND", help="wired as the board's board.toml says")
    one.add_argument("--rekey", action="store_true",
                     help="draw new keys: the device that had the old ones is refused")  # fmt: skip
    one.add_argument("--erase", action="store_true",
                     help="let the board give up another meter's keys and stored period")  # fmt: skip

    one = _action(actions, "doctor", _doctor, "what a board is, what is wrong, what to do")
    one.add_argument("--fleet", type=Path, metavar="DIR", help="compare with this fleet")
    one.add_argument("--json", action="store_true")

    one = _action(actions, "calibrate", _calibrate, "gains of a current transformer (adc_ct)")
    one.add_argument("--amps", type=float, required=True, metavar="A",
                     help="RMS of a resistive load, by an instrument")  # fmt: skip
    one.add_argument("--volts", type=float, metavar="V", help="RMS of the mains, likewise")
    one.add_argument("--mains-hz", type=int, choices=(50, 60), default=50)
    one.add_argument("--current-pin", type=int, metavar="N", help="default: of board.toml")
    one.add_argument("--voltage-pin", type=int, metavar="N", help="if there is a voltage channel")
    one.add_argument("--out", type=Path, metavar="FILE",
                     help="TOML for provision --settings; default: print it")  # fmt: skip

    one = _action(actions, "console", _console, "its console; Ctrl-C stops the meter, Ctrl-] ends")
    one = _action(actions, "monitor", _monitor, "show frames and text that pass; sends nothing")
    one.add_argument("--seconds", type=float, metavar="S", help="default: until Ctrl-C")


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    act: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    parse: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
    which = parse.add_mutually_exclusive_group()
    which.add_argument("id", nargs="?", metavar="ID",
                       help="USB serial number, or name in bench.toml")  # fmt: skip
    which.add_argument("--port", metavar="PATH", help="a port by path or URL")
    if name not in ("calibrate", "console", "monitor"):
        which.add_argument("--all", action="store_true", help="every board of bench.toml")
    parse.add_argument("--bench", type=Path, default=Path("bench.toml"), metavar="FILE")
    parse.add_argument("--board", metavar="NAME", help="folder of boards/; default: ask it")
    parse.set_defaults(act=act)
    return parse


def run(args: argparse.Namespace) -> int:
    """Carry out one command line; its exit status."""
    act: Callable[[argparse.Namespace], int] = args.act
    return act(args)


# --- which boards ------------------------------------------------------------------------------


def _places(args: argparse.Namespace) -> tuple[list[Place], Bench]:
    """The boards a command is about; ValueError."""
    bench = load_bench(args.bench) if args.bench.exists() or args.__dict__.get("all") else None
    empty = Bench(board=())
    if args.__dict__.get("all"):
        assert bench is not None
        return list(bench.board), bench
    if args.port:
        return [Place(name=args.port, port=args.port, board=args.board or "")], bench or empty
    if not args.id:
        raise ValueError("name a board: its USB serial number, or --port PATH, or --all")
    for place in bench.board if bench else ():
        if args.id in (place.name, place.serial):
            return [place], bench or empty
    return [msgspec.structs.replace(by_serial(args.id), board=args.board or "")], bench or empty


def _kind(args: argparse.Namespace, place: Place) -> Board | None:
    return find_board(args.board) if args.board else place.kind


def _each(places: Sequence[Place], work: Work) -> int:
    """Do the work on all boards at once, one progress line a board; 1 when it failed on any."""
    bars = (TextColumn("{task.fields[board]}"), BarColumn(), TextColumn("{task.description}"))
    with (
        Progress(*bars, console=Console(stderr=True), transient=True) as progress,
        ThreadPoolExecutor(max_workers=max(1, len(places))) as pool,
    ):
        jobs = []
        for place in places:
            line = progress.add_task("waiting", total=None, board=place.name)

            def told(what: str, done: int, total: int, line: TaskID = line) -> None:
                progress.update(line, description=what, completed=done, total=total or None)

            jobs.append(pool.submit(_one, work, place, told))
    failed = 0
    for place, job in zip(places, jobs, strict=True):
        said, error = job.result()
        if error is not None:
            failed = 1
            print(f"{place.name}: {error}", file=sys.stderr)
        elif said:
            print(said)
    return failed


def _one(work: Work, place: Place, told: Told) -> tuple[str, Exception | None]:
    try:
        said = work(place, told)
    except (BoardError, LinkDown, ValueError, OSError) as error:
        told("failed", 0, 1)
        return "", error
    told("done", 1, 1)
    return said, None


# --- the commands ------------------------------------------------------------------------------


def _list(args: argparse.Namespace) -> int:
    if args.json:
        print(json.dumps(msgspec.to_builtins(dict(boards())), indent=1))
        return 0
    titles = ("board", "", "files KiB", "tables KiB", "Wi-Fi", "random")
    table = Table(*titles, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for board in boards().values():
        memory, wifi = board.memory, "yes" if board.wifi else "no"
        sizes = (str(memory.filesystem_kib), str(memory.tables_kib))
        table.add_row(board.id, board.name, *sizes, wifi, board.entropy.grade)
    Console().print(table)
    found = ports()
    print("plugged in:", *(map(str, found) if found else ["no board"]), sep="\n  ")
    return 0


def _flash(args: argparse.Namespace) -> int:
    if args.drive and not (args.id or args.port or args.all):
        places = [Place(name=str(args.drive), port=str(args.drive))]
    else:
        places, _ = _places(args)
    plans = []
    for place in places:
        board = _kind(args, place)
        if board is None:
            raise ValueError(
                f"{place.name}: say which board it is with --board ({', '.join(boards())})"
            )
        port = None if place.port and args.drive else find_port(place.port_id)
        steps = plan(board, port, image=args.image, version=args.version, drive=args.drive,
                     erase=args.erase)  # fmt: skip
        plans.append((board, steps))
    for board, steps in plans:  # one at a time: two drives look alike
        if args.dry_run:
            print("\n".join(map(str, steps)))
        else:
            flash(board, steps)
    return 0


def _deploy(args: argparse.Namespace) -> int:
    places, _ = _places(args)
    firmware_files()  # what does not compile is said before any board is touched

    def work(place: Place, told: Told) -> str:
        with RawRepl(place.port_id) as repl:
            done = deploy(repl, told, board=_kind(args, place), tables_kib=args.tables)
        what = done.board.name if done.board else done.runtime
        return (
            f"{place.name}: {what}: {len(done.copied.names)} files copied"
            f" ({done.copied.size:,} bytes), {len(done.removed)} removed; program"
            f" {done.firmware // 1024} KiB of flash, {done.flash_free // 1024:,} KiB free; heap"
            f" {done.heap_used // 1024} of {done.heap // 1024} KiB"
        )

    return _each(places, work)


def _provision(args: argparse.Namespace) -> int:
    places, bench = _places(args)
    base = args.bench.parent
    if args.fleet is None and not bench.fleet:
        raise ValueError(
            "which fleet? --fleet DIR (made by wattveil keygen), or fleet in bench.toml"
        )
    root = args.fleet or base / bench.fleet
    if args.meter and len(places) > 1:
        raise ValueError("--meter names one meter: with --all, bench.toml names them")
    todo = {}
    for place in places:
        meter = args.meter or place.meter or place.name
        folder = root / "meters" / meter
        if not (folder / "meter.bin").exists():
            raise ValueError(
                f"{root} has no meter {meter!r}: wattveil fleet renew takes it into the roster"
            )
        settings = args.settings or [base / name for name in place.settings]
        todo[place.name] = (folder, settings)
        if args.rekey:
            rekey(root, meter)
        known = check_registered(root, load_package(folder))
        print(
            f"{meter}: known to {', '.join(known) or 'no role here: their folders are elsewhere'}"
        )
    firmware_files()

    def work(place: Place, told: Told) -> str:
        folder, settings = todo[place.name]
        done = provision_board(
            place.port_id,
            folder,
            board=_kind(args, place),
            settings=settings,
            sensor=args.sensor,
            erase=args.erase,
            progress=told,
        )
        how = "new keys, counters begin" if done.fresh else "same keys, counters go on"
        return (
            f"{place.name}: is meter {folder.name} ({how}), self-test passed, kernel {done.kernel},"
            f" {done.bytes_copied:,} bytes copied"
        )

    status = _each(places, work)
    if args.rekey:
        print("restart the roles with their folders as changed here", file=sys.stderr)
    return status


def _doctor(args: argparse.Namespace) -> int:
    places, _ = _places(args)
    reports: dict[str, Report] = {}

    def work(place: Place, told: Told) -> str:
        told("looking", 0, 0)
        reports[place.name] = examine(place.port_id, args.fleet)
        return "" if args.json else _shown(place.name, reports[place.name])

    status = _each(places, work)
    if args.json:
        print(json.dumps({name: vars(r) for name, r in reports.items()}, indent=1))
    return status or int(any(report.wrong for report in reports.values()))


def _shown(name: str, report: Report) -> str:
    width = max(map(len, report.facts))
    lines = [f"{name} ({report.port})"]
    lines += [f"  {what:<{width}}  {text}" for what, text in report.facts.items()]
    lines += [f"  {'log':<{width}}  {line}" for line in report.log]
    lines += [f"  WRONG: {what}. To do: {todo}" for what, todo in report.wrong]
    return "\n".join(lines if report.wrong else [*lines, "  nothing is wrong"])


def _calibrate(args: argparse.Namespace) -> int:
    (place,), _ = _places(args)

    def ask(text: str) -> None:
        print(f"{text} Then press Enter.", end=" ", file=sys.stderr, flush=True)
        if not sys.stdin.readline():
            raise ValueError("nobody is there to switch the load: run it in a terminal")

    wired = {"current_pin": args.current_pin, "voltage_pin": args.voltage_pin}
    sensor = calibrated(
        place.port_id,
        ask,
        board=_kind(args, place),
        pins={name: pin for name, pin in wired.items() if pin is not None},
        amps=args.amps,
        volts=args.volts,
        mains_hz=args.mains_hz,
    )
    lines = ["[sensor]", *(f"{name} = {json.dumps(value)}" for name, value in sensor.items())]
    if args.out:
        args.out.write_text("\n".join(lines) + "\n")
    else:
        print("\n".join(lines))
    return 0


def _console(args: argparse.Namespace) -> int:
    places, _ = _places(args)
    return consoles.console(places[0].port_id)


def _monitor(args: argparse.Namespace) -> int:
    places, _ = _places(args)
    consoles.monitor(places[0].port_id, lambda line: print(line, flush=True), args.seconds)
    return 0
