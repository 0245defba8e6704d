"""Provisioning: the folders of centre, cloud, dealer and meters, with fresh secrets.

While it runs, this program is inside the trust boundary of every role at once: it knows all keys.
Afterwards each folder goes to its own machine, the meters' by cable, and the roles never meet them
again (PROTOCOL.md, "Roles"). The layout is in PROTOCOL.md, "Provisioning files".
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wattveil.fleet.packages import (
    BEGUN,
    SECRET_BYTES,
    SEEDS_BIN,
    TABLES,
    MeterKeys,
    MeterPackage,
    MeterSeeds,
    load_package,
    replace,
    write_new,
)
from wattveil.fleet.settings import FleetSettings, exact, sorted_roster
from wattveil.fleet.tables import Tables, digests, fleet_tables
from wattveil.paillier.keyfile import save_private
from wattveil.paillier.keys import PrivateKey, PublicKey, generate
from wattveil.paillier.tables import FORM_UNIT_PAIR
from wattveil.privacy import subjects
from wattveil.privacy.ledger import Limits
from wattveil.roles.folders import SEEDS, load_json, load_record
from wattveil.roles.seeds import Seed, day_of
from wattveil_meter.fields import pack
from wattveil_meter.record import Record

FLEET_BYTES = 8
ROLES = ("center", "cloud", "dealer")


@dataclass(frozen=True)
class Fleet:
    """A provisioned fleet. meters: by id; empty where only other roles' folders are at hand.

    tables: by kernel form, when it was provisioned in this process.
    """

    root: Path
    record: Any  # wattveil_meter.record.Record
    roster: tuple[str, ...]
    meters: Mapping[str, MeterPackage] = field(repr=False)
    tables: Mapping[int, Tables] = field(repr=False, default_factory=dict)

    def role_folder(self, role: str) -> Path:
        """The folder of "center", "cloud" or "dealer"."""
        return self.root / role

    def meter_folder(self, meter_id: str) -> Path:
        """The folder of a meter."""
        return self.root / "meters" / meter_id


def provision(
    root: Path,
    key: PrivateKey | None,
    ids: Sequence[str],
    settings: FleetSettings,
    *,
    emulated: bool = False,
    day: int | None = None,
    progress: Callable[[int], None] | None = None,
    limits: Limits | None = None,
) -> Fleet:
    """Make a new fleet in `root`, which must not exist or be empty; all of it or nothing.

    key: the centre's; None makes a new one of `settings.bits` (`progress` as in keys.generate).
    ids: of the meters, in any order. emulated: meters of this process: their folders are not
    written, the packages only returned. day: first UTC day the seeds serve, default that of the period under
    way. limits: of epsilon, for the centre. ValueError for settings or ids that cannot be,
    FileExistsError, OSError.
    """
    root = Path(root)
    roster = sorted_roster(ids)
    settings.check(len(roster))
    check_empty(root)
    key = generate(settings.bits, progress) if key is None else key
    day = settings.day(time.time()) if day is None else day
    keys = {name: MeterKeys.draw(day) for name in roster}
    fleet = make_fleet(root, key, secrets.token_bytes(FLEET_BYTES), keys, settings)
    with new_folder(root) as work:
        write_roles(work, key, fleet, keys)
        if limits is not None and limits != Limits():
            table = {name: text for name, text in limits.text().items() if text}
            write_new(work / "center" / "limits.json", _json(table), 0o600)
        if not emulated:
            write_meters(work / "meters", fleet.meters)
    return fleet


def check_empty(root: Path) -> None:
    """FileExistsError unless there is nothing at `root`, or an empty folder."""
    if root.exists() and any(root.iterdir()):
        raise FileExistsError(f"{root} is not empty: a fleet is provisioned once; choose another")


def make_fleet(
    root: Path,
    key: PrivateKey,
    fleet_id: bytes,
    keys: Mapping[str, MeterKeys],
    settings: FleetSettings,
) -> Fleet:
    """Record, tables and packages for meters with these keys, in memory; counters not begun."""
    roster = sorted_roster(list(keys))
    quorum = settings.check(len(roster))
    tables, bases = fleet_tables(
        key.public, fleet_id, settings.key_epoch, settings.suite, settings.level, settings.tables
    )
    record = _record(key.public, fleet_id, roster, quorum, settings, tables, bases)
    shared = {
        "record.bin": record.raw,
        **tables[FORM_UNIT_PAIR],
        "config.json": _config("replay", settings),
        **BEGUN,
    }
    meters = {
        name: MeterPackage(name, number, shared | keys[name].files(name, number))
        for number, name in enumerate(roster, start=1)
    }
    return Fleet(root, record, roster, meters, tables)


@contextmanager
def new_folder(root: Path) -> Iterator[Path]:
    """A folder to fill that becomes `root` at the end: all of it or nothing."""
    root.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    try:
        yield work
        os.replace(work, root)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def rekey(root: Path, meter_id: str) -> None:
    """Draw new keys, seeds and counters for one meter of a fleet: its old device is then a stranger.

    Changes the meter's folder and the roles'; their processes take it up at their next start (the
    period under way is lost). Broken off, it is to be repeated. ValueError when a folder is missing.
    """
    folder = root / "meters" / meter_id
    paths = {role: root / role / "meters.json" for role in ROLES}
    if missing := [str(p) for p in (folder / "meter.bin", *paths.values()) if not p.exists()]:
        raise ValueError(f"new keys for {meter_id!r} change what is not here: {missing[0]}")
    package = load_package(folder)
    record = Record.parse(package.files["record.bin"])
    keys = MeterKeys.draw(day_of(record.start_of(int(time.time()))))
    for role, path in paths.items():
        table = json.loads(path.read_text())
        table[meter_id] = keys.entry(role)
        replace(path, _json(table))
    files = {**BEGUN, **keys.files(meter_id, package.number)}
    for name, data in sorted(files.items(), key=lambda item: item[0] == "meter.bin"):  # it last
        replace(folder / name, data)


def check_registered(root: Path, package: MeterPackage) -> tuple[str, ...]:
    """The roles whose folders are here and know this meter by these keys; ValueError if one differs."""
    keys, known = MeterKeys.read(package.files), []
    path = root / "meters" / package.id / SEEDS_BIN
    seeds = MeterSeeds.read(path.read_bytes()) if path.exists() else None  # else on its board
    for role in ROLES:
        folder = root / role
        if not (folder / "meters.json").exists():
            continue  # moved to its own machine, as it should be
        record, roster = load_record(folder)
        table = load_json(folder / "meters.json")
        if (
            record.raw != package.files["record.bin"]
            or roster.index(package.id) + 1 != package.number
        ):
            raise ValueError(f"{folder}: has another record than meter {package.id!r}")
        entry = dict(table.get(package.id, {}))
        held = Seed.read(entry) or Seed.read(_seeds(folder).get(package.id, {}))
        entry = {name: value for name, value in entry.items() if name not in ("day", "seed")}
        same = seeds is None or held is None or seeds.of(role).agrees(held)
        if entry != keys.entry(role) or not same:
            raise ValueError(
                f"{folder}: does not know meter {package.id!r} by the keys in its folder: draw new"
                " ones with --rekey"
            )
        known.append(role)
    return tuple(known)


def _seeds(folder: Path) -> dict[str, Any]:
    return load_json(folder / SEEDS) if (folder / SEEDS).exists() else {}


def load_fleet(root: Path) -> Fleet:
    """A fleet provisioned earlier, with the meters whose folders are there; ValueError."""
    root = Path(root)
    record = Record.parse((root / "cloud" / "record.bin").read_bytes())
    roster = tuple(json.loads((root / "cloud" / "roster.json").read_text())["meters"])
    folders = {name: root / "meters" / name for name in roster}
    meters = {
        name: load_package(folder)
        for name, folder in folders.items()
        if (folder / "meter.bin").exists()
    }
    return Fleet(root, record, roster, meters)


def _record(
    public: PublicKey,
    fleet: bytes,
    roster: Sequence[str],
    quorum: int,
    settings: FleetSettings,
    tables: Mapping[int, Tables],
    bases: tuple[int, int],
) -> Any:
    epsilon = exact(settings.epsilon, "epsilon")
    names = (
        "suite noise key_epoch roster_epoch gamma colluding lo hi offset period_s phase_s level"
    )
    return Record.make(
        **{name: getattr(settings, name) for name in names.split()},
        n=int(public.n),
        fleet=fleet,
        roster_size=len(roster),
        roster_digest=hashlib.sha256(pack(*(name.encode() for name in roster))).digest(),
        quorum_count=quorum,
        epsilon_num=epsilon.numerator,
        epsilon_den=epsilon.denominator,
        unit="Wh",
        row_check=int(settings.row_check),
        own_noise=int(settings.own_noise),
        h=bases[0],
        h_s=bases[1],
        tables=digests(tables.values()),
    )


def _config(kind: str, settings: FleetSettings) -> bytes:
    sensor = {"kind": kind} | ({"file": "readings.csv"} if kind == "replay" else {})
    return _json({"sensor": sensor, "poll_ms": settings.poll_ms})


def write_roles(root: Path, key: PrivateKey, fleet: Fleet, keys: Mapping[str, MeterKeys]) -> None:
    """The folders center, cloud and dealer, with fresh keys for the links between them."""
    cloud_center, cloud_dealer, certificate = (
        secrets.token_bytes(SECRET_BYTES).hex() for _ in range(3)
    )
    links = {
        "center": {"cloud": cloud_center, "dealer_mac": certificate},
        "cloud": {"center": cloud_center, "dealer": cloud_dealer},
        "dealer": {"cloud": cloud_dealer, "center_mac": certificate},
    }
    for role in ROLES:
        folder = root / role
        folder.mkdir(mode=0o700)
        write_new(folder / "record.bin", fleet.record.raw, 0o644)
        write_new(folder / "roster.json", _json({"meters": list(fleet.roster)}), 0o644)
        write_new(folder / "links.json", _json(links[role]), 0o600)
        table = {name: keys[name].entry(role) for name in fleet.roster}
        write_new(folder / "meters.json", _json(table), 0o600)
    save_private(key, root / "center" / "key.json")
    write_new(root / "center" / subjects.FILE, secrets.token_bytes(subjects.KEY_BYTES), 0o600)


def write_meters(root: Path, meters: Mapping[str, MeterPackage]) -> None:
    """One folder a meter; the tables, which are all the same, as hard links where possible."""
    root.mkdir(mode=0o700)
    first: Path | None = None
    for name, package in meters.items():
        folder = root / name
        if first is None:
            package.write(folder)
            first = folder
            continue
        rest = {name: data for name, data in package.files.items() if name not in TABLES}
        MeterPackage(package.id, package.number, rest).write(folder)
        for table in (name for name in TABLES if name in package.files):
            try:
                os.link(first / table, folder / table)
            except OSError:  # a file system without hard links
                shutil.copyfile(first / table, folder / table)


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()
