"""What carries DLMS messages: HDLC frames (IEC 62056-46), M-Bus long frames (EN 13757-2), and blocks of
general block transfer (IEC 62056-5-3, 9.3.12).

dlms-cosem has HDLC frames too, but takes only addresses of the lengths it writes itself.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_LLC = (b"\xe6\xe7\x00", b"\xe6\xe6\x00")
_FLAG = 0x7E
_BLOCK = 0xE0


def _crc_of(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x8408 if byte & 1 else 0)
    return byte


_CRC = [_crc_of(byte) for byte in range(256)]


class FramingError(ValueError):
    """Bytes that are no whole, undamaged frame; says what is wrong."""


@dataclass(frozen=True)
class Frame:
    """One frame: size in bytes, without the flag behind it; payload; more: another segment follows."""

    size: int
    payload: bytes
    more: bool


def crc_x25(data: bytes) -> bytes:
    """CRC-16/X-25 as sent (ISO/IEC 13239)."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return struct.pack("<H", crc ^ 0xFFFF)


def hdlc_frame(data: bytes, at: int) -> Frame:
    """The I or UI frame whose first flag is at `at`; FramingError."""
    if len(data) < at + 3 or data[at] != _FLAG or data[at + 1] & 0xF0 != 0xA0:
        raise FramingError("no HDLC frame of format 3")
    size = int.from_bytes(data[at + 1 : at + 3], "big") & 0x7FF
    body = data[at + 1 : at + 1 + size]
    if len(body) < size or data[at + 1 + size : at + 2 + size] != b"\x7e":
        raise FramingError("the HDLC frame does not end where its length says")
    if size < 9 or crc_x25(body[:-2]) != body[-2:]:
        raise FramingError("the HDLC frame's check sequence is wrong (FCS): it is damaged")
    head = 2
    for _ in range(2):  # addresses: the last byte of each is odd
        first = head
        while head < first + 4 and head < size and not body[head] & 1:
            head += 1
        head += 1
    if head + 5 > size or (body[head] & 1 and body[head] & ~0x10 != 0x03):
        raise FramingError("the HDLC frame carries no information (neither I nor UI)")
    if crc_x25(body[: head + 1]) != body[head + 1 : head + 3]:
        raise FramingError("the HDLC header's check sequence is wrong (HCS)")
    return Frame(size + 1, body[head + 3 : -2], bool(body[0] & 8))


def mbus_frame(data: bytes, at: int) -> Frame:
    """The long frame that begins at `at`, with the transport layer of EN 13757-3; FramingError."""
    size = data[at + 1] if len(data) > at + 1 else 0
    body = data[at + 4 : at + 4 + size]
    if data[at : at + 4] != bytes((0x68, size, size, 0x68)) or len(body) < size or size < 6:
        raise FramingError("no M-Bus long frame")
    if data[at + 4 + size : at + 6 + size] != bytes((sum(body) & 0xFF, 0x16)):
        raise FramingError("the M-Bus frame's check sum is wrong: it is damaged")
    if body[2] & ~0x1F:  # CI: segments 0 to 15, bit 4 on the last
        raise FramingError("the M-Bus frame carries no DLMS message")
    return Frame(size + 6, body[5:], not body[2] & 0x10)


class Blocks:
    """General block transfer: the message in its blocks, which come in order."""

    def __init__(self) -> None:
        self._data = b""
        self._next = 1

    def add(self, payload: bytes) -> bytes | None:
        """A whole message, or None until there is one; FramingError."""
        for prefix in _LLC:
            payload = payload.removeprefix(prefix)
        if payload[:1] != bytes((_BLOCK,)):
            return payload
        size = payload[6] if len(payload) > 6 else 0
        data = payload[7:]
        if size > 128:
            size, data = int.from_bytes(data[: size & 127], "big"), data[size & 127 :]
        number, wanted, self._next = int.from_bytes(payload[2:4], "big"), self._next, 1
        self._data, before = b"", self._data
        if number != wanted or size != len(data) or not size:
            raise FramingError(f"block {number} of a transfer, where block {wanted} should follow")
        if payload[1] & 0x80:
            return before + data
        self._data, self._next = before + data, wanted + 1
        return None
