"""Comb tables of a fleet: how they are shaped for a board's flash, and in which kernel's form.

A set is named by its size at 2048 bits (128, 256, 384, 512 KiB); it grows and shrinks with n.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import Any

from gmpy2 import mpz, powmod

from wattveil.fleet.settings import SETS_KIB
from wattveil.paillier.group import group_element, group_nonresidue
from wattveil.paillier.keys import PublicKey
from wattveil.paillier.tables import FORM_MONTGOMERY, FORM_UNIT_PAIR, build_table
from wattveil_meter.record import Record

FORMS = (FORM_UNIT_PAIR, FORM_MONTGOMERY)  # portable; thumb1 and thumb2
ENTRY_BYTES = 512  # at 2048 bits
H_EXPONENT_BITS = 256  # k_i
# Squarings that are made anyway, for the noise exponent (and in compact for the row check): a table
# of h_s profits little from more blocks, one of h much.
SHARED = {"h": 0, "s": 20, "compact": 40}

Tables = Mapping[str, bytes]  # "h.tab", "s.tab" -> contents


@cache
def shape(shared: int, entries: int, bits: int) -> tuple[int, int]:
    """(teeth, blocks) with the fewest multiplications for at most `entries` entries, when `shared`
    squarings cost nothing."""
    best = (bits + bits, 1, 1)
    for teeth in range(1, 11):
        for blocks in range(1, (entries >> teeth) + 1):
            columns = -(-bits // teeth)
            steps = -(-columns // blocks)
            best = min(best, (columns + max(0, steps - shared), teeth, blocks))
    return best[1], best[2]


def budgets(suite: str, kib: int) -> dict[str, int]:
    """Entries for each table of a suite's set; ValueError for an unknown set."""
    if kib not in SETS_KIB:
        raise ValueError(f"tables: {kib} KiB is none of {', '.join(map(str, SETS_KIB))}")
    entries = kib * 1024 // ENTRY_BYTES  # headers and constants come on top: 0.6 KiB a file
    if suite == "compact":
        return {"s": entries}
    return {"s": entries * 2 // 3, "h": entries // 3}


def randomiser_bits(level: str, modulus_bits: int) -> int:
    """Bits of the randomiser exponents at a level, as in wattveil_meter.record."""
    return {"short": 256, "half": modulus_bits // 2, "full": modulus_bits + 80}[level]


def fleet_tables(
    public: PublicKey, fleet: bytes, key_epoch: int, suite: str, level: str, kib: int
) -> tuple[dict[int, Tables], tuple[int, int]]:
    """The table files by form, and the two bases h and h_s (derived here, never received)."""
    h = group_element(public.n, fleet, key_epoch)
    h_s = group_nonresidue(public.n, fleet, key_epoch)
    bits = {"h": H_EXPONENT_BITS, "s": randomiser_bits(level, public.bits)}
    base = {"h": h, "s": h_s}
    constant = {"h": powmod(h, public.n, public.n2), "s": mpz(1)}
    files: dict[int, Tables] = {}
    for form in FORMS:
        files[form] = {}
        for name, entries in budgets(suite, kib).items():
            shared = SHARED["compact" if suite == "compact" else name]
            teeth, blocks = shape(shared, entries, bits[name])
            table = build_table(
                name.encode(),
                base[name],
                public.n,
                bits[name],
                teeth,
                blocks,
                constant[name],
                form,
            )
            files[form] = {**files[form], f"{name}.tab": table}
    return files, (int(h), int(h_s))


def table_set(record: Any) -> tuple[int, dict[int, Tables]]:
    """The set of a provisioning record, KiB, and its files by form: all public, made again.

    ValueError when no set of ours has the digests that the record pins.
    """
    return _table_set(record.raw)


@lru_cache(maxsize=4)
def _table_set(raw: bytes) -> tuple[int, dict[int, Tables]]:
    record = Record.parse(raw)
    public = PublicKey(mpz(record.n))
    for kib in sorted(SETS_KIB, key=lambda kib: kib != 384):  # the default first
        arguments = (record.fleet, record.key_epoch, record.suite, record.level, kib)
        files, _ = fleet_tables(public, *arguments)
        if digests(files.values()) == record.tables:
            return kib, files
    raise ValueError("the record's tables are none of ours: use the wattveil that made the fleet")


def digests(files: Iterable[Tables]) -> bytes:
    """The record's field: SHA-256 of every file, joined."""
    return b"".join(
        hashlib.sha256(table[name]).digest() for table in files for name in sorted(table)
    )
