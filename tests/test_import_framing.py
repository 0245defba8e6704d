"""Frames and blocks of DLMS dumps: what is whole is taken apart, everything else is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from importing import put
from test_import_dlms import T0, maker
from wattveil.importers.dlms import read_dlms
from wattveil.importers.framing import Blocks, FramingError, crc_x25, hdlc_frame, mbus_frame
from wattveil.importers.series import Note, Register

make = maker()
SEGMENT = 60


def mbus(payload: bytes, number: int = 0, last: bool = True) -> bytes:
    body = bytes((0x53, 0xFF, number | (0x10 if last else 0), 1, 0x67)) + payload
    return bytes((0x68, len(body), len(body), 0x68)) + body + bytes((sum(body) & 0xFF, 0x16))


def block(number: int, data: bytes, last: bool) -> bytes:
    size = bytes((len(data),)) if len(data) < 128 else bytes((0x81, len(data)))
    return bytes((0xE0, 0xC0 if last else 0x40, 0, number, 0, 0)) + size + data


def blocks(apdu: bytes, size: int) -> list[bytes]:
    starts = range(0, len(apdu), size)
    return [block(k + 1, apdu[s : s + size], s + size >= len(apdu)) for k, s in enumerate(starts)]


def taken(data: bytes, folder: Path | None = None) -> tuple[list[Register], list[str]]:
    notes: list[Note] = []
    name = str(folder / "x.log") if folder else "x"
    registers = read_dlms(name, data.hex().encode(), notes)
    return registers, [note.reason for note in notes]


def flat(*codes: tuple[int, int]) -> bytes:
    """A notification that says codes and values and no unit."""
    items = [make.octets(b"Maker_V0001")]
    for group, value in codes:
        items += [make.octets(bytes((1, 1, group, 8, 0, 255))), b"\x06" + value.to_bytes(4, "big")]
    return b"\x0f\x00\x00\x00\x01\x0c" + make.stamp(make.START, 1) + make.structure(*items)


def test_mbus() -> None:
    apdu = make.notification(make.START, 1, 700_000)
    parts = [apdu[at : at + SEGMENT] for at in range(0, len(apdu), SEGMENT)]
    data = b"".join(mbus(part, k, part is parts[-1]) for k, part in enumerate(parts))
    registers, notes = taken(data)
    assert [(r.utc, r.imported) for r in registers] == [(T0, 700_000_000)] and not notes
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 4
        registers, notes = taken(bytes(broken))
        assert not registers and notes, at


@pytest.mark.parametrize("size", [30, 40, 70])
def test_blocks_over_hdlc(size: int) -> None:
    apdu = make.notification(make.START, 1, 700_000)
    frames = [make.hdlc(part)[0] for part in blocks(apdu, size)]
    registers, notes = taken(b"".join(frames))
    assert [(r.utc, r.imported) for r in registers] == [(T0, 700_000_000)] and not notes
    shared = frames[0] + b"".join(frame[1:] for frame in frames[1:])  # one flag between two frames
    assert taken(shared)[0] == registers
    registers, notes = taken(frames[-1])
    assert not registers and "of a transfer, where block" in notes[0]


@pytest.mark.parametrize("addresses", ["41 03", "01 0201", "CEFF 03", "00000003 02040605"])
def test_addresses_of_any_length(addresses: str) -> None:
    apdu = b"\xe6\xe7\x00" + make.notification(make.START, 1, 700_000)
    addressed = bytes.fromhex(addresses)
    for control in (0x13, 0x03, 0x10):
        head = (0xA000 + 2 + len(addressed) + 1 + 2 + len(apdu) + 2).to_bytes(2, "big")
        head += addressed + bytes((control,))
        body = head + crc_x25(head) + apdu
        frame = b"\x7e" + body + crc_x25(body) + b"\x7e"
        assert hdlc_frame(frame, 0).payload == apdu
        assert [r.imported for r in taken(frame)[0]] == [700_000_000]
        wrong = head + b"\0\0" + apdu
        assert "(HCS)" in taken(b"\x7e" + wrong + crc_x25(wrong) + b"\x7e")[1][0]


def test_registers_without_a_unit(tmp_path: Path) -> None:
    apdu = flat((1, 6_307_498), (2, 30))
    registers, notes = taken(apdu, tmp_path)
    assert not registers and "register 1.8.0 has no unit: say in x.unit" in notes[0]
    for text, wh in (("1", 1), ("10\n", 10)):
        put(tmp_path, text, "x.unit")
        registers, notes = taken(apdu, tmp_path)
        assert [(r.imported, r.exported) for r in registers] == [(6_307_498_000 * wh, 30_000 * wh)]
    for text in ("", "3", "Wh", "-10", "\xb2"):
        put(tmp_path, text.encode("latin-1"), "x.unit")
        assert not taken(apdu, tmp_path)[0]


@given(st.sampled_from([b"", b"\x7e\xa0", b"\x68", b"\x68\x0a\x0a\x68"]), st.binary(max_size=60))
def test_random_frames(begin: bytes, rest: bytes) -> None:
    for frame in (hdlc_frame, mbus_frame):
        try:
            found = frame(begin + rest, 0)
        except FramingError:
            continue
        assert 0 < found.size <= len(begin + rest)


@given(st.lists(st.binary(max_size=20).map(lambda data: b"\xe0" + data), max_size=5))
def test_random_blocks(payloads: list[bytes]) -> None:
    kept = Blocks()
    for payload in payloads:
        try:
            whole = kept.add(payload)
        except FramingError:
            continue
        assert whole is None or len(whole) <= sum(map(len, payloads))
