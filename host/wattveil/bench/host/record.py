"""What one figure of the host is, and how two ways of doing a thing are compared."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, TypedDict

from gmpy2 import mpz, powmod

from wattveil.paillier.keys import PrivateKey

WEIGHT_BITS = 40


class HostRecord(TypedDict):
    """One stage of one piece of work. None: it does not depend on that, or was not measured.

    value, baseline_value: medians in `unit`. ratio: baseline_value / value, how many times less
    of it ours needs. processes: that worked on it. checked: every answer that was timed, the
    baseline's too, was opened with the private key and right.
    """

    what: str
    stage: str
    bits: int
    suite: str | None
    gamma: int | None
    meters: int | None
    processes: int
    level: str | None
    value: float
    unit: str
    baseline: str | None
    baseline_value: float | None
    ratio: float | None
    checked: bool


@dataclass(frozen=True)
class HostPlan:
    """How much to measure. meters None: what each piece of work finds natural.

    ciphertexts: of the product. processes: the most that work at a time.
    """

    bits: Sequence[int] = (2048,)
    what: Sequence[str] = ()  # all of them
    repeats: int = 5
    gamma: int = 20
    meters: int | None = None
    processes: int = 2
    ciphertexts: int = 1_000_000


Progress = Callable[[str], None]
Run = Callable[[PrivateKey, HostPlan, Progress], list[HostRecord]]


def record(
    what: str,
    stage: str,
    bits: int,
    value: float,
    unit: str,
    checked: bool,
    *,
    suite: str | None = None,
    gamma: int | None = None,
    meters: int | None = None,
    processes: int = 1,
    level: str | None = None,
    baseline: str | None = None,
    baseline_value: float | None = None,
) -> HostRecord:
    """A record with its ratio."""
    ratio = baseline_value / value if baseline_value is not None and value else None
    return HostRecord(
        what=what,
        stage=stage,
        bits=bits,
        suite=suite,
        gamma=gamma,
        meters=meters,
        processes=processes,
        level=level,
        value=value,
        unit=unit,
        baseline=baseline,
        baseline_value=baseline_value,
        ratio=ratio,
        checked=checked,
    )


@dataclass
class Way:
    """One way to do a piece of work: `run` does it `count` times over."""

    run: Callable[[], Any]
    count: int = 1
    seconds: list[float] = field(default_factory=list)  # for one, each turn
    results: list[Any] = field(default_factory=list)

    @property
    def us(self) -> float:
        """Median of one, in microseconds."""
        return median(self.seconds) * 1e6


def race(repeats: int, *ways: Way, clock: Callable[[], float] = time.process_time) -> None:
    """Let the ways take turns, so that a busy machine slows all alike; every result is kept.

    The default clock counts this process's own time on all cores: what other programs take is not
    in it, and a peer with threads has no advantage.
    """
    for _ in range(repeats):
        for way in ways:
            begun = clock()
            result = way.run()
            way.seconds.append((clock() - begun) / way.count)
            way.results.append(result)


def opens_to(key: PrivateKey, ciphertexts: Sequence[mpz], plain: Sequence[int]) -> bool:
    """Whether each ciphertext decrypts to its plaintext, by one decryption of the sum of all with
    random weights: a wrong one passes with chance 2^-40."""
    n2 = key.public.n2
    product, total = mpz(1), 0
    for c, m in zip(ciphertexts, plain, strict=True):
        weight = secrets.randbits(WEIGHT_BITS)
        product = product * powmod(c, weight, n2) % n2
        total += weight * m
    return bool(key.decrypt(product) == total % key.public.n)
