"""Frames and their channels: the one codec on both ends of every wattveil link (PROTOCOL.md, "Frames").

Sans-IO: bytes in, messages or named refusals out. Layout of a frame, integers little-endian:

    offset  size  field
         0     2  magic "WV"
         2     1  version, 1
         3     1  message type
         4     8  fleet
        12     4  sender: 0 cloud, 1..N meter number, CENTER, DEALER
        16     4  day = start // 86400 (index of the UTC day whose seeds the period uses)
        20     8  start of the period, UTC seconds; 0 outside a period
        28     8  counter = boot << 32 | sequence: the nonce, never used twice
        36     8  reply: counter of the request this answers; 0 in a request
        44     8  first 8 bytes of the record's fingerprint (a hint)
        52     4  length of the ciphertext
        56     .  AES-256-CTR ciphertext of the payload
         .    16  HMAC-SHA-256 over all before it, first 16 bytes
"""

import struct
from binascii import crc32

from wattveil_meter.aes import ctr
from wattveil_meter.drbg import hmac_sha256, same
from wattveil_meter.fields import pack

HEADER = "<2sBB8sIIQQQ8sI"
HEADER_BYTES = 56
TAG_BYTES = 16
METER_LIMIT = 2048  # bytes of payload on a meter link
ROLE_LIMIT = 16 << 20  # bytes of payload between roles

CLOUD, CENTER, DEALER = 0, 0xFFFFFFFE, 0xFFFFFFFD  # sender numbers; meters are 1..N

# meter -> cloud, and the answer
HELLO, WELCOME = 0x01, 0x41
TIME, TIME_IS = 0x02, 0x42
REGISTER, REGISTERED = 0x03, 0x43
ROW, ROW_IS = 0x04, 0x44
SLOT, STORED = 0x05, 0x45
REPORT, REPORTED = 0x06, 0x46
ABSENT, NOTED = 0x07, 0x47
READING, READING_IS = 0x08, 0x48
# cloud -> centre, cloud -> dealer
RELAY_TIME, RELAYED_TIME = 0x10, 0x50
RELAY_REGISTER, RELAYED_REGISTER = 0x11, 0x51
OPEN, RELEASED = 0x12, 0x52
CLOSE, SHARE = 0x20, 0x60
ERROR = 0x7F
TYPES = frozenset(
    (HELLO, WELCOME, TIME, TIME_IS, REGISTER, REGISTERED, ROW, ROW_IS, SLOT, STORED, REPORT)
    + (REPORTED, ABSENT, NOTED, READING, READING_IS, RELAY_TIME, RELAYED_TIME, RELAY_REGISTER)
    + (RELAYED_REGISTER, OPEN, RELEASED, CLOSE, SHARE, ERROR)
)

# ERROR payload: one byte. `refused` stands for every cryptographic failure: details stay local.
NAMES = {
    1: "refused",
    2: "early",
    3: "late",
    4: "unregistered",
    5: "conflict",
    6: "unavailable",
    7: "no_reading",
    8: "closed",
    9: "below_quorum",
    10: "bad_set",
    11: "overlap",
    12: "sum_invalid",
    13: "stopped",
    14: "over_limit",
}
CODES = {name: code for code, name in NAMES.items()}

# why ABSENT was sent
NO_READING, RESTARTED, ROWS_REFUSED, OTHER = 1, 2, 3, 4


class Refused(Exception):
    """A frame or message that is not accepted; `reason` is one of the names in PROTOCOL.md."""

    def __init__(self, reason):
        super().__init__(reason)
        self.reason = reason


class Message:
    """One accepted frame: type, sender, day, start (UTC s), counter, reply, payload (bytes)."""

    __slots__ = ("counter", "day", "payload", "reply", "sender", "start", "type")

    def __init__(self, type, sender, day, start, counter, reply, payload):
        self.type = type
        self.sender = sender
        self.day = day
        self.start = start
        self.counter = counter
        self.reply = reply
        self.payload = payload


def peek(frame):
    """(fleet, sender) of a frame whose key is not chosen yet; Refused when it is no frame at all."""
    if len(frame) < HEADER_BYTES + TAG_BYTES:
        raise Refused("truncated")
    head = struct.unpack(HEADER, bytes(frame[:HEADER_BYTES]))
    if head[0] != b"WV" or head[1] != 1:
        raise Refused("malformed")
    return head[3], head[4]


class Channel:
    """One end of an encrypted, authenticated request/response link.

    link_key: 32 bytes shared by the pair; fleet: 8 bytes; me, peer: sender numbers; asks: True on the
    side that sends requests; fingerprint: the record's 32 bytes; boot: this side's durable start
    count, 1..2^32-1, so that counters are never used twice; last: highest counter accepted from the peer.
    """

    def __init__(self, link_key, fleet, me, peer, asks, fingerprint, boot, limit=METER_LIMIT):
        def keys(direction):
            link = (b"wattveil link", fleet, direction)
            return [hmac_sha256(link_key, pack(*link, use)) for use in (b"enc", b"mac")]

        self._out = keys(b"up" if asks else b"down")
        self._in = keys(b"down" if asks else b"up")
        self._fleet = fleet
        self._me = me
        self._peer = peer
        self._hint = fingerprint[:8]
        self._limit = limit
        self.counter = boot << 32
        self.last = 0

    def seal(self, type, payload=b"", start=0, reply=0):
        """The next frame to this peer; each call uses up one counter."""
        if self.counter & 0xFFFFFFFF == 0xFFFFFFFF:
            raise Refused("counter_exhausted")
        self.counter += 1
        fields = (b"WV", 1, type, self._fleet, self._me, start // 86400, start)
        fields += (self.counter, reply, self._hint, len(payload))
        nonce = self.counter.to_bytes(8, "big")
        frame = struct.pack(HEADER, *fields) + ctr(self._out[0], nonce, payload)
        return frame + hmac_sha256(self._out[1], frame)[:TAG_BYTES]

    def open(self, frame):
        """Verify and decrypt one frame into a Message; Refused names the first check that fails."""
        if len(frame) < HEADER_BYTES + TAG_BYTES:
            raise Refused("truncated")
        head = struct.unpack(HEADER, bytes(frame[:HEADER_BYTES]))
        magic, version, type, fleet, sender, day, start, counter, reply, hint, length = head
        if magic != b"WV" or version != 1 or type not in TYPES:
            raise Refused("malformed")
        if length > self._limit:
            raise Refused("oversized")
        if len(frame) < HEADER_BYTES + length + TAG_BYTES:
            raise Refused("truncated")
        if len(frame) > HEADER_BYTES + length + TAG_BYTES:
            raise Refused("trailing")
        if fleet != self._fleet:
            raise Refused("wrong_fleet")
        if sender != self._peer:
            raise Refused("unknown_sender")
        body = bytes(frame[:-TAG_BYTES])
        if not same(hmac_sha256(self._in[1], body)[:TAG_BYTES], bytes(frame[-TAG_BYTES:])):
            raise Refused("forged")
        if hint != self._hint:
            raise Refused("wrong_record")
        if counter <= self.last:
            raise Refused("replayed")
        if day != start // 86400:
            raise Refused("malformed")
        self.last = counter
        nonce = counter.to_bytes(8, "big")
        payload = ctr(self._in[0], nonce, body[HEADER_BYTES:])
        return Message(type, sender, day, start, counter, reply, payload)


# --- serial stuffing (after RFC 1662): a binary frame that survives a REPL port -----------------------

FLAG, ESCAPE = 0x7E, 0x7D
# REPL control bytes (1-4), line ends a terminal may translate, XON/XOFF, and the two of the stuffing
_STUFFED = b"\x7d\x7e\x01\x02\x03\x04\x0a\x0d\x11\x13"
SERIAL_LIMIT = HEADER_BYTES + METER_LIMIT + TAG_BYTES


def stuff(frame):
    """Frame -> bytes for a serial line: FLAG, escaped (frame, CRC-32 little-endian), FLAG."""
    out = frame + struct.pack("<I", crc32(frame) & 0xFFFFFFFF)
    for byte in _STUFFED:  # ESCAPE first; what the others become is in no need of stuffing
        out = out.replace(bytes((byte,)), bytes((ESCAPE, byte ^ 0x20)))
    return bytes((FLAG,)) + out + bytes((FLAG,))


class Deframer:
    """Bytes of a serial stream in, whole frames out; what is not a frame is counted in `refused`."""

    def __init__(self, limit=SERIAL_LIMIT):
        self._limit = limit + 4
        self._buffer = bytearray()
        self._escaped = False
        self._inside = False  # a FLAG was seen: what comes before the first one is no frame
        self._over = False
        self.refused = {"damaged": 0, "oversized": 0}

    def feed(self, data):
        """All frames completed by `data` (any number of bytes)."""
        frames = []
        for i, part in enumerate(bytes(data).split(bytes((FLAG,)))):
            if i:
                self._finish(frames)
            if part and self._inside and not self._over:
                self._take(part)
        return frames

    def _take(self, part):
        """Bytes between flags; an ESCAPE may be the last of one call and act in the next."""
        for i, piece in enumerate(part.split(bytes((ESCAPE,)))):
            if i:
                self._escaped = True
            if piece:
                at = 0
                if self._escaped:
                    self._buffer.append(piece[0] ^ 0x20)
                    self._escaped = False
                    at = 1
                self._buffer += piece[at:]
        self._over = len(self._buffer) > self._limit

    def _finish(self, frames):
        data = self._buffer
        if self._over:
            self.refused["oversized"] += 1
        elif data or self._escaped:
            body = bytes(data[:-4])
            good = len(data) > 4 and not self._escaped
            if good and struct.pack("<I", crc32(body) & 0xFFFFFFFF) == bytes(data[-4:]):
                frames.append(body)
            else:
                self.refused["damaged"] += 1
        self._buffer = bytearray()
        self._escaped = self._over = False
        self._inside = True
