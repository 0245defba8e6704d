"""A newer record for a fleet that runs: meters join or leave, or the Paillier key is a new one.

The fleet stays the fleet. Its id, the ids, keys and seeds of the meters that stay, and every counter
live on: the same link key with a boot number begun anew would use nonces twice, and a ledger begun
anew would open periods twice (PROTOCOL.md, 7, 12 and 16). So counters and the roles' stores *move*
to the new folder, and the old one can start no role any more. Masks need no such care: the new
record's fingerprint is in each.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from wattveil import sealed
from wattveil.fleet.packages import LIVING, MeterKeys, load_package
from wattveil.fleet.provision import (
    ROLES,
    Fleet,
    check_empty,
    make_fleet,
    new_folder,
    write_meters,
    write_roles,
)
from wattveil.fleet.settings import Exact, FleetSettings, sorted_roster
from wattveil.fleet.tables import table_set
from wattveil.paillier.keyfile import load_private
from wattveil.paillier.keys import PrivateKey
from wattveil.privacy import subjects
from wattveil.roles.folders import CONTINUES, SEEDS, load_json, load_record
from wattveil.roles.seeds import Seed
from wattveil.store import Store
from wattveil_meter.record import Record

STORE = "state.db"
_KEPT = ("limits.json", subjects.FILE)  # of a role's folder, when it is there


@dataclass(frozen=True)
class Renewed:
    """stayed: with the keys they had. joined: with new ones. left: no longer in the roster.

    stores: roles whose store moved along; the others' must be brought by hand.
    """

    fleet: Fleet
    stayed: tuple[str, ...]
    joined: tuple[str, ...]
    left: tuple[str, ...]
    stores: tuple[str, ...]


def renew(
    old: Path,
    new: Path,
    *,
    roster: Sequence[str] | None = None,
    key: PrivateKey | None = None,
    quorum: Exact | None = None,
    day: int | None = None,
) -> Renewed:
    """Make the folder `new` for the fleet in `old`; its roles must be stopped. All of it or nothing.

    roster: all ids from now on, None for the same. key: a new Paillier key, None for the same. quorum:
    share of the new roster, default the old count's share of the old roster. A meter whose folder is
    not in `old` gets new keys, like one that joins. day: first UTC day of new seeds, default that of the
    period under way. ValueError, FileExistsError, StoreError.
    """
    _, before = load_record(old / "cloud")
    record: Any = Record.parse((old / "cloud" / "record.bin").read_bytes())
    ids = before if roster is None else sorted_roster(roster)
    if ids == before and key is None and quorum is None:
        raise ValueError("nothing to renew: give another --roster, --quorum or --new-key")
    check_empty(new)
    settings = _settings(record)
    settings = replace(
        settings,
        key_epoch=record.key_epoch + (key is not None),
        roster_epoch=record.roster_epoch + (ids != before or quorum is not None),
        quorum=settings.quorum if quorum is None else quorum,
    )
    settings.check(len(ids))
    if key is None:
        key = load_private(old / "center" / "key.json")
    held = {name: old / "meters" / name for name in ids}
    stayed = tuple(n for n in ids if n in before and (held[n] / "meter.bin").exists())
    day = settings.day(time.time()) if day is None else day
    keys = {
        name: MeterKeys.read(load_package(held[name]).files)
        if name in stayed
        else MeterKeys.draw(day)
        for name in ids
    }
    fleet = make_fleet(new, key, record.fleet, keys, settings)
    with new_folder(new) as work:
        write_roles(work, key, fleet, keys)
        write_meters(work / "meters", fleet.meters)
        _carry_seeds(old, work, stayed)
        moves = _moves(old, work, stayed)
        _move(moves, old)
    stores = tuple(role for role in ROLES if (new / role / STORE).exists())
    joined = tuple(name for name in ids if name not in stayed)
    left = tuple(name for name in before if name not in ids)
    return Renewed(fleet, stayed, joined, left, stores)


def _settings(record: Any) -> FleetSettings:
    """What was chosen when the record was made."""
    names = (
        "lo suite noise level gamma colluding period_s phase_s key_epoch roster_epoch row_check"
        " own_noise"
    )
    values = {name: getattr(record, name) for name in names.split()}
    return FleetSettings(
        **values,
        delta=record.hi - record.lo,
        epsilon=Fraction(record.epsilon_num, record.epsilon_den),
        quorum=Fraction(record.quorum_count, record.roster_size),
        bits=record.n.bit_length(),
        tables=table_set(record)[0],
    )


def _carry_seeds(old: Path, work: Path, stayed: Sequence[str]) -> None:
    """What provisioning brought a role that has not started since."""
    for role in ROLES:
        if not (old / role / "meters.json").exists():
            continue
        before, path = load_json(old / role / "meters.json"), work / role / "meters.json"
        table = load_json(path)
        for name in stayed:
            if seed := Seed.read(before[name]):
                table[name] |= seed.entry()
        sealed.replace(path, (json.dumps(table, indent=1) + "\n").encode())


def _moves(old: Path, work: Path, stayed: Sequence[str]) -> list[tuple[Path, Path]]:
    """What is in one place only: the roles' stores and seeds, and what a meter without board keeps."""
    moves = []
    for role in ROLES:
        (work / role / CONTINUES).touch(0o600)
        for name in _KEPT:
            if (old / role / name).exists():
                shutil.copy2(old / role / name, work / role / name)
        if (old / role / STORE).exists():
            Store(old / role / STORE).close()  # StoreError while its role runs; ends the log
            moves.append((old / role / STORE, work / role / STORE))
        if (old / role / SEEDS).exists():
            moves.append((old / role / SEEDS, work / role / SEEDS))
    for name in stayed:
        for file in LIVING:
            (work / "meters" / name / file).unlink(missing_ok=True)
            if (old / "meters" / name / file).exists():
                moves.append((old / "meters" / name / file, work / "meters" / name / file))
    return moves


def _move(moves: Sequence[tuple[Path, Path]], old: Path) -> None:
    """Move all files, or put back those that were moved; then no role starts in `old` any more."""
    done = []
    try:
        for source, target in moves:
            shutil.move(source, target)
            done.append((source, target))
        for role in ROLES:
            os.replace(old / role / "links.json", old / role / "links.json.renewed")
    except BaseException:
        for source, target in done:
            shutil.move(target, source)
        raise
