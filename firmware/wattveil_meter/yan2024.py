"""Suite `yan2024` on the meter: the paper's ciphertexts, corrected (PROTOCOL.md, "Suites").

    e_ij = +- B_ij^(xi_ij + O) g^(x_ij) h_s^(r_ij)                 (Eq. 22)
    e_i1 also times (prod_j B_ij)^s_i                              (row check)
    C_i  = g^(d_i - x_i - s_i + u_i + v_i) h^(n + k_i)             (Eq. 18, R_i = n + k_i)

Everything but g^(d_i) is done before the period ends, row by row, in RAM that does not grow with gamma.
"""

from wattveil_meter.cipher import power, window
from wattveil_meter.masks import mask_k, mask_u, mask_v
from wattveil_meter.noise import clamp


class Yan2024:
    """The ciphertexts of one meter for one period, in order: slot(2) .. slot(gamma), slot(1), report(d).

    record: Record; ring: a kernel over record.n; combs: {"h": Comb, "s": Comb}; drbg: Drbg;
    sampler: gives gamma shares, and one more with own noise; seeds: (dealer seed, centre seed), 32
    bytes each; start: UTC s.
    Every random value is drawn here once and used in one ciphertext only (rule 9).
    """

    tables = ("h", "s")

    def __init__(self, record, ring, combs, drbg, sampler, seeds, start):
        self._record = record
        self._ring = ring
        self.decode = ring.decode  # of a row
        self._comb = combs["s"]
        self._drbg = drbg
        self._xi = [clamp(sampler.share(drbg), record.offset) for _ in range(record.gamma)]
        self._s = drbg.bits(record.check_bits) if record.row_check else 0
        dealer_seed, center_seed = seeds
        plain = mask_u(record, dealer_seed, start) + mask_v(record, center_seed, start) - self._s
        if record.own_noise:
            plain += sampler.share(drbg)
        self._plain = plain  # what C_i carries besides d_i and h^R
        self._k = mask_k(record, dealer_seed, start)
        self._h = combs["h"]
        self._blind = None
        self._first = None  # B_i1
        self._product = None  # prod_j B_ij

    def row(self, slot, pair):
        """Generator: take B_ij (slot 1..gamma in order); returns e_ij's wire form, None for slot 1."""
        if slot == 1:
            self._first = pair
            self._product = self._ring.copy(pair)
            return None
        self._product = self._ring.times(self._product, pair)
        yield 0
        return (yield from self._noise_slot(slot, pair, []))

    def finish(self):
        """Generator: after the last row; returns e_i1's wire form and makes C_i but for g^(d_i)."""
        check = []
        if self._record.row_check:
            args = (self._product, self._s, self._record.check_bits)
            check.append((yield from window(self._ring, *args)))
        first = yield from self._noise_slot(1, self._first, check)
        blind = yield from power(self._ring, [], self._h, self._k)
        self._blind = self._h.times_constant(blind)  # h^n
        return first

    def report(self, reading):
        """C_i's wire form for a reading in Wh, already clamped to [lo, hi]: one multiplication.

        Once: two readings under one blinding would give their difference away.
        """
        blind, self._blind = self._blind, None
        return self._ring.finish(blind, reading + self._plain)

    def _noise_slot(self, slot, pair, more):
        record = self._record
        ring = self._ring
        exponent = self._xi[slot - 1] + record.offset
        r = self._drbg.bits(record.randomiser_bits)
        x = self._drbg.below(record.n)
        self._plain -= x
        own = yield from window(ring, pair, exponent, record.exponent_bits)
        e = yield from power(ring, [own] + more, self._comb, r)
        return ring.finish(e, x, self._drbg.bits(1))
