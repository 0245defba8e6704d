"""Paillier keys: safe primes, the conditions short randomisers rest on, decryption by CRT.

Source: Paillier, EUROCRYPT '99; Damgard, Jurik, Nielsen, "A generalization of Paillier's
public-key system" (2010), whose randomiser h_s^r is only sound for p = q = 3 mod 4 and
gcd(p - 1, q - 1) = 2 ("DJN conditions"). Files: see `keyfile`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from gmpy2 import gcd, invert, mpz, powmod_sec

from wattveil.paillier.primes import is_safe_prime, safe_prime
from wattveil_meter.fields import pack

SIZES = (2048, 3072, 4096)  # bits of n for real use
DEMO_SIZE = 1024
MIN_TEST_SIZE = 256


class InvalidKey(ValueError):
    """Numbers that are not a usable key; the message names the reason, never a secret."""


class NotACiphertext(ValueError):
    """A number or byte string that is no element of the ciphertext group; the message says why."""


bytes_ = bytes  # PublicKey.bytes hides the built-in inside its class body


@dataclass(frozen=True, repr=False)
class PublicKey:
    """The modulus n: odd, at least 256 bits, a multiple of 64 bits; InvalidKey otherwise."""

    n: mpz

    def __post_init__(self) -> None:
        n = mpz(self.n)
        object.__setattr__(self, "n", n)
        if n < 1 or n.bit_length() < MIN_TEST_SIZE or n.bit_length() % 64:
            raise InvalidKey(
                f"a modulus has a multiple of 64 bits, at least {MIN_TEST_SIZE};"
                f" this one has {n.bit_length()}"
            )
        if not n & 1:
            raise InvalidKey("an even modulus")

    def __repr__(self) -> str:
        return f"PublicKey(bits={self.bits}, fingerprint={self.fingerprint.hex()})"

    @cached_property
    def n2(self) -> mpz:
        """n^2, the ciphertext modulus."""
        return self.n * self.n

    @cached_property
    def bits(self) -> int:
        """Bits of n."""
        return self.n.bit_length()

    @property
    def bytes(self) -> int:
        """Bytes of n; a ciphertext pair takes twice as many."""
        return self.bits // 8

    @cached_property
    def fingerprint(self) -> bytes_:
        """32 bytes: SHA-256 of the fields "wattveil public key", n (little-endian)."""
        n_le = self.n.to_bytes(self.bytes, "little")
        return hashlib.sha256(pack(b"wattveil public key", n_le)).digest()

    def is_ciphertext(self, c: mpz | int) -> bool:
        """Whether 0 < c < n^2 and gcd(c, n) = 1."""
        return 0 < c < self.n2 and gcd(mpz(c) % self.n, self.n) == 1


@dataclass(frozen=True, repr=False)
class PrivateKey:
    """Two primes p, q. Building one checks everything cheap about them (InvalidKey); that they
    are safe primes is what `verify` adds, and `generate` and `keyfile.load_private` call it."""

    p: mpz
    q: mpz

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", mpz(self.p))
        object.__setattr__(self, "q", mpz(self.q))
        problem = _structure_problem(self.p, self.q)
        if problem:
            raise InvalidKey(problem)
        if self.public.bits != 2 * self.p.bit_length():
            raise InvalidKey("the product of the primes is one bit short")

    def __repr__(self) -> str:
        return f"PrivateKey(bits={self.public.bits}, p and q hidden)"

    @cached_property
    def public(self) -> PublicKey:
        """The public half, n = p*q."""
        return PublicKey(self.p * self.q)

    @cached_property
    def _crt(self) -> tuple[mpz, mpz, mpz, mpz, mpz]:
        """p^2, q^2, L_p(g^(p-1))^-1 mod p = (-q)^-1, the same for q, and q^-1 mod p."""
        p, q = self.p, self.q
        return p * p, q * q, invert(-q, p), invert(-p, q), invert(q, p)

    def verify(self) -> None:
        """Check by 40-round tests that both primes are safe (about 25 ms at 2048 bits);
        InvalidKey."""
        for name, prime in (("p", self.p), ("q", self.q)):
            if not is_safe_prime(prime):
                raise InvalidKey(f"{name} is not a safe prime")

    def decrypt(self, c: mpz | int) -> mpz:
        """The plaintext of c, in [0, n); NotACiphertext when c is not in the group.

        CRT with GMP's constant-time exponentiation (mpz_powm_sec): exponents are secret.
        """
        if not self.public.is_ciphertext(c):
            raise NotACiphertext("decryption refused: not a unit modulo n^2 in (0, n^2)")
        p, q = self.p, self.q
        p2, q2, inverse_p, inverse_q, q_inverse = self._crt
        m_p = (powmod_sec(c % p2, p - 1, p2) - 1) // p * inverse_p % p
        m_q = (powmod_sec(c % q2, q - 1, q2) - 1) // q * inverse_q % q
        return m_q + q * ((m_p - m_q) * q_inverse % p)

    def decrypt_signed(self, c: mpz | int) -> mpz:
        """The plaintext of c as the residue in (-n/2, n/2]; NotACiphertext as `decrypt`."""
        m = self.decrypt(c)
        return m if 2 * m <= self.public.n else m - self.public.n


def _structure_problem(p: mpz, q: mpz) -> str | None:
    """What is wrong with p, q short of primality (DJN conditions), or None."""
    half = p.bit_length()
    if p <= 0 or q <= 0 or half != q.bit_length() or 2 * half < MIN_TEST_SIZE:
        return "the primes are too short or differ in length"
    if p == q:
        return "the primes are equal"
    if p % 4 != 3 or q % 4 != 3:
        return "a prime is not 3 mod 4"
    if abs(p - q).bit_length() <= half - 100:  # FIPS 186-5, A.1.3
        return "the primes are too close together"
    if gcd(p - 1, q - 1) != 2:
        return "gcd(p - 1, q - 1) is not 2"
    if gcd(p * q, (p - 1) * (q - 1)) != 1:
        return "n shares a factor with (p - 1)(q - 1)"
    return None


def check_bits(bits: int, insecure_test_key: bool = False) -> str | None:
    """Whether keys of this many bits may be made: None, or a warning to print for 1024.

    256 to 960 bits in steps of 64 need `insecure_test_key`. ValueError for anything else; its
    message says what to do.
    """
    if bits in SIZES:
        return None
    if bits == DEMO_SIZE:
        return (
            "1024-bit keys are for demonstrations only: factoring one is within reach of a large"
            " organisation. Use 2048 or 3072 bits for real readings."
        )
    if bits % 64 or not MIN_TEST_SIZE <= bits < DEMO_SIZE:
        raise ValueError(
            f"keys of {bits} bits are not supported: use 2048 (default), 3072 or 4096;"
            " 1024 for a demonstration; for tests, a multiple of 64 from 256 to 960"
        )
    if not insecure_test_key:
        raise ValueError(
            f"a {bits}-bit key can be broken on one computer: use 2048 bits or more, or pass"
            " insecure_test_key (--insecure-test-key) if this key only ever sees test data"
        )
    return None


def generate(
    bits: int = 2048,
    progress: Callable[[int], None] | None = None,
    *,
    insecure_test_key: bool = False,
) -> PrivateKey:
    """A new key whose n has exactly `bits` bits, from two safe primes of bits/2 bits each.

    `progress` gets the number of candidates tested so far (some 2,000 in all at 2048 bits).
    Randomness comes from `secrets`. ValueError for sizes `check_bits` refuses.
    """
    check_bits(bits, insecure_test_key)
    tested = 0

    def count() -> None:
        nonlocal tested
        tested += 1
        if progress is not None:
            progress(tested)

    p = safe_prime(bits // 2, count)
    while True:
        q = safe_prime(bits // 2, count)
        if _structure_problem(p, q) is None:
            return PrivateKey(p, q)
