"""Lim-Lee comb tables: the files from which a meter raises a fixed base to a secret exponent.

Source: Lim and Lee, "More flexible exponentiation with precomputation", CRYPTO '94.

With L exponent bits, t teeth and v blocks: a = ceil(L/t) columns, b = ceil(a/v) of them a block.
Entry (j, u) is the product, over the bits i set in u, of base^(2^(i*a + j*b)). To raise base to e,
take c = b-1 down to 0, squaring in between, and multiply for each block j whose column
k = j*b + c is below a by entry (j, u), bit i of u being bit k + i*a of e (bits from L on are 0).

File, integers little-endian, nb = |n|/8:

    offset  bytes  what
    0       4      "WVT1"
    4       1      name: "h" (base h) or "s" (base h_s)
    5       1      form of the entries: 1 "unit pair", 2 "Montgomery pair"
    6       1      t, teeth, 1..12
    7       1      v, blocks, 1..255
    8       2      L, bits of the exponent, 1..65535
    10      2      nb
    12      20     zero
    32      32     SHA-256 of n (nb bytes)
    64      2*nb   a constant: h^n in "h", 1 in "s"
    64+2*nb        entry (j, u) at 64 + 2*nb*(1 + j*2^t + u); v*2^t of them

A unit pair is (t0, l), each nb bytes and below n: the element t0*(1 + n*l) mod n^2. Multiplying
by it costs a pair product fewer than by any other form, and the factors 1 + n*l just add up.
A Montgomery pair is (y mod n, y div n) for y = x*R mod n^2, R = 2^|n|: what the ARM kernels
multiply by without conversion.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from gmpy2 import gcd, invert, mpz, powmod

MAGIC = b"WVT1"
FORM_UNIT_PAIR, FORM_MONTGOMERY = 1, 2
NAMES = (b"h", b"s")
HEADER = struct.Struct("<4ssBBBHH20x32s")
MAX_TEETH = 12


class InvalidTable(ValueError):
    """Bytes that are no table for this modulus; the message names the reason."""


def build_table(
    name: bytes,
    base: mpz,
    n: mpz,
    exponent_bits: int,
    teeth: int,
    blocks: int,
    constant: mpz | int,
    form: int = FORM_UNIT_PAIR,
) -> bytes:
    """A whole table file for `base`, for exponents in [0, 2^exponent_bits).

    `base` and `constant` are units mod n^2 in (0, n^2); n has a multiple of 8 bits. ValueError
    for anything else. Costs about v*2^t + L multiplications (0.02 s for t = 8, v = 2 at 2048
    bits).
    """
    if name not in NAMES:
        raise ValueError('a table is named b"h" or b"s"')
    if not (1 <= teeth <= MAX_TEETH and 1 <= blocks <= 255 and 1 <= exponent_bits <= 65535):
        raise ValueError("teeth 1..12, blocks 1..255 and exponent bits 1..65535")
    if form not in (FORM_UNIT_PAIR, FORM_MONTGOMERY):
        raise ValueError(f"no kernel reads tables of form {form}")
    n = mpz(n)
    nb, rest = divmod(n.bit_length(), 8)
    if n < 3 or rest or nb > 65535:
        raise ValueError("the modulus must have a multiple of 8 bits, at most 65,535 bytes")
    n2 = n * n
    for what in (base, constant):
        if not 0 < what < n2 or gcd(what % n, n) != 1:
            raise ValueError("base and constant must be units in (0, n^2)")
    columns = -(-exponent_bits // teeth)
    per_block = -(-columns // blocks)
    positions = [i * columns + j * per_block for j in range(blocks) for i in range(teeth)]
    powers = _powers(base, positions, n2)
    elements = [mpz(constant)]
    for j in range(blocks):
        entries = [mpz(1)]
        for i in range(teeth):
            tooth = powers[i * columns + j * per_block]
            entries += [entry * tooth % n2 for entry in entries]
        elements += entries
    digest = hashlib.sha256(n.to_bytes(nb, "little")).digest()
    header = HEADER.pack(MAGIC, name, form, teeth, blocks, exponent_bits, nb, digest)
    pairs = _unit_pairs if form == FORM_UNIT_PAIR else _montgomery_pairs
    return header + pairs(elements, n, nb)


@dataclass(frozen=True)
class Table:
    """A parsed table: the reference the meters' evaluators are compared with. See `parse`."""

    name: bytes
    n: mpz
    exponent_bits: int
    teeth: int
    blocks: int
    entry_bytes: int
    data: bytes

    @property
    def columns(self) -> int:
        """a = ceil(exponent bits / teeth)."""
        return -(-self.exponent_bits // self.teeth)

    @property
    def columns_per_block(self) -> int:
        """b = ceil(a / blocks): a power costs b - 1 squarings and a multiplications."""
        return -(-self.columns // self.blocks)

    @property
    def constant(self) -> mpz:
        """The element before the entries, in (0, n^2)."""
        return self._element(0)

    def entry(self, j: int, u: int) -> mpz:
        """Entry (j, u), an element in (0, n^2); IndexError outside the table."""
        if not (0 <= j < self.blocks and 0 <= u < 1 << self.teeth):
            raise IndexError("no such table entry")
        return self._element(1 + (j << self.teeth) + u)

    def power(self, e: int) -> mpz:
        """base^e mod n^2 for 0 <= e < 2^exponent_bits; ValueError outside. Not constant-time."""
        if not 0 <= e < 1 << self.exponent_bits:
            raise ValueError(f"the exponent must have 0 to {self.exponent_bits} bits")
        n2 = self.n * self.n
        result = mpz(1)
        for c in reversed(range(self.columns_per_block)):
            result = result * result % n2
            for j in range(self.blocks):
                column = j * self.columns_per_block + c
                if column < self.columns:
                    bits = (e >> (column + i * self.columns) & 1 for i in range(self.teeth))
                    u = sum(bit << i for i, bit in enumerate(bits))
                    result = result * self.entry(j, u) % n2
        return result

    def _element(self, index: int) -> mpz:
        at = HEADER.size + index * self.entry_bytes
        half = self.entry_bytes // 2
        t0 = mpz.from_bytes(self.data[at : at + half], "little")
        factor = mpz.from_bytes(self.data[at + half : at + 2 * half], "little")
        return t0 + t0 * factor % self.n * self.n


def parse(data: bytes, n: mpz) -> Table:
    """Check header, length and modulus of a table file; InvalidTable. Entries are not checked:
    whether they are right is known by building the table again (or by its SHA-256)."""
    if len(data) < HEADER.size:
        raise InvalidTable("shorter than its header")
    magic, name, form, teeth, blocks, exponent_bits, nb, digest = HEADER.unpack_from(data)
    if magic != MAGIC or any(data[12:32]):
        raise InvalidTable("not a wattveil table")
    if form != FORM_UNIT_PAIR or name not in NAMES:  # the reference evaluator knows one form
        raise InvalidTable("a table of unknown name or form")
    if not (1 <= teeth <= MAX_TEETH and blocks and exponent_bits):
        raise InvalidTable("teeth, blocks or exponent bits out of range")
    if n < 1 or 8 * nb != n.bit_length():
        raise InvalidTable("made for a modulus of another size")
    if digest != hashlib.sha256(mpz(n).to_bytes(nb, "little")).digest():
        raise InvalidTable("made for another modulus")
    if len(data) != HEADER.size + 2 * nb * (1 + (blocks << teeth)):
        raise InvalidTable("wrong length")
    return Table(name, mpz(n), exponent_bits, teeth, blocks, 2 * nb, bytes(data))


def power(data: bytes, n: mpz, e: int) -> mpz:
    """base^e mod n^2 from a table file (which holds only a hash of n, so n is an argument)."""
    return parse(data, n).power(e)


def _powers(base: mpz, positions: Sequence[int], n2: mpz) -> dict[int, mpz]:
    """base^(2^k) mod n^2 for each k in `positions`, by one run of squarings."""
    powers: dict[int, mpz] = {}
    x, at = mpz(base), 0
    for k in sorted(set(positions)):
        x, at = powmod(x, 1 << (k - at), n2), k
        powers[k] = x
    return powers


def unit_pairs(elements: Sequence[mpz], n: mpz) -> list[tuple[mpz, mpz]]:
    """(t, l) with x = t*(1 + n*l) mod n^2, both below n, of each unit x mod n^2; one inversion for
    all of them (Montgomery's trick)."""
    prefixes = [mpz(1)]
    for x in elements:
        prefixes.append(prefixes[-1] * x % n)
    inverse = invert(prefixes.pop(), n)
    pairs: list[tuple[mpz, mpz]] = []
    for x, prefix in zip(reversed(elements), reversed(prefixes), strict=True):
        t1, t0 = divmod(x, n)
        pairs.append((t0, t1 * (inverse * prefix % n) % n))
        inverse = inverse * t0 % n
    return pairs[::-1]


def _unit_pairs(elements: Sequence[mpz], n: mpz, nb: int) -> bytes:
    halves = (half for pair in unit_pairs(elements, n) for half in pair)
    return b"".join(half.to_bytes(nb, "little") for half in halves)


def _montgomery_pairs(elements: Sequence[mpz], n: mpz, nb: int) -> bytes:
    """The Montgomery pairs of elements mod n^2."""
    pairs: list[bytes] = []
    for x in elements:
        high, low = divmod((x << 8 * nb) % (n * n), n)
        pairs.append(low.to_bytes(nb, "little") + high.to_bytes(nb, "little"))
    return b"".join(pairs)
