"""Length-prefixed fields: the one way wattveil joins byte strings before hashing, MACing or storing them.

Every field is preceded by its length as an unsigned 32-bit little-endian integer, so that no two
different lists of fields give the same bytes (PROTOCOL.md, "Field lists").
"""

import struct


class Malformed(ValueError):
    """Bytes that do not follow the format; the message names the reason."""


def pack(*parts):
    """Join byte strings into one field list."""
    out = bytearray()
    for part in parts:
        out += struct.pack("<I", len(part))
        out += part
    return bytes(out)


def unpack(data, count):
    """Split a field list into exactly `count` byte strings; Malformed on short or left-over bytes."""
    parts = []
    at = 0
    for _ in range(count):
        if at + 4 > len(data):
            raise Malformed("truncated field list")
        (size,) = struct.unpack("<I", bytes(data[at : at + 4]))
        at += 4
        if at + size > len(data):
            raise Malformed("truncated field")
        parts.append(bytes(data[at : at + size]))
        at += size
    if at != len(data):
        raise Malformed("trailing bytes")
    return parts


def uint(value):
    """Shortest little-endian form of an integer >= 0; zero is the empty string."""
    size = 0
    rest = value
    for step in (64, 8, 1):  # a modulus has 256 bytes or more: not one shift each
        while rest >> (8 * step - 8):
            size += step
            rest >>= 8 * step
    return int(value).to_bytes(size, "little")


def read_uint(data):
    """Inverse of `uint`; Malformed when the form is not the shortest."""
    if data and data[-1] == 0:
        raise Malformed("integer not in shortest form")
    return int.from_bytes(data, "little")


def bit_length(value):
    """Bits of an integer >= 0 (boards have no int.bit_length)."""
    data = uint(value)
    bits = 8 * len(data)
    if data:
        top = data[-1]
        while not top & 0x80:
            top <<= 1
            bits -= 1
    return bits
