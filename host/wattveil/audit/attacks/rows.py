"""A cloud that sends rows that are not one-hot.

All zeros, O given back: the noise-free reading. With s_i in the plaintext the total is off by s_i (sigma - 1)
for a row of sum sigma. Rows that do sum to 1 pass: (2, -1, 0) only makes the noise wider; (1/w, .., 1/w)
passes once in w with the noise divided by w; (1 - a, a), a large, passes only if xi_1 = xi_2.
"""

from __future__ import annotations

from gmpy2 import invert

from wattveil.audit.attacks.score import Score
from wattveil.audit.bench import Bench, Shares, drbg


def another_sum(bench: Bench, sigma: int, tries: int, reading: int = 500) -> list[int]:
    """What rows of sum sigma move the opened value by, beyond the reading and sigma times the first
    share: 0 where there is no row check, else (sigma - 1) s_i."""
    moved = []
    for i in range(tries):
        play = bench.meter((sigma, i), Shares([40, 0, 0]))
        slots = play.answer(bench.rows([sigma, 0, 0], i))
        opened = bench.total(slots, play.report(reading)) + bench.record.offset
        moved.append(opened - reading - sigma * (40 + bench.record.offset))
    return moved


def zero_rows(suite: str, tries: int) -> Score:
    """The reading without noise, and nothing that the centre would refuse."""
    bench, outcomes, source = Bench(suite=suite), [], drbg("zero rows")
    for i in range(tries):
        reading = source.below(1001)
        play = bench.meter(("zero", i))
        slots = play.answer(bench.rows([0] * bench.record.gamma, i))
        total = bench.total(slots, play.report(reading)) + bench.record.offset
        outcomes.append(total == reading)
    return Score.of(outcomes)


def fractions(suite: str, w: int, tries: int) -> tuple[int, bool]:
    """(how many rows (1/w, .., 1/w) pass, whether exactly those whose shares w divides).

    One meter with a whole Laplace share (a = 1).
    """
    bench = Bench(suite=suite, gamma=w, quorum_count=2, colluding=1)
    row = bench.rows([int(invert(w, bench.n))] * w, w)
    passed, exact = 0, True
    for i in range(tries):
        shares = Shares(record=bench.record)
        play = bench.meter((w, i), shares)
        slots = play.answer(row)
        total = bench.total(slots, play.report(500))
        if bench.plausible(total):
            passed += 1
            exact &= (total - 500) * w == sum(shares.drawn)
        else:
            exact &= sum(shares.drawn) % w != 0
    return passed, exact


def comparing(suite: str, tries: int) -> tuple[int, int, bool]:
    """(rows (1 - a, a, 0) that pass, meters whose first two shares are equal, whether these are the
    same). Shape 1/20: most shares are 0."""
    bench = Bench(suite=suite, roster_size=20, quorum_count=20)
    a, passed, equals, same = 1 << 60, 0, 0, True
    for i in range(tries):
        shares = Shares(record=bench.record)
        play = bench.meter(("a", i), shares)
        slots = play.answer(bench.rows([1 - a, a, 0], i))
        total = bench.total(slots, play.report(500))
        equal = shares.drawn[0] == shares.drawn[1]
        plausible = bench.plausible(total)
        same &= plausible == equal and (not equal or total == 500 + shares.drawn[0])
        passed, equals = passed + plausible, equals + equal
    return passed, equals, same
