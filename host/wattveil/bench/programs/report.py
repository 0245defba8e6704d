"""One yan2024 report, slot by slot beside the paper's formulas on the same runtime.

    micropython report.py FOLDER

FOLDER (written by wattveil.bench.rig): record.bin, h.tab, s.tab, rows.bin (gamma pairs), job.json.
Writes ours.bin and textbook.bin there, prints times (us) as one line of JSON.

Textbook is Eq. 18 and 22 as they would be coded, with `pow` and `%` modulo n^2 and a full-size r:

    e_ij = B_ij^(xi_ij + O) (1 + x_ij n) r_ij^n,    C_i = (1 + (d_i - x_i + u_i + v_i) n) h^(n + k_i)

(1 + x n, not g^x by `pow`, which would double its time.) Both draw from the same generator within the
time, both use the same noise xi and the same rows; the row check is in ours only. Slots of the textbook
are timed until the budget is used up, the hot one and one more at least.
"""

# mypy: ignore-errors

import gc
import json
import sys
from binascii import unhexlify

import ticks

from wattveil_meter.cipher import Comb
from wattveil_meter.drbg import Drbg
from wattveil_meter.kernels.portable import Portable
from wattveil_meter.masks import mask_k, mask_u, mask_v
from wattveil_meter.noise import make_sampler
from wattveil_meter.record import Record
from wattveil_meter.yan2024 import Yan2024


def read(folder, name):
    """Contents of a file."""
    with open(folder + "/" + name, "rb") as file:
        return file.read()


def finish(generator):
    """Run a generator to its end; its result."""
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value


def pair(record, c):
    """Wire form of an integer ciphertext."""
    low, high = c % record.n, c // record.n
    return low.to_bytes(record.nb, "little") + high.to_bytes(record.nb, "little")


class Textbook:
    """The formulas, for the noise of one report."""

    def __init__(self, record, drbg, xi, plain, k):
        self.record = record
        self.n2 = record.n * record.n
        self.drbg = drbg
        self.xi = xi
        self.plain = plain  # d + u + v
        self.k = k
        self.x = [0] * record.gamma
        self.us = [0] * record.gamma

    def slot(self, j, b):
        """e_ij of slot j (from 0) in wire form."""
        record, n2 = self.record, self.n2
        b = int.from_bytes(b[: record.nb], "little") + record.n * int.from_bytes(
            b[record.nb :], "little"
        )
        gc.collect()
        start = ticks.now()
        x = self.drbg.below(record.n)
        r = 1 + self.drbg.below(record.n - 1)
        e = pow(b, self.xi[j] + record.offset, n2) * (1 + x * record.n) % n2
        e = e * pow(r, record.n, n2) % n2
        self.us[j] = ticks.since(start)
        self.x[j] = x
        return pair(record, e)

    def report(self):
        """(C_i in wire form, us)."""
        record, n2 = self.record, self.n2
        gc.collect()
        start = ticks.now()
        blind = pow(record.h, record.n + self.k, n2)
        plain = (self.plain - sum(self.x)) % record.n
        c = (1 + plain * record.n) * blind % n2
        return pair(record, c), ticks.since(start)


def one_report(folder, job, record, drbg, rows, ours_file, textbook_file):
    """Both ways once; a dict of times."""
    ring = Portable(record.n)
    with open(folder + "/h.tab", "rb") as h, open(folder + "/s.tab", "rb") as s:
        combs = {"h": Comb(h, ring, b"h"), "s": Comb(s, ring, b"s")}
        epsilon = (record.epsilon_num, record.epsilon_den)
        sampler = make_sampler(record.noise, record.a, *epsilon, record.delta)
        seeds = (unhexlify(job["dealer_seed"]), unhexlify(job["center_seed"]))
        start, reading, gamma = job["start"], job["reading"], record.gamma
        begun = ticks.now()
        suite = Yan2024(record, ring, combs, drbg, sampler, seeds, start)
        ours = ticks.since(begun)
        plain = reading + mask_u(record, seeds[0], start) + mask_v(record, seeds[1], start)
        k = mask_k(record, seeds[0], start)
        textbook = Textbook(record, drbg, suite._xi, plain, k)
        hot = job["hot"]
        todo = [hot] + [j for j in range(gamma) if j != hot]
        done = []
        size = 2 * record.nb
        spent = 0
        for j in range(gamma):  # one slot of each in turn, so that both see the same machine
            row = rows[j * size : (j + 1) * size]
            gc.collect()
            begun = ticks.now()
            e = finish(suite.row(j + 1, ring.decode(row)))
            ours += ticks.since(begun)
            if e:
                ours_file.write(e)
            if len(done) < 2 or spent < job["budget_us"]:
                other = todo[len(done)]
                textbook_file.write(textbook.slot(other, rows[other * size : (other + 1) * size]))
                done.append(other)
                spent += textbook.us[other]
        gc.collect()
        begun = ticks.now()
        e = finish(suite.finish())
        prepared = ticks.now()
        report = suite.report(reading)
        report_us = ticks.since(prepared)
        ours += ticks.since(begun)
        ours_file.write(e + report)
    for j in todo[len(done) :]:  # not timed: their x only, so that the total still opens
        textbook.x[j] = drbg.below(record.n)
    c, c_us = textbook.report()
    textbook_file.write(c)
    return {
        "ours_us": ours,
        "report_us": report_us,
        "modmuls": ring.modmuls,
        "slots_us": [textbook.us[j] for j in done],
        "c_us": c_us,
        "rest": "%x" % (sum([textbook.x[j] for j in todo[len(done) :]]) % record.n),
        "xi": suite._xi[hot],
    }


def main(folder):
    """All repeats."""
    record = Record.parse(read(folder, "record.bin"))
    job = json.loads(read(folder, "job.json"))
    rows = read(folder, "rows.bin")
    drbg = Drbg(unhexlify(job["entropy"]), sys.platform.encode())
    out = []
    with open(folder + "/ours.bin", "wb") as ours, open(folder + "/textbook.bin", "wb") as book:
        for _ in range(job["repeats"]):
            out.append(one_report(folder, job, record, drbg, rows, ours, book))
    print(json.dumps(out))


main(sys.argv[1])
