"""Key generation: the price of safe primes."""

from __future__ import annotations

import secrets

from gmpy2 import mpz, next_prime

from wattveil.bench.host.record import HostPlan, HostRecord, Progress, Way, race, record
from wattveil.bench.rig import make_key
from wattveil.paillier.keys import PrivateKey


def run_keygen(key: PrivateKey, plan: HostPlan, progress: Progress) -> list[HostRecord]:
    """One key; single keys vary by a factor of ten."""
    bits = key.public.bits
    ours, plain = Way(lambda: make_key(bits)), Way(lambda: _plain_primes(bits))
    race(plan.repeats, ours, plain)
    made: PrivateKey
    for made in ours.results:
        made.verify()
    sizes = {made.public.bits for made in ours.results}
    sizes |= {(p * q).bit_length() for p, q in plain.results}
    return [
        record("keygen", "safe primes", bits, ours.us / 1000, "ms", sizes == {bits},
               baseline="two random primes", baseline_value=plain.us / 1000)
    ]  # fmt: skip


def _plain_primes(bits: int) -> tuple[mpz, mpz]:
    """Two random primes with the two top bits set, as most Paillier libraries take them."""
    top = 3 << (bits // 2 - 2)
    draw = [next_prime(mpz(top + secrets.randbits(bits // 2 - 2))) for _ in range(2)]
    return draw[0], draw[1]
