"""P1 telegrams: constructed and real ones, held against dsmr-parser; damage, logs and random bytes."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from dsmr_parser import telegram_specifications as layouts
from dsmr_parser.exceptions import InvalidChecksumError
from dsmr_parser.parsers import TelegramParser
from hypothesis import given
from hypothesis import strategies as st

from importing import FIXTURES, REAL, needs_real, put, read
from wattveil.importers.dsmr import read_dsmr
from wattveil.importers.series import Note
from wattveil_meter.sensors.p1 import Telegram, Telegrams, crc16

OURS = FIXTURES / "dsmr"
# the layout that dsmr-parser has to be told, by file
LAYOUTS: dict[str, Any] = {
    "v2_2": layouts.V2_2,
    "v3": layouts.V3,
    "v4": layouts.V4,
    "v4_2": layouts.V4,
    "v5": layouts.V5,
    "v5_two_mbus": layouts.V5,
    "totals_wh": layouts.SAGEMCOM_T210_D_R,
    "sagemcom_t210_d_r": layouts.SAGEMCOM_T210_D_R,
    "belgian": layouts.BELGIUM_FLUVIUS,
    "fluvius_v171": layouts.BELGIUM_FLUVIUS,
    "fluvius_v171_alt": layouts.BELGIUM_FLUVIUS,
    "decimals": layouts.Q3D,
    "esy5q3da1004_v304": layouts.Q3D,
    "esy5q3db1024_v304": layouts.Q3D,
    "iskra_ie": layouts.ISKRA_IE,
    "v5_eon_hu": layouts.EON_HUNGARY,
    "heat": layouts.V5,
    "unpadded_crc": layouts.V5,
}
NO_CRC = {"v2_2", "v3", "decimals", "esy5q3da1004_v304", "esy5q3db1024_v304"}
NO_ELECTRICITY = {"heat", "unpadded_crc"}
SCALE = {"kWh": 1_000_000, "Wh": 1000}  # mWh


def telegrams(data: bytes) -> tuple[list[Telegram], list[str]]:
    refused: list[str] = []
    return Telegrams(refused.append).feed(data), refused


def second_opinion(data: bytes, name: str) -> tuple[int, int]:
    """Import and export in mWh, by dsmr-parser; it gives no unit where the total has another name."""
    layout = LAYOUTS[name]
    if "general_global_cipher" in layout and layout is layouts.SAGEMCOM_T210_D_R:
        layout = layouts.Q3D  # the same objects without the decryption it insists on
    parsed = TelegramParser(layout).parse(data.decode("latin-1"))
    out = []
    for total, tariff in (("IMPORTED", "USED"), ("EXPORTED", "DELIVERED")):
        found = getattr(parsed, f"ELECTRICITY_{total}_TOTAL", None)
        names = [f"ELECTRICITY_{tariff}_TARIFF_{k}" for k in (1, 2, 3, 4)]
        parts = [found] if found is not None else [getattr(parsed, n, None) for n in names]
        values = [Decimal(p.value) * SCALE[p.unit] for p in parts if p is not None]
        out.append(int(sum(values)))
    return out[0], out[1]


def all_telegrams() -> list[Any]:
    paths = sorted(OURS.glob("*.telegram"))
    real = sorted((REAL / "dsmr").glob("*.telegram"))
    return [pytest.param(p, id=p.stem) for p in paths if p.stem in LAYOUTS] + [
        pytest.param(p, id=f"real-{p.stem}") for p in real
    ]


@pytest.mark.parametrize("path", all_telegrams())
def test_every_telegram_decodes_as_dsmr_parser_does(path: Path) -> None:
    data = path.read_bytes()
    found, refused = telegrams(data)
    assert len(found) == 1 and not refused
    assert found[0].checked == (path.stem not in NO_CRC)
    assert found[0].measures() == (path.stem not in NO_ELECTRICITY)
    mine = (found[0].register(b"1.8."), found[0].register(b"2.8."))
    assert mine == second_opinion(data, path.stem)


@needs_real
def test_the_real_ones_are_all_there() -> None:
    names = {p.stem for p in (REAL / "dsmr").glob("*.telegram")}
    assert len(names) == 13 and names <= set(LAYOUTS)
    assert len(names - NO_CRC) == 9  # that carry a CRC


@pytest.mark.parametrize("path", [p for p in all_telegrams() if p.values[0].stem not in NO_CRC])
def test_a_flipped_byte_anywhere_is_refused(path: Path) -> None:
    good = path.read_bytes()
    end = good.rindex(b"!") + 1
    end = good.index(b"\n", end) + 1
    for at in range(end):
        damaged = bytearray(good[:end])
        damaged[at] ^= 1 << at % 8
        found, _ = telegrams(bytes(damaged))
        # the CRC may be written in small letters
        small = at > good.rindex(b"!") and good[at : at + 1].isalpha() and at % 8 == 5
        assert bool(found) == small, at


@pytest.mark.parametrize("name", ["v4", "v5", "heat"])
def test_the_second_opinion_refuses_them_too(name: str) -> None:
    data = (OURS / f"{name}.telegram").read_bytes()
    with pytest.raises(InvalidChecksumError):
        TelegramParser(LAYOUTS[name]).parse(
            data.replace(b"WATT", b"WAAT").replace(b"5741", b"5742").decode()
        )


def test_fixtures_are_what_their_script_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    for name in ("dsmr", "greenbutton", "dlms"):
        spec = importlib.util.spec_from_file_location("made", FIXTURES / f"make_{name}.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(module, "FOLDER", tmp_path / name)
        module.main()
        made = {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()}
        assert made == {p.name: p.read_bytes() for p in (FIXTURES / name).iterdir()}


# --- files


def test_a_log_over_the_clock_change(tmp_path: Path) -> None:
    _, data, notes = read(OURS / "log_dst.telegram")
    assert data is not None and not notes
    assert data.meters == ("WATTVEIL00000005",)
    first = 1_774_742_400  # 2026-03-29T00:00:00Z
    assert data.values[data.meters[0]] == {first + 900 * k: 100 + k for k in range(12)}


def test_registers_spread_over_files_and_one_damaged(tmp_path: Path) -> None:
    log = (OURS / "log_dst.telegram").read_bytes()
    one = log.index(b"\n/") + 1
    parts = [
        log[:one],
        log[one : 6 * one],
        log[6 * one : 7 * one].replace(b"0.48", b"0.49"),
        log[7 * one :],
    ]
    files = [put(tmp_path, part, f"{k}.telegram") for k, part in enumerate(parts)]
    found, data, notes = read(*files)
    assert (
        data is not None and data.present == 10
    )  # the two intervals at the damaged one are missing
    assert [len(f.registers) for f in found] == [1, 5, 0, 6]
    (note,) = notes
    assert note.file == files[2] and "wrong CRC" in note.reason
    assert parts[2].splitlines()[note.line - 1].startswith(b"!")


def test_the_energy_of_a_wh_that_was_not_full_is_in_the_next_interval(tmp_path: Path) -> None:
    def telegram(minute: int, kwh: str) -> bytes:
        body = f"/WVL\r\n\r\n0-0:1.0.0(2603011{minute // 60}{minute % 60:02}00W)\r\n1-0:1.8.0({kwh}*kWh)\r\n!"
        return body.encode() + b"%04X\r\n" % crc16(body.encode())

    kwh = ["10.000400", "10.001200", "10.001900", "10.002000"]
    log = b"".join(telegram(15 * k, text) for k, text in enumerate(kwh))
    _, data, notes = read(put(tmp_path, log))
    assert data is not None and not notes
    assert [list(row.values()) for row in data.values.values()] == [[1, 0, 1]]


def test_what_cannot_be_used_is_said_by_line(tmp_path: Path) -> None:
    v5 = (OURS / "v5.telegram").read_bytes()
    for data, line, says in (
        (v5, 16, "no interval"),
        (v5.replace(b"\r\n", b"\n"), 1, "lines end in CR LF"),
        (v5[:-8], 15, "ends within a telegram"),
        (v5[:300] + b"\r\n" + v5, 14, "has no end"),
        ((OURS / "heat.telegram").read_bytes(), 7, "no electricity register"),
        ((OURS / "v2_2.telegram").read_bytes(), 14, "without a time of its own"),
    ):
        _, made, notes = read(put(tmp_path, data))
        assert made is None
        assert [note.line for note in notes if says in note.reason] == [line], (says, notes)


def test_times_that_are_none() -> None:
    def utc(text: str) -> int | None:
        body = f"/X\r\n0-0:1.0.0({text})\r\n1-0:1.8.0(1*kWh)\r\n!\r\n"
        (register,) = read_dsmr("x", body.encode(), [])
        return register.utc

    assert utc("260329015959W") == 1_774_745_999
    assert utc("260329030000S") == 1_774_746_000
    for text in (
        "260329015959",
        "260329015959X",
        "261329015959W",
        "2603290159W",
        "700101000000W",
        "",
    ):
        assert utc(text) is None, text


@given(st.binary(max_size=400), st.integers(1, 50))
def test_random_bytes_and_pieces(data: bytes, step: int) -> None:
    good = (OURS / "v4.telegram").read_bytes()
    reader = Telegrams(lambda reason: None)
    stream = data + b"\r\n" + good
    found = [t for at in range(0, len(stream), step) for t in reader.feed(stream[at : at + step])]
    assert found[-1].register(b"1.8.") == 3_016_829_000 and len(reader._line) <= 100


@given(st.data())
def test_random_changes_of_a_telegram_without_crc(data: st.DataObject) -> None:
    text = bytearray((OURS / "decimals.telegram").read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    notes: list[Note] = []
    for register in read_dsmr("x", bytes(text), notes):
        assert register.imported >= 0 and register.exported >= 0
