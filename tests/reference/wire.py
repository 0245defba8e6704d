"""Frames and serial stuffing."""

from __future__ import annotations

import zlib

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from reference.basics import Bad, fields, le, mac, num

TYPES = {
    *range(0x01, 0x09),
    *range(0x41, 0x49),
    *(0x10, 0x11, 0x12, 0x50, 0x51, 0x52, 0x20, 0x60, 0x7F),
}
SPECIAL = bytes([0x01, 0x02, 0x03, 0x04, 0x0A, 0x0D, 0x11, 0x13, 0x7D, 0x7E])


def link_keys(link: bytes, fleet: bytes, direction: bytes) -> tuple[bytes, bytes]:
    enc, auth = (
        mac(link, fields(b"wattveil link", fleet, direction, use)) for use in (b"enc", b"mac")
    )
    return enc, auth


def ctr(key: bytes, counter: int, data: bytes) -> bytes:
    block = counter.to_bytes(8, "big") + bytes(8)
    return Cipher(algorithms.AES(key), modes.CTR(block)).encryptor().update(data)


def seal(
    link: bytes,
    fleet: bytes,
    direction: bytes,
    sender: int,
    hint: bytes,
    type: int,
    counter: int,
    reply: int,
    start: int,
    payload: bytes,
) -> bytes:
    enc, auth = link_keys(link, fleet, direction)
    head = b"WV" + bytes([1, type]) + fleet + le(sender, 4) + le(start // 86400, 4) + le(start, 8)
    head += le(counter, 8) + le(reply, 8) + hint + le(len(payload), 4)
    assert len(head) == 56
    body = head + ctr(enc, counter, payload)
    return body + mac(auth, body)[:16]


class Receiver:
    """One end's view of what arrives in one direction."""

    def __init__(
        self, link: bytes, fleet: bytes, direction: bytes, sender: int, hint: bytes, limit: int
    ) -> None:
        self.enc, self.auth = link_keys(link, fleet, direction)
        self.fleet, self.sender, self.hint, self.limit = fleet, sender, hint, limit
        self.last = 0

    def open(self, frame: bytes) -> dict:
        if len(frame) < 72:
            raise Bad("truncated")
        start, counter = num(frame[20:28]), num(frame[28:36])
        if frame[:3] != b"WV\x01" or frame[3] not in TYPES:
            raise Bad("malformed")
        length = num(frame[52:56])
        if length > self.limit:
            raise Bad("oversized")
        if len(frame) != 72 + length:
            raise Bad("truncated" if len(frame) < 72 + length else "trailing")
        if frame[4:12] != self.fleet:
            raise Bad("wrong_fleet")
        if num(frame[12:16]) != self.sender:
            raise Bad("unknown_sender")
        if mac(self.auth, frame[:-16])[:16] != frame[-16:]:
            raise Bad("forged")
        if frame[44:52] != self.hint:
            raise Bad("wrong_record")
        if counter <= self.last:
            raise Bad("replayed")
        if num(frame[16:20]) != start // 86400:
            raise Bad("malformed")
        self.last = counter
        return {
            "type": frame[3],
            "start": start,
            "counter": counter,
            "reply": num(frame[36:44]),
            "payload": ctr(self.enc, counter, frame[56:-16]),
        }


def stuff(frame: bytes) -> bytes:
    out = b"\x7e"
    for byte in frame + le(zlib.crc32(frame), 4):
        out += bytes([0x7D, byte ^ 0x20]) if byte in SPECIAL else bytes([byte])
    return out + b"\x7e"


def unstuff(stream: bytes, limit: int) -> tuple[list[bytes], int, int]:
    """Frames, and how many stretches were damaged and oversized; the stream ends with a flag."""
    frames, damaged, oversized = [], 0, 0
    for stretch in stream.split(b"\x7e")[1:-1]:
        out, escaped = bytearray(), False
        for byte in stretch:
            if byte == 0x7D:
                escaped = True
                continue
            out.append(byte ^ 0x20 if escaped else byte)
            escaped = False
            if len(out) > limit + 4:
                break
        if len(out) > limit + 4:
            oversized += 1
        elif not stretch:
            continue
        elif escaped or len(out) < 5 or zlib.crc32(out[:-4]) != num(bytes(out[-4:])):
            damaged += 1
        else:
            frames.append(bytes(out[:-4]))
    return frames, damaged, oversized
