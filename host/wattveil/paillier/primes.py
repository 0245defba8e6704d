"""Safe primes by a sieved search: p and (p - 1)/2 are sieved together, then tested.

A safe prime is a prime p whose half s = (p - 1)/2 is prime too. Near 2^1024 one number in about
380,000 is such an s. Every s but 2 and 3 is 5 mod 6, so the search walks s = s0 + 6*i from a
random s0, strikes out every i for which a small prime divides s or 2*s + 1, and tests the rest.
Method: Wiener, "Safe Prime Generation with a Combined Sieve", IACR ePrint 2003/186.
"""

import secrets
from collections.abc import Callable
from functools import lru_cache
from math import isqrt

from gmpy2 import is_prime, is_strong_prp, mpz, powmod

ROUNDS = 40  # of the final primality tests (in GMP: Baillie-PSW, then 16 of Miller-Rabin)
MIN_BITS = 64  # the sieve assumes that candidates are far larger than its primes


@lru_cache(maxsize=4)
def _sieving_primes(limit: int) -> tuple[tuple[int, int], ...]:
    """Pairs (r, 6^-1 mod r) for the primes 5 <= r < limit."""
    sieve = bytearray([1]) * limit
    for r in range(2, isqrt(limit) + 1):
        if sieve[r]:
            sieve[r * r :: r] = bytes(len(range(r * r, limit, r)))
    return tuple((r, pow(6, -1, r)) for r in range(5, limit) if sieve[r])


def _survivors(s0: mpz, steps: int, limit: int) -> bytearray:
    """Flags for i in [0, steps): 1 where neither s0 + 6*i nor its double plus one has a factor
    below `limit`."""
    alive = bytearray([1]) * steps
    zeros = bytes(steps)
    for r, inverse in _sieving_primes(limit):
        first = -int(s0 % r) * inverse % r  # r divides s
        second = (first + (r >> 1) * inverse) % r  # s = (r - 1)/2 mod r: r divides 2*s + 1
        alive[first::r] = zeros[: (steps - 1 - first) // r + 1]
        alive[second::r] = zeros[: (steps - 1 - second) // r + 1]
    return alive


def is_safe_prime(p: mpz) -> bool:
    """Whether p and (p - 1)/2 both pass the full tests (no composite is known that does)."""
    return p > 5 and bool(p & 1) and is_prime(p, ROUNDS) and is_prime(p >> 1, ROUNDS)


def safe_prime(bits: int, progress: Callable[[], None] | None = None) -> mpz:
    """A random safe prime p with sqrt(2)*2^(bits-1) <= p < 2^bits, p = 11 mod 12.

    The product of two such primes has exactly 2*bits bits. `progress` is called once per tested
    candidate (at 1024 bits about 1,100 of them on average, 0.3 ms each). The
    prime is the first one after a uniform start: primes after long gaps are likelier in
    proportion, which costs less than one bit of entropy. The starts come from `secrets`. Time
    depends on the result and is no secret kept: run this on the key holder's own machine.

    Raises ValueError below 64 bits.
    """
    if bits < MIN_BITS:
        raise ValueError(f"a safe prime of {bits} bits is too short for the search: at least 64")
    low = (isqrt(1 << (2 * bits - 1)) + 2) // 2  # smallest s whose p = 2*s + 1 is large enough
    high = 1 << (bits - 1)
    steps = bits * bits // 8  # about twice the mean distance between hits
    limit = bits * bits // 4
    while True:
        s0 = mpz(low + secrets.randbelow(high - low))
        s0 += (5 - s0) % 6
        alive = _survivors(s0, steps, limit)
        index = alive.find(1)
        while index >= 0:
            s = s0 + 6 * index
            p = 2 * s + 1
            if p.bit_length() != bits:
                break
            if progress is not None:
                progress()
            if is_strong_prp(s, 2) and powmod(2, p - 1, p) == 1 and is_safe_prime(p):
                return p
            index = alive.find(1, index + 1)
