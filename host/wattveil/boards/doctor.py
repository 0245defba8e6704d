"""What a board is, what is wrong with it, and what to do: read over the raw REPL, no secrets.

Looking stops the meter for seconds and restarts it: it sits the period under way out.
"""

from __future__ import annotations

import ast
import calendar
import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gmpy2 import mpz

from wattveil.boards.deploy import PACKAGE, RESERVE, firmware_files, hashes
from wattveil.boards.provision import SECRETS, STAGED, board_identity, stored_values
from wattveil.boards.repl import BoardError, RawRepl
from wattveil.boards.schema import board_of
from wattveil.fleet.packages import LIVING
from wattveil.fleet.tables import table_set
from wattveil.paillier.keys import PublicKey
from wattveil_meter.fields import Malformed, read_uint, unpack
from wattveil_meter.record import Record
from wattveil_meter.supervisor import UNCLEAN

TAIL = 8  # lines of the log
HEAP_LOW = 60_000  # bytes left with the program imported: a report at 2048 bits needs most of that
SKEW_S = 300  # what the control centre allows in a registration; the RTC is not what it looks at
_ASK = """(
    getattr(sys.implementation, '_build', ''), sys.implementation._machine,
    sys.version.split(';')[-1].strip(), getattr(sys.implementation, '_mpy', 0),
    sys.implementation.version[:3])"""
_REASON = """\
def _reason():
    try:
        import machine
        cause = machine.reset_cause()
    except (ImportError, AttributeError):
        return ''
    for name in ('PWRON', 'HARD', 'WDT', 'DEEPSLEEP', 'SOFT'):
        if getattr(machine, name + '_RESET', None) == cause:
            return name.lower()
    return str(cause)
"""


@dataclass
class Report:
    """facts: name -> text, in the order to show. log: the tail of log.txt. wrong: (what, what to do)."""

    port: str
    facts: dict[str, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    wrong: list[tuple[str, str]] = field(default_factory=list)

    def __setitem__(self, name: str, value: object) -> None:
        self.facts[name] = str(value)


def examine(port_id: str, fleet: Path | None = None) -> Report:
    """Look a board over. fleet: folder whose record the board should have. BoardError."""
    with RawRepl(port_id, fresh=False) as repl:
        report = Report(repl.port)
        repl.run(_REASON)
        reason = repl.ask("_reason()")
        in_use = repl.ask("(gc.collect(), gc.mem_free())[1]")
        repl.restart()
        version = _interpreter(repl, report)
        if reason:
            report["last reset"] = reason
            if reason == "wdt":
                report.wrong.append(("the watchdog reset it", "see the log below for what hung"))
        deployed = _program(repl, report, version)
        _memory(repl, report, in_use)
        _clock(repl, report)
        _meter(repl, report, fleet, deployed)
        _life(repl, report)
    return report


def _interpreter(repl: RawRepl, report: Report) -> int:
    build, machine, runtime, mpy, version = repl.ask(_ASK)
    board = board_of(build, machine)
    report["board"] = f"{board.name} ({board.id})" if board else machine
    report["MicroPython"] = f"{runtime}, .mpy {mpy & 0xFF}.{mpy >> 8 & 3}"
    if board:
        report["random source"] = f"{board.entropy.grade}: {board.entropy.source}"
        least = tuple(map(int, board.micropython.at_least.split(".")))
        if tuple(version[:2]) < least:
            least_text = board.micropython.at_least
            report.wrong.append(
                (f"MicroPython is older than {least_text}", "wattveil board flash")
            )
    return int(mpy)


def _program(repl: RawRepl, report: Report, mpy: int) -> bool:
    held = repl.ask(f"_tree({PACKAGE!r})")
    if not held:
        report["program"] = "none"
        report.wrong.append(("there is no meter program", "wattveil board deploy"))
        return False
    try:
        wanted = firmware_files(mpy >> 10 & 15)
    except BoardError:  # without mpy-cross there is nothing to compare with
        wanted = {}
    same = hashes(repl, list(wanted))
    differ = [n for n, data in wanted.items() if same[n] != hashlib.sha256(data).digest()]
    differ += [name for name in held if wanted and name not in wanted]
    try:
        version = repl.run(f"from {PACKAGE} import VERSION\nprint(VERSION)").strip()
    except BoardError as error:
        version = f"does not import ({error})"
    state = "as here" if wanted and not differ else f"{len(differ)} files differ from those here"
    report["program"] = f"{version}, {state if wanted else 'not compared: no mpy-cross'}"
    if differ:
        report.wrong.append((f"the program differs: {', '.join(differ[:3])} ...",
                             "wattveil board deploy"))  # fmt: skip
    if repl.ask(f"_tree('lib/{PACKAGE}')"):
        report.wrong.append(("the program is there twice (lib/, by mip)", "wattveil board deploy"))
    return True


def _memory(repl: RawRepl, report: Report, in_use: int) -> None:
    _, free = repl.ask("_free()")
    total = repl.ask("(lambda s: s[2] * (s[1] or s[0]))(os.statvfs('.'))")
    report["flash free"] = f"{free // 1024:,} of {total // 1024:,} KiB"
    if free < RESERVE:
        report.wrong.append(("the flash is nearly full", "remove files from the board"))
    heap = repl.ask("(gc.collect(), gc.mem_alloc() + gc.mem_free())[1]")
    try:
        repl.run(f"from {PACKAGE} import app")
    except BoardError as error:
        report.wrong.append((f"the program does not start: {error}", "wattveil board deploy"))
    left = repl.ask("(gc.collect(), gc.mem_free())[1]")
    report["heap"] = (
        f"{heap // 1024} KiB, {left // 1024} left with the program loaded,"
        f" {in_use // 1024} when it was stopped"
    )
    if left < HEAP_LOW:
        report.wrong.append(
            (f"only {left // 1024} KiB of heap are left for the meter's work",
             "use fewer slots or a shorter key, or a board with more RAM")
        )  # fmt: skip


def _clock(repl: RawRepl, report: Report) -> None:
    year, month, day, hour, minute, second = ast.literal_eval(
        repl.run("import time\nprint(tuple(time.gmtime())[:6])").strip()
    )
    skew = calendar.timegm((year, month, day, hour, minute, second)) - int(time.time())
    shown = f"{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z"
    off = "as here" if abs(skew) <= SKEW_S else "never set; meters take the centre's time"
    report["its clock"] = f"{shown} ({off})"


def _meter(repl: RawRepl, report: Report, fleet: Path | None, deployed: bool) -> None:
    identity = board_identity(repl) if deployed else None
    raw = repl.ask("_read('record.bin')")
    if identity is None:
        report["meter"] = "none"
        if deployed:
            report.wrong.append(("it is no meter yet", "wattveil board provision"))
        return
    report["meter"] = f"{identity.id!r}, number {identity.number}, keys {identity.keys[:8].hex()}"
    if repl.ask(f"_size({SECRETS!r})") < 0 or repl.ask(f"_size({STAGED!r})") >= 0:
        report.wrong.append(("provisioning broke off", "wattveil board provision, the same again"))
    try:
        record = Record.parse(raw)
    except Malformed as error:
        report.wrong.append((f"no provisioning record: {error}", "wattveil board provision"))
        return
    report["key"] = f"{PublicKey(mpz(record.n)).fingerprint.hex()[:16]}, epoch {record.key_epoch}"
    report["record"] = (
        f"{record.fingerprint.hex()[:16]}, fleet {record.fleet.hex()}, roster epoch"
        f" {record.roster_epoch}, {record.suite}, {record.noise} noise"
    )
    if identity.number > record.roster_size:
        report.wrong.append(("its number is not in its record", "wattveil board provision"))
    if fleet is not None and (fleet / "cloud" / "record.bin").read_bytes() != record.raw:
        report.wrong.append(("its record is not the fleet's", "wattveil board provision"))
    _tables(repl, report, record)


def _tables(repl: RawRepl, report: Report, record: Any) -> None:
    try:
        kib, files = table_set(record)
    except ValueError as error:
        report.wrong.append((str(error), "wattveil board provision"))
        return
    for form, tables in files.items():
        held = hashes(repl, list(tables))
        if all(held[name] == hashlib.sha256(data).digest() for name, data in tables.items()):
            kernel = "portable" if form == 1 else "machine code"
            report["tables"] = f"set of {kib} KiB, form {form} ({kernel})"
            return
    report["tables"] = "missing or damaged"
    report.wrong.append(("its tables are not the record's", "wattveil board provision"))


def _life(repl: RawRepl, report: Report) -> None:
    """Counters, link and log; what the meter left for whoever comes to look."""
    if report.facts["meter"] != "none":
        values = stored_values(repl, LIVING)
        for name, value in values.items():
            if value is None:
                what = f"{name} is lost or damaged: the meter cannot start"
                report.wrong.append((what, "wattveil board provision --rekey"))
        if values["boot.bin"] is not None:
            report["starts"] = read_uint(unpack(values["boot.bin"], 2)[0])
        if values["period.bin"] is not None:
            start, _, _, stored = unpack(values["period.bin"], 4)
            state = "report stored" if stored else "no report stored"
            report["newest period"] = f"{read_uint(start)}, {state}" if start else "none"
        starts = stored_values(repl, ("starts.bin",))["starts.bin"]
        if starts and read_uint(starts) > UNCLEAN:
            what = f"safe mode after {read_uint(starts)} bad starts"
            report.wrong.append((what, "see the log below"))
    try:
        config = json.loads(repl.ask("_read('config.json')") or b"{}")
        link, sensor = config.get("link", {}), config.get("sensor", {})
        where = f" to {link['host']}" if "host" in link else ""
        report["link"] = f"{link.get('kind', 'serial')}{where}"
        report["sensor"] = sensor.get("kind", "none")
        report["watchdog"] = f"{config['watchdog_ms']} ms" if config.get("watchdog_ms") else "off"
    except (ValueError, AttributeError):
        report.wrong.append(("config.json is damaged", "wattveil board provision --settings FILE"))
    log = repl.ask("_read('log.txt')").decode("utf-8", "replace").splitlines()
    report.log = [line for line in log if line.strip()][-TAIL:]
    if report.facts["meter"] != "none" and any(" crash " in line for line in report.log):
        report.wrong.append(("the program crashed", "see the log below"))
