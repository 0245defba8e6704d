"""One-hot rows: the cloud's encryptions of a single 1 among zeros, at a secret position.

Every encryption of zero is +-h_s^r with a fresh uniform r (PROTOCOL.md, rule 10), from a table of
all powers h_s^(d * 2^(w*i)), 0 <= d < 2^w: one look-up and one multiplication a digit of r and no
squarings (Brickell, Gordon, McCurley, Wilson, EUROCRYPT '92, with every multiple of a digit
stored). Entries are unit pairs t * (1 + n*l), see `tables`: the factors 1 + n*l multiply by adding
the l, so that each multiplication modulo n^2 is by a t of half its length (a third less work).
Look-ups are not constant-time: the cloud's own host is trusted with the positions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol, TypedDict

from gmpy2 import jacobi, mpz

from wattveil.paillier.keys import PublicKey
from wattveil.paillier.tables import unit_pairs

MAX_WINDOW = 16


@dataclass(frozen=True, slots=True)
class Row:
    """hot: the position, from 0, that encrypts 1. data: all pairs of the row, as on the wire."""

    hot: int = field(repr=False)
    data: bytes = field(repr=False)


class RowSource(Protocol):
    """Where the cloud gets its rows."""

    def take(self) -> Row:
        """A fresh row that nobody gets again, at once."""

    def counts(self) -> RowCounts:
        """How the source does, for the operator."""


class RowCounts(TypedDict):
    """Rows since the start: taken from those `made` ahead, or made `inline` for want of them.

    ready, capacity: rows that are there ahead of use, and the most; a source that is full lets
    its workers wait. replaced: workers that died.
    """

    ready: int
    capacity: int
    made: int
    taken: int
    inline: int
    replaced: int


@dataclass(frozen=True)
class RowRecipe:
    """What the rows of one fleet are made of; small and picklable, for worker processes.

    gamma: 1 or more. exponent_bits: of r, as the record's level says. ValueError for an h_s that
    is no ciphertext or does not have Jacobi symbol -1, and for numbers out of range.
    """

    public: PublicKey
    h_s: mpz
    gamma: int
    exponent_bits: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "h_s", mpz(self.h_s))
        _check_base(self.public, self.h_s)
        if self.gamma < 1 or self.exponent_bits < 1:
            raise ValueError("a row has at least one slot, an exponent at least one bit")

    @property
    def row_bytes(self) -> int:
        """Length of `Row.data`."""
        return 2 * self.public.bytes * self.gamma

    def factory(self) -> RowFactory:
        """The tables: 0.1 s and 5 MB at 2048 bits for level short, 0.4 s and 18 MB for half, 0.9 s
        and 37 MB for full."""
        return RowFactory(self.public, self.h_s, self.exponent_bits)


class InlineRows:
    """A RowSource that makes each row when it is asked for, in 2 ms at 2048 bits, gamma 20 and
    level short. For small fleets, and for when nothing was made ahead."""

    def __init__(self, recipe: RowRecipe) -> None:
        self._recipe = recipe
        self._factory: RowFactory | None = None
        self._count = 0

    def take(self) -> Row:
        """See `RowSource`."""
        if self._factory is None:  # tables are made when they are first needed
            self._factory = self._recipe.factory()
        self._count += 1
        return self._factory.draw(self._recipe.gamma)

    def counts(self) -> RowCounts:
        """See `RowSource`."""
        return RowCounts(ready=0, capacity=0, made=0, taken=0, inline=self._count, replaced=0)


class RowFactory:
    """Makes rows for one public key.

    `exponent_bits` (1 or more) is the length of r, `window` (1..16) the digit width in bits, a
    time-memory trade: at 2048 bits and 256-bit r, window 10 is 1.1 times as fast as 8 with three
    times its 5 MB; beyond, caches lose what multiplications gain. `randbytes(k)` gives k uniform
    bytes; the default asks the operating system each time, so a forked process repeats nothing.
    ValueError for values out of range and for a bad h_s, see `RowRecipe`.
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
        _check_base(public, h_s)
        self.public = public
        self._bits = exponent_bits
        self._window = window
        self._randbytes = randbytes
        self._random_bytes = exponent_bits // 8 + 1  # r and a sign bit
        self._units, self._logs = _windows(mpz(h_s), public, exponent_bits, window)

    def zero(self) -> mpz:
        """A fresh encryption of 0: h_s^r or -h_s^r, r uniform in [0, 2^exponent_bits)."""
        low, high = self._zeros(1)[0]
        return low + high * self.public.n

    def one(self) -> mpz:
        """A fresh encryption of 1."""
        return self.row(1, 0)[0]

    def row(self, gamma: int, hot: int) -> list[mpz]:
        """`gamma` fresh encryptions: of 1 at position `hot` (from 0), of 0 elsewhere.

        ValueError unless 0 <= hot < gamma.
        """
        n = self.public.n
        return [low + high * n for low, high in self._row(gamma, hot)]

    def draw(self, gamma: int) -> Row:
        """A fresh row with its 1 at a uniform position; ValueError for gamma < 1."""
        hot, nb = self.draw_hot(gamma), self.public.bytes
        halves = (half for pair in self._row(gamma, hot) for half in pair)
        return Row(hot, b"".join(half.to_bytes(nb, "little") for half in halves))

    def draw_hot(self, gamma: int) -> int:
        """A uniform position in [0, gamma), by rejection; ValueError for gamma < 1."""
        if gamma < 1:
            raise ValueError("a row has at least one slot")
        bits = (gamma - 1).bit_length()
        while True:
            drawn = int.from_bytes(self._random((bits + 7) // 8), "little") & ((1 << bits) - 1)
            if drawn < gamma:
                return drawn

    def _row(self, gamma: int, hot: int) -> list[tuple[mpz, mpz]]:
        """A row as pairs (c mod n, c div n)."""
        if not 0 <= hot < gamma:
            raise ValueError("the hot position must lie inside the row")
        row = self._zeros(gamma)
        low, high = row[hot]
        row[hot] = low, (high + low) % self.public.n  # times 1 + n
        return row

    def _zeros(self, count: int) -> list[tuple[mpz, mpz]]:
        size, n, n2 = self._random_bytes, self.public.n, self.public.n2
        pool = self._random(size * count)
        zeros: list[tuple[mpz, mpz]] = []
        for at in range(0, size * count, size):
            digits, minus = self._digits(pool[at : at + size])
            factors = [units[digit] for units, digit in zip(self._units, digits, strict=True)]
            x = factors[0]
            for factor in islice(factors, 1, None):
                x = x * factor % n2
            log = sum([logs[digit] for logs, digit in zip(self._logs, digits, strict=True)])
            high, low = divmod(x, n)
            high = (high + low * log) % n
            zeros.append((n - low, n - 1 - high) if minus else (low, high))
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

    def _random(self, count: int) -> bytes:
        data = self._randbytes(count)
        if len(data) != count:
            raise RuntimeError("the random source returned too few or too many bytes")
        return data


def _check_base(public: PublicKey, h_s: mpz) -> None:
    if not public.is_ciphertext(h_s) or jacobi(h_s % public.n, public.n) != -1:
        raise ValueError("h_s must be a ciphertext of Jacobi symbol -1 (group_nonresidue)")


def _windows(
    h_s: mpz, public: PublicKey, exponent_bits: int, window: int
) -> tuple[list[list[mpz]], list[list[mpz]]]:
    """The t and the l of h_s^(d * 2^(window*i)) mod n^2 for each digit d that r can have at i."""
    n2 = public.n2
    units: list[list[mpz]] = []
    logs: list[list[mpz]] = []
    base = h_s
    for at in range(0, exponent_bits, window):
        powers = [mpz(1)]
        for _ in range((1 << min(window, exponent_bits - at)) - 1):
            powers.append(powers[-1] * base % n2)
        base = powers[-1] * base % n2
        pairs = unit_pairs(powers, public.n)
        units.append([t for t, _ in pairs])
        logs.append([log for _, log in pairs])
    return units, logs
