"""One-hot rows: the cloud's encryptions of a single 1 among zeros, at a secret position.

Every encryption of zero is +-h_s^r with a fresh uniform r (PROTOCOL.md, rule 10), from a table of
all powers h_s^(d * 2^(w*i)), 0 <= d < 2^w: one look-up and one multiplication a digit of r and no
squarings (Brickell, Gordon, McCurley, Wilson, EUROCRYPT '92, with every multiple of a digit
stored). Look-ups are not constant-time: the cloud's own host is trusted with the positions.
"""

import os
from collections.abc import Callable, Iterable, Sequence

from gmpy2 import jacobi, mpz

from wattveil.paillier.keys import PublicKey

MAX_WINDOW = 16


class RowFactory:
    """Makes rows for one public key; 5 MB of tables at 2048 bits, 256-bit r and window 8.

    `exponent_bits` (1 or more) is the length of r, `window` (1..16) the digit width in bits, a
    time-memory trade: window 12 is 1.3 times as fast with ten times the memory. `randbytes(k)`
    gives k uniform bytes. ValueError for values out of range and for an h_s that is no
    ciphertext or does not have Jacobi symbol -1.
    """

    def __init__(
        self,
        public: PublicKey,
        h_s: mpz,
        exponent_bits: int = 256,
        window: int = 8,
        randbytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        if exponent_bits < 1 or not 1 <= window <= MAX_WINDOW:
            raise ValueError(f"exponent bits must be positive, the window 1..{MAX_WINDOW}")
        if not public.is_ciphertext(h_s) or jacobi(h_s % public.n, public.n) != -1:
            raise ValueError("h_s must be a ciphertext of Jacobi symbol -1 (group_nonresidue)")
        self.public = public
        self._bits = exponent_bits
        self._window = window
        self._randbytes = randbytes
        self._random_bytes = exponent_bits // 8 + 1  # r and a sign bit
        self._table = _windows(mpz(h_s), public.n2, exponent_bits, window)

    def zero(self) -> mpz:
        """A fresh encryption of 0: h_s^r or -h_s^r, r uniform in [0, 2^exponent_bits)."""
        return self._zeros(1)[0]

    def one(self) -> mpz:
        """A fresh encryption of 1."""
        return self._plus_one(self.zero())

    def row(self, gamma: int, hot: int) -> list[mpz]:
        """`gamma` fresh encryptions: of 1 at position `hot` (from 0), of 0 elsewhere.

        ValueError unless 0 <= hot < gamma.
        """
        if not 0 <= hot < gamma:
            raise ValueError("the hot position must lie inside the row")
        row = self._zeros(gamma)
        row[hot] = self._plus_one(row[hot])
        return row

    def draw_hot(self, gamma: int) -> int:
        """A uniform position in [0, gamma), by rejection; ValueError for gamma < 1."""
        if gamma < 1:
            raise ValueError("a row has at least one slot")
        bits = (gamma - 1).bit_length()
        while True:
            drawn = int.from_bytes(self._random((bits + 7) // 8), "little") & ((1 << bits) - 1)
            if drawn < gamma:
                return drawn

    def _zeros(self, count: int) -> list[mpz]:
        size, n2, table = self._random_bytes, self.public.n2, self._table
        pool = self._random(size * count)
        zeros: list[mpz] = []
        for at in range(0, size * count, size):
            digits, minus = self._digits(pool[at : at + size])
            pairs = iter(zip(table, digits, strict=True))
            powers, digit = next(pairs)
            x = powers[digit]
            for powers, digit in pairs:
                x = x * powers[digit] % n2
            zeros.append(n2 - x if minus else x)
        return zeros

    def _digits(self, data: bytes) -> tuple[Iterable[int], int]:
        """The digits of r, lowest first, and the sign bit, from `_random_bytes` random bytes."""
        if self._window == 8 and self._bits % 8 == 0:
            return data[:-1], data[-1] & 1
        drawn = int.from_bytes(data, "little")
        r = drawn & ((1 << self._bits) - 1)
        mask = (1 << self._window) - 1
        digits = [r >> at & mask for at in range(0, self._bits, self._window)]
        return digits, drawn >> self._bits & 1

    def _plus_one(self, c: mpz) -> mpz:
        """c * (1 + n) mod n^2 without a multiplication of full length."""
        public = self.public
        product = c + public.n * (c % public.n)
        return product - public.n2 if product >= public.n2 else product

    def _random(self, count: int) -> bytes:
        data = self._randbytes(count)
        if len(data) != count:
            raise RuntimeError("the random source returned too few or too many bytes")
        return data


def _windows(h_s: mpz, n2: mpz, exponent_bits: int, window: int) -> Sequence[Sequence[mpz]]:
    """Row i: h_s^(d * 2^(window*i)) mod n^2 for each digit d that occurs in r at place i."""
    table: list[list[mpz]] = []
    base = h_s
    for at in range(0, exponent_bits, window):
        powers = [mpz(1)]
        for _ in range((1 << min(window, exponent_bits - at)) - 1):
            powers.append(powers[-1] * base % n2)
        table.append(powers)
        base = powers[-1] * base % n2
    return table
