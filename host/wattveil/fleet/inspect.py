"""What `wattveil inspect` says of a file or folder: names, sizes and fingerprints, never a secret."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from wattveil.paillier.keyfile import load_private, load_public
from wattveil.paillier.keys import PublicKey
from wattveil_meter.fields import Malformed
from wattveil_meter.meter import Package
from wattveil_meter.record import FIELDS, Record

_LONG = ("n", "h", "h_s")  # shown as size and hash


def describe(path: Path) -> Iterator[str]:
    """Lines about a fleet or role folder, or one of its files; ValueError for what is none."""
    if path.is_dir():
        found = False
        for entry in sorted(path.iterdir()):
            if entry.name == "meters" and entry.is_dir():
                yield f"{entry}: {sum(1 for _ in entry.iterdir())} meters"
            elif entry.is_dir():
                yield from describe(entry)
            elif entry.name in _FILES:
                yield next(describe(entry))  # the whole record only when it is asked for
            else:
                continue
            found = True
        if not found:
            raise ValueError(f"{path}: no wattveil files here")
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


def _secrets(path: Path) -> list[str]:
    return [f"{len(json.loads(path.read_text()))} entries of secrets (not shown)"]


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
}
