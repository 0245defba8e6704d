"""Sensor `demo`: the bench's driver hands a real board its reading through the cloud, sealed.

The keys come from the registration key, which the cloud does not hold (PROTOCOL.md, "Demo only").
"""

import struct

from wattveil_meter.aes import ctr
from wattveil_meter.drbg import hmac_sha256, same
from wattveil_meter.fields import Malformed, pack

_MISSING = 0xFFFFFFFF


def _keys(registration_key, fleet):
    return [
        hmac_sha256(registration_key, pack(b"wattveil reading", fleet, use))
        for use in (b"enc", b"mac")
    ]


def seal_reading(registration_key, fleet, start, wh):
    """20 bytes for one interval; wh None when missing. Seal a given (key, start) once only."""
    enc, mac = _keys(registration_key, fleet)
    body = ctr(enc, start.to_bytes(8, "big"), struct.pack("<I", _MISSING if wh is None else wh))
    return body + hmac_sha256(mac, pack(struct.pack("<Q", start), body))[:16]


class Demo:
    """Opens what `seal_reading` made; the meter asks for it with a READING message."""

    remote = True
    why = ""  # the host knows

    def __init__(self, registration_key, fleet):
        self._enc, self._mac = _keys(registration_key, fleet)

    def poll(self, utc):
        """Nothing to do."""

    def save(self):
        """Nothing to keep."""

    def open(self, start, blob):
        """Wh or None; Malformed when the blob is not this meter's reading of that interval."""
        body = blob[:4]
        if len(blob) != 20 or not same(
            hmac_sha256(self._mac, pack(struct.pack("<Q", start), body))[:16], blob[4:]
        ):
            raise Malformed("not a sealed reading")
        (wh,) = struct.unpack("<I", ctr(self._enc, start.to_bytes(8, "big"), body))
        return None if wh == _MISSING else wh
