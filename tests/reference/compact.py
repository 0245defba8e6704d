"""Suite compact with plain integers; what it shares with yan2024 comes from `yan`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reference import yan
from reference.basics import Bad, Params, mask_u, mask_v


@dataclass
class Draws:
    """Every random value of one meter in one period; xi is by slot 1..gamma."""

    xi: list[int]
    r: int
    minus: int
    s: int = 0
    own: int = 0


def report(
    p: Params,
    row: Sequence[int],
    seeds: tuple[bytes, bytes],
    start: int,
    draws: Draws,
    reading: int,
) -> int:
    """T_i; the seeds are the dealer's and the centre's."""
    n2 = p.n**2
    s = draws.s if p.row_check else 0
    plain = min(max(reading, p.lo), p.hi) - s + (draws.own if p.own_noise else 0)
    plain += mask_u(p, seeds[0], start) + mask_v(p, seeds[1], start)
    t = (1 + plain % p.n * p.n) * pow(p.h_s, draws.r, n2) % n2
    for b, xi in zip(row, draws.xi, strict=True):
        t = t * pow(b, yan.clamp(p, xi) + p.offset, n2) % n2
    t = t * pow(math.prod(row), s, n2) % n2
    return n2 - t if draws.minus else t


def share(p: Params, seeds: Sequence[bytes], start: int) -> int:
    """U."""
    return -sum(mask_u(p, seed, start) for seed in seeds) % p.n


def combine(p: Params, ts: Sequence[int], u: int) -> int:
    """T."""
    return math.prod(ts) * (1 + u * p.n) % p.n**2


def total(p: Params, primes: tuple[int, int], t: int, seeds: Sequence[bytes], start: int) -> int:
    """The released total; the second ciphertext of yan2024 is 1 here, which decrypts to 0."""
    if math.gcd(t, p.n) != 1:
        raise Bad("not_a_ciphertext")
    return yan.total(p, primes, t, 1, seeds, start)
