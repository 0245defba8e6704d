"""`wattveil import FILE...`: any load file in, the common CSV out."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .files import Found, join, read_file
from .readings import DataError, LoadData
from .series import Note

_SHOWN = 20  # notes of one file and reason that are printed one by one


def options(parse: argparse.ArgumentParser) -> None:
    """The sub-command's arguments."""
    parse.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    parse.add_argument("files", nargs="+", type=Path, metavar="FILE",
                       help="CSV, Green Button XML, DSMR telegrams or DLMS dump; plain or gzip")  # fmt: skip
    parse.add_argument("--out", type=Path, metavar="CSV",
                       help="where meter_id,timestamp,wh goes; standard output if not given")  # fmt: skip
    parse.add_argument("--stamp", choices=("start", "end"), default="start",
                       help="what a timestamp in a CSV marks")  # fmt: skip
    parse.add_argument("--json", action="store_true",
                       help="print a summary as one JSON object (the CSV only with --out)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """0; 2 when nothing in the files can be used, or they do not fit together (DataError)."""
    found: list[Found] = []
    for path in args.files:
        name = os.fspath(path)
        try:
            found.append(read_file(name, stamp=args.stamp, skip_bad=True))
        except DataError as error:
            if len(args.files) == 1:
                raise
            print(f"wattveil: {error}", file=sys.stderr)
    notes: list[Note] = []
    data = join(found, notes)
    _say(notes)
    if data is not None and args.out:
        _write(args.out, data.to_csv())
    if args.json:
        print(json.dumps(_summary(found, data, notes), indent=1))
    elif data is not None and not args.out:
        sys.stdout.write(data.to_csv())
    if data is None:
        print("wattveil: nothing in the files can be used", file=sys.stderr)
        return 2
    total = sum(sum(row.values()) for row in data.values.values())
    print(f"wattveil: {len(data.meters)} meters, {data.present} readings of {data.period_s} s, "
          f"{total} Wh", file=sys.stderr)  # fmt: skip
    return 0


def _say(notes: list[Note]) -> None:
    """One line a note, but no more than `_SHOWN` of a kind and file."""
    seen: Counter[tuple[str, str]] = Counter()
    for note in notes:
        kind = (
            note.file,
            " ".join(w for w in note.reason.split() if not any(map(str.isdigit, w))),
        )
        seen[kind] += 1
        if seen[kind] <= _SHOWN:
            print(note, file=sys.stderr)
    for (file, reason), count in seen.items():
        if count > _SHOWN:
            print(Note(file, 0, f"{count - _SHOWN} more: {reason}"), file=sys.stderr)


def _write(path: Path, text: str) -> None:
    """Replace a file by readings, which are a household's: mode 0600, whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    os.replace(temporary, path)


def _time(seconds: int | None) -> str | None:
    return (
        None
        if seconds is None
        else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    )


def _summary(found: list[Found], data: LoadData | None, notes: list[Note]) -> dict[str, Any]:
    """Energy in Wh, registers in mWh, times UTC."""
    registers = [register for one in found for register in one.registers]
    return {
        "files": [{"file": one.file, "format": one.format} for one in found],
        "period_s": data.period_s if data else None,
        "first": _time(data.starts[0]) if data else None,
        "last": _time(data.starts[-1]) if data else None,
        "meters": {
            meter: {"readings": len(row), "wh": sum(row.values())}
            for meter, row in (data.values if data else {}).items()
        },
        "registers": [
            {
                "meter_id": register.meter,
                "time": _time(register.utc),
                "import_mwh": register.imported,
                "export_mwh": register.exported,
                "file": register.file,
                "line": register.line,
            }
            for register in registers
        ],
        "unused": [{"file": n.file, "line": n.line, "reason": n.reason} for n in notes],
    }
