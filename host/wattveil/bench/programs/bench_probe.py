"""What a runtime is, which kernel it chooses for a modulus, and what that kernel's steps cost.

main({"folder", "kernel", "code", "repeats"}) with record.bin and rows.bin in the folder. Prints JSON.
"""

# mypy: ignore-errors

import gc
import sys

import bench_ticks as ticks
from bench_kit import make_ring, read, say

from wattveil_meter.record import Record

ROUNDS = 3


def timed(repeats, step, x):
    """(us of one of `repeats` steps x = step(x), the last x)."""
    gc.collect()
    begun = ticks.now()
    for _ in range(repeats):
        x = step(x)
    return ticks.since(begun) / repeats, x


def main(job):
    """Choose, time in turns, check, print."""
    record = Record.parse(read(job, "record.bin"))
    begun = ticks.now()
    ring, reasons = make_ring(record.n, job)
    choose_us = ticks.since(begun)
    nb, n, n2 = record.nb, record.n, record.n * record.n
    data = read(job, "rows.bin")[: 2 * nb]
    p = c = int.from_bytes(data[:nb], "little") + n * int.from_bytes(data[nb:], "little")
    x = ring.decode(data)
    y = ring.copy(x)
    us = {"times": [], "square": [], "plain": []}
    for _ in range(ROUNDS):
        spent, x = timed(job["repeats"], lambda x: ring.times(x, y), x)
        us["times"].append(spent)
        spent, x = timed(job["repeats"], ring.square, x)
        us["square"].append(spent)
        spent, p = timed(job["repeats"], lambda p: p * c % n2, p)
        us["plain"].append(spent)
        for _ in range(job["repeats"]):
            p = p * p % n2
    got = ring.finish(x, 0)
    right = got[:nb] == (p % n).to_bytes(nb, "little") and got[nb:] == (p // n).to_bytes(
        nb, "little"
    )
    say(
        {
            "mpy": getattr(sys.implementation, "_mpy", 0),
            "platform": sys.platform,
            "kernel": ring.name,
            "form": ring.form,
            "reasons": reasons,
            "choose_us": choose_us,
            "times_us": sorted(us["times"])[ROUNDS // 2],
            "square_us": sorted(us["square"])[ROUNDS // 2],
            "plain_us": sorted(us["plain"])[ROUNDS // 2],
            "right": right,
        }
    )
