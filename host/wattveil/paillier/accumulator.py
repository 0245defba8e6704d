"""The product of many ciphertexts, on one core, on all of them, or on a cluster.

An associative and commutative accumulator in four steps, `create`, `add`, `merge` and `extract`
(the CombineFn of Beam and its kin), and `multiply`, which runs it behind a
`concurrent.futures.Executor`. Tasks get references to ciphertexts, never the ciphertexts.

x = x0 + n*x1 stays in the form it has on the wire. Three products of |n| bits and two reductions
modulo n, x0*y0 = q*n + z0 and z1 = x0*y1 + x1*y0 + q, take less than a product modulo n^2 does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field
from typing import Protocol

from gmpy2 import f_mod_2exp, gcd, mpz

from wattveil.paillier.keys import NotACiphertext, PublicKey

Buffer = bytes | bytearray | memoryview


class Part(Protocol):
    """A reference to stored pairs, small and picklable; `store.packed.Span` is one."""

    def payloads(self) -> Iterator[memoryview]:
        """The pairs, which were checked by `from_pair` before they were stored."""


@dataclass(frozen=True, slots=True)
class Partial:
    """The product low + n*high of `count` ciphertexts."""

    count: int
    low: mpz = field(repr=False)
    high: mpz = field(repr=False)


@dataclass(frozen=True)
class Accumulator:
    """Products for one public key. Methods return what they make and change nothing."""

    public: PublicKey

    def create(self) -> Partial:
        """The product of none."""
        return Partial(0, mpz(1), mpz(0))

    def add(self, partial: Partial, pairs: Iterable[Buffer]) -> Partial:
        """The product with these pairs too, each 2 * |n|/8 bytes as on the wire.

        NotACiphertext for another length. Pairs are not checked otherwise: whether all of them
        were units is one gcd at the end, in `extract`, instead of one each (11 us at 2048 bits).
        """
        n, bits, size = self.public.n, self.public.bits, 2 * self.public.bytes
        count, low, high = partial.count, partial.low, partial.high
        for pair in pairs:
            if len(pair) != size:
                raise NotACiphertext(f"a ciphertext has {size} bytes, not {len(pair)}")
            both = mpz.from_bytes(pair, "little")  # type: ignore[arg-type]  # takes any buffer
            y0, y1 = f_mod_2exp(both, bits), both >> bits
            q, z = divmod(low * y0, n)
            high = (low * y1 + high * y0 + q) % n
            low = z
            count += 1
        return Partial(count, low, high)

    def merge(self, a: Partial, b: Partial) -> Partial:
        """The product of both."""
        n = self.public.n
        q, low = divmod(a.low * b.low, n)
        return Partial(a.count + b.count, low, (a.low * b.high + a.high * b.low + q) % n)

    def extract(self, partial: Partial) -> mpz:
        """The ciphertext; NotACiphertext when one of its factors was none."""
        if gcd(partial.low, self.public.n) != 1:
            raise NotACiphertext("a product with a factor that is not invertible")
        return partial.low + partial.high * self.public.n


def multiply_part(public: PublicKey, part: Part) -> Partial:
    """One task: all pairs of one part."""
    accumulator = Accumulator(public)
    return accumulator.add(accumulator.create(), part.payloads())


def multiply(
    executor: Executor, public: PublicKey, parts: Iterable[Part], under_way: int = 64
) -> Partial:
    """The product of all parts, each a task of its own; 10,000 pairs are a good size for one.

    At most `under_way` tasks are submitted at a time. Compare `count` with what should have been
    there: that is how a part left out or given twice is noticed. What a task or its executor
    raises is raised here, and the tasks not yet begun are dropped; starting anew is harmless.
    """
    accumulator = Accumulator(public)
    total = accumulator.create()
    waiting = iter(parts)
    tasks: set[Future[Partial]] = set()
    try:
        while True:
            for part in waiting:
                tasks.add(executor.submit(multiply_part, public, part))
                if len(tasks) >= under_way:
                    break
            if not tasks:
                return total
            done, tasks = wait(tasks, return_when=FIRST_COMPLETED)
            for task in done:
                total = accumulator.merge(total, task.result())
    finally:
        for task in tasks:
            task.cancel()
