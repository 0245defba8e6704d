"""The paper's formulas with plain powers: no tables, frames, masks, row check or storage.

    B_ij = g^b_ij r^n,   e_ij = B_ij^(xi_ij + O) g^x_ij r_ij^n,   C_i = g^(d_i - x_i) h^(n + k_i)

(Eq. 15-18 and 22, with the exponent of PROTOCOL.md.) What the product does with all its additions
is measured by itself; this is for comparing formulas with the other two baselines' formulas.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from gmpy2 import mpz, powmod

from wattveil.paillier.keys import PrivateKey, PublicKey
from wattveil.paillier.textbook import encrypt_textbook

K_BITS = 256


@dataclass(frozen=True)
class Upload:
    """e_ij of one meter, and its C_i."""

    slots: Sequence[mpz]
    reading: mpz


class YanPlain:
    """One fleet: public key, common base h, number of slots, offset O in Wh."""

    def __init__(self, public: PublicKey, gamma: int, offset: int) -> None:
        self.public, self.gamma, self.offset = public, gamma, offset
        self.h = mpz(2 + secrets.randbelow(int(public.n2) - 2)) ** 2 % public.n2

    def row(self, hot: int) -> list[mpz]:
        """The cloud's encrypted bits for one meter."""
        return [encrypt_textbook(self.public, int(j == hot)) for j in range(self.gamma)]

    def upload(self, row: Sequence[mpz], reading: int, shares: Sequence[int], k: int) -> Upload:
        """A meter's work: gamma slots and the reading. shares: Wh, one a slot."""
        n, n2 = self.public.n, self.public.n2
        x, slots = mpz(0), []
        for b, xi in zip(row, shares, strict=True):
            mask = mpz(secrets.randbelow(int(n)))
            x += mask
            blind = encrypt_textbook(self.public, mask)
            slots.append(powmod(b, xi + self.offset, n2) * blind % n2)
        plain = 1 + (reading - x) % n * n
        return Upload(slots, plain * powmod(self.h, n + k, n2) % n2)

    def aggregate(self, uploads: Sequence[Upload], k_sum: int) -> tuple[mpz, mpz]:
        """(C1, C2): Eq. 23, 25 and 20, with the dealer's h^(-sum of k)."""
        n2 = self.public.n2
        c1, c2 = mpz(1), powmod(self.h, -k_sum, n2)
        for upload in uploads:
            for e in upload.slots:
                c1 = c1 * e % n2
            c2 = c2 * upload.reading % n2
        return c1, c2

    def open(self, key: PrivateKey, both: tuple[mpz, mpz], meters: int) -> int:
        """The total of readings and chosen shares, Wh (Eq. 26-28)."""
        n = key.public.n
        total = (key.decrypt(both[0]) + key.decrypt(both[1]) - self.offset * meters) % n
        return int(total if 2 * total <= n else total - n)


def random_k() -> int:
    """k_i of a meter."""
    return secrets.randbits(K_BITS)
