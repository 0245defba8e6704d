"""A small vault, what it should hold, and a process that dies where a test says."""

from __future__ import annotations

import gc
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from wattveil.privacy.state import State
from wattveil.privacy.vault import vault as vault_module
from wattveil.privacy.vault.exports import readings_of
from wattveil.privacy.vault.ingest import ingest
from wattveil.privacy.vault.sources import Report
from wattveil.privacy.vault.vault import Vault

DAY = 86_400
HALF = 1800
T0 = 1_358_121_600  # 2013-01-14T00:00:00Z
DAY0 = T0 // DAY
Readings = dict[str, dict[int, int]]
CANARY_WH = 73_731_373  # a reading that nothing else can give, twice in a row
# By itself: inside a hash of a long text its digits stand by chance once in 10,000 runs.
CANARY_NUMBER = re.compile(rb"(?<![0-9a-f])%d(?![0-9a-f])" % CANARY_WH)


def stamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_csv(path: Path, readings: Readings) -> Path:
    rows = [f"{m},{stamp(t)},{wh}" for m, row in readings.items() for t, wh in row.items()]
    path.write_text("\n".join(["meter_id,timestamp,wh", *rows]) + "\n")
    return path


def readings(meters: int, first: int, slots: int, scale: int = 1) -> Readings:
    """meter -> start -> Wh, all different enough to be told apart."""
    return {
        f"canary-{m:03}": {
            T0 + (first + s) * HALF: scale * (1000 * m + first + s) % 60_000 for s in range(slots)
        }
        for m in range(meters)
    }


def merge(*parts: Readings) -> Readings:
    whole: Readings = {}
    for part in parts:
        for meter, row in part.items():
            whole.setdefault(meter, {}).update(row)
    return whole


def held(vault: Vault) -> Readings:
    """Everything in the vault, by meter."""
    rows = {m: dict(readings_of(vault, m, 0, 1 << 40)) for m in vault.identities.meters()}
    return {meter: row for meter, row in rows.items() if row}


def make(path: Path) -> Vault:
    return Vault.create(State.create(path))


def take(vault: Vault, name: str, what: Readings, *, correct: bool = False) -> Report:
    """Readings through a CSV."""
    folder = vault.state.path
    (report,) = ingest(
        vault, [write_csv(folder / name, what)], folder / "rejects.csv", correct=correct
    )
    return report


def total(vault: Vault, start: int, end: int, **segment: str) -> int:
    """Of all readings of a segment."""
    members = vault.members(segment, start, end)
    return sum(int(block.wh.sum()) for block in vault.blocks(members, start, end))


# Fixtures: a test module that wants one names it, `vault = vaultkit.vault`.


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    made = make(tmp_path / "state")
    yield made
    made.state.close()


@pytest.fixture
def filled(vault: Vault) -> Vault:
    """Three homes, 100 readings each."""
    take(vault, "a.csv", readings(3, 0, 100))
    return vault


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day that does not open is damaged, and not being written, at once."""
    monkeypatch.setattr(vault_module, "_TRIES", 2)
    monkeypatch.setattr(vault_module, "_AGAIN_S", 0.0)


class Crash(BaseException):
    """The process is gone."""


class Fate:
    """Counts what changes the disk; at the `at`-th step the process dies and stays dead."""

    def __init__(self, at: int = -1) -> None:
        self.at, self.count = at, 0
        self.connections: list[Any] = []

    def step(self) -> None:
        if self.count == self.at:
            raise Crash
        self.count += 1

    def bury(self) -> None:
        """What the kernel does with a dead process: connections close, transactions are undone."""
        self.at = -1
        for connection in self.connections:
            connection.close()
        gc.collect()


@contextmanager
def mortal(at: int) -> Iterator[Fate]:
    """Every statement of SQLite and SQLCipher, every change of a key file, and every wait for the
    disk, is a step."""
    from sqlcipher3 import dbapi2

    fate = Fate(at)

    def wrap(module: Any) -> Any:
        real = module.connect

        class Mortal(module.Connection):  # type: ignore[misc]
            def execute(self, *args: Any) -> Any:
                fate.step()
                result = super().execute(*args)
                if not str(args[0]).lstrip().upper().startswith(("SELECT", "PRAGMA")):
                    fate.step()
                return result

            def executemany(self, *args: Any) -> Any:
                fate.step()
                result = super().executemany(*args)
                fate.step()
                return result

        def connect(*args: Any, **options: Any) -> Any:
            made = real(*args, factory=Mortal, **options)
            fate.connections.append(made)
            return made

        return connect

    def dying(real: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            fate.step()
            result = real(*args, **options)
            fate.step()
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        for module in (sqlite3, dbapi2):
            patch.setattr(module, "connect", wrap(module))
        patch.setattr(os, "link", dying(os.link))
        patch.setattr(os, "unlink", dying(os.unlink))
        patch.setattr(os, "fsync", dying(os.fsync))
        yield fate
