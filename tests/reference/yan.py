"""Suite yan2024 with plain integers, and the closing: dealer, cloud, centre."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from reference.basics import Bad, Params, le, mask_k, mask_u, mask_v, num


def pair(p: Params, c: int) -> bytes:
    return le(c % p.n, p.nb) + le(c // p.n, p.nb)


def unpair(p: Params, data: bytes) -> int:
    """A ciphertext, as cloud and centre accept it."""
    low, high = num(data[: p.nb]), num(data[p.nb :])
    if len(data) != 2 * p.nb or low >= p.n or high >= p.n or math.gcd(low, p.n) != 1:
        raise Bad("not_a_ciphertext")
    return low + high * p.n


def one_hot(p: Params, hot: int, rs: Sequence[int], signs: Sequence[int]) -> list[int]:
    """The cloud's row: B_ij = +- g^(b_ij) h_s^(r_j)."""
    n2 = p.n**2
    row = []
    for slot, (r, minus) in enumerate(zip(rs, signs, strict=True), 1):
        c = (1 + p.n * (slot == hot)) * pow(p.h_s, r, n2) % n2
        row.append(n2 - c if minus else c)
    return row


@dataclass
class Draws:
    """Every random value of one meter in one period; lists are by slot 1..gamma."""

    xi: list[int]
    x: list[int]
    r: list[int]
    minus: list[int]
    s: int = 0
    own: int = 0


def clamp(p: Params, xi: int) -> int:
    return max(-p.offset, min(p.offset, xi))


def slots(p: Params, row: Sequence[int], draws: Draws) -> list[int]:
    """e_i1 .. e_igamma."""
    n2 = p.n**2
    out = []
    for j, b in enumerate(row):
        e = pow(b, clamp(p, draws.xi[j]) + p.offset, n2) * (1 + draws.x[j] * p.n)
        e = e * pow(p.h_s, draws.r[j], n2) % n2
        if j == 0 and p.row_check:
            e = e * pow(math.prod(row), draws.s, n2) % n2
        out.append(n2 - e if draws.minus[j] else e)
    return out


def report(p: Params, seeds: tuple[bytes, bytes], start: int, draws: Draws, reading: int) -> int:
    """C_i; the seeds are the dealer's and the centre's."""
    plain = min(max(reading, p.lo), p.hi) - sum(draws.x)
    plain += mask_u(p, seeds[0], start) + mask_v(p, seeds[1], start)
    plain += (draws.own if p.own_noise else 0) - (draws.s if p.row_check else 0)
    n2 = p.n**2
    power = pow(p.h, p.n + mask_k(p, seeds[0], start), n2)
    return (1 + plain % p.n * p.n) * power % n2


def members_of(p: Params, bitmap: bytes) -> list[int]:
    if len(bitmap) != (p.roster_size + 7) // 8 or num(bitmap) >> p.roster_size:
        raise Bad("bad_set")
    numbers = [i + 1 for i in range(p.roster_size) if num(bitmap) >> i & 1]
    if len(numbers) < p.quorum_count:
        raise Bad("below_quorum")
    return numbers


def share(p: Params, seeds: Sequence[bytes], start: int) -> tuple[int, int]:
    """K' = -K and U."""
    k = sum(mask_k(p, seed, start) for seed in seeds)
    return k, -sum(mask_u(p, seed, start) for seed in seeds) % p.n


def combine(
    p: Params, es: Sequence[int], cs: Sequence[int], minus_k: int, u: int
) -> tuple[int, int]:
    n2 = p.n**2
    c2 = math.prod(cs) * pow(pow(p.h, -1, n2), minus_k, n2) * (1 + u * p.n) % n2
    return math.prod(es) % n2, c2


def decrypt(p: Params, primes: tuple[int, int], c: int) -> int:
    lam = math.lcm(primes[0] - 1, primes[1] - 1)
    return (pow(c, lam, p.n**2) - 1) // p.n * pow(lam, -1, p.n) % p.n


def bound(p: Params, size: int) -> int:
    """B in Wh, rounded up."""
    delta, epsilon = p.hi - p.lo, Fraction(p.epsilon_num, p.epsilon_den)
    wide = max(Fraction(1), Fraction((1 + p.own_noise) * size, p.a))
    square = (60 * delta / epsilon) ** 2 * wide
    root = math.isqrt(math.floor(square))
    return root if root * root == square else root + 1


def total(
    p: Params,
    primes: tuple[int, int],
    c1: int,
    c2: int,
    seeds: Sequence[bytes],
    start: int,
) -> int:
    value = decrypt(p, primes, c1) + decrypt(p, primes, c2) - p.offset * len(seeds)
    value = (value - sum(mask_v(p, seed, start) for seed in seeds)) % p.n
    value = value if 2 * value <= p.n else value - p.n
    b = bound(p, len(seeds))
    if not len(seeds) * p.lo - b <= value <= len(seeds) * p.hi + b:
        raise Bad("sum_invalid")
    return value
