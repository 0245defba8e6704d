"""Powers modulo n^2: comb tables and joint exponentiation, over whichever kernel multiplies.

Functions that take long are generators that yield 0 every few multiplications, so that the caller can
feed a watchdog, read a sensor or answer a link; their result is the value of `return`. Which
multiplications are made depends on lengths only, never on an exponent's value.
"""

import struct
from hashlib import sha256

from wattveil_meter.fields import Malformed

TABLE_HEADER = "<4s1sBBBHH20s32s"
TABLE_HEADER_BYTES = 64


class Comb:
    """Powers of one fixed base by a Lim-Lee comb whose table stays in its file (CRYPTO '94).

    Exponents have `bits` bits, cut into `teeth` rows of `columns` bits; `blocks` tables of 2^teeth
    entries shorten the squarings to `steps`. Entries are in the kernel's own form. The table also
    carries one constant factor (h^n in the table of h, 1 in that of h_s). Layout: PROTOCOL.md,
    "Table files".
    """

    def __init__(self, file, ring, name):
        """file: a seekable binary file; name: b"h" or b"s"; Malformed when it is another table."""
        self._file = file
        self._ring = ring
        file.seek(0)
        header = file.read(TABLE_HEADER_BYTES)
        if len(header) != TABLE_HEADER_BYTES:
            raise Malformed("table file is truncated")
        head = struct.unpack(TABLE_HEADER, header)
        magic, got, form, self.teeth, self.blocks, self.bits, nb, zeros, digest = head
        known = magic == b"WVT1" and got == name and zeros == bytes(20)
        if not known or not 1 <= self.teeth <= 12 or not self.blocks:
            raise Malformed("not a comb table of this base")
        if form != ring.form:
            raise Malformed("table is in another kernel's form")
        if nb != ring.nb or digest != sha256(int(ring.n).to_bytes(nb, "little")).digest():
            raise Malformed("table is for another modulus")
        self.columns = -(-self.bits // self.teeth)
        self.steps = -(-self.columns // self.blocks)
        self._buffer = bytearray(2 * nb)
        self._entry((self.blocks << self.teeth) - 1)  # a cut file is refused here, not in a period

    def _entry(self, index):
        """Entry `index`, valid until the next one is read; -1 is the constant."""
        # littlefs before 2.10.1 (MicroPython 1.25) may read another block's bytes after a seek from a
        # block's very end: https://github.com/littlefs-project/littlefs/pull/1058. Not from 0.
        self._file.seek(0)
        self._file.seek(TABLE_HEADER_BYTES + (index + 1) * len(self._buffer))
        if self._file.readinto(self._buffer) != len(self._buffer):
            raise Malformed("table file is truncated")
        return self._ring.entry(self._buffer)

    def digits(self, exponent):
        """Which entry of a block each column takes; Malformed when exponent is longer than the table."""
        if exponent >> self.bits:
            raise Malformed("exponent longer than its table")
        data = int(exponent).to_bytes((self.columns * self.teeth + 7) // 8, "little")
        found = []
        for column in range(self.columns):
            index = 0
            for at in range(column + (self.teeth - 1) * self.columns, -1, -self.columns):
                index = index << 1 | (data[at >> 3] >> (at & 7)) & 1
            found.append(index)
        return found

    def factor(self, digits, step, block):
        """The entry of that block to multiply in at squaring step `step` (steps-1 first, 0 last).

        None where the block has no column there; valid until the next one is read.
        """
        column = block * self.steps + step
        if column >= self.columns:
            return None
        return self._entry((block << self.teeth) + digits[column])

    def times_constant(self, x):
        """x times the table's constant factor."""
        return self._ring.times(x, self._entry(-1))


def table_digest(file):
    """SHA-256 of a table file, read in small pieces."""
    digest = sha256()
    file.seek(0)
    while True:
        piece = file.read(1024)
        if not piece:
            return digest.digest()
        digest.update(piece)


class Window:
    """One base of a joint power: its small powers, and the digits of its exponent.

    Made by the generator `window`; `factor(position)` is what to multiply in at that bit, or None.
    """

    def __init__(self, powers, exponent, width, bits):
        mask = (1 << width) - 1
        count = -(-bits // width)
        self._powers = powers
        self._digits = bytes([(exponent >> i * width) & mask for i in range(count)])
        self._width = width
        self.top = count * width  # positions below it may have a factor

    def factor(self, position):
        """A digit of zero has a factor too: 1, which takes as long as any other."""
        if position >= self.top or position % self._width:
            return None
        return self._powers[self._digits[position // self._width]]


def window(ring, base, exponent, bits):
    """Generator: the Window of base^exponent, 0 <= exponent < 2^bits."""
    width = 1
    for wider in range(2, 6):  # 2^w - 2 multiplications to prepare, bits / w to use
        if (1 << wider) - (-bits // wider) < (1 << width) - (-bits // width):
            width = wider
    powers = [ring.one(), base]
    while len(powers) < 1 << width:
        powers.append(ring.product(powers[-1], base))
        yield 0
    return Window(powers, exponent, width, bits)


def power(ring, windows, comb, exponent, columns=()):
    """Generator: the product of all windows' powers, comb-base^exponent, and columns[p]^(2^p).

    All share one chain of squarings (Straus). columns: a list of elements, consumed from its end.
    """
    digits = comb.digits(exponent)
    acc = None
    for position in range(max([comb.steps, len(columns)] + [w.top for w in windows]) - 1, -1, -1):
        if acc is not None:
            acc = ring.square(acc)
        if position < len(columns):
            column = columns.pop()
            acc = column if acc is None else ring.times(acc, column)
        yield 0
        for each in windows:
            factor = each.factor(position)
            if factor is not None:
                acc = ring.copy(factor) if acc is None else ring.times(acc, factor)
                yield 0
        if position < comb.steps:
            for block in range(comb.blocks):
                entry = comb.factor(digits, position, block)
                if entry is not None:
                    acc = ring.start(entry) if acc is None else ring.times(acc, entry)
                if block & 3 == 3:
                    yield 0
    return acc
