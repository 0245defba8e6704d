"""A group in which discrete logarithms are hard, but small ones can be found: for `dg_aped`.

The squares modulo a safe prime p, of prime order q = (p - 1) / 2, with generator 4. Hashing into it
costs one squaring. At 2048 bits p is ffdhe2048 of RFC 7919, computed from the RFC's formula; other
sizes draw a fresh safe prime. Keys have 256 bits (the short-exponent assumption), the cheapest
choice and so the kindest to what is measured with it.
"""

from __future__ import annotations

import hashlib
import secrets
from functools import lru_cache
from math import isqrt

from gmpy2 import invert, mpz, powmod

from wattveil.paillier.primes import safe_prime

KEY_BITS = 256
RFC7919 = 2048


class Group:
    """The squares modulo the safe prime `p`."""

    def __init__(self, p: mpz) -> None:
        self.p, self.q, self.g = mpz(p), mpz(p) >> 1, mpz(4)
        self._bytes = (self.p.bit_length() + 7) // 8 + 16

    @classmethod
    def of(cls, bits: int) -> Group:
        """ffdhe2048, or a fresh group of this many bits (64 or more)."""
        return cls(ffdhe2048() if bits == RFC7919 else safe_prime(bits))

    def hash(self, label: bytes) -> mpz:
        """A square nobody knows a logarithm of, from any bytes."""
        data = hashlib.shake_256(b"dg-aped-like H" + label).digest(self._bytes)
        x: mpz = mpz(int.from_bytes(data, "little")) % self.p
        return x * x % self.p

    def power(self, base: mpz, exponent: int | mpz) -> mpz:
        """base^exponent, negative exponents too."""
        return powmod(base, exponent, self.p)

    def random_key(self) -> int:
        """A key of KEY_BITS bits."""
        return secrets.randbits(KEY_BITS)


@lru_cache(maxsize=1)
def ffdhe2048() -> mpz:
    """p = 2^2048 - 2^1984 + (floor(2^1918 e) + 560316) 2^64 - 1 (RFC 7919, appendix A.1)."""
    guard = 64  # the truncated terms of the series for e lose less than 1 each
    term = total = 1 << (1918 + guard)
    k = 1
    while term:
        term //= k
        total += term
        k += 1
    return mpz((1 << 2048) - (1 << 1984) + (((total >> guard) + 560316) << 64) - 1)


class SmallLog:
    """Logarithms in [0, limit] by baby steps and giant steps (Shanks): sqrt(limit) of each."""

    def __init__(self, group: Group, limit: int) -> None:
        self._group, self._limit = group, limit
        self._step = isqrt(limit) + 1
        self._baby: dict[mpz, int] = {}
        power = mpz(1)
        for exponent in range(self._step):
            self._baby.setdefault(power, exponent)
            power = power * group.g % group.p
        self._giant = invert(power, group.p)

    def find(self, y: mpz) -> int | None:
        """x with g^x = y and 0 <= x <= limit; None when there is none."""
        for start in range(0, self._limit + 1, self._step):
            small = self._baby.get(y)
            if small is not None:
                return start + small if start + small <= self._limit else None
            y = y * self._giant % self._group.p
        return None
