"""What a coalition makes of what it holds of one period (`period.Held`), against the first meter.

Each gives a value for d, Wh: of a total the coalition takes off all it knows; of ciphertexts, whatever they
open to, and where that is nothing near a reading, a guess.
"""

from __future__ import annotations

from itertools import product

from gmpy2 import invert, jacobi, mpz, powmod

from wattveil.audit.period import METERS, Held, single

NEAR = 1 << 24  # a value that may be a reading with noise


def from_total(held: Held) -> float:
    """d + the noise that the coalition cannot take away."""
    own = sum(meter.own for meter in (held.meters or {}).values())
    return held.total - held.others - own - sum(_chosen(held))


def _chosen(held: Held) -> list[int]:
    """The chosen shares of the colluding meters, as far as somebody knows the slots."""
    known = []
    for i, meter in (held.meters or {}).items():
        if held.cloud:
            known.append(meter.shares[held.cloud.hot[i]])
        elif held.center:  # the key holder reads the rows these meters were given
            bits = [held.center.key.decrypt(c) for c in meter.rows]
            known.append(meter.shares[bits.index(mpz(1))])
    return known


def without_slots(held: Held) -> float:
    """The same without the cloud: the choice of slots that brings the total nearest to 0 or Δ."""
    meters = (held.meters or {}).values()
    sums = [sum(shares) for shares in product(*(meter.shares for meter in meters))]
    delta, own = held.bench.record.delta, sum(meter.own for meter in meters)
    rest = [held.total - held.others - own - total for total in sums]
    return min(rest, key=lambda x: min(abs(x), abs(x - delta)))


def from_report(held: Held) -> float:
    """The first meter's own ciphertexts."""
    opened = single(held)
    if opened is not None and abs(opened) < NEAR:
        return opened
    assert held.cloud is not None
    return _guess(
        held, opened if opened is not None else int(held.cloud.reports[0] % held.bench.n)
    )


def from_parts(held: Held) -> float:
    """D(C2) = Σ(d - x - s + v) alone."""
    assert held.center is not None
    opened = held.center.key.decrypt(held.center.opened[1]) - sum(held.center.v)
    left = held.bench.signed(opened - held.others)
    return left if abs(left) < NEAR else _guess(held, left)


def closed_sum(held: Held) -> int | None:
    """The cloud alone, yan2024: what C2 holds. All of its h^(|S| n) is public; no key is needed."""
    assert held.cloud is not None
    bench = held.bench
    h = powmod(bench.h, METERS * bench.n, bench.n2)
    return bench.exponent(held.cloud.opened[-1] * invert(h, bench.n2) % bench.n2)


def from_closed_sum(held: Held) -> float:
    """d from it, or a guess."""
    opened = closed_sum(held)
    assert opened is not None
    left = held.bench.signed(opened - held.others)
    return left if abs(left) < NEAR else _guess(held, left)


def share_of(held: Held, slot: int) -> int | None:
    """The cloud alone, yan2024: ξ from e_ij / B_ij^O, were that a power of g."""
    assert held.cloud is not None
    bench = held.bench
    base = powmod(held.cloud.rows[0][slot], bench.record.offset, bench.n2)
    left = held.cloud.slots[0][slot] * invert(base, bench.n2) % bench.n2
    return bench.exponent(left) or bench.exponent(bench.n2 - left)


def parity_read(held: Held) -> tuple[int, list[int]]:
    """The cloud alone: the symbol of e_i2 (yan2024) or T_i as a bit, and the slots whose ξ + O it would be
    the parity of the sum of: those with B of symbol -1."""
    assert held.cloud is not None
    n, row = held.bench.n, held.cloud.rows[0]
    compact = held.bench.record.suite == "compact"
    sent = held.cloud.reports[0] if compact else held.cloud.slots[0][1]
    inside = range(len(row)) if compact else (1,)
    return int(jacobi(sent % n, n) == -1), [j for j in inside if jacobi(row[j] % n, n) == -1]


def _guess(held: Held, value: int) -> float:
    """0 or Δ by the lowest bit."""
    return float(value & 1) * int(held.bench.record.delta)
