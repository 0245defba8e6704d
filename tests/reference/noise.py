"""HMAC_DRBG with the project's way of taking bits, and the two samplers of PROTOCOL.md's appendix."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

from reference.basics import Bad, mac, num


class Drbg:
    def __init__(self, entropy: bytes, nonce: bytes = b"", personalization: bytes = b"") -> None:
        if len(entropy) < 32:
            raise Bad("entropy")
        self.k, self.v = bytes(32), b"\x01" * 32
        self._update(entropy + nonce + personalization)
        self._pool = self._single_bits()

    def reseed(self, entropy: bytes) -> None:
        if len(entropy) < 32:
            raise Bad("entropy")
        self._update(entropy)
        self._pool = self._single_bits()

    def _update(self, data: bytes) -> None:
        for mark in (b"\0", b"\1") if data else (b"\0",):
            self.k = mac(self.k, self.v + mark + data)
            self.v = mac(self.k, self.v)

    def bytes(self, size: int) -> bytes:
        out = b""
        while len(out) < size:
            self.v = mac(self.k, self.v)
            out += self.v
        self._update(b"")
        return out[:size]

    def _single_bits(self) -> Iterator[int]:
        """The bits of successive 32-byte requests, each byte's lowest first."""
        while True:
            for byte in self.bytes(32):
                yield from (byte >> i & 1 for i in range(8))

    def bits(self, count: int) -> int:
        if count > 128:
            data = bytearray(self.bytes((count + 7) // 8))
            data[-1] >>= 8 * len(data) - count
            return num(bytes(data))
        return sum(next(self._pool) << i for i in range(count))

    def below(self, limit: int) -> int:
        count = (limit - 1).bit_length()
        while True:
            value = self.bits(count)
            if value < limit:
                return value


# --- exact coins and the discrete sampler --------------------------------------------------------


def coin(rng: Drbg, chance: Fraction) -> bool:
    """Compares the binary digits of `chance` with random ones; a chance of 0 or 1 takes none."""
    if chance >= 1:
        return True
    while chance > 0:
        digit, chance = divmod(2 * chance, 1)
        flip = rng.bits(1)
        if digit != flip:
            return digit > flip
    return False


def coin_exp(rng: Drbg, x: Fraction) -> bool:
    """True with chance e^-x."""
    while x > 1:
        if not coin_exp(rng, Fraction(1)):
            return False
        x -= 1
    k = 1
    while coin(rng, x / k):
        k += 1
    return k % 2 == 1


def poisson(rng: Drbg, mean: Fraction) -> int:
    parts = 1 + math.floor(2 * mean)
    total = 0
    for _ in range(parts):
        while True:
            k = 0
            while coin(rng, mean / parts):
                k += 1
            if all(coin(rng, Fraction(1, i)) for i in range(2, k + 1)):
                break
        total += k
    return total


def discrete_share(rng: Drbg, a: int, epsilon: Fraction, delta: int) -> int:
    s = epsilon / delta
    blocks = next(b for b in range(10_000) if 2**b * s >= 128)

    def polya() -> int:
        total = 0
        for _ in range(poisson(rng, Fraction(blocks, a))):
            b = rng.below(blocks)
            if coin_exp(rng, s * 2**b):
                rest = rng.bits(b)
                j = 2**b + rest
                if coin_exp(rng, s * rest) and coin(rng, Fraction(2**b, j)):
                    total += j
        return total

    first = polya()
    return first - polya()


# --- the gamma sampler ---------------------------------------------------------------------------


def exponential(rng: Drbg) -> float:
    heads = 0
    while rng.bits(1):
        heads += 1
    zeros = 0
    while not rng.bits(1):
        zeros += 1
    v = (2**23 + rng.bits(23)) * 2.0 ** (-25 - zeros)
    return heads * math.log(2) - math.log1p(-v)


def gamma_share(rng: Drbg, a: int, epsilon: Fraction, delta: int) -> int:
    scale = float(delta / epsilon)
    d = 2 / 3 + 1 / a
    c = 1 / math.sqrt(9 * d)

    def above_one() -> float:
        while True:
            angle = 2 * math.pi * rng.bits(24) / 2**24
            x = math.sqrt(2 * exponential(rng)) * math.cos(angle)
            if 1 + c * x <= 0:
                continue
            v = (1 + c * x) ** 3
            if exponential(rng) > d * (v - 1 - math.log(v)) - x * x / 2:
                return d * v

    def gamma() -> float:
        factor = scale * math.exp(-a * exponential(rng))
        return factor * above_one() if factor >= 1e-12 else 0.0

    first = gamma()
    return math.floor(first - gamma() + 0.5)
