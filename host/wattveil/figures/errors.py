"""How far each scheme's released sum is off: draws of its noise, and the closed form beside them.

Ours is drawn by the product's own sampler, one share a meter; readings cancel in an error, so only
their mean enters, as the load that it is relative to.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from wattveil.baselines import dg_aped, wav
from wattveil.privacy.law import noise_sd
from wattveil_meter.drbg import Drbg
from wattveil_meter.noise import make_sampler

RESAMPLES = 200
OURS, WAV, DG = "ours", "WAV-like with noise", "DG-APED-like"


@dataclass(frozen=True)
class Spread:
    """Two readings of "SD", as shares of the load S: rel, of |S^ - S| / S; signed, of (S^ - S) / S;
    each (value, low, high) with its bootstrap 95 % interval. formula: of `signed`, closed form."""

    scheme: str
    users: int
    runs: int
    seed: str
    mean_abs: float
    rel: tuple[float, float, float]
    signed: tuple[float, float, float]
    formula: float


def spread(
    scheme: str, users: int, runs: int, delta: int, epsilon: Fraction, mean_wh: float
) -> Spread:
    """`runs` sums over `users` meters of mean reading `mean_wh`. Seeded: the same each time."""
    seed = f"figures {scheme} {users}"
    draw, sd = _source(scheme, users, delta, epsilon, seed)
    load = users * mean_wh
    errors = [draw() / load for _ in range(runs)]
    sizes = [abs(error) for error in errors]
    return Spread(
        scheme, users, runs, seed, sum(sizes) / runs, _with_interval(sizes, seed),
        _with_interval(errors, seed), sd / load,
    )  # fmt: skip


def _source(
    scheme: str, users: int, delta: int, epsilon: Fraction, seed: str
) -> tuple[Callable[[], float], float]:
    """(one error in Wh, its standard deviation by formula)."""
    drbg = Drbg(b"wattveil figures: a public seed, for repeatable pictures", seed.encode())
    if scheme == WAV:
        return (
            lambda: wav.noisy_error(users, delta, epsilon, wav.LEVELS, drbg),
            wav.noisy_sd(delta, epsilon, wav.LEVELS),
        )
    if scheme == DG:
        coins, s = random.Random(seed), -(-delta // 2)
        return lambda: s * (2 * coins.getrandbits(users).bit_count() - users), dg_aped.noise_sd(
            users, s
        )
    share = make_sampler("gamma", users, epsilon.numerator, epsilon.denominator, delta).share
    return (
        lambda: sum(share(drbg) for _ in range(users)),
        noise_sd(users, users, epsilon, delta, False),
    )


def _with_interval(values: Sequence[float], seed: str) -> tuple[float, float, float]:
    chance = random.Random(seed)
    again = sorted(
        statistics.fmean(x * x for x in sample) - statistics.fmean(sample) ** 2
        for sample in (chance.choices(values, k=len(values)) for _ in range(RESAMPLES))
    )
    low, high = again[RESAMPLES // 40], again[-1 - RESAMPLES // 40]
    return statistics.pstdev(values), math.sqrt(max(0.0, low)), math.sqrt(high)
