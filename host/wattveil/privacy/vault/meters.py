"""The meters table: tariff, region and type of each meter, and its customer, from a CSV.

Columns: meter_id, and any of tariff, region, type (public facts, 1 to 64 printable characters) and
customer (kept with the identities alone); others are ignored. A line changes what was known.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from wattveil.importers.readings import BadReading, DataError, check_meter_id
from wattveil.privacy.vault.identities import SEGMENTS, Meter, pseudonym_of
from wattveil.privacy.vault.vault import Vault

KNOWN = ("customer", *SEGMENTS)
MAX_BYTES = 64 << 20
MAX_VALUE = 64


def read_meters(
    path: Path, rejects: BinaryIO, columns: Mapping[str, str] | None = None
) -> tuple[list[Meter], int]:
    """The meters, and how many lines were rejected. columns: {"type": "acorn_group"} reads `type`
    from another column. DataError for a file that is no such table."""
    name = str(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(name, 0, 0, f"longer than {MAX_BYTES} bytes", "split the file")
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(name, 0, 0, "not UTF-8", "save it as UTF-8") from None
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(rows, [])
    except csv.Error:
        raise DataError(name, 1, 1, "the header is not CSV", "correct its quotation") from None
    places = _places(name, header, dict(columns or {}))
    found: dict[str, Meter] = {}
    bad = 0
    while True:
        try:
            row = next(rows, None)
            if row is None:
                return list(found.values()), bad
            meter = _meter(row, places) if row else None
            if meter is not None and found.setdefault(meter.meter, meter) != meter:
                raise BadReading("another line has other values for this meter", "", "")
        except (BadReading, csv.Error) as error:
            bad += 1
            reason = error.kind if isinstance(error, BadReading) else "not CSV"
            rejects.write(f"meters,{rows.line_num},{reason}\n".encode())


def _places(name: str, header: list[str], columns: dict[str, str]) -> dict[str, int]:
    names = [cell.strip().lower() for cell in header]
    unknown = [key for key in columns if key not in KNOWN]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is none of {', '.join(KNOWN)}")
    wanted = {"meter_id": "meter_id"} | {key: columns.get(key, key).lower() for key in KNOWN}
    missing = [
        c for k, c in wanted.items() if c not in names and (k in columns or k == "meter_id")
    ]
    if missing:
        reason = f"the header has no column {missing[0]}"
        raise DataError(name, 1, 1, reason, "add it, or name the right one with --column")
    return {key: names.index(column) for key, column in wanted.items() if column in names}


def _meter(row: list[str], places: Mapping[str, int]) -> Meter:
    try:
        values = {key: row[place].strip() for key, place in places.items()}
    except IndexError:
        raise BadReading("missing column", "", "") from None
    check_meter_id(values["meter_id"])
    for key, value in values.items():
        if len(value) > MAX_VALUE or (value and not value.isprintable()):
            raise BadReading(f"bad {key}", "", "")
    return Meter(values.pop("meter_id"), **values)


def learn_meters(vault: Vault, meters: list[Meter]) -> int:
    """Take the table in; how many meters of it are new. Their segments are the same in all epochs
    they belong to; a new meter joins the present epoch."""
    if not meters:
        return 0
    catalogue = vault.catalogue
    with vault.writing():
        known = vault.identities.meters([m.meter for m in meters])
        vault.identities.learn(meters, replace=True)
        newest = catalogue.epochs()[-1][0]
        vault.register({m.meter: m for m in meters}, newest)
        with vault.state.transaction():
            for epoch, _ in catalogue.epochs():
                key = vault.epoch_key(epoch)
                names = {m.meter: pseudonym_of(key, m.meter) for m in meters}
                there = catalogue.joined(epoch, list(names.values()))
                catalogue.join(
                    epoch, ((names[m.meter], m.segment) for m in meters if names[m.meter] in there)
                )
            body = {
                "event": "meters table",
                "meters": len(meters),
                "new": len(meters) - len(known),
            }
            vault.state.log().append("vault", body)
    return len(meters) - len(known)
