"""Checks docs/vectors/*.json, which another implementation made, against this one.

`check(folder)` computes every value again with the code that meters and roles run, and tries every
operation that must be refused. Files, versions, names and members it does not know are failures,
not ignored. The format is described in PROTOCOL.md, "Vectors".

`reader` reads a vector; `coding`, `cipher` and `period` have a function for each file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wattveil.paillier.keys import NotACiphertext
from wattveil.vectors import cipher, coding, period
from wattveil.vectors.reader import Vector, Wrong
from wattveil_meter import wire
from wattveil_meter.fields import Malformed

__all__ = ["Result", "check", "check_file", "main"]

FORMAT = "wattveil vectors 1"
Item = dict[str, Any]


@dataclass(frozen=True)
class Result:
    """One vector, or one file that could not be read (name "-"). problem: empty when it passed."""

    file: str
    name: str
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether it passed."""
        return not self.problem


def check(folder: Path) -> list[Result]:
    """Check every vector in a folder, files in order of name; [] for a missing or empty folder."""
    try:
        present = {path.name: path for path in folder.iterdir()}
    except OSError:
        return []
    if not present:
        return []
    results: list[Result] = []
    for name in sorted({*present, *_NAMES}):
        if name in present:
            results += check_file(present[name])
        else:
            results.append(Result(name, "-", "missing"))
    return results


def main(folder: Path) -> int:
    """Print a line per file and per vector; 0 all passed, 1 not, 2 nothing to check."""
    results = check(folder)
    if not results:
        print(f"{folder}: no vectors there")
        return 2
    for name in sorted({result.file for result in results}):
        group = [result for result in results if result.file == name]
        failed = sum(not result.ok for result in group)
        print(f"{name}: " + (f"{failed} of {len(group)} FAILED" if failed else "ok"))
        for result in group:
            print(f"  {'ok' if result.ok else 'FAILED'}  {result.name}", end="")
            print(f": {result.problem}" if result.problem else "")
    return 0 if all(result.ok for result in results) else 1


def check_file(path: Path) -> list[Result]:
    """Check one file; table.json beside it gives the tables that other files name."""
    name = path.name
    if name not in _NAMES:
        return [Result(name, "-", "a file unknown to this wattveil")]
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return [Result(name, "-", "not readable as JSON")]
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        return [Result(name, "-", f'not of the format "{FORMAT}"')]
    kind = path.stem
    vectors = document.get("vectors")
    if set(document) != {"format", "file", "vectors"} or document["file"] != kind:
        return [Result(name, "-", "members missing or unknown, or the vectors of another file")]
    if not isinstance(vectors, list) or not all(isinstance(v, dict) for v in vectors):
        return [Result(name, "-", '"vectors" is not a list of objects')]
    names = [vector.get("name") for vector in vectors]
    if names != _NAMES[name]:
        return [Result(name, "-", "vectors missing, unknown or in another order")]
    tables = _table_files(path.with_name("table.json"))
    return [Result(name, v["name"], _problem(_CHECKS[kind], v, tables)) for v in vectors]


def _problem(
    function: Callable[[Vector], None], vector: Item, tables: Mapping[bytes, bytes]
) -> str:
    try:
        reader = Vector(vector, tables)
        function(reader)
        reader.finish()
    except Wrong as wrong:
        return str(wrong)
    except (Malformed, NotACiphertext, wire.Refused) as error:
        return f"refused: {error}"
    except Exception as error:  # damaged vectors break checks in ways nobody can list
        return f"not a vector of this kind ({type(error).__name__})"
    return ""


def _table_files(path: Path) -> dict[bytes, bytes]:
    """The table files in table.json by SHA-256, for the vectors that need one."""
    found: dict[bytes, bytes] = {}
    try:
        for vector in json.loads(path.read_bytes())["vectors"]:
            data = bytes.fromhex(vector.get("file", ""))
            found[hashlib.sha256(data).digest()] = data
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass  # table.json itself is reported as damaged
    return found


_CHECKS: dict[str, Callable[[Vector], None]] = {
    "closing": period.check_closing,
    "compact": period.check_compact,
    "drbg": cipher.check_drbg,
    "fields": coding.check_fields,
    "frames": coding.check_frames,
    "group": cipher.check_group,
    "noise": cipher.check_noise,
    "prf": cipher.check_prf,
    "ratchet": cipher.check_ratchet,
    "record": coding.check_record,
    "registration": period.check_registration,
    "slot": period.check_slot,
    "stuffing": coding.check_stuffing,
    "table": cipher.check_table,
}
_NAMES: dict[str, list[str]] = {
    "closing.json": [
        "three of four",
        "feed-in and own noise",
        "everybody, no row check",
        "compact, three of four",
        "compact, feed-in and own noise",
        "sets a dealer refuses",
        "shares a cloud refuses",
        "compact, shares a cloud refuses",
    ],
    "compact.json": [
        "three slots",
        "without the row check",
        "own noise",
        "one slot",
        "six slots",
        "long randomisers",
        "noise beyond the offset",
    ],
    "drbg.json": [
        "bytes",
        "bits",
        "below",
        "reseeding",
        "too little entropy",
    ],
    "fields.json": [
        "field lists",
        "field lists that are refused",
        "integers",
    ],
    "frames.json": [
        "a meter asks",
        "the cloud answers",
        "the cloud asks the dealer, last boot",
        "what a cloud accepts and refuses",
        "what a meter accepts and refuses",
    ],
    "group.json": [
        "512 bits, key epoch 1",
        "512 bits, key epoch 7",
        "512 bits, key epoch 20260101",
        "2048 bits, key epoch 1",
    ],
    "noise.json": [
        "discrete, a = 1, epsilon = 1, delta = 5",
        "discrete, a = 3, epsilon = 1/2, delta = 1000",
        "discrete, a = 100, epsilon = 1, delta = 1000",
        "discrete, a = 1000, epsilon = 1/10, delta = 10000",
        "gamma, a = 1, epsilon = 1, delta = 5",
        "gamma, a = 3, epsilon = 1/2, delta = 1000",
        "gamma, a = 100, epsilon = 1, delta = 1000",
        "gamma, a = 1000, epsilon = 1/10, delta = 10000",
    ],
    "prf.json": [
        "a period",
        "the next one",
        "another period length",
        "another key length",
    ],
    "ratchet.json": [
        "its own day",
        "several days",
        "a year",
        "days that are gone",
    ],
    "record.json": [
        "a small fleet",
        "feed-in, own noise, no row check",
        "large and coarse",
        "an odd grid and a fine epsilon",
        "suite compact",
        "level half",
        "level full",
        "records that are refused",
    ],
    "registration.json": [
        "the clock runs",
        "a frozen clock, an id with an umlaut",
    ],
    "slot.json": [
        "with the row check",
        "without the row check",
        "own noise",
        "one slot",
        "long randomisers",
        "noise beyond the offset",
        "pairs",
    ],
    "stuffing.json": [
        "stuffing",
        "streams",
    ],
    "table.json": [
        "h",
        "s",
        "s full",
        "h form 2",
        "s form 2",
        "tables of h that are refused",
        "h of 2048 bits",
        "h of 2048 bits, form 2",
    ],
}
