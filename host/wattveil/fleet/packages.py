"""What one meter gets of its fleet: its keys and seeds, and the files they are in.

Layout: PROTOCOL.md, "Provisioning files".
"""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from wattveil.fleet.tables import Tables
from wattveil.roles.seeds import Seed
from wattveil_meter.fields import Malformed, pack, read_uint, uint, unpack
from wattveil_meter.package import Package
from wattveil_meter.seeds import NAME, record_of
from wattveil_meter.store import FRESH, MemoryStorage, checked

SEEDS_BIN: str = NAME
METER_MAGIC = b"wattveil meter 1"
SECRET_BYTES = 32
TABLES = ("h.tab", "s.tab")
BEGUN = {name: checked(value) for name, value in FRESH.items()}  # counters of keys never used
# What a meter changes itself, so that it is in one place only: its counters and its seeds.
LIVING = (*FRESH, SEEDS_BIN)
_PUBLIC = (*TABLES, "record.bin", "config.json")


@dataclass(frozen=True)
class MeterSeeds:
    """The two seeds of one meter."""

    dealer: Seed
    center: Seed

    def of(self, role: str) -> Seed:
        """The one that the dealer or the centre holds too."""
        return self.dealer if role == "dealer" else self.center

    def at(self, day: int) -> tuple[bytes, bytes]:
        """The dealer's and the centre's of a UTC day; ValueError for one before theirs."""
        if day < self.dealer.day:
            raise ValueError(f"the seeds are of day {self.dealer.day}: day {day} is gone")
        return self.dealer.at(day).secret, self.center.at(day).secret

    @classmethod
    def read(cls, file: bytes) -> MeterSeeds:
        """From a seeds.bin; Malformed."""
        day, *seeds = unpack(stored(file), 3)
        dealer, center = (Seed(read_uint(day), seed) for seed in seeds)
        return cls(dealer, center)

    def file(self) -> bytes:
        """The content of seeds.bin."""
        value = record_of(self.dealer.day, self.dealer.secret, self.center.secret)
        return bytes(checked(value))


@dataclass(frozen=True, repr=False)
class MeterKeys:
    """The secrets of one meter. seeds: None once they are elsewhere: on its board, with its roles."""

    link: bytes
    registration: bytes
    drbg: bytes
    seeds: MeterSeeds | None

    @classmethod
    def draw(cls, day: int) -> MeterKeys:
        """Fresh ones; day: the first UTC day the seeds serve."""
        link, registration, dealer, center, drbg = (
            secrets.token_bytes(SECRET_BYTES) for _ in range(5)
        )
        return cls(link, registration, drbg, MeterSeeds(Seed(day, dealer), Seed(day, center)))

    @classmethod
    def read(cls, files: Mapping[str, bytes]) -> MeterKeys:
        """Those in a meter's files, by name; Malformed."""
        held = Package(files["record.bin"], files["meter.bin"])
        seeds = MeterSeeds.read(files[SEEDS_BIN]) if SEEDS_BIN in files else None
        return cls(held.link_key, held.registration_key, held.drbg_secret, seeds)

    def files(self, name: str, number: int) -> dict[str, bytes]:
        """The files meter.bin and, if the seeds are here, seeds.bin (PROTOCOL.md, A)."""
        identity = (METER_MAGIC, name.encode(), uint(number))
        files = {"meter.bin": bytes(pack(*identity, self.link, self.registration, self.drbg))}
        return files if self.seeds is None else files | {SEEDS_BIN: self.seeds.file()}

    def day(self, day: int) -> tuple[bytes, bytes]:
        """The dealer's and the centre's seed of a UTC day; ValueError where they are not."""
        if self.seeds is None:
            raise ValueError("the seeds are with the meter and its roles only")
        return self.seeds.at(day)

    def entry(self, role: str) -> dict[str, str | int]:
        """What a role is given of them, in its meters.json."""
        if role == "cloud":
            return {"link_key": self.link.hex()}
        held: dict[str, str | int] = {}
        if self.seeds is not None:
            held |= self.seeds.of(role).entry()
        if role == "center":
            held["registration_key"] = self.registration.hex()
        return held


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

    def storage(self) -> MemoryStorage:
        """What a meter that lives in this process must not forget, at its beginning."""
        return MemoryStorage({SEEDS_BIN: stored(self.files[SEEDS_BIN])})

    def in_form(self, tables: Tables) -> MeterPackage:
        """The same meter with the fleet's tables in another kernel's form."""
        return MeterPackage(self.id, self.number, {**self.files, **tables})

    def write(self, folder: Path) -> None:
        """Write the files into a folder (made if need be, mode 0700); those with secrets 0600."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, data in self.files.items():
            write_new(folder / name, data, 0o644 if name in _PUBLIC else 0o600)


def load_package(folder: Path) -> MeterPackage:
    """The package of one meter's folder; what the meter itself wrote there is left out. Malformed."""
    names = ["record.bin", "config.json", "meter.bin"]
    names += [name for name in TABLES if (folder / name).exists()]
    files = {name: (folder / name).read_bytes() for name in names}
    held = Package(files["record.bin"], files["meter.bin"])
    return MeterPackage(held.id.decode(), held.number, files)


def stored(file: bytes) -> bytes:
    """The value in the content of a meter's file; Malformed."""
    value = file[:-12]
    if checked(value) != file:
        raise Malformed("damaged")
    return value


def replace(path: Path, data: bytes) -> None:
    """Put a new file with secrets (mode 0600) in a file's place; nobody sees half of it."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    write_new(temporary, data, 0o600)
    os.replace(temporary, path)


def write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a new file that never has wider access than `mode`; FileExistsError."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
