"""The wire form of a ciphertext: the pair (c mod n, c div n), each |n|/8 bytes, little-endian.

It is what the meters' kernels load without conversion (PROTOCOL.md, "Links").
"""

from gmpy2 import gcd, mpz

from wattveil.paillier.keys import NotACiphertext, PublicKey

__all__ = ["NotACiphertext", "from_pair", "pair_bytes", "to_pair"]


def pair_bytes(public: PublicKey) -> int:
    """Bytes of one ciphertext on the wire."""
    return 2 * public.bytes


def to_pair(c: mpz | int, public: PublicKey) -> bytes:
    """The wire form of c; NotACiphertext unless 0 < c < n^2 (invertibility is not checked)."""
    if not 0 < c < public.n2:
        raise NotACiphertext("outside (0, n^2)")
    high, low = divmod(mpz(c), public.n)
    return low.to_bytes(public.bytes, "little") + high.to_bytes(public.bytes, "little")


def from_pair(data: bytes | bytearray | memoryview, public: PublicKey) -> mpz:
    """The ciphertext of a wire form, in (0, n^2) and coprime to n; NotACiphertext otherwise.

    Each ciphertext has exactly one accepted wire form.
    """
    size = public.bytes
    data = bytes(data)
    if len(data) != 2 * size:
        raise NotACiphertext(f"a ciphertext has {2 * size} bytes, not {len(data)}")
    low = mpz.from_bytes(data[:size], "little")
    high = mpz.from_bytes(data[size:], "little")
    if low >= public.n or high >= public.n:
        raise NotACiphertext("a component is not below n")
    if low == 0:
        raise NotACiphertext("zero or a multiple of n")
    if gcd(low, public.n) != 1:
        raise NotACiphertext("not invertible")
    return low + high * public.n
