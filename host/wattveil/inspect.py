"""What `wattveil inspect` says of a file or folder: names, sizes and fingerprints, never a secret."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from wattveil.paillier.keyfile import load_private, load_public
from wattveil.paillier.keys import PublicKey
from wattveil.privacy import subjects
from wattveil.privacy.subjects import Subjects
from wattveil.roles.folders import load_record
from wattveil.roles.releases import Releases
from wattveil.store import read_only
from wattveil_meter.fields import Malformed, unpack
from wattveil_meter.package import Package
from wattveil_meter.record import FIELDS, Record

_LONG = ("n", "h", "h_s")  # shown as size and hash
ROLES = ("center", "cloud", "dealer")


def describe(path: Path) -> Iterator[str]:
    """Lines about a fleet or role folder, or one of its files; ValueError for what is none."""
    if not path.is_dir():
        yield from _file(path)
        return
    found = False
    for line in _folder(path, depth=2):
        found = True
        yield line
    if not found:
        raise ValueError(f"{path}: no wattveil files here")


def _folder(path: Path, depth: int) -> Iterator[str]:
    for entry in sorted(path.iterdir()):
        if entry.is_symlink():
            continue
        if entry.name == "meters" and entry.is_dir():
            yield f"{entry}: {sum(1 for _ in entry.iterdir())} meters"
        elif entry.name == "state.db":
            yield from _store(entry)
        elif entry.name in _FILES:
            yield next(_file(entry))  # the whole record only when it is asked for
        elif depth and any((entry / name).exists() for name in (*ROLES, "record.bin")):
            yield from _folder(entry, depth - 1)


def _file(path: Path) -> Iterator[str]:
    if path.name == "state.db":
        yield from _store(path)
        return
    try:
        lines = _FILES.get(path.name, _by_content)(path)
    except Malformed as error:
        raise ValueError(f"{path}: {error}") from error
    for line in lines:
        yield f"{path}: {line}"


def _key(key: PublicKey, kind: str) -> list[str]:
    return [f"{kind} key, {key.bits} bits, fingerprint {key.fingerprint.hex()}"]


def _record(path: Path) -> list[str]:
    record = Record.parse(path.read_bytes())
    lines = [f"provisioning record, fingerprint {record.fingerprint.hex()}"]
    for name, kind in FIELDS:
        value = getattr(record, name)
        if name in _LONG:
            value = f"{value.bit_length()} bits"
        elif kind == "b":
            value = value.hex()
        lines.append(f"  {name} = {value}")
    return lines


def _meter(path: Path) -> list[str]:
    package = Package((path.parent / "record.bin").read_bytes(), path.read_bytes())
    return [f"secrets of meter {package.id.decode()!r}, number {package.number} (not shown)"]


def _roster(path: Path) -> list[str]:
    return [f"roster of {len(json.loads(path.read_text())['meters'])} meters"]


def _table(path: Path) -> list[str]:
    data = path.read_bytes()
    if data[:4] != b"WVT1":
        raise Malformed("not a table file")
    base = {b"h": "h", b"s": "h_s"}.get(data[4:5], "?")
    bits = int.from_bytes(data[8:10], "little")
    digest = hashlib.sha256(data).hexdigest()
    shape = f"{bits}-bit exponents, {data[6]} teeth, {data[7]} blocks, {len(data)} bytes"
    return [f"comb table of {base}, {shape}, SHA-256 {digest}"]


def _accountant(path: Path) -> list[str]:
    return [f"the accountant's key, check value {Subjects.read(path).check.hex()} (not shown)"]


def _secrets(path: Path) -> list[str]:
    return [f"{len(json.loads(path.read_text()))} entries of secrets (not shown)"]


def _store(path: Path) -> Iterator[str]:
    """What a role's store has to tell: at the centre, the totals and the ledger."""
    load = read_only(path)
    record, roster = load_record(path.parent)
    releases = Releases(record)
    releases.restore(load)
    for start, release in releases.shown().items():
        total = release["refused"] or (
            "not opened yet" if release["total_wh"] is None else f"{release['total_wh']:,} Wh"
        )
        size = f"{len(release['members'])} of {len(roster)} meters"
        yield f"{path}: {_when(start)}  {total}  over {size}, epsilon {release['epsilon']}"
    if releases.spent:
        yield f"{path}: epsilon spent by the household that spent most: {releases.spent}"
    for key in load("closing"):
        yield f"{path}: {_when(int(key))}  closed"
    for key, row in load("period").items():
        _, phase, outcome, *_ = unpack(row, 9)
        yield f"{path}: {_when(int(key))}  {(outcome or phase).decode()}"


def _when(start: int) -> str:
    return datetime.fromtimestamp(start, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _by_content(path: Path) -> list[str]:
    for kind in (_record, _table):
        try:
            return kind(path)
        except Malformed:
            continue
    raise ValueError(f"{path}: neither a record, a key, nor a table")


_FILES: dict[str, Callable[[Path], list[str]]] = {
    "key.json": lambda path: _key(load_private(path).public, "private"),
    "public.json": lambda path: _key(load_public(path), "public"),
    "record.bin": _record,
    "meter.bin": _meter,
    "roster.json": _roster,
    "h.tab": _table,
    "s.tab": _table,
    "meters.json": _secrets,
    "links.json": _secrets,
    subjects.FILE: _accountant,
}


def options(parse: argparse.ArgumentParser) -> None:
    """Arguments of `wattveil inspect`."""
    parse.add_argument("path", type=Path, help="fleet or role folder, record, key or table file")


def run(args: argparse.Namespace) -> int:
    """Print it; the exit code."""
    for line in describe(args.path):
        print(line)
    return 0
