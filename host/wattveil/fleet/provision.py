"""Provisioning: the folders of centre, cloud, dealer and meters, with fresh secrets.

While it runs, this program is inside the trust boundary of every role at once: it knows all keys.
Afterwards each folder goes to its own machine, the meters' by cable, and the roles never meet them
again (PROTOCOL.md, "Roles"). The layout is in PROTOCOL.md, "Provisioning files".
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from wattveil.fleet.settings import FleetSettings, exact, sorted_roster
from wattveil.fleet.tables import Tables, digests, fleet_tables
from wattveil.paillier.keyfile import save_private
from wattveil.paillier.keys import PrivateKey, PublicKey, generate
from wattveil.paillier.tables import FORM_UNIT_PAIR
from wattveil_meter.fields import pack, uint
from wattveil_meter.record import Record
from wattveil_meter.store import FRESH, checked

METER_MAGIC = b"wattveil meter 1"
SECRET_BYTES = 32
FLEET_BYTES = 8
ROLES = ("center", "cloud", "dealer")
TABLES = ("h.tab", "s.tab")
_PUBLIC = (*TABLES, "record.bin", "config.json")


@dataclass(frozen=True)
class MeterPackage:
    """What one meter gets: files by name. They hold its secrets, so `repr` does not show them."""

    id: str
    number: int
    files: Mapping[str, bytes] = field(repr=False)

    def tables(self) -> dict[str, BinaryIO]:
        """The comb tables as files, for a meter that lives in this process."""
        files = {name: data for name, data in self.files.items() if name.endswith(".tab")}
        return {name[0]: io.BytesIO(data) for name, data in files.items()}

    def in_form(self, tables: Tables) -> MeterPackage:
        """The same meter with the fleet's tables in another kernel's form."""
        return MeterPackage(self.id, self.number, {**self.files, **tables})

    def write(self, folder: Path) -> None:
        """Write the files into a folder (made if need be, mode 0700); those with secrets 0600."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, data in self.files.items():
            _write(folder / name, data, 0o644 if name in _PUBLIC else 0o600)


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


@dataclass(frozen=True, repr=False)
class _Secrets:
    """All fresh keys of one fleet."""

    meters: Mapping[str, Mapping[str, bytes]]
    cloud_center: bytes
    cloud_dealer: bytes
    certificate: bytes  # dealer - centre

    @classmethod
    def draw(cls, roster: Sequence[str]) -> _Secrets:
        names = ("link", "registration", "dealer_seed", "center_seed", "drbg")
        meters = {i: {name: secrets.token_bytes(SECRET_BYTES) for name in names} for i in roster}
        return cls(meters, *(secrets.token_bytes(SECRET_BYTES) for _ in range(3)))


def provision(
    root: Path,
    key: PrivateKey | None,
    ids: Sequence[str],
    settings: FleetSettings,
    *,
    emulated: bool = False,
    day: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Fleet:
    """Make a new fleet in `root`, which must not exist or be empty; all of it or nothing.

    key: the centre's; None makes a new one of `settings.bits` (`progress` as in keys.generate).
    ids: of the meters, in any order. emulated: meters of this process: their folders are not
    written, the packages only returned. day: UTC day index of the seeds, default today. ValueError
    for settings or ids that cannot be, FileExistsError, OSError.
    """
    root = Path(root)
    roster = sorted_roster(ids)
    quorum = settings.check(len(roster))
    if root.exists() and any(root.iterdir()):
        raise FileExistsError(f"{root} is not empty: a fleet is provisioned once; choose another")
    key = generate(settings.bits, progress) if key is None else key
    fleet_id = secrets.token_bytes(FLEET_BYTES)
    tables, bases = fleet_tables(
        key.public, fleet_id, settings.key_epoch, settings.suite, settings.level, settings.tables
    )
    record = _record(key.public, fleet_id, roster, quorum, settings, tables, bases)
    day = int(time.time()) // 86_400 if day is None else day
    drawn = _Secrets.draw(roster)
    shared = {
        "record.bin": record.raw,
        **tables[FORM_UNIT_PAIR],
        "config.json": _config("replay", settings),
    }
    shared |= {name: checked(value) for name, value in FRESH.items()}
    meters = {
        name: MeterPackage(name, number, shared | {"meter.bin": _meter_bin(name, number, day, m)})
        for number, (name, m) in enumerate(drawn.meters.items(), start=1)
    }
    root.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    try:
        _write_roles(work, key, record.raw, roster, day, drawn)
        if not emulated:
            _write_meters(work / "meters", meters)
        os.replace(work, root)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return Fleet(root, record, roster, meters, tables)


def load_fleet(root: Path) -> Fleet:
    """A fleet provisioned earlier, with the meters whose folders are there; ValueError."""
    root = Path(root)
    record = Record.parse((root / "cloud" / "record.bin").read_bytes())
    roster = tuple(json.loads((root / "cloud" / "roster.json").read_text())["meters"])
    folders = {name: root / "meters" / name for name in roster}
    meters = {
        name: load_package(folder, name, number)
        for number, (name, folder) in enumerate(folders.items(), start=1)
        if (folder / "meter.bin").exists()
    }
    return Fleet(root, record, roster, meters)


def load_package(folder: Path, meter_id: str, number: int) -> MeterPackage:
    """The package of one meter's folder; what the meter itself wrote there is left out."""
    names = ["record.bin", "config.json", "meter.bin"]
    names += [name for name in TABLES if (folder / name).exists()]
    return MeterPackage(meter_id, number, {name: (folder / name).read_bytes() for name in names})


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


def _meter_bin(name: str, number: int, day: int, keys: Mapping[str, bytes]) -> bytes:
    identity = (METER_MAGIC, name.encode(), uint(number), keys["link"], keys["registration"])
    seeds = (uint(day), keys["dealer_seed"], uint(day), keys["center_seed"])
    return bytes(pack(*identity, *seeds, keys["drbg"]))


def _config(kind: str, settings: FleetSettings) -> bytes:
    sensor = {"kind": kind} | ({"file": "readings.csv"} if kind == "replay" else {})
    return _json({"sensor": sensor, "poll_ms": settings.poll_ms})


def _write_roles(
    root: Path, key: PrivateKey, record: bytes, roster: Sequence[str], day: int, drawn: _Secrets
) -> None:
    """The folders center, cloud and dealer."""
    links = {
        "center": {"cloud": drawn.cloud_center.hex(), "dealer_mac": drawn.certificate.hex()},
        "cloud": {"center": drawn.cloud_center.hex(), "dealer": drawn.cloud_dealer.hex()},
        "dealer": {"cloud": drawn.cloud_dealer.hex(), "center_mac": drawn.certificate.hex()},
    }

    def meters(role: str, keys: Mapping[str, bytes]) -> dict[str, str | int]:
        if role == "cloud":
            return {"link_key": keys["link"].hex()}
        held: dict[str, str | int] = {"day": day, "seed": keys[f"{role}_seed"].hex()}
        if role == "center":
            held["registration_key"] = keys["registration"].hex()
        return held

    for role in ROLES:
        folder = root / role
        folder.mkdir(mode=0o700)
        _write(folder / "record.bin", record, 0o644)
        _write(folder / "roster.json", _json({"meters": list(roster)}), 0o644)
        _write(folder / "links.json", _json(links[role]), 0o600)
        table = {name: meters(role, keys) for name, keys in drawn.meters.items()}
        _write(folder / "meters.json", _json(table), 0o600)
    save_private(key, root / "center" / "key.json")


def _write_meters(root: Path, meters: Mapping[str, MeterPackage]) -> None:
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


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write a new file that never has wider access than `mode`; FileExistsError."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
