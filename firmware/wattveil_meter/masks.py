"""What the seeds and keys of one meter give: masks, registration MACs, the closing certificate.

Used by the meter and, with the same seeds, by dealer and control centre: one source for both ends.
A seed serves one UTC day, that of a period's start (`next_seed`).
Every PRF input is a field list (`fields.pack`), so no mask repeats across suites, fleets, rosters,
keys or period lengths: all of these are in the record's fingerprint (PROTOCOL.md, "Masks").
"""

import struct
from hashlib import sha256

from wattveil_meter.drbg import hmac_sha256
from wattveil_meter.fields import pack


def u64(value):
    """8 bytes, little-endian."""
    return struct.pack("<Q", value)


def prf(seed, label, record, start, size):
    """`size` pseudo-random bytes for (label, record, period): HMAC-SHA-256 in counter mode."""
    day = struct.pack("<I", start // 86400)
    length = struct.pack("<I", record.period_s)
    block = pack(b"wattveil prf", label, record.fingerprint, u64(start), length, day)
    out = b""
    i = 0
    while len(out) < size:
        field = struct.pack("<II", 4, i)  # as by pack: length, then the counter
        out += hmac_sha256(seed, block, field)
        i += 1
    return out[:size]


def next_seed(seed, day):
    """The seed of the day after `day`, from that of `day` (UTC day index); there is no way back.

    Rule 8 of the protocol. Nothing of a record is in it: one seed goes on through all of a meter's.
    """
    return hmac_sha256(seed, pack(b"wattveil next", struct.pack("<I", day)))


def mask_u(record, seed, start):
    """u_i: |n| + 80 bits from the dealer's seed, reduced mod n; it hides d_i from any key holder."""
    wide = int.from_bytes(prf(seed, b"u", record, start, record.nb + 10), "little")
    return wide % record.n


def mask_k(record, seed, start):
    """k_i: 256 bits from the dealer's seed; the exponent share of h (Eq. 17), never derived from u."""
    return int.from_bytes(prf(seed, b"k", record, start, 32), "little")


def mask_v(record, seed, start):
    """v_i: 128 bits from the centre's seed; without it nothing opens that the centre did not close."""
    return int.from_bytes(prf(seed, b"v", record, start, 16), "little")


def identity_hash(meter_id, tau):
    """H(id || tau) of the registration check (paper 4.2.2), length-prefixed."""
    return sha256(pack(meter_id, u64(tau))).digest()


def time_mac(key, record, meter_id, nonce, center_nonce, now, running):
    """The centre's word for what time it is, bound to the meter's own nonce (32 bytes)."""
    parts = (record.fleet, meter_id, nonce, center_nonce, u64(now), bytes((running,)))
    return hmac_sha256(key, pack(b"wattveil time", *parts))


def register_mac(key, record, meter_id, tau, center_nonce):
    """The meter's registration request (32 bytes)."""
    parts = (record.fleet, record.fingerprint, meter_id, u64(tau))
    digest = identity_hash(meter_id, tau)
    return hmac_sha256(key, pack(b"wattveil register", *parts, digest, center_nonce))


def registered_mac(key, record, meter_id, tau, center_nonce):
    """The centre's answer to it (32 bytes)."""
    parts = (record.fleet, record.fingerprint, meter_id, u64(tau), center_nonce)
    return hmac_sha256(key, pack(b"wattveil registered", *parts))


def closing_certificate(key, record, start, members):
    """The dealer's certificate that it closed (record, period) over exactly the set `members`."""
    length = struct.pack("<I", record.period_s)
    day = struct.pack("<I", start // 86400)
    parts = (record.fleet, record.fingerprint, u64(start), length, day, members)
    return hmac_sha256(key, pack(b"wattveil closing", *parts))
