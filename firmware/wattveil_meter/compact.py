"""Suite `compact` on the meter: the same released value in one ciphertext (PROTOCOL.md, "Suites").

    T_i = +- prod_j B_ij^(xi_ij + O) (prod_j B_ij)^s_i g^(d_i - s_i + u_i + v_i) h_s^(r_i)

Rows are taken in as they arrive, four at a time: the products of each subset of a group of four, then
one multiplication per exponent bit into that bit's column. The columns' squarings are made once, at
the end, together with those of h_s^r and of the row check. So memory does not grow with gamma.
"""

from wattveil_meter.cipher import Window, power, window
from wattveil_meter.fields import bit_length
from wattveil_meter.masks import mask_u, mask_v
from wattveil_meter.noise import clamp

GROUP = 4  # rows joined: 11 multiplications to prepare, 1 per bit to use
STEP = 4  # multiplications between two yields: 0.15 s at most, and a yield costs something too


class Compact:
    """The ciphertext of one meter for one period; arguments and use as of yan2024.Yan2024."""

    tables = ("s",)

    def __init__(self, record, ring, combs, drbg, sampler, seeds, start):
        self._record = record
        self._ring = ring
        self.decode = ring.bare  # of a row
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
        self._columns = []  # for each exponent bit, the product of what has that bit set
        self._product = None  # prod_j B_ij
        self._blind = None

    def row(self, slot, pair):
        """Generator: take B_ij (slot 1..gamma in order); nothing goes up before the report."""
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
            products.append(row)  # index 0 is 1, whatever the kernel's form of it
            for i in range(1, len(products) - 1):
                products.append(ring.product(products[i], row))
                if not i % STEP:
                    yield 0
            yield 0
        if self._record.row_check:  # the last subset is the whole group
            if self._product is None:
                self._product = ring.copy(products[-1])
            else:
                self._product = ring.times(self._product, products[-1])
        columns = self._columns
        first = not columns
        for bit in range(self._record.exponent_bits):
            subset = 0
            for i in range(len(rows)):
                subset |= (exponents[i] >> bit & 1) << i
            if first:
                columns.append(ring.keep(ring.copy(products[subset])))
            else:
                columns[bit] = ring.keep(ring.times(columns[bit], products[subset]))
            if not bit % STEP:
                yield 0
        ring.reuse(products)

    def finish(self):
        """Generator: after the last row, make T_i but for g^(d_i); nothing goes up."""
        ring = self._ring
        record = self._record
        windows = []
        if ring.powers:  # what the bare rows lack, as often as they were multiplied in
            bits = bit_length(record.gamma << record.exponent_bits)
            windows.append(Window(ring.powers, sum(self._exponents), 4, bits))
        if record.row_check:
            product = ring.mend(self._product, record.gamma)
            windows.append((yield from window(ring, product, self._s, record.check_bits)))
        ring.reuse([])
        self._blind = yield from power(ring, windows, self._comb, self._r, self._columns)

    def report(self, reading):
        """T_i's wire form for a reading in Wh, already clamped to [lo, hi]: one multiplication, once."""
        blind, self._blind = self._blind, None
        return self._ring.finish(blind, reading + self._plain, self._negative)
