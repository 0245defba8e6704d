"""Field lists, the record, masks, MACs, HashToGroup and tables, as PROTOCOL.md writes them."""

from __future__ import annotations

import hashlib
import hmac
import math
from dataclasses import dataclass
from fractions import Fraction

import gmpy2


class Bad(Exception):
    """What PROTOCOL.md tells a receiver to refuse; args[0] is the reason."""


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def mac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, "sha256").digest()


def le(value: int, size: int) -> bytes:
    return int(value).to_bytes(size, "little")


def num(data: bytes) -> int:
    return int.from_bytes(data, "little")


# --- field lists ---------------------------------------------------------------------------------


def fields(*parts: bytes) -> bytes:
    return b"".join(le(len(part), 4) + part for part in parts)


def split(data: bytes, count: int) -> list[bytes]:
    parts = []
    for _ in range(count):
        if len(data) < 4 or len(data) - 4 < num(data[:4]):
            raise Bad("malformed")
        size = num(data[:4])
        parts.append(data[4 : 4 + size])
        data = data[4 + size :]
    if data:
        raise Bad("malformed")
    return parts


def shortest(value: int) -> bytes:
    return le(value, (int(value).bit_length() + 7) // 8)


def from_shortest(data: bytes) -> int:
    if data[-1:] == b"\0":
        raise Bad("malformed")
    return num(data)


# --- the record ----------------------------------------------------------------------------------

LAYOUT = [
    *[("suite", "t"), ("noise", "t"), ("n", "u"), ("key_epoch", "u"), ("fleet", "b")],
    *[("roster_epoch", "u"), ("roster_size", "u"), ("roster_digest", "b"), ("gamma", "u")],
    *[("quorum_count", "u"), ("colluding", "u"), ("lo", "i"), ("hi", "i"), ("epsilon_num", "u")],
    *[("epsilon_den", "u"), ("unit", "t"), ("offset", "u"), ("period_s", "u"), ("phase_s", "u")],
    *[("level", "t"), ("row_check", "u"), ("own_noise", "u"), ("h", "u"), ("h_s", "u")],
    ("tables", "b"),
]


def encode_field(kind: str, value: int | str | bytes) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    if kind == "i":
        value = 2 * value if value >= 0 else -2 * value - 1
    return shortest(value)


def decode_field(kind: str, data: bytes) -> int | str | bytes:
    if kind == "t":
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise Bad("malformed") from None
    if kind == "b":
        return data
    value = from_shortest(data)
    if kind == "i":
        return -(value + 1) // 2 if value % 2 else value // 2
    return value


def encode_record(values: dict[str, int | str | bytes]) -> bytes:
    parts = (encode_field(kind, values[name]) for name, kind in LAYOUT)
    return fields(b"wattveil record 1", *parts)


@dataclass
class Params:
    """A record's values, and what follows from them."""

    raw: bytes
    v: dict

    def __getattr__(self, name: str) -> int:
        return self.v[name]

    @property
    def print(self) -> bytes:
        return sha(self.raw)

    @property
    def nb(self) -> int:
        return self.n.bit_length() // 8

    @property
    def a(self) -> int:
        return self.quorum_count - self.colluding

    @property
    def exponent_bits(self) -> int:
        return (2 * self.offset).bit_length()

    @property
    def randomiser_bits(self) -> int:
        bits = self.n.bit_length()
        return {"short": 256, "half": bits // 2, "full": bits + 80}[self.level]

    @property
    def check_bits(self) -> int:
        return max(40, 20 + (self.roster_size * (self.hi - self.lo) + 2 * self.bound).bit_length())

    @property
    def bound(self) -> int:
        """B for the whole roster: the least integer not below 60 (delta / epsilon) sqrt(...)."""
        epsilon = Fraction(self.epsilon_num, self.epsilon_den)
        wide = max(Fraction(1), Fraction((1 + self.own_noise) * self.roster_size, self.a))
        square = (60 * (self.hi - self.lo) / epsilon) ** 2 * wide
        return math.isqrt(math.ceil(square) - 1) + 1


def parse_record(raw: bytes) -> Params:
    magic, *parts = split(raw, 26)
    if magic != b"wattveil record 1":
        raise Bad("malformed")
    v = {name: decode_field(kind, p) for (name, kind), p in zip(LAYOUT, parts, strict=True)}
    rules = [
        v["suite"] in ("yan2024", "compact") and v["noise"] in ("gamma", "discrete"),
        v["level"] in ("short", "half", "full"),
        len(v["fleet"]) == 8 and len(v["roster_digest"]) == 32,
        len(v["tables"]) > 0 and len(v["tables"]) % 32 == 0,
        v["n"] % 2 == 1 and v["n"].bit_length() % 64 == 0 and v["n"].bit_length() >= 256,
        all(1 < v[base] < v["n"] ** 2 and v[base] % v["n"] for base in ("h", "h_s")),
        all(v[f] < 2**31 for f in ("key_epoch", "roster_epoch", "roster_size", "period_s")),
        v["unit"] == "Wh",
        1 <= v["gamma"] <= 255,
        v["phase_s"] < v["period_s"],
        2 <= v["quorum_count"] <= v["roster_size"],
        v["colluding"] < v["quorum_count"],
        v["lo"] < v["hi"],
        v["epsilon_num"] > 0 and v["epsilon_den"] > 0,
        math.gcd(v["epsilon_num"], v["epsilon_den"]) == 1,
        v["offset"] == -(-60 * (v["hi"] - v["lo"]) * v["epsilon_den"] // max(v["epsilon_num"], 1)),
        v["row_check"] <= 1 and v["own_noise"] <= 1,
    ]
    if not all(rules):
        raise Bad("malformed")
    return Params(raw, v)


# --- masks and MACs ------------------------------------------------------------------------------


def prf(p: Params, seed: bytes, label: bytes, start: int, size: int) -> bytes:
    out, i = b"", 0
    times = (le(start, 8), le(p.period_s, 4), le(start // 86400, 4))
    while len(out) < size:
        out += mac(seed, fields(b"wattveil prf", label, p.print, *times, le(i, 4)))
        i += 1
    return out[:size]


def seed_of(day: int, seed: bytes, wanted: int) -> bytes:
    """The seed of a UTC day, from that of an earlier one (or the same)."""
    if wanted < day:
        raise Bad("expired")
    for index in range(day, wanted):
        seed = mac(seed, fields(b"wattveil next", le(index, 4)))
    return seed


def mask_u(p: Params, seed: bytes, start: int) -> int:
    return num(prf(p, seed, b"u", start, p.nb + 10)) % p.n


def mask_k(p: Params, seed: bytes, start: int) -> int:
    return num(prf(p, seed, b"k", start, 32))


def mask_v(p: Params, seed: bytes, start: int) -> int:
    return num(prf(p, seed, b"v", start, 16))


def identity(meter: bytes, tau: int) -> bytes:
    return sha(fields(meter, le(tau, 8)))


def time_mac(
    p: Params, key: bytes, meter: bytes, nonces: list[bytes], now: int, run: int
) -> bytes:
    return mac(key, fields(b"wattveil time", p.fleet, meter, *nonces, le(now, 8), bytes([run])))


def register_mac(p: Params, key: bytes, meter: bytes, tau: int, nonce: bytes) -> bytes:
    head = (b"wattveil register", p.fleet, p.print, meter)
    return mac(key, fields(*head, le(tau, 8), identity(meter, tau), nonce))


def registered_mac(p: Params, key: bytes, meter: bytes, tau: int, nonce: bytes) -> bytes:
    return mac(key, fields(b"wattveil registered", p.fleet, p.print, meter, le(tau, 8), nonce))


def certificate(p: Params, key: bytes, start: int, members: bytes) -> bytes:
    times = (le(start, 8), le(p.period_s, 4), le(start // 86400, 4))
    return mac(key, fields(b"wattveil closing", p.fleet, p.print, *times, members))


# --- bases and tables ----------------------------------------------------------------------------


def hash_stream(n: int, fleet: bytes, epoch: int, label: bytes, ctr: int, size: int) -> bytes:
    head = (b"wattveil group", le(n, (n.bit_length() + 7) // 8), fleet, le(epoch, 4), label)
    blocks = (sha(fields(*head, le(ctr, 4), le(i, 4))) for i in range(-(-size // 32)))
    return b"".join(blocks)[:size]


def base_h(n: int, fleet: bytes, epoch: int) -> tuple[int, int]:
    """h and the counter it was found at."""
    ctr = 0
    while True:
        size = -(-(2 * n.bit_length() + 128) // 8)
        h = num(hash_stream(n, fleet, epoch, b"h", ctr, size)) % (n * n)
        if math.gcd(h, n) == 1:
            return h, ctr
        ctr += 1


def base_hs(n: int, fleet: bytes, epoch: int) -> tuple[int, int, int]:
    """h_s, x and the counter it was found at."""
    ctr = 0
    while True:
        size = -(-(n.bit_length() + 128) // 8)
        x = num(hash_stream(n, fleet, epoch, b"hs", ctr, size)) % n
        if gmpy2.jacobi(x, n) == -1:
            return int(gmpy2.powmod(x, n, n * n)), x, ctr
        ctr += 1


def table(
    name: bytes, base: int, n: int, bits: int, teeth: int, blocks: int, const: int, form: int = 1
) -> bytes:
    nb, n2 = n.bit_length() // 8, n * n
    columns = -(-bits // teeth)
    steps = -(-columns // blocks)
    out = b"WVT1" + name + bytes([form, teeth, blocks]) + le(bits, 2) + le(nb, 2) + bytes(20)
    out += sha(le(n, nb))
    elements = [const]
    for j in range(blocks):
        for u in range(1 << teeth):
            e = sum(1 << (i * columns + j * steps) for i in range(teeth) if u >> i & 1)
            elements.append(int(gmpy2.powmod(base, e, n2)))
    for x in elements:
        if form == 2:
            x = x * 256**nb % n2
            out += le(x % n, nb) + le(x // n, nb)
            continue
        t = x % n
        out += le(t, nb) + le(x // n * pow(t, -1, n) % n, nb)
    return out
