"""HashToGroup: the bases h and h_s, which everyone can compute again and nobody can choose.

PROTOCOL.md, rules 2 and 10: h is common to all meters for one key epoch; h_s = x^n for an x of
Jacobi symbol -1, so that the symbol of a ciphertext says nothing about its exponents. Neither is
ever taken from a peer.
"""

import hashlib

from gmpy2 import gcd, jacobi, mpz, powmod

from wattveil_meter.fields import pack

FLEET_BYTES = 8
SURPLUS_BITS = 128  # beyond the modulus, so that the reduction is uniform to within 2^-128
MAX_TRIES = 1024  # each succeeds with chance 1/2 or better unless n is no product of two primes


def stream(n: mpz, fleet: bytes, epoch: int, label: bytes, ctr: int, nbytes: int) -> bytes:
    """The first `nbytes` bytes of SHA-256(F_0) || SHA-256(F_1) || ..

    F_i is the field list "wattveil group", n (|n|/8 bytes), fleet (8 bytes), epoch, label, ctr, i;
    integers little-endian, the last ones u32. ValueError for a fleet of another length, an epoch
    or counter outside u32, or an n that is not a positive odd number.
    """
    if len(fleet) != FLEET_BYTES:
        raise ValueError(f"a fleet identifier has {FLEET_BYTES} bytes, not {len(fleet)}")
    if not (0 <= epoch < 1 << 32 and 0 <= ctr < 1 << 32):
        raise ValueError("epoch and counter are unsigned 32-bit numbers")
    if n < 1 or not n & 1:
        raise ValueError("the modulus must be odd and positive")
    n_le = mpz(n).to_bytes(-(-n.bit_length() // 8), "little")
    fixed = (b"wattveil group", n_le, fleet, _u32(epoch), label, _u32(ctr))
    blocks = (hashlib.sha256(pack(*fixed, _u32(i))).digest() for i in range(-(-nbytes // 32)))
    return b"".join(blocks)[:nbytes]


def group_element(n: mpz, fleet: bytes, epoch: int, label: bytes = b"h") -> mpz:
    """h: the first of 2|n| + 128 bits, mod n^2, that is coprime to n. In [1, n^2); ValueError."""
    n2 = n * n
    for ctr in range(MAX_TRIES):
        h = _residue(n, fleet, epoch, label, ctr, 2 * n.bit_length(), n2)
        if gcd(h % n, n) == 1:
            return h
    raise ValueError("no group element found: the modulus is no product of two large primes")


def group_nonresidue(n: mpz, fleet: bytes, epoch: int, label: bytes = b"hs") -> mpz:
    """h_s = x^n mod n^2 for the first x of |n| + 128 bits, mod n, with Jacobi symbol (x/n) = -1.

    In [1, n^2); an encryption of zero with Jacobi symbol -1. ValueError (also when n is a square,
    which has no such x).
    """
    for ctr in range(MAX_TRIES):
        x = _residue(n, fleet, epoch, label, ctr, n.bit_length(), n)
        if jacobi(x, n) == -1:
            return powmod(x, n, n * n)
    raise ValueError("no x of Jacobi symbol -1 found: the modulus is no product of two primes")


def _residue(
    n: mpz, fleet: bytes, epoch: int, label: bytes, ctr: int, bits: int, modulus: mpz
) -> mpz:
    nbytes = -(-(bits + SURPLUS_BITS) // 8)
    return mpz.from_bytes(stream(n, fleet, epoch, label, ctr, nbytes), "little") % modulus


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")
