"""Suite `compact` on the meter: the same released value in one ciphertext (PROTOCOL.md, "Suites").

    T_i = +- prod_j B_ij^(xi_ij + O) (prod_j B_ij)^s_i g^(d_i - s_i + u_i + v_i) h_s^(r_i)

Rows are taken in as they arrive, four at a time: the products of each subset of a group of four, then
one multiplication per exponent bit into that bit's column. The columns' squarings are made once, at
the end, together with those of h_s^r and of the row check. So memory does not grow with gamma.
"""

from wattveil_meter.cipher import power, window
from wattveil_meter.masks import mask_u, mask_v
from wattveil_meter.noise import clamp

GROUP = 4  # rows joined: 11 multiplications to prepare, 1 per bit to use


class Compact:
    """The ciphertext of one meter for one period; arguments and use as of yan2024.Yan2024."""

    tables = ("s",)

    def __init__(self, record, ring, combs, drbg, sampler, seeds, start):
        self._record = record
        self._ring = ring
        self._comb = combs["s"]
        xi = [clamp(sampler.share(drbg), record.offset) for _ in range(record.gamma)]
        self._exponents = [x + record.offset for x in xi]
        self._s = drbg.bits(record.check_bits) if record.row_check else 0
        self._r = drbg.bits(record.randomiser_bits)
        self._negative = drbg.bits(1)
        dealer_seed, center_seed = seeds
        plain = mask_u(record, dealer_seed, start) + mask_v(record, center_seed, start) - self._s
        if record.own_noise:
            plain += sampler.share(drbg)
        self._plain = plain  # what T_i carries besides d_i and the noise of the row
        self._group = []  # rows waiting for their group to be full
        self._columns = None  # for each exponent bit, the product of what has that bit set
        self._product = None  # prod_j B_ij
        self._blind = None

    def row(self, slot, pair):
        """Generator: take B_ij (slot 1..gamma in order); nothing goes up before the report."""
        ring = self._ring
        if self._record.row_check:
            if slot == 1:
                self._product = ring.copy(pair)
            else:
                self._product = ring.times(self._product, pair)
            yield 0
        self._group.append(pair)
        if len(self._group) == GROUP or slot == self._record.gamma:
            yield from self._join(slot)

    def _join(self, last):
        """Multiply the waiting rows, raised to their exponents' bits, into the columns."""
        ring = self._ring
        rows, self._group = self._group, []
        exponents = self._exponents[last - len(rows) : last]
        products = [ring.one()]  # of each subset of the rows: bit i of the index is row i
        for row in rows:
            for i in range(len(products)):
                # index 0 is 1, whatever the kernel's form of it
                products.append(ring.times(ring.copy(products[i]), row) if i else row)
                if i:
                    yield 0
        columns = self._columns or []
        for bit in range(self._record.exponent_bits):
            subset = 0
            for i in range(len(rows)):
                subset |= (exponents[i] >> bit & 1) << i
            if self._columns is None:
                columns.append(ring.copy(products[subset]))
            else:
                columns[bit] = ring.times(columns[bit], products[subset])
            yield 0
        self._columns = columns

    def finish(self):
        """Generator: after the last row, make T_i but for g^(d_i); nothing goes up."""
        windows = []
        if self._record.row_check:
            check = (self._product, self._s, self._record.check_bits)
            windows.append((yield from window(self._ring, *check)))
        columns, self._columns = self._columns, None
        self._blind = yield from power(self._ring, windows, self._comb, self._r, columns)

    def report(self, reading):
        """T_i's wire form for a reading in Wh, already clamped to [lo, hi]: one multiplication, once."""
        blind, self._blind = self._blind, None
        return self._ring.finish(blind, reading + self._plain, self._negative)
