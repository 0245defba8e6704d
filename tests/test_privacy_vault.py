"""The vault takes readings in: what goes in comes out, once, and bad lines are told."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import stat as modes
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vaultkit
from vaultkit import (
    DAY,
    HALF,
    T0,
    Readings,
    held,
    make,
    merge,
    readings,
    stamp,
    take,
)
from wattveil import cli
from wattveil.importers.readings import DataError
from wattveil.privacy import people
from wattveil.privacy.config import DEFAULT
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.refusals import Refused
from wattveil.privacy.state import State
from wattveil.privacy.vault import exports
from wattveil.privacy.vault import ingest as ingesting
from wattveil.privacy.vault.ingest import ingest
from wattveil.privacy.vault.meters import read_meters
from wattveil.privacy.vault.vault import Vault

vault, impatient = vaultkit.vault, vaultkit.impatient


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
    assert "conflict: another value is held" in text and "grid" in text
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
    assert code == 0 and result["meters"] == {"read": 4, "new": 1, "rejected": 2}
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
