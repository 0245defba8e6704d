"""What one measurement of a meter is: a row of the table, an object of the JSON, a line of the CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict


class Record(TypedDict):
    """One meter with rows of gamma slots on one runtime. Times are medians over `periods` periods.

    prepare_ms: all the meter computes for a period before its end, its draws of noise too; report_ms:
    from the word that the period is over to the report's frame, ready to be sent, but for the time flash
    takes to store it; link_ms: from each request to its answer, frames sealed and opened; mad_ms: median
    absolute deviation of prepare_ms. heap_peak_bytes: above the heap in use when idle, None where it cannot
    be bounded; heap_firmware_bytes: what the idle firmware itself holds. flash_bytes: tables and .mpy
    files. tables: name of the set, KiB at 2048 bits. bytes_up, bytes_down: frames that carry ciphertexts,
    before stuffing. ratio: textbook_ms / (prepare_ms + report_ms). checked: every answer opened.
    """

    suite: str
    bits: int
    gamma: int
    noise: str
    runtime: str
    kernel: str
    prepare_ms: float
    report_ms: float
    modmuls: int
    heap_peak_bytes: int | None
    heap_firmware_bytes: int | None
    flash_bytes: int
    link_ms: float
    tables: int
    level: str
    periods: int
    mad_ms: float
    bytes_up: int
    bytes_down: int
    textbook_ms: float
    textbook_extrapolated: bool
    ratio: float
    checked: bool


KEYS = tuple(Record.__annotations__)


@dataclass(frozen=True)
class Measured:
    """A record, and what belongs to it but is no part of its public form."""

    record: Record
    row_check: bool
    arm: bool
    tables_bytes: int
    draw_ms: float  # of noise, within prepare_ms
    store_ms: float  # of the report, before it is sent; not in report_ms
    start_ms: float  # from the imports to a meter that is idle
    bytes_other: int  # of requests and acknowledgements
    exponent_bits: int
    probe: dict[str, Any] = field(repr=False)


def write_csv(records: Sequence[Record], path: Path) -> None:
    """A header line, then one line a record."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, KEYS)
        writer.writeheader()
        writer.writerows(records)
