"""The vault: what goes in comes out, whose it is stays apart, and tampering shows."""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import json
import os
import random
import sqlite3
import stat as modes
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pgserver
from vaultkit import (
    DAY,
    DAY0,
    HALF,
    T0,
    Readings,
    held,
    make,
    merge,
    readings,
    stamp,
    write_csv,
)
from wattveil import cli
from wattveil.importers.files import read_file
from wattveil.importers.readings import DataError
from wattveil.importers.series import gather
from wattveil.privacy import people
from wattveil.privacy.config import DEFAULT
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.refusals import Refused
from wattveil.privacy.state import State
from wattveil.privacy.vault import exports
from wattveil.privacy.vault import ingest as ingesting
from wattveil.privacy.vault import vault as vault_module
from wattveil.privacy.vault.actions import day_before
from wattveil.privacy.vault.ingest import ingest
from wattveil.privacy.vault.meters import read_meters
from wattveil.privacy.vault.retention import expire, kept, months_before
from wattveil.privacy.vault.rotate import relink, rotate_keys, rotate_pseudonyms
from wattveil.privacy.vault.vault import Vault, VaultDamaged
from wattveil.store import StoreError

LCL = Path(__file__).parents[2] / "shared" / "data" / "lcl_dev_30min_winter4w.csv.gz"
_names = (f"vault_{i}" for i in itertools.count())


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    made = make(tmp_path / "state")
    yield made
    made.state.close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_module, "_TRIES", 2)
    monkeypatch.setattr(vault_module, "_AGAIN_S", 0.0)


def take(vault: Vault, name: str, what: Readings) -> ingesting.Report:
    folder = vault.state.path
    (report,) = ingest(vault, [write_csv(folder / name, what)], folder / "rejects.csv")
    return report


def total(vault: Vault, start: int, end: int, **segment: str) -> int:
    members = vault.members(segment, start, end)
    return sum(int(block.wh.sum()) for block in vault.blocks(members, start, end))


def test_what_goes_in_comes_out(vault: Vault) -> None:
    first = readings(4, 10, 100)
    report = take(vault, "a.csv", first)
    assert (report.rows, report.added, report.rejected) == (400, 400, 0)
    assert held(vault) == first
    start, end = T0 + 20 * HALF, T0 + 60 * HALF
    members = vault.members({}, start, end)
    (block,) = vault.blocks(members, start, end)
    assert block.wh.shape == (4, 40) and block.wh.dtype == np.int64 and block.present.all()
    for meter, row in zip(vault.meter_ids(members), block.wh.tolist(), strict=True):
        assert row == [first[meter][start + i * HALF] for i in range(40)]
    assert members == sorted(members) and not set(members) & set(first)


def test_twice_changes_nothing(vault: Vault) -> None:
    first = readings(3, 0, 60)
    take(vault, "a.csv", first)
    before = vault.state.gateway().execute("SELECT * FROM vault_versions").fetchall()
    assert take(vault, "again.csv", first).known  # the same content under another name
    shuffled = {m: first[m] for m in reversed(first)}
    report = take(vault, "shuffled.csv", shuffled)
    assert not report.known and (report.added, report.held, report.rejected) == (0, 180, 0)
    assert vault.state.gateway().execute("SELECT * FROM vault_versions").fetchall() == before
    packed = vault.state.path / "a.csv.gz"
    packed.write_bytes(gzip.compress((vault.state.path / "a.csv").read_bytes()))
    assert ingest(vault, [packed], vault.state.path / "r.csv")[0].known


@pytest.mark.parametrize("seed", range(3))
def test_any_split_of_the_rows_gives_the_same(
    vault: Vault, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingesting, "LINES", 37)
    monkeypatch.setattr(ingesting, "DAYS", 3)
    whole = readings(5, 40, 130)
    rows = [(m, t, wh) for m, row in whole.items() for t, wh in row.items()]
    chance = random.Random(seed)
    chance.shuffle(rows)
    for number in range(3):
        part: Readings = {}
        for meter, start, wh in rows[number::3]:
            part.setdefault(meter, {})[start] = wh
        # two timestamps a period apart tell the file's period
        take(vault, f"{number}.csv", merge(part, {"canary-000": dict(list(whole["canary-000"].items())[:2])}))  # fmt: skip  # noqa: E501
    assert held(vault) == whole
    assert vault.stats()["readings"] == len(rows)


def test_rejects_say_the_line_and_nothing_of_it(vault: Vault) -> None:
    lines = [
        "meter_id,timestamp,wh",
        f"good,{stamp(T0)},1",
        f"good,{stamp(T0 + HALF)},2",
        "Canary Smith,yesterday,3",
        f"Canary Smith\x01,{stamp(T0)},4",
        f"good,{stamp(T0)},-31337",
        f"good,{stamp(T0)},31337",  # another value is held
        f"good,{stamp(T0 + 60)},5",  # off the grid
        f"good,{stamp(T0)},1",  # the same again
    ]
    file = vault.state.path / "Canary Smith.csv"
    file.write_text("\n".join(lines) + "\n")
    rejects = vault.state.path / "rejects.csv"
    (report,) = ingest(vault, [file], rejects)
    assert (report.added, report.held, report.rejected, report.rows) == (2, 1, 5, 8)
    text = rejects.read_text()
    assert sorted(int(line.split(",")[1]) for line in text.splitlines()) == [4, 5, 6, 7, 8]
    assert "another value is held" in text and "grid" in text
    assert "Canary" not in text and "31337" not in text
    assert modes.S_IMODE(rejects.stat().st_mode) == 0o600


def test_a_file_of_another_period_is_refused(vault: Vault) -> None:
    hourly = {"a": {T0 + i * 3600: i for i in range(5)}}
    with pytest.raises(DataError, match="period is 3600 s"):
        take(vault, "hourly.csv", hourly)
    assert held(vault) == {}


def test_telegrams_and_green_button_go_in(vault: Vault, tmp_path: Path) -> None:
    gateway = Gateway(vault.state)
    take(vault, "a.csv", readings(1, 0, 96))
    people.add(vault.state, "billing:bob")
    xml, _ = exports.export_greenbutton(
        gateway, people.Person("billing", "bob"), "canary-000", "billing"
    )
    file = tmp_path / "gb.xml"
    file.write_text(xml)
    (report,) = ingest(vault, [file], tmp_path / "r.csv")
    assert report.added == 96  # a meter of its own: the file does not say whose it is
    assert sorted(map(len, held(vault).values())) == [96, 96]


def test_registers_of_several_files_make_intervals(vault: Vault, tmp_path: Path) -> None:
    files = []
    for hour, register in enumerate((1000, 1250, 1600)):
        lines = ["/KFM5KAIFA-METER", "", "1-3:0.2.8(42)", f"0-0:1.0.0(2301160{hour}0000W)",
                 "0-0:96.1.1(4530303033303030303030)", f"1-0:1.8.1(00{register:04}.000*kWh)",
                 "1-0:1.8.2(000000.000*kWh)", "!"]  # fmt: skip
        body = "\r\n".join(lines).encode()
        crc = 0
        for byte in body:
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
        files.append(tmp_path / f"{hour}.telegram")
        files[-1].write_bytes(body + f"{crc:04X}\r\n".encode())
    hourly = Vault.create(
        State.create(
            tmp_path / "hourly", DEFAULT.replace("interval_s = 1800 ", "interval_s = 3600 ")
        )
    )
    (report,) = ingest(hourly, files, tmp_path / "r.csv")
    assert report.added == 2, (tmp_path / "r.csv").read_text()
    assert [sorted(row.values()) for row in held(hourly).values()] == [[250_000, 350_000]]
    hourly.state.close()


def test_meters_table(vault: Vault, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    take(vault, "a.csv", readings(4, 0, 48))
    table = tmp_path / "meters.csv"
    table.write_text(
        "meter_id,tariff,group,customer\ncanary-000,ToU,x,Ann Canary\ncanary-001,ToU,y,\n"
        "canary-002,Std,x,\nnew-1,Std,y,\ncanary-002,Std,x\nbad\x01,Std,x,\n"
    )
    vault.state.close()
    code = cli.main(["vault", "ingest", "--meters", str(table), "--column", "type=group", "--json",
                     "--state-dir", str(vault.state.path)])  # fmt: skip
    result = json.loads(capsys.readouterr().out)
    assert code == 0 and result["meters"] == {"known": 4, "new": 1, "rejected": 2}
    end = T0 + DAY
    assert len(vault.members({"tariff": "ToU"}, T0, end)) == 2
    assert len(vault.members({"tariff": "ToU", "type": "x"}, T0, end)) == 1
    assert len(vault.members({}, T0, end)) == 5  # membership does not depend on readings
    assert vault.identities.meters(["canary-000"])["canary-000"].customer == "Ann Canary"
    with pytest.raises(ValueError, match="segment"):
        vault.members({"colour": "red"}, T0, end)


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)), st.booleans())
def test_any_meters_table_is_read_or_refused(junk: bytes, headed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.csv"
        path.write_bytes(b"meter_id,tariff\na,b\n" + junk if headed else junk)
        told = io.BytesIO()
        try:
            found, bad = read_meters(path, told)
        except DataError:
            return
        assert len(told.getvalue().splitlines()) == bad
        assert len({meter.meter for meter in found}) == len(found)


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(("csv", "xml", "telegram", "")))
def test_any_load_file_is_read_or_refused(junk: bytes, kind: str) -> None:
    heads = {
        "csv": f"meter_id,timestamp,wh\na,{stamp(T0)},1\na,{stamp(T0 + HALF)},2\n".encode(),
        "xml": b'<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom">',
        "telegram": b"/ISk5\\2MT382-1000\r\n\r\n",
        "": b"",
    }
    with tempfile.TemporaryDirectory() as folder:
        vault = make(Path(folder) / "state")
        path = Path(folder) / "x"
        path.write_bytes(heads[kind] + junk)
        with contextlib.suppress(DataError):
            ingest(vault, [path], Path(folder) / "r.csv")
        if kind == "csv":
            assert held(vault).get("a", {}).items() >= {T0: 1, T0 + HALF: 2}.items()
        vault.state.close()


def test_no_data_and_bad_ranges(vault: Vault) -> None:
    take(vault, "a.csv", readings(2, 0, 48))
    with pytest.raises(Refused, match="no_data"):
        vault.members({}, T0 + DAY, T0 + 2 * DAY)
    for start, end in ((T0 + 1, T0 + HALF), (T0, T0), (-HALF, T0)):
        with pytest.raises(ValueError, match="range"):
            vault.members({}, start, end)


# Epochs


def test_rotation_unlinks_and_a_range_across_is_refused(vault: Vault) -> None:
    first, later = readings(3, 0, 96), readings(4, 96, 96)
    take(vault, "a.csv", first)
    old = vault.members({}, T0, T0 + DAY)
    done = rotate_pseudonyms(vault)
    assert done["from"] == "2013-01-16" and done["epoch"] == 2
    take(vault, "b.csv", later)
    new = vault.members({}, T0 + 2 * DAY, T0 + 4 * DAY)
    assert len(old) == 3 and len(new) == 4 and not set(old) & set(new)
    with pytest.raises(Refused, match="epoch_boundary"):
        vault.members({}, T0 + DAY, T0 + 3 * DAY)
    with pytest.raises(Refused, match="epoch_boundary"):
        list(vault.blocks(new, T0 + DAY, T0 + 3 * DAY))
    late = {"canary-001": {T0 - HALF: 7, T0 - 2 * HALF: 8}}  # for the old epoch
    take(vault, "late.csv", late)
    assert held(vault) == merge(first, later, late)
    other = relink(vault, old[0], 2)
    assert vault.meter_ids([other]) == vault.meter_ids([old[0]])
    with pytest.raises(ValueError, match="earliest"):
        rotate_pseudonyms(vault, DAY0)


def test_relinking_takes_two_roles(vault: Vault) -> None:
    take(vault, "a.csv", readings(2, 0, 48))
    pseudonym = vault.members({}, T0, T0 + DAY)[0]
    rotate_pseudonyms(vault)
    gateway = Gateway(vault.state)
    pia, bob, ann = (
        gateway.authenticate(who, people.add(vault.state, who))
        for who in ("privacy-officer:pia", "billing:bob", "analyst:ann")
    )
    from wattveil.privacy import approvals

    with pytest.raises(Refused):
        exports.ask_relink(gateway, ann, pseudonym, 2)
    number = exports.ask_relink(gateway, pia, pseudonym, 2)["approval"]
    with pytest.raises(Refused, match="approval_needed"):
        exports.do_relink(gateway, pia, pseudonym, 2, number)
    with pytest.raises(Refused, match=r"same_person|same_role"):
        approvals.approve(gateway, pia, number)
    approvals.approve(gateway, bob, number)
    with pytest.raises(Refused, match="approval_needed"):
        exports.do_relink(gateway, pia, vault.members({}, T0, T0 + DAY)[1], 2, number)
    found = exports.do_relink(gateway, pia, pseudonym, 2, number)["pseudonym"]
    assert vault.meter_ids([found]) == vault.meter_ids([pseudonym])
    with pytest.raises(Refused, match="approval_needed"):  # once
        exports.do_relink(gateway, pia, pseudonym, 2, number)


# Attacks on the stores


def _usage(vault: Vault) -> sqlite3.Connection:
    return sqlite3.connect(vault.state.path / "usage.db", isolation_level=None)


def _sum(vault: Vault) -> int:
    return total(vault, T0, T0 + 3 * DAY)


@pytest.fixture
def filled(vault: Vault) -> Vault:
    take(vault, "a.csv", readings(3, 0, 100))
    return vault


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
        file.read_text() + "canary-bad-row,now,x\ncanary-001,2013-01-14T00:00:00Z,99\n"
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
    assert "canary" not in said.out + said.err
    files = [f for f in vault.state.path.rglob("*") if f.is_file()]
    assert {f.name for f in files} >= {"usage.db", "gateway.db", "identities.db"}
    for found in files:
        assert b"canary" not in found.read_bytes(), found
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


# Keys and retention


def test_new_keys_keep_the_readings(filled: Vault) -> None:
    before, sealed = held(filled), _usage(filled).execute("SELECT * FROM sealed").fetchall()
    done = rotate_keys(filled)
    assert done["rows_sealed_anew"] == 0 and held(filled) == before
    assert _usage(filled).execute("SELECT * FROM sealed").fetchall() == sealed
    done = rotate_keys(filled, data=True)
    assert done["rows_sealed_anew"] == len(sealed) and held(filled) == before
    keys = {row[2] for row in _usage(filled).execute("SELECT * FROM sealed")}
    assert keys.isdisjoint(row[2] for row in sealed)
    db = _usage(filled)  # rows under the destroyed key open nothing
    db.executemany("INSERT OR REPLACE INTO sealed VALUES(?,?,?,?)", sealed)
    with pytest.raises(VaultDamaged):
        _sum(filled)


def test_expiry_deletes_readings_and_keeps_large_sums(vault: Vault) -> None:
    data = readings(40, 0, 144)
    take(vault, "a.csv", data)
    done = expire(vault, DAY0 + 2)
    assert done["readings"] == 40 * 96 and done["aggregates_kept"] == 2
    left = {m: {t: wh for t, wh in row.items() if t >= T0 + 2 * DAY} for m, row in data.items()}
    assert held(vault) == left
    db = _usage(vault)
    assert db.execute("SELECT count(*) FROM sealed WHERE day<?", (DAY0 + 2,)).fetchone() == (0,)
    first, _ = kept(vault, DAY0, DAY0 + 2)
    want = [sum(row[T0 + i * HALF] for row in data.values()) for i in range(48)]
    assert first["sum_wh"] == want and first["homes"] == [40] * 48
    leaf = (
        vault.state.gateway()
        .execute("SELECT leaf FROM log_leaves ORDER BY idx DESC LIMIT 1")
        .fetchone()
    )
    assert '"deletion"' in leaf[0]
    report = take(vault, "b.csv", {"late": {T0: 5, T0 + HALF: 6}})
    assert report.added == 0 and report.reasons == {"older than the retention limit": 2}
    assert held(vault) == left


def test_expiry_keeps_no_sum_of_few_or_of_one_large_home(vault: Vault) -> None:
    data = readings(14, 0, 48)
    take(vault, "few.csv", data)
    assert expire(vault, DAY0 + 1)["aggregates_kept"] == 0
    big = {f"h-{i}": {T0 + DAY + s * HALF: 100 for s in range(48)} for i in range(16)}
    big["h-3"] = {t: 10_000 if t == T0 + DAY else wh for t, wh in big["h-3"].items()}
    take(vault, "big.csv", big)
    expire(vault, DAY0 + 2)
    (row,) = kept(vault, DAY0 + 1, DAY0 + 2)
    assert row["sum_wh"] == [None] + [1600] * 47


def test_months_and_ages() -> None:
    day = (2024 - 1970) * 365 + 13 + 90  # 2024-03-31, a leap year
    assert np.datetime64(day, "D") == np.datetime64("2024-03-31")
    assert np.datetime64(months_before(day, 1), "D") == np.datetime64("2024-02-29")
    assert day_before("1", day) == day_before("1m", day) == day_before("1 month", day)
    assert day_before("90d", day) == day - 90 and day_before("2013-01-14", day) == DAY0
    assert day_before("2y", day) == months_before(day, 24)
    for bad in ("", "soon", "0d", "-3", "2013-13-01"):
        with pytest.raises(ValueError, match=r"date|least"):
            day_before(bad, day)


# Green Button


def test_green_button_reads_back(vault: Vault, tmp_path: Path) -> None:
    data = readings(2, 5, 200)
    del data["canary-001"][T0 + 50 * HALF]  # a gap
    take(vault, "a.csv", data)
    rotate_pseudonyms(vault)
    take(vault, "b.csv", {"canary-001": {T0 + 6 * DAY + i * HALF: i for i in range(5)}})
    data = merge(data, {"canary-001": {T0 + 6 * DAY + i * HALF: i for i in range(5)}})
    gateway = Gateway(vault.state)
    (subject,) = gateway.accountant.subjects(["canary-001"])
    own = people.Person("customer", "ann", subject)
    xml, result = exports.export_greenbutton(gateway, own, "canary-001", "own-data")
    assert result["readings"] == len(data["canary-001"]) and "canary" not in xml
    file = tmp_path / "x.xml"
    file.write_text(xml)
    found = read_file(str(file))
    back = gather(found.intervals, found.notes)
    assert back is not None and not found.notes
    (meter,) = back.meters
    assert dict(back.values[meter]) == data["canary-001"]
    with pytest.raises(Refused, match="own_data_only"):
        exports.export_greenbutton(gateway, own, "canary-000", "own-data")
    for who in ("analyst:ann", "vendor:vic", "researcher:rik"):
        role, name = people.parse(who)
        with pytest.raises(Refused):
            exports.export_greenbutton(
                gateway, people.Person(role, name), "canary-001", "research"
            )


# PostgreSQL, and size


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with pgserver.server() as url:
        yield url


def test_the_same_in_postgresql(server: str, tmp_path: Path) -> None:
    url = pgserver.schema(server, next(_names))
    assert cli.main(["vault", "init", "--store", url, "--state-dir", str(tmp_path / "s")]) == 0
    vault = State.open(tmp_path / "s").vault()
    first = readings(20, 0, 100)
    take(vault, "a.csv", first)
    take(vault, "b.csv", readings(20, 100, 30))
    assert held(vault) == readings(20, 0, 130)
    assert not (tmp_path / "s" / "usage.db").exists() and vault.usage.size() > 0
    rotate_keys(vault, data=True)
    assert held(vault) == readings(20, 0, 130)
    expire(vault, DAY0 + 1)
    assert total(vault, T0 + DAY, T0 + 2 * DAY) > 0
    vault.usage._db.execute("UPDATE sealed SET day = day + 1000 WHERE day = %s", (DAY0 + 1,))  # type: ignore[attr-defined]
    with pytest.raises(VaultDamaged):
        _sum(vault)
    vault.state.close()


_MEASURE = """
import sys
import tempfile
import threading
from pathlib import Path
sys.path[:0] = [sys.argv[4]]
from vaultkit import make
from wattveil.privacy.vault.ingest import ingest
from wattveil.privacy.vault.meters import read_meters
vault = make(Path(sys.argv[1]))
print(ingest(vault, [Path(sys.argv[2])], Path(sys.argv[3]))[0].added)
"""


@pytest.mark.skipif(not LCL.exists(), reason="the LCL files are not here")
def test_lcl_goes_in(vault: Vault) -> None:
    (report,) = ingest(vault, [LCL], vault.state.path / "r.csv")
    assert (report.added, report.rejected) == (903_255, 0)
    assert total(vault, T0, T0 + 28 * DAY) == 224_470_724  # awk '{s+=$3}' of the file
    assert ingest(vault, [LCL], vault.state.path / "r.csv")[0].known


def test_memory_is_bounded(tmp_path: Path) -> None:
    """Ten times the rows take hardly more memory: the file is never in it."""
    peaks = []
    for homes in (20, 200):
        file = tmp_path / f"{homes}.csv"
        write_csv(file, readings(homes, 0, 1440))
        code = _MEASURE + (
            "print([s.split()[1] for s in open('/proc/self/status') if s.startswith('VmHWM')][0])"
        )
        run = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / f"s{homes}"), str(file),
             str(tmp_path / "r.csv"), str(Path(__file__).parent)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        added, peak = run.stdout.split()
        assert int(added) == homes * 1440
        peaks.append(int(peak))
    assert peaks[1] - peaks[0] < 60_000  # KiB


def test_reading_while_another_process_writes(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader in the midst of a batch sees each day before or after it, and no damage."""
    monkeypatch.setattr(vault_module, "_TRIES", 2000)
    monkeypatch.setattr(vault_module, "_AGAIN_S", 0.005)
    monkeypatch.setattr(ingesting, "LINES", 60)
    take(vault, "a.csv", readings(6, 0, 20))
    later = write_csv(vault.state.path / "b.csv", readings(6, 20, 124))
    failed: list[BaseException] = []

    def write() -> None:
        state = State.open(vault.state.path)
        try:
            ingest(state.vault(), [later], state.path / "r.csv")
            rotate_keys(state.vault(), data=True)
        except BaseException as error:
            failed.append(error)
        finally:
            state.close()

    writer = threading.Thread(target=write)
    writer.start()
    seen = [_sum(vault)]
    while writer.is_alive():
        seen.append(_sum(vault))
    writer.join()
    assert not failed and seen == sorted(seen) and len(seen) > 2
    assert held(vault) == readings(6, 0, 144)
