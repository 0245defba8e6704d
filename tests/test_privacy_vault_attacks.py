"""Tampering with the stores shows, and whose readings they are stays apart."""

from __future__ import annotations

import os
import sqlite3
import stat as modes
from pathlib import Path

import pytest

import vaultkit
from vaultkit import (
    CANARY_NUMBER,
    CANARY_WH,
    DAY,
    DAY0,
    HALF,
    T0,
    readings,
    stamp,
    take,
    total,
    write_csv,
)
from wattveil import cli
from wattveil.privacy.state import State
from wattveil.privacy.vault import vault as vault_module
from wattveil.privacy.vault.vault import Vault, VaultDamaged
from wattveil.store import StoreError

vault, filled, impatient = vaultkit.vault, vaultkit.filled, vaultkit.impatient


def _usage(vault: Vault) -> sqlite3.Connection:
    return sqlite3.connect(vault.state.path / "usage.db", isolation_level=None)


def _sum(vault: Vault) -> int:
    return total(vault, T0, T0 + 3 * DAY)


def test_swapped_rows_are_found(filled: Vault) -> None:
    db = _usage(filled)
    (one, a), (two, b) = db.execute(
        "SELECT pseudonym, box FROM sealed WHERE day=? LIMIT 2", (DAY0,)
    )
    db.execute("UPDATE sealed SET box=? WHERE day=? AND pseudonym=?", (b, DAY0, one))
    db.execute("UPDATE sealed SET box=? WHERE day=? AND pseudonym=?", (a, DAY0, two))
    with pytest.raises(VaultDamaged):
        _sum(filled)


def test_rows_of_another_day_are_found(filled: Vault) -> None:
    _usage(filled).execute(
        "UPDATE sealed SET box=(SELECT box FROM sealed AS o WHERE o.pseudonym=sealed.pseudonym "
        "AND o.day=?) WHERE day=?",
        (DAY0 + 1, DAY0),
    )
    with pytest.raises(VaultDamaged):
        _sum(filled)


def test_an_older_row_put_back_is_found(filled: Vault) -> None:
    db = _usage(filled)
    rows = db.execute("SELECT * FROM sealed WHERE day=?", (DAY0 + 2,)).fetchall()
    take(filled, "b.csv", readings(3, 100, 20))  # completes that day
    after = _sum(filled)
    newer = db.execute("SELECT * FROM sealed WHERE day=?", (DAY0 + 2,)).fetchall()
    db.executemany("INSERT OR REPLACE INTO sealed VALUES(?,?,?,?)", rows)
    with pytest.raises(VaultDamaged):
        _sum(filled)
    with pytest.raises(VaultDamaged):  # nor is it built upon
        take(filled, "c.csv", readings(3, 120, 10))
    db.executemany("INSERT OR REPLACE INTO sealed VALUES(?,?,?,?)", newer)
    assert _sum(filled) == after


def test_a_deleted_row_is_found(filled: Vault) -> None:
    _usage(filled).execute("DELETE FROM sealed WHERE day=?", (DAY0 + 1,))
    with pytest.raises(VaultDamaged) as info:
        _sum(filled)
    assert "canary" not in str(info.value)


def test_every_flipped_bit_is_found(filled: Vault) -> None:
    db = _usage(filled)
    pseudonym, box = db.execute(
        "SELECT pseudonym, box FROM sealed WHERE day=?", (DAY0,)
    ).fetchone()
    for at in (0, 11, 12, 100, len(box) - 1):
        bad = bytearray(box)
        bad[at] ^= 1
        db.execute(
            "UPDATE sealed SET box=? WHERE day=? AND pseudonym=?", (bytes(bad), DAY0, pseudonym)
        )
        with pytest.raises(VaultDamaged):
            _sum(filled)


def test_identities_do_not_open_with_the_usage_key(filled: Vault) -> None:
    path = filled.state.path / "identities.db"
    filled.close()
    for name in ("vault-kek-1", "pseudonyms-1", "vault-sources"):
        with pytest.raises(StoreError, match="cannot be read") as info:
            vault_module.Identities(path, filled.state.key(name))
        assert filled.state.key(name).hex() not in str(info.value)
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(path).execute("SELECT * FROM meters")
    assert len(filled.identities.meters()) == 3


def test_canaries_are_nowhere_but_in_the_identity_store(
    vault: Vault, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "canary-file.csv"
    write_csv(file, readings(20, 0, 100))
    file.write_text(
        file.read_text()
        + f"canary-bad-row,now,{CANARY_WH}\ncanary-001,2013-01-14T00:00:00Z,{CANARY_WH}\n"
        + "".join(f"canary-020,{stamp(T0 + i * HALF)},{CANARY_WH}\n" for i in range(48))
    )
    table = tmp_path / "m.csv"
    table.write_text("meter_id,tariff,customer\ncanary-001,ToU,canary-customer\n")
    where = ["--state-dir", str(vault.state.path)]
    assert cli.main(["vault", "ingest", str(file), "--meters", str(table), *where]) == 0
    assert cli.main(["vault", "rotate-pseudonyms", *where]) == 0
    assert cli.main(["vault", "rotate-keys", "--data", *where]) == 0
    assert cli.main(["vault", "stats", *where]) == 0
    assert cli.main(["vault", "expire", "--older-than", "1d", *where]) == 0
    said = capsys.readouterr()
    told = said.out + said.err
    assert "canary" not in told and not CANARY_NUMBER.search(told.encode())
    files = [f for f in vault.state.path.rglob("*") if f.is_file()]
    assert {f.name for f in files} >= {"usage.db", "gateway.db", "identities.db"}
    for found in files:
        content = found.read_bytes()
        for secret in (b"canary", 2 * CANARY_WH.to_bytes(4, "little")):
            assert secret not in content, (found, secret)
        assert not CANARY_NUMBER.search(content), found
        assert modes.S_IMODE(found.stat().st_mode) == 0o600 or found.parent.name == "witness"


def test_a_lost_key_file_is_said(filled: Vault) -> None:
    path = filled.state.path / "keys" / "vault-kek-1.key"
    path.write_bytes(os.urandom(32))
    filled.state.close()
    again = State.open(filled.state.path).vault()
    with pytest.raises(StoreError, match="vault-kek-1"):
        _sum(again)
    (filled.state.path / "keys" / "pseudonyms-1.key").unlink()
    with pytest.raises(StoreError, match="pseudonyms-1"):
        take(again, "b.csv", readings(4, 100, 10))
    again.state.close()
