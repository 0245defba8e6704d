"""DLMS dumps: what dlms-cosem decodes is read, and everything else is refused by line and reason."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from importing import FIXTURES, REAL, needs_real, put, read
from wattveil.importers.axdr import AXdrError, decode
from wattveil.importers.dlms import read_dlms
from wattveil.importers.readings import DataError
from wattveil.importers.series import Note

OURS = FIXTURES / "dlms"
T0 = 1_774_745_105  # 2026-03-29T00:45:05Z


def test_pushes_in_segments() -> None:
    found, data, notes = read(OURS / "pushes.log")
    assert data is not None and not notes and found[0].format == "dlms"
    assert [(r.meter, r.utc, r.imported, r.exported, r.line) for r in found[0].registers] == [
        ("WATTVEIL-D1", T0, 700_000_000, 5000, 3),
        ("WATTVEIL-D1", T0 + 900, 700_120_000, 5000, 6),
        ("WATTVEIL-D1", T0 + 1800, 700_245_000, 5000, 9),
    ]
    assert data.values == {"WATTVEIL-D1": {T0 - 5: 120, T0 + 895: 125}}


def test_bare_messages() -> None:
    found, _, notes = read(OURS / "raw.log")
    assert [(r.utc, r.imported, r.line) for r in found[0].registers] == [
        (T0, 700_000_000, 1),  # 70,000 with scaler 1
        (None, 700_120_000, 3),  # deviation 8000h: no distance to UTC
    ]
    assert [note.line for note in notes] == [3, 1]


def test_ciphered(tmp_path: Path) -> None:
    found, _, _ = read(OURS / "sealed.log")
    assert [r.imported for r in found[0].registers] == [700_000_000]
    text = (OURS / "sealed.log").read_bytes()
    key, auth = (OURS / f"sealed.{kind}" for kind in ("key", "gak"))
    log = put(tmp_path, text, "s.log")
    for prepare, says in (
        (lambda: None, "encrypted, and there is no s.key beside it"),
        (lambda: put(tmp_path, key.read_bytes(), "s.key"), "there is no s.gak beside it"),
        (lambda: put(tmp_path, "00" * 15, "s.gak"), "s.gak is not 32 hexadecimal digits"),
        (lambda: put(tmp_path, "00" * 16, "s.gak"), "DecryptionError"),
    ):
        prepare()
        found, _, notes = read(log)
        assert not found[0].registers and says in notes[0].reason
        assert key.read_text().strip() not in notes[0].reason
    put(tmp_path, auth.read_bytes(), "s.gak")
    assert len(read(log)[0][0].registers) == 1


def test_a_flipped_digit_is_refused(tmp_path: Path) -> None:
    text = (OURS / "pushes.log").read_text()
    end = text.index("\n")
    for at in range(3, end - 3, 7):  # in the first segment, between its flags
        if text[at] == " ":
            continue
        digit = "%X" % (int(text[at], 16) ^ 1)
        registers, notes = [], list[Note]()
        try:
            registers = read_dlms("x", (text[:at] + digit + text[at + 1 :]).encode(), notes)
        except DataError:
            continue
        assert len(registers) < 3 and notes and notes[0].line in (1, 2, 3), at


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        ("7E A0 0", 1, "half a byte"),
        ("7E A0 00 7E\nxyz", 2, "not hexadecimal"),
        ("0F 00 00 00 01 00 02 01 11 05", 1, "no register 1.8.0"),
        ("0F 00 00 00 01 00 11 05", 1, "no list"),
        ("0F 00 00 00 01 00 02 FF", 1, "no push message"),
        ("0F 00 00 00 01 00 02 01 02 02 00", 1, "run past the end"),
        ("0F 00 00 00 01 00" + "02 01" * 99, 1, "more than 16 lists"),
        ("0F 00 00 00 01 00 00 00", 1, "1 bytes after the value"),
        ("0F 00 00 00 01 00 2A", 1, "unknown type 42"),
        ("68 5D 5D 68 53", 1, "no M-Bus long frame"),
        ("7E A0 07 CF 02 23 13 00 00 7E", 1, "does not end where"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: str, line: int, says: str) -> None:
    notes: list[Note] = []
    try:
        assert read_dlms("x", content.encode(), notes) == []
        where, reason = notes[0].line, notes[0].reason
    except DataError as error:
        where, reason = error.line, error.reason
    assert where == line and says in reason


def maker() -> Any:
    spec = importlib.util.spec_from_file_location("make_dlms", FIXTURES / "make_dlms.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"wh": 700, "scaler": 3}, 700_000_000),
        ({"wh": 700, "scaler": -3}, 700),
        ({"wh": 700, "scaler": -6}, 0),
        ({"wh": 700, "scaler": 7}, None),
        ({"wh": 700, "unit": 27}, None),
    ],
)
def test_units_and_scalers(arguments: dict[str, int], expected: int | None) -> None:
    make = maker()
    apdu = make.notification(make.START, 1, **arguments)
    notes: list[Note] = []
    registers = read_dlms("x", apdu.hex().encode(), notes)
    assert [r.imported for r in registers] == ([] if expected is None else [expected])
    assert bool(notes) == (expected is None)


def test_values_of_every_type() -> None:
    body = bytes.fromhex(
        "02 0E 00 0301 040A FFC0 05FFFFFFFE 06FFFFFFFE 0902ABCD 0A0141 0FFF 10FFFE 11FF 12FFFE"
        "14FFFFFFFFFFFFFFFF 161E 1B0102FF03"
    )
    assert decode(body) == [
        None, True, b"\xff\xc0", -2, 2**32 - 2, b"\xab\xcd", b"A", -1, -2, 255, 65534, -1, 30, b"\1\2\xff\3",
    ]  # fmt: skip
    assert decode(b"\x09\x81\x02ab") == b"ab"  # a length in its long form


@given(st.binary(max_size=100))
def test_random_values(data: bytes) -> None:
    try:
        decode(data)
    except AXdrError:
        return
    with pytest.raises(AXdrError):
        decode(data + b"\0")


def test_the_library_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlms_cosem", None)
    with pytest.raises(DataError, match=r"pip install 'wattveil\[dlms\]'"):
        read(OURS / "raw.log")


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_random_damage(data: st.DataObject) -> None:
    digits = bytearray((OURS / data.draw(st.sampled_from(["pushes.log", "raw.log"]))).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(digits) - 1))
        new = data.draw(st.text("0123456789ABCDEF \n", max_size=8)).encode()
        digits[at : at + data.draw(st.integers(0, 8))] = new
    try:
        registers = read_dlms("x", bytes(digits), [])
    except DataError:
        return
    assert all(r.imported >= 0 and r.exported >= 0 for r in registers)


@given(
    st.sampled_from([b"\x0f", b"\xdb", b"\xdb\x08WVL\0\0\0\0\1", b"\x7e\xa0"]),
    st.binary(max_size=200),
)
@settings(deadline=None)
def test_random_messages(begin: bytes, body: bytes) -> None:
    assert read_dlms(str(OURS / "sealed.log"), (begin + body).hex().encode(), []) == []


# Why the others are not read (docs/SENSORS.md, "DLMS dumps").
NO_REGISTER = "it has no register 1.8.0"
REFUSED = {
    "hdlc_kaifa_ma304h3e": NO_REGISTER,  # a list without codes, of powers
    "hdlc_landis_gyr_zmf100": "it is damaged",  # its check sequence does not fit
    "hdlc_norway_han_1phase": NO_REGISTER,  # powers
    "mbus_kmswest": "encrypted, and there is no mbus_kmswest.key",
    "raw_egd_example": "unknown type 42",  # descriptors without types: no A-XDR
    "raw_energomera": NO_REGISTER,  # what would be pushed, without values
}


@needs_real
def test_real_dumps(tmp_path: Path) -> None:
    seen: dict[str, list[tuple[str, int | None, int, int]]] = {}
    why: dict[str, str] = {}
    for path in sorted((REAL / "dlms").iterdir()):
        put(tmp_path, path.read_bytes(), path.name)
    for path in sorted(tmp_path.glob("*.log")):
        if path.stem.endswith("_decoded"):
            continue
        if path.stem in ("hdlc_kamstrup_omnipower", "hdlc_landis_gyr_e450"):
            assert f"has no unit: say in {path.stem}.unit" in read(path)[2][0].reason
            put(tmp_path, "10" if "kamstrup" in path.stem else "1\n", f"{path.stem}.unit")
        found, _, notes = read(path)
        seen[path.stem] = [(r.meter, r.utc, r.imported, r.exported) for r in found[0].registers]
        if not seen[path.stem]:
            why[path.stem] = notes[0].reason
    assert {name: registers for name, registers in seen.items() if registers} == {
        "hdlc_iskra550": [("84895126", 1_680_377_555, 261_927_000, 63_832_000)],
        "hdlc_kamstrup_omnipower": [("dlms-hdlckamstrupomnipower", None, 63_074_980_000, 0)],
        "hdlc_landis_gyr_e450": [("dlms-hdlclandisgyre450", None, 4_408_736_000, 0)],
        "hdlc_norway_han_3phase": [("dlms-hdlcnorwayhan3phase", None, 10_049_926_000, 8000)],
        "raw_salzburg_netz": [("1KFM0200234804", 1_668_268_440, 1_327_456_000, 0)],
    }
    assert set(why) == set(REFUSED)
    for name, reason in REFUSED.items():
        assert reason in why[name], why[name]
