"""Encryption exactly as in Paillier's paper, c = g^m * r^n: the baseline of the benchmark."""

import secrets

from gmpy2 import gcd, mpz, powmod

from wattveil.paillier.keys import PublicKey


def encrypt_textbook(public: PublicKey, m: mpz | int) -> mpz:
    """A fresh encryption of m, -n/2 < m < n, under a uniform unit r of Z_n; ValueError."""
    n, n2 = public.n, public.n2
    if not -n < 2 * m < 2 * n:
        raise ValueError("plaintext outside (-n/2, n)")
    while True:
        r = mpz(1 + secrets.randbelow(int(n) - 1))
        if gcd(r, n) == 1:
            return (1 + m % n * n) * powmod(r, n, n2) % n2
