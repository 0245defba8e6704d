"""Arithmetic modulo n^2 as a meter does it: pairs, comb tables, joint exponentiation.

An element x of Z_{n^2} is the pair (x mod n, x div n): products then need numbers of half the size.
Division is by m = k n, the smallest multiple of n above 2^(|n|+32): its leading digits are 1, 0, 0,
so that MicroPython's big-integer division guesses every quotient digit right (1.2x to 1.6x faster
than dividing by a random n), and x0 y0 = q m + r = (q k) n + r stays exact. The components of a
working pair may therefore be as large as m; `Ring.reduce` brings them below n.

Integers keep the type of `n`: with gmpy2's mpz on the host, with int on a board. Functions that
take long are generators that yield 0 between multiplications, so that the caller can feed a watchdog,
read a sensor or answer a link; their result is the value of `return`.
"""

import struct
from hashlib import sha256

from wattveil_meter.fields import Malformed, bit_length


class Ring:
    """Multiplication of pairs modulo n^2. n: odd modulus (int, or mpz on the host)."""

    def __init__(self, n):
        self.n = n
        self.nb = (bit_length(n) + 7) // 8
        self.number = type(n)
        scale = 1 << (8 * self.nb + 32)
        self.k = (scale + n - 1) // n
        self.m = self.k * n
        # 1 in components of full length: multiplying by it takes as long as by any other element,
        # so that a digit of zero in an exponent does not show in the time
        self.one = (1 + (self.k - 1) * n, n - (self.k - 1))
        self.modmuls = 0  # multiplications and squarings so far: the unit of docs/BENCH.md

    def mul(self, x, y):
        """x y."""
        self.modmuls += 1
        x0, x1 = x
        y0, y1 = y
        q, r = divmod(x0 * y0, self.m)
        return r, (x0 * y1 + x1 * y0 + q * self.k) % self.m

    def sqr(self, x):
        """x^2."""
        self.modmuls += 1
        x0, x1 = x
        q, r = divmod(x0 * x0, self.m)
        return r, ((x0 * x1 << 1) + q * self.k) % self.m

    def mul_integer(self, x, t):
        """x t for an integer 0 <= t < m (the first half of a comb entry)."""
        self.modmuls += 1
        x0, x1 = x
        q, r = divmod(x0 * t, self.m)
        return r, (x1 * t + q * self.k) % self.m

    def mul_g(self, x, exponent):
        """x g^exponent with g = 1 + n: g^a = 1 + a n, so one half-size product is enough."""
        x0, x1 = x
        return x0, (x1 + x0 * (exponent % self.n)) % self.m

    def negate(self, x):
        """-x, reduced."""
        x0, x1 = self.reduce(x)
        if x0:
            return self.n - x0, self.n - 1 - x1
        return x0, (self.n - x1) % self.n

    def reduce(self, x):
        """The same element with both components in [0, n)."""
        q, r = divmod(x[0], self.n)
        return r, (x[1] + q) % self.n

    def encode(self, x):
        """Wire form: both reduced components, each nb bytes little-endian."""
        x0, x1 = self.reduce(x)
        return int(x0).to_bytes(self.nb, "little") + int(x1).to_bytes(self.nb, "little")

    def decode(self, data):
        """Pair from its wire form; Malformed unless it is 0 < c < n^2 in exactly 2 nb bytes."""
        nb = self.nb
        if len(data) != 2 * nb:
            raise Malformed("wrong ciphertext length")
        x0 = self.number(int.from_bytes(data[:nb], "little"))
        x1 = self.number(int.from_bytes(data[nb:], "little"))
        if x0 >= self.n or x1 >= self.n or not (x0 or x1):
            raise Malformed("not a ciphertext")
        return x0, x1


TABLE_HEADER = "<4s1sBBBHH20s32s"
TABLE_HEADER_BYTES = 64


class Comb:
    """Powers of one fixed base by a Lim-Lee comb whose table stays in its file (CRYPTO '94).

    Exponents have `bits` bits, cut into `teeth` rows of `columns` bits; `blocks` tables of 2^teeth
    entries shorten the squarings to `steps`. An entry is (t, linear): the element t (1 + n linear), so
    that a multiplication by it needs only t, and the linear parts are added up. The table also carries
    one constant factor (h^n in the table of h, 1 in that of h_s). Layout: PROTOCOL.md, "Table files".
    """

    def __init__(self, file, ring, name):
        """file: a seekable binary file; name: b"h" or b"s"; Malformed when it is another table."""
        self._file = file
        file.seek(0)
        header = file.read(TABLE_HEADER_BYTES)
        if len(header) != TABLE_HEADER_BYTES:
            raise Malformed("table file is truncated")
        head = struct.unpack(TABLE_HEADER, header)
        magic, got, form, self.teeth, self.blocks, self.bits, nb, zeros, digest = head
        known = magic == b"WVT1" and got == name and form == 1 and zeros == bytes(20)
        if not known or not 1 <= self.teeth <= 12 or not self.blocks:
            raise Malformed("not a comb table of this base and form")
        if nb != ring.nb or digest != sha256(int(ring.n).to_bytes(nb, "little")).digest():
            raise Malformed("table is for another modulus")
        self.columns = -(-self.bits // self.teeth)
        self.steps = -(-self.columns // self.blocks)
        self._nb = nb
        self._number = ring.number
        # entry 0 is 1; as t (1 + n linear) with a t of full length, like Ring.one
        self._one = (ring.one[0], ring.one[1])
        self._buffer = memoryview(bytearray(2 * nb))
        self.constant = self._entry(-1)

    def _entry(self, index):
        """Entry `index` (t, linear); -1 is the constant."""
        nb = self._nb
        self._file.seek(TABLE_HEADER_BYTES + (index + 1) * 2 * nb)
        if self._file.readinto(self._buffer) != 2 * nb:
            raise Malformed("table file is truncated")
        t = int.from_bytes(bytes(self._buffer[:nb]), "little")
        return self._number(t), self._number(int.from_bytes(bytes(self._buffer[nb:]), "little"))

    def digits(self, exponent):
        """The exponent as bytes to pick bits from; Malformed when it is longer than the table."""
        if exponent >> self.bits:
            raise Malformed("exponent longer than its table")
        return int(exponent).to_bytes((self.columns * self.teeth + 7) // 8, "little")

    def entries(self, digits, step):
        """The table entries to multiply in at squaring step `step` (steps-1 first, 0 last)."""
        for block in range(self.blocks):
            column = block * self.steps + step
            if column < self.columns:
                index = 0
                at = column
                for tooth in range(self.teeth):
                    index |= ((digits[at >> 3] >> (at & 7)) & 1) << tooth
                    at += self.columns
                entry = self._entry((block << self.teeth) + index)
                yield entry if index else self._one

    def times_constant(self, ring, x):
        """x times the table's constant factor."""
        t, linear = self.constant
        return ring.mul_g(ring.mul_integer(x, t), linear)


def table_digest(file):
    """SHA-256 of a table file, read in small pieces."""
    digest = sha256()
    file.seek(0)
    while True:
        piece = file.read(1024)
        if not piece:
            return digest.digest()
        digest.update(piece)


def power(ring, bases, comb, exponent):
    """Generator: the product of b^e over `bases`, times comb-base^exponent, as a pair.

    bases: list of (pair, e, bits) with 0 <= e < 2^bits; all share one chain of squarings (Straus).
    The sequence of multiplications depends on bits and tables only, never on e or exponent: a window
    digit of zero multiplies by one. Yields between multiplications.
    """
    tables = []
    for pair, e, bits in bases:
        width = _window(bits)
        powers = [ring.one, pair]
        while len(powers) < 1 << width:
            powers.append(ring.mul(powers[-1], pair))
            yield 0
        tables.append((powers, e, width, -(-bits // width) * width))
    digits = comb.digits(exponent)
    acc = None
    linear_sum = 0
    for position in range(max([comb.steps] + [top for _, _, _, top in tables]) - 1, -1, -1):
        if acc is not None:
            acc = ring.sqr(acc)
            linear_sum <<= 1
            yield 0
        for powers, e, width, top in tables:
            if position < top and position % width == 0:
                factor = powers[(e >> position) & ((1 << width) - 1)]
                acc = factor if acc is None else ring.mul(acc, factor)
                yield 0
        if position < comb.steps:
            for t, linear in comb.entries(digits, position):
                acc = (t, ring.number(0)) if acc is None else ring.mul_integer(acc, t)
                linear_sum += linear
                yield 0
    return ring.mul_g(acc, linear_sum)


def _window(bits):
    """Window width with the fewest multiplications: 2^w - 2 to prepare, bits / w to use."""
    best = 1
    for width in range(2, 6):
        if (1 << width) - 2 - (-bits // width) < (1 << best) - 2 - (-bits // best):
            best = width
    return best
