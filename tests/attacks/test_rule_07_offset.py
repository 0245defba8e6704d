"""Rule 7: negative noise. The exponent xi + O must never be negative, whatever was drawn.

A share below -O (chance e^-60, or a broken sampler, or an O that is too small) gives a negative exponent:
the windows of Straus' method then read its two's complement and the total is off by a multiple of a power
of two: lost as `sum_invalid`, or wrong without a sign of it. Clamped to [-O, O] the total is d - O. And the
sequence of multiplications is the same for every xi. Bounds of the total: README.md here.
"""

from __future__ import annotations

from typing import Any

import pytest

import support
import wattveil_meter.yan2024 as core
from attacks.kit import CORE, Bench, Shares
from wattveil_meter.fields import Malformed

READING = 600


@pytest.mark.parametrize("rule", [False, True])
@pytest.mark.parametrize("beyond", [1, 5000, 10**9])
@pytest.mark.parametrize("suite", CORE)
def test_a_share_beyond_the_offset(
    monkeypatch: pytest.MonkeyPatch, suite: str, rule: bool, beyond: int
) -> None:
    if not rule:
        monkeypatch.setattr(CORE[suite], "clamp", lambda xi, limit: xi)
    bench = Bench(suite=suite)
    o = bench.record.offset
    play = bench.meter("low", Shares([-o - beyond, 0, 0]))
    slots = play.answer(bench.one_hot("low"))
    total = bench.total(slots, play.report(READING))
    if rule:
        assert total == READING - o
        assert bench.plausible(total)
    else:
        wrong = total - (READING - o - beyond)
        assert wrong and wrong % (1 << bench.record.exponent_bits) == 0  # wrapped around


@pytest.mark.parametrize("xi", ["-O", "-O+1", "-1", "0", "1", "O-1", "O"])
@pytest.mark.parametrize("suite", CORE)
def test_every_share_in_range_opens_exactly(suite: str, xi: str) -> None:
    bench = Bench(suite=suite)
    value = eval(xi, {"O": bench.record.offset})
    play = bench.meter("any", Shares([0, value, 0]))
    slots = play.answer(bench.one_hot("any", hot=1))
    assert bench.total(slots, play.report(READING)) == READING + value


def test_a_record_with_less_offset_is_refused() -> None:
    o = support.record().offset
    for offset in (0, o // 2, o - 1):
        with pytest.raises(Malformed, match="offset"):
            support.record(offset=offset)
    with pytest.raises(Malformed, match="offset"):
        support.record(epsilon_den=2)  # a smaller epsilon needs a larger O
    assert support.record(offset=o).exponent_bits == (2 * o).bit_length()


def multiplications(bench: Bench, xi: int, power: Any = None) -> int:
    play = bench.meter("count", Shares([0, xi, 0]))
    row = bench.one_hot("count")
    before = bench.ring.modmuls
    play.answer(row)
    return int(bench.ring.modmuls - before)


@pytest.mark.parametrize("rule", [False, True])
def test_the_work_does_not_depend_on_the_share(
    monkeypatch: pytest.MonkeyPatch, rule: bool
) -> None:
    """Most shares are 0: a meter that skips zero digits says by its time which are not."""
    bench = Bench()
    if not rule:
        real = core.window

        def skipping(ring: Any, base: Any, e: int, bits: int) -> Any:
            made = yield from real(ring, base, e, bits)
            factor, mask = made.factor, (1 << made._width) - 1
            made.factor = lambda at: factor(at) if e >> at & mask else None
            return made

        monkeypatch.setattr(core, "window", skipping)
    o = bench.record.offset
    monkeypatch.setattr(core.Yan2024, "finish", lambda self: self._noise_slot(1, self._first, []))
    counts = {multiplications(bench, xi) for xi in (-o, -o + 1, -977, -1, 0, 1, 977, o)}
    assert (len(counts) == 1) is rule


def cheap_products(bench: Bench, xi: int) -> int:
    """Products by a factor of a few bits: 50 times faster than the others at 2048 bits."""
    cheap = 0
    real = type(bench.ring).times

    def times(x: Any, y: Any) -> Any:
        nonlocal cheap
        cheap += len(y) == 3 and min(x[0].bit_length(), y[0].bit_length()) < 64
        return real(bench.ring, x, y)

    bench.ring.times = times
    play = bench.meter("one meter", Shares([0, xi, 0]))
    row = bench.one_hot("row")
    play.suite._first = play.suite._product = bench.element(row[0])
    for _ in play.suite.row(2, bench.element(row[1])):
        pass
    del bench.ring.times
    return cheap


@pytest.mark.parametrize("rule", [False, True])
def test_the_time_of_a_slot_does_not_depend_on_the_share(rule: bool) -> None:
    """Multiplying by (1, 0) for a zero window takes no time, which the cloud sees in when SLOT
    arrives; Portable.one is the same element at full length."""
    bench = Bench()
    if not rule:
        bench.ring._one = (bench.ring._number(1), bench.ring._number(0))
    counts = {cheap_products(bench, xi) for xi in (0, 1, 77, 4096 - bench.record.offset)}
    assert (len(counts) == 1) is rule


def work_of_compact(bench: Bench, shares: list[int]) -> list[int]:
    """What a period of suite compact multiplies by: 0 for a factor of a few bits, else 1."""
    done: list[int] = []
    real = type(bench.ring).times

    def times(x: Any, y: Any) -> Any:
        done.append(int(min(x[0].bit_length(), y[0].bit_length()) >= 64))
        return real(bench.ring, x, y)

    bench.ring.times = times
    play = bench.meter("one meter", Shares(shares))
    play.report_only(bench.one_hot("row"), READING)
    del bench.ring.times
    return done


@pytest.mark.parametrize("rule", [False, True])
def test_the_time_of_compact_does_not_depend_on_the_shares(rule: bool) -> None:
    """The product of no row of a group, for a bit that none of their exponents has, is such a 1."""
    bench = Bench(suite="compact", gamma=5)
    if not rule:
        bench.ring._one = (bench.ring._number(1), bench.ring._number(0))
    o = bench.record.offset
    vectors = ([0] * 5, [1, 0, -977, o, -o], [4096 - o] * 5, [-o] * 5)
    assert (len({tuple(work_of_compact(bench, xi)) for xi in vectors}) == 1) is rule
