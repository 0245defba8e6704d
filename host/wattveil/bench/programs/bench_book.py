"""The paper's formulas as they would be coded, beside a meter's period and for the same noise.

    e_ij = B_ij^(xi_ij + O) (1 + x_ij n) r_ij^n,    C_i = (1 + (d_i - x_i + u_i + v_i) n) h^(n + k_i)

with `pow` and `%` modulo n^2 and a full-size r (Eq. 22 and 18; 1 + x n, not g^x by `pow`, which would
double its time). x and r come from the meter's own generator, within the time.
"""

# mypy: ignore-errors

import gc

import bench_ticks as ticks
from bench_kit import pair

from wattveil_meter.masks import mask_k, mask_u, mask_v
from wattveil_meter.noise import clamp

UNIT, REPORT = 0, 255


def steps(exponent):
    """Multiplications and squarings of MicroPython's pow() for it."""
    count = -1
    while exponent:
        count += 1 + (exponent & 1)
        exponent >>= 1
    return count


class Book:
    """One report. send(index, pair) takes the answers; us: by index."""

    def __init__(self, meter, job, send):
        self.record = meter.record
        self.n2 = self.record.n * self.record.n
        self.drbg = meter.drbg
        self.job = job
        self.send = send
        self.seeds = meter.seeds
        self.xi = None
        self.us = {}
        self.x = 0
        self.unit_steps = 0
        self.spent = 0
        hot = job["hot"]
        self.todo = [hot] + [j for j in range(self.record.gamma) if j != hot]

    def begin(self, shares):
        """The noise of this report; measures one power, from which the rest is estimated."""
        record = self.record
        self.xi = [clamp(xi, record.offset) for xi in shares[: record.gamma]]
        b = self._row(self.todo[0])
        exponent = self.xi[self.todo[0]] + record.offset
        gc.collect()
        start = ticks.now()
        power = pow(b, exponent, self.n2)
        self.us[UNIT] = ticks.since(start)
        self.unit_steps = steps(exponent)
        self.send(UNIT, pair(record, power))

    def turn(self):
        """Time the next slot, if the budget allows for it."""
        per_step = self.us[UNIT] / self.unit_steps
        if not self.todo:
            return
        exponent = self.xi[self.todo[0]] + self.record.offset
        estimate = per_step * (steps(self.record.n) + steps(exponent))
        if self.spent + estimate <= self.job["book_us"]:
            self._slot(self.todo.pop(0))

    def _row(self, j):
        size = 2 * self.record.nb
        with open(self.job["folder"] + "/rows.bin", "rb") as file:
            file.seek(j * size)
            data = file.read(size)
        low, high = data[: self.record.nb], data[self.record.nb :]
        return int.from_bytes(low, "little") + self.record.n * int.from_bytes(high, "little")

    def _slot(self, j):
        record, n2 = self.record, self.n2
        b = self._row(j)
        gc.collect()
        start = ticks.now()
        x = self.drbg.below(record.n)
        r = 1 + self.drbg.below(record.n - 1)
        e = pow(b, self.xi[j] + record.offset, n2) * (1 + x * record.n) % n2
        e = e * pow(r, record.n, n2) % n2
        self.us[1 + j] = ticks.since(start)
        self.spent += self.us[1 + j]
        self.x += x
        self.send(1 + j, pair(record, e))

    def finish(self, reading):
        """C_i, when a slot was timed: the noise slots left out add nothing to what opens."""
        if len(self.us) == 1:
            return
        record, n2, start = self.record, self.n2, self.job["start"]
        dealer, center = self.seeds.dealer, self.seeds.center
        plain = reading + mask_u(record, dealer, start) + mask_v(record, center, start)
        k = mask_k(record, dealer, start)
        gc.collect()
        begun = ticks.now()
        c = (1 + (plain - self.x) % record.n * record.n) * pow(record.h, record.n + k, n2) % n2
        self.us[REPORT] = ticks.since(begun)
        self.send(REPORT, pair(record, c))
