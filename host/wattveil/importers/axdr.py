"""Decoder of A-XDR data (IEC 62056-6-2, 4.1.5), the values inside DLMS/COSEM messages.

dlms-cosem has one too.  It is not used for what strangers send: on a length that runs past the end
(``02 FF``) it does not return, and it knows no visible-string.
"""

from __future__ import annotations

import struct
from typing import Any

MAX_DEPTH = 16

_FIXED = {  # tag: struct format of the value
    3: ">?", 5: ">i", 6: ">I", 15: ">b", 16: ">h", 17: ">B", 18: ">H", 20: ">q", 21: ">Q", 22: ">B",
    23: ">f", 24: ">d",
}  # fmt: skip
_OCTETS = {25: 12, 26: 5, 27: 4}  # date-time, date, time: as bytes
_STRINGS = (9, 10, 12)  # octet-string, visible-string, UTF-8: as bytes


class AXdrError(ValueError):
    """Bytes that are no A-XDR data; says where."""


class _Decoder:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self.at:
            raise AXdrError(f"{count} bytes at byte {self.at} run past the end")
        self.at += count
        return self._data[self.at - count : self.at]

    def length(self) -> int:
        first = self.take(1)[0]
        return first if first < 128 else int.from_bytes(self.take(first & 127), "big")

    def value(self, depth: int) -> Any:
        """One value; lists for arrays and structures."""
        where = self.at
        tag = self.take(1)[0]
        if tag == 0:
            return None
        if tag in (1, 2):
            if depth == MAX_DEPTH:
                raise AXdrError(f"more than {MAX_DEPTH} lists within each other")
            count = self.length()
            if count > len(self._data) - self.at:  # every value takes a byte at least
                raise AXdrError(f"{count} values at byte {where} run past the end")
            return [self.value(depth + 1) for _ in range(count)]
        if tag in _FIXED:
            return struct.unpack(_FIXED[tag], self.take(struct.calcsize(_FIXED[tag])))[0]
        if tag in _STRINGS:
            return self.take(self.length())
        if tag in _OCTETS:
            return self.take(_OCTETS[tag])
        if tag == 4:  # bit-string: its length is in bits
            return self.take((self.length() + 7) // 8)
        raise AXdrError(f"unknown type {tag} at byte {where}")


def decode(data: bytes) -> Any:
    """The one value that `data` holds; AXdrError, for bytes after it too."""
    decoder = _Decoder(data)
    value = decoder.value(0)
    if decoder.at != len(data):
        raise AXdrError(f"{len(data) - decoder.at} bytes after the value")
    return value
