"""The other schemes' times, each a user's work, then everybody else's; every total is checked.

All use gmpy2's powmod and nothing more: no links, storage or checks, which the product's own times
(`fleet`) do include. Meters work side by side in the field; one after the other, as on one core, is how
times are added up here. Where only some users' uploads are computed, the rest repeat them: the
products are over all users, and the opened total is that of the repeated readings. Times are processor
time of the one thread, as in `fleet`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from typing import Any, TypeVar

from wattveil.baselines import dg_aped, wav, yan_plain
from wattveil.baselines.group import Group
from wattveil.paillier.keys import PrivateKey
from wattveil_meter.drbg import Drbg
from wattveil_meter.noise import make_sampler, offset

Result = TypeVar("Result")


@dataclass(frozen=True)
class Times:
    """Of one scheme and reading. user: ms, one entry a user whose work was timed (the meter's, and the
    cloud's for it alone); rest: ms of aggregator and centre together, for all users."""

    scheme: str
    bits: int
    users: int
    user: tuple[float, ...]
    rest: float
    checked: bool

    @property
    def whole(self) -> float:
        """Everybody's work for one aggregate, ms."""
        return sum(self.user) / len(self.user) * self.users + self.rest


def time_access(readings: Sequence[Sequence[int]], users: int) -> Times:
    """WAV-like, mode A: seal; then open, and add up in the clear. Per reading."""
    meters = [wav.Access(secrets.token_bytes(32)) for _ in readings]
    user, sealed = _each(meters, lambda m, i: m.seal(readings[i]))

    def centre() -> list[int]:
        pairs = islice(cycle(zip(meters, sealed, strict=True)), users)
        opened = [wav.open_access(s, m.key(wav.LEVELS), wav.LEVELS) for m, s in pairs]
        return [sum(column) for column in zip(*opened, strict=True)]

    rest, sums = _timed(centre)
    return _times("WAV-like, access", 0, users, user, rest, sums == _sums(readings, users))


def time_aggregation(
    keys: Sequence[PrivateKey], readings: Sequence[Sequence[int]], users: int
) -> Times:
    """WAV-like, mode B. Per reading."""
    scheme = wav.Aggregation(keys)
    user, uploads = _each(readings, lambda values, _: scheme.encrypt(values))
    rest, sums = _timed(lambda: scheme.decrypt(scheme.aggregate(islice(cycle(uploads), users))))
    bits = keys[0].public.bits
    return _times("WAV-like", bits, users, user, rest, sums == _sums(readings, users))


def time_dg_aped(group: Group, readings: Sequence[Sequence[int]], users: int, delta: int) -> Times:
    """DG-APED-like, every user computed; one partition opened, as when nothing fails."""
    setup, slot = dg_aped.Setup.draw(group, users, delta), b"one period"
    center = dg_aped.Center(setup)
    noise = [dg_aped.coin(setup.s) for _ in range(users)]
    given = [values[0] for values in islice(cycle(readings), users)]
    user, sent = _each(
        range(users), lambda i, _: dg_aped.report(setup, slot, i, given[i], noise[i])
    )
    rest, opened = _timed(lambda: center.open(slot, dict(enumerate(sent)), detect=False))
    right = opened.total == sum(given) + sum(noise) and len(opened.covered) == users
    bits = group.p.bit_length()
    return Times("DG-APED-like", bits, users, tuple(user), rest, right)


def time_plain(
    key: PrivateKey, readings: Sequence[Sequence[int]], users: int, gamma: int, delta: int
) -> Times:
    """The paper's own formulas; the cloud's rows are part of a user's time."""
    scheme = yan_plain.YanPlain(key.public, gamma, offset(1, 1, delta))
    drbg = Drbg(secrets.token_bytes(64), b"figures")
    sampler = make_sampler("gamma", users, 1, 1, delta)
    computed = len(readings)
    shares = [[sampler.share(drbg) for _ in range(gamma)] for _ in range(computed)]
    hot = [secrets.randbelow(gamma) for _ in range(computed)]
    k = [yan_plain.random_k() for _ in range(computed)]
    user, uploads = _each(
        range(computed),
        lambda i, _: scheme.upload(scheme.row(hot[i]), readings[i][0], shares[i], k[i]),
    )
    everyone = list(islice(cycle(uploads), users))
    k_sum = sum(islice(cycle(k), users))
    rest, total = _timed(lambda: scheme.open(key, scheme.aggregate(everyone, k_sum), users))
    chosen = [readings[i][0] + shares[i][hot[i]] for i in range(computed)]
    right = total == sum(islice(cycle(chosen), users))
    name = f"paper's formulas, γ = {gamma}"
    return Times(name, key.public.bits, users, tuple(user), rest, right)


def _times(
    name: str, bits: int, users: int, user: Sequence[float], rest: float, right: bool
) -> Times:
    """Of one reading out of the transform's."""
    return Times(
        name, bits, users, tuple(ms / wav.READINGS for ms in user), rest / wav.READINGS, right
    )


def _sums(readings: Sequence[Sequence[int]], users: int) -> list[int]:
    return [sum(column) for column in zip(*islice(cycle(readings), users), strict=True)]


def _each(
    items: Sequence[Any], work: Callable[[Any, int], Result]
) -> tuple[list[float], list[Result]]:
    """(ms, result) of the work on each item, after one that warms up."""
    work(items[0], 0)
    both = [_timed(partial(work, item, i)) for i, item in enumerate(items)]
    return [ms for ms, _ in both], [result for _, result in both]


def _timed(work: Callable[[], Result]) -> tuple[float, Result]:
    begun = time.thread_time()
    result = work()
    return (time.thread_time() - begun) * 1000, result
