"""Coalitions that hold one meter's ciphertexts and want its reading, no period closed.

Cloud + centre hold e_i1 .. e_i gamma, C_i (or T_i), the private key and v_i. D(C_i) = d - x - s + u + v +
k D(h) mod n, for the n + k in the exponent of h is k modulo n: k_i has 256 bits and d + xi some 20, so under
u_i = 0 *any* key holder separates them, honest primes or not. u_i alone stands in the way.
Dealer + cloud hold k_i, u_i and the ciphertexts: C_i / h^(n + k_i) is a power of g, which needs no key to
read. There x_ij, encrypted in e_ij, and v_i stand in the way, in suite compact h_s^(r_i) and v_i.
"""

from __future__ import annotations

from collections.abc import Sequence

from gmpy2 import mpz

from wattveil.audit.attacks.lattice import short_pair
from wattveil.audit.attacks.score import Score
from wattveil.audit.bench import SEEDS, START, Bench, Shares, drbg
from wattveil_meter import masks

K_BITS, SUM_BITS = 256, 24  # of k_i; of any |d + xi|


def cloud_and_center(
    bench: Bench, slots: Sequence[mpz], report: mpz, start: int = START, k: int = 0, u: int = 0
) -> int:
    """Their candidate for d + xi, with the share of the dealer's masks they know."""
    opened = bench.key.decrypt(bench.product(slots)) + bench.key.decrypt(bench.strip(report, k))
    v = masks.mask_v(bench.record, SEEDS[1], start)
    return bench.signed(opened - u - v - bench.record.offset)


def any_key_holder(bench: Bench, slots: Sequence[mpz], report: mpz, start: int = START) -> int:
    """The same, by D(h) instead of k."""
    candidate = cloud_and_center(bench, slots, report, start)  # k = 0: d + xi + k D(h)
    if bench.record.suite == "compact":
        return candidate
    found, _ = short_pair(
        bench.key.decrypt(bench.h), mpz(candidate) % bench.n, bench.n, 1 << K_BITS, 1 << SUM_BITS
    )
    return found


def open_one_meter(suite: str, tries: int) -> Score:
    """Cloud + centre open one meter's report by itself."""
    bench, outcomes, source = Bench(suite=suite), [], drbg("readings")
    for i in range(tries):
        start = START + i * bench.record.period_s
        reading, noise = source.below(1001), source.below(2001) - 1000
        play = bench.meter(("open", i), Shares([9, noise, 9]), start)
        slots = play.answer(bench.one_hot(("row", i), hot=1))
        opened = any_key_holder(bench, slots, play.report(reading), start)
        outcomes.append(opened == reading + noise)
    return Score.of(outcomes)


def two_records(suite: str, tries: int, **other: int) -> Score:
    """Cloud + centre, and a meter that reports one half hour under two records: the difference of the
    readings, if masks do not depend on all of the record. other: what differs in the second one."""
    outcomes, source = [], drbg("two records")
    benches = Bench(suite=suite), Bench(suite=suite, **(other or {"roster_epoch": 4}))
    for i in range(tries):
        opened, readings = [], [source.below(1001), source.below(1001)]
        start = START + i * benches[0].record.period_s
        for bench, reading in zip(benches, readings, strict=True):
            play = bench.meter(("twice", i), Shares([6, 0, 0, 0]), start)
            slots = play.answer(bench.one_hot(("row", i)))
            opened.append(cloud_and_center(bench, slots, play.report(reading), start))
        difference = benches[0].signed(opened[0] - opened[1])
        outcomes.append(difference == readings[0] - readings[1])
    return Score.of(outcomes)
