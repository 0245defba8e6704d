"""Repetitions of one piece of a meter's work, for a counter of instructions; no link, no period.

main({"mode", "count", "report", "start", "reading", "hot", ...}), files as for bench_period. Modes:

    suite   `count` reports: noise drawn, rows taken in, all ciphertexts made; the last one's are sent
    book    `count` slots of the textbook, and C_i when "report" is true (bench_book)
    share   `count` shares of noise by job["noise"]

Ciphertexts go to the host as bench_book's do. Prints one line of JSON.
"""

# mypy: ignore-errors

from bench_book import REPORT, Book
from bench_kit import make_ring, read, say

from wattveil_meter import hal
from wattveil_meter.cipher import Comb
from wattveil_meter.drbg import Drbg
from wattveil_meter.links.serial import SerialLink
from wattveil_meter.meter import SUITES
from wattveil_meter.noise import Drawn, make_sampler
from wattveil_meter.package import Package
from wattveil_meter.seeds import Seeds
from wattveil_meter.store import FileStorage


class Meter:
    """As much of a meter as a Book asks for."""

    def __init__(self, job):
        self.package = Package(read(job, "record.bin"), read(job, "meter.bin"))
        self.record = self.package.record
        self.seeds = Seeds(FileStorage(job["folder"]))
        self.drbg = Drbg(hal.entropy(), b"bench", b"")
        self.random_bytes = 0
        generate = self.drbg.generate

        def counting(size):
            self.random_bytes += size
            return generate(size)

        self.drbg.generate = counting

    def sampler(self, noise):
        """Of one of the record's shares, by either sampler."""
        record = self.record
        return make_sampler(noise, record.a, record.epsilon_num, record.epsilon_den, record.delta)


def finish(generator):
    """Run a generator to its end; its result."""
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value


def one_report(meter, ring, combs, job, send):
    """(share of the hot slot): slots and report go to `send`."""
    record = meter.record
    drawn = Drawn(meter.sampler(record.noise), meter.drbg, record.gamma)
    xi = drawn._shares[job["hot"]]
    seeds = (meter.seeds.dealer, meter.seeds.center)
    suite = SUITES[record.suite](record, ring, combs, meter.drbg, drawn, seeds, job["start"])
    size = 2 * record.nb
    with open(job["folder"] + "/rows.bin", "rb") as file:
        for slot in range(1, record.gamma + 1):
            e = finish(suite.row(slot, suite.decode(file.read(size))))
            if e:
                send(slot, e)
    e = finish(suite.finish())
    if e:
        send(1, e)
    send(REPORT, suite.report(job["reading"]))
    return xi


def main(job):
    """Repeat, print."""
    meter = Meter(job)
    out = {"xi": 0, "kernel": ""}
    link = SerialLink()
    sent = [False]

    def send(index, data):
        if sent[0]:
            link.write(b"book" + bytes((index,)) + data)

    if job["mode"] == "suite":
        ring, _ = make_ring(meter.record.n, job)
        combs = {}
        for name in SUITES[meter.record.suite].tables:
            file = open(job["folder"] + "/" + name + ".tab", "rb")  # noqa: SIM115
            combs[name] = Comb(file, ring, name.encode())
        for i in range(job["count"]):
            sent[0] = i == job["count"] - 1
            out["xi"] = one_report(meter, ring, combs, job, send)
        out["kernel"] = ring.name
    elif job["mode"] == "book":
        sent[0] = True
        sampler = meter.sampler(meter.record.noise)
        book = Book(meter, job, send)
        book.begin([sampler.share(meter.drbg) for _ in range(meter.record.gamma)])
        out["xi"] = book.xi[job["hot"]]
        for _ in range(job["count"]):
            book._slot(book.todo.pop(0))
        if job["report"]:
            book.finish(job["reading"])
    else:
        sampler = meter.sampler(job["noise"])
        for _ in range(job["count"]):
            sampler.share(meter.drbg)
    out["random_bytes"] = meter.random_bytes
    say(out)
