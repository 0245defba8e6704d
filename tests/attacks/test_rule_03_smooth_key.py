"""Rule 3, u_i: a key holder who chose the primes so that discrete logarithms are easy.

The attackers' programs are wattveil.audit.attacks.smooth and lattice. Without u_i they read d_i + xi_i:
one meter, no dealer asked. With u_i what they read is uniform modulo n.
"""

from __future__ import annotations

from typing import Any

import pytest
from gmpy2 import gcd, mpz, powmod

import wattveil_meter.yan2024 as core
from attacks.kit import SEEDS, START, Shares
from wattveil.audit.attacks.lattice import short_pair
from wattveil.audit.attacks.smooth import (
    log_mod_n,
    logarithm,
    recover_k,
    single_meter,
    smooth_bench,
)
from wattveil.audit.weak import WEAKNESSES
from wattveil_meter import masks

READING = 777


@pytest.mark.parametrize("rule", [False, True])
def test_the_logarithm_of_a_report(monkeypatch: pytest.MonkeyPatch, rule: bool) -> None:
    if not rule:
        monkeypatch.setattr(core, "mask_u", lambda *a: 0)
    bench = smooth_bench()
    candidates = []
    for i in range(6):
        start = START + i * bench.record.period_s
        play = bench.meter(i, Shares([5 * i - 9, 0, 0]), start)
        row = bench.one_hot(i)
        k = recover_k(bench, bench.meter(i, Shares([0, 0, 0]), start).report_only(row))
        assert k == bench.masks(start)[0]  # the logarithm gives k_i away in either case
        candidates.append(single_meter(bench, play, row, READING) - (READING + 5 * i - 9))
    if not rule:
        assert candidates == [0] * 6
        with WEAKNESSES["no-u"].planted():  # as the audit plays it
            assert logarithm("yan2024", 2).hits == 2
    else:
        assert logarithm("yan2024", 2).hits == 0
        assert min(map(abs, candidates)) > 1 << 480  # of 512 bits: each is u_i, mod n
        us = [bench.masks(START + i * bench.record.period_s)[1] for i in range(6)]
        assert candidates == [bench.signed(u) for u in us]


def test_u_is_uniform_so_the_candidate_says_nothing() -> None:
    """The high bytes of u over many periods: no value is common (one n, 4,000 periods)."""
    bench = smooth_bench()
    counts = [0] * 16
    for i in range(4000):
        u = masks.mask_u(bench.record, SEEDS[0], START + i * bench.record.period_s)
        counts[int(16 * u // bench.n)] += 1
    assert all(abs(count - 250) < 6 * 16 for count in counts)


@pytest.mark.parametrize("rule", [False, True])
def test_k_is_not_derived_from_u(monkeypatch: pytest.MonkeyPatch, rule: bool) -> None:
    """One PRF output for both: k_i is in the attackers' hands, and with it u_i's low bits."""
    if not rule:
        derived = masks.mask_u
        monkeypatch.setattr(core, "mask_k", lambda *a: derived(*a) % (1 << 256))
    bench = smooth_bench()
    hits = 0
    for i in range(4):
        start = START + i * bench.record.period_s
        play = bench.meter(i, Shares([3, 0, 0]), start)
        row = bench.one_hot(i)
        k = recover_k(bench, bench.meter(i, Shares([3, 0, 0]), start).report_only(row))
        low = (single_meter(bench, play, row, READING, k) % bench.n - k) % (1 << 256)
        hits += low == READING + 3
    assert hits == (0 if rule else 4)


@pytest.mark.parametrize("rule", [False, True])
def test_a_long_k_is_no_mask(monkeypatch: pytest.MonkeyPatch, rule: bool) -> None:
    """k of |n| + 80 bits in the place of u: its logarithm is known modulo the order of h, and the
    80 bits that are missing are a closest-vector problem in two dimensions."""

    def long_k(record: Any, seed: bytes, start: int) -> int:
        return int.from_bytes(masks.prf(seed, b"k", record, start, record.nb + 10), "little")

    monkeypatch.setattr(core, "mask_k", long_k)
    if not rule:
        monkeypatch.setattr(core, "mask_u", lambda *a: 0)
    bench = smooth_bench(h_bits=592)
    slots_of, n = bench.one_hot("long"), bench.n
    play = bench.meter("long", Shares([4, 0, 0]))
    slots, report = play.answer(slots_of), play.report(READING)
    x, order = log_mod_n(bench, bench.h % n, report % n)
    # h^order = g^a: what is left of C_i is g^(m + a t), n + k = x + order t
    a = bench.exponent(powmod(bench.h, order, bench.n2))
    left = bench.exponent(report * powmod(bench.h, -x, bench.n2) % bench.n2)
    assert a is not None and left is not None
    v = masks.mask_v(bench.record, SEEDS[1], START)
    rest = bench.key.decrypt(bench.product(slots))
    goal = (left + rest - v - bench.record.offset) % n
    bound = 1 << (592 - order.bit_length() + 2)
    assert gcd(a, n) == 1
    d, t = short_pair(mpz(a), goal, n, bound)
    found = 0 <= t < bound and x + order * t - n == long_k(bench.record, SEEDS[0], START)
    assert found is (not rule)
    assert (d == READING + 4) is (not rule)


@pytest.mark.parametrize(("level", "leaks"), [("short", True), ("full", False)])
def test_what_level_short_gives_such_a_key_holder(level: str, leaks: bool) -> None:
    """Against cloud + centre with smooth primes `short` gives xi_ij away, `full` does not, and
    neither gives d_i: the limit PROTOCOL.md states, no more and no less."""
    bench = smooth_bench(level=level)
    order_of = log_mod_n(bench, bench.h_s % bench.n, mpz(1))[1]
    r_cloud = (1 << 256) - 189  # the cloud's own randomiser, as long as it can be
    row = bench.one_hot("r")
    row[1] = powmod(bench.h_s, r_cloud, bench.n2)
    read = []
    for i, xi in enumerate((0, 17, -250)):
        play = bench.meter(("r", i), Shares([0, xi, 0]))
        slots = play.answer(row)
        square = slots[1] * slots[1] % bench.n  # the sign is gone; g = 1 mod n
        x, order = log_mod_n(bench, powmod(bench.h_s, 2, bench.n), square)
        assert order * 2 >= order_of
        read.append(x // r_cloud - bench.record.offset == xi)
        k = bench.masks()[0]
        bare = bench.exponent(bench.strip(play.report(READING), k))
        assert bare is not None
        opened = bare + bench.key.decrypt(bench.product(slots))
        v = masks.mask_v(bench.record, SEEDS[1], START)
        assert abs(bench.signed(opened - v - bench.record.offset)) > 1 << 480
    assert read == [leaks] * 3


@pytest.mark.parametrize(("level", "leaks"), [("short", True), ("full", False)])
@pytest.mark.parametrize("check", [0, 1])
def test_what_level_short_gives_in_compact(level: str, leaks: bool, check: int) -> None:
    """T_i mod n = +- h_s^(r + sum_j r_j (xi_j + O + s)), r_j the cloud's: it puts them far apart and
    reads every xi_j, but for one s_i that is common to them. d_i stays under u_i."""
    bench = smooth_bench(suite="compact", level=level, row_check=check)
    at = [256 + 64 * j for j in range(3)]
    row = [powmod(bench.h_s, mpz(1) << bits, bench.n2) for bits in at]
    row[1] = row[1] * (1 + bench.n) % bench.n2
    shares = [17, -250, 3]
    play = bench.meter("r", Shares(shares))
    t = play.report_only(row, READING)
    x, _ = log_mod_n(bench, powmod(bench.h_s, 2, bench.n), t * t % bench.n)
    read = [(x >> bits & (1 << 64) - 1) - bench.record.offset for bits in at]
    common = play.suite._s
    assert (read == [xi + common for xi in shares]) is leaks
    assert bool(common) is bool(check)
    v = masks.mask_v(bench.record, SEEDS[1], START)
    opened = bench.key.decrypt(t) - v - bench.record.offset
    assert abs(bench.signed(opened)) > 1 << 480
