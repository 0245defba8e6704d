"""A key holder who chose the primes so that discrete logarithms are easy (Pohlig and Hellman, 1978).

The centre makes n = p q with p - 1 and q - 1 smooth and works with the cloud. From C_i mod n =
h^(n + k_i) it takes the logarithm, hence k_i, and strips h^(n + k_i) off. What is left is a power of g,
which anyone reads; D(e_i1 .. e_i gamma) takes away x_i and s_i, its own seed v_i. Without u_i that is
d_i + xi_i: one meter, no dealer asked.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any

from gmpy2 import invert, is_prime, mpz, next_prime, powmod

from wattveil.audit.attacks.score import Score
from wattveil.audit.bench import SEEDS, START, Bench, Play, Shares
from wattveil_meter import masks


@cache
def smooth_key() -> tuple[mpz, mpz, tuple[int, ...]]:
    """256-bit p, q = 3 mod 4, p - 1 and q - 1 products of 2 and different primes below 2^13."""
    rng = random.Random(2024)
    pool = [1009]
    while pool[-1] < 8000:
        pool.append(int(next_prime(pool[-1])))
    found: list[mpz] = []
    used: set[int] = set()
    while len(found) < 2:
        free = [r for r in pool if r not in used]
        factors = rng.sample(free, 20)
        base = mpz(2)
        for r in factors:
            base *= r
        if not 243 <= base.bit_length() <= 245:
            continue
        for last in free:
            p = base * last + 1
            if last not in factors and p.bit_length() == 256 and p >> 254 == 3 and is_prime(p):
                found.append(p)
                used |= {*factors, last}
                break
    return found[0], found[1], (2, *sorted(used))


def smooth_bench(**changes: Any) -> Bench:
    """A Bench under such a key."""
    p, q, _ = smooth_key()
    return Bench(int(p), int(q), **changes)


@cache
def _subgroup(prime: mpz, root: mpz, r: int) -> dict[mpz, int]:
    """The logarithms to the base `root`, an element of order r."""
    logs, at = {}, mpz(1)
    for digit in range(r):
        logs[at] = digit
        at = at * root % prime
    return logs


def log_mod_n(bench: Bench, base: mpz, power: mpz) -> tuple[int, int]:
    """(x, order): base^x = power mod n, by the logarithms in all small subgroups."""
    _, _, factors = smooth_key()
    x, order = mpz(0), mpz(1)
    for prime in (bench.key.p, bench.key.q):
        for r in factors:
            if (prime - 1) % r or order % r == 0:
                continue
            root = powmod(base, (prime - 1) // r, prime)
            if root == 1:
                continue
            digit = _subgroup(prime, root, r)[powmod(power, (prime - 1) // r, prime)]
            x += order * ((digit - x) * invert(order, r) % r)
            order *= r
    return int(x), int(order)


def recover_k(bench: Bench, report: mpz) -> int:
    """k_i from C_i mod n."""
    x, order = log_mod_n(bench, bench.h % bench.n, report % bench.n)
    return int((x - bench.n) % order)


def single_meter(bench: Bench, play: Play, row: list[mpz], wh: int, k: int | None = None) -> int:
    """Cloud and key holder, for one meter that reads `wh`: their best candidate for d + xi."""
    slots, report = play.answer(row), play.report(wh)
    k = recover_k(bench, report) if k is None else k
    bare = bench.exponent(bench.strip(report, k))
    assert bare is not None
    v = masks.mask_v(bench.record, SEEDS[1], play.start)
    rest = bench.key.decrypt(bench.product(slots))
    return bench.signed(bare + rest - v - bench.record.offset)


def logarithm(suite: str, tries: int) -> Score:
    """`single_meter` over `tries` periods. Suite yan2024 only: compact has no k."""
    bench, outcomes = smooth_bench(suite=suite), []
    for i in range(tries):
        play = bench.meter(i, Shares([5 * i - 9, 0, 0]), START + i * bench.record.period_s)
        outcomes.append(single_meter(bench, play, bench.one_hot(i), 777) == 777 + 5 * i - 9)
    return Score.of(outcomes)
