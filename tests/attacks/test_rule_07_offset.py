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
from attacks.kit import Bench, Shares
from wattveil_meter.fields import Malformed

READING = 600


@pytest.mark.parametrize("rule", [False, True])
@pytest.mark.parametrize("beyond", [1, 5000, 10**9])
def test_a_share_beyond_the_offset(
    monkeypatch: pytest.MonkeyPatch, rule: bool, beyond: int
) -> None:
    if not rule:
        monkeypatch.setattr(core, "clamp", lambda xi, limit: xi)
    bench = Bench()
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
def test_every_share_in_range_opens_exactly(xi: str) -> None:
    bench = Bench()
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
        real = core.power

        def plain(ring: Any, bases: Any, comb: Any, exponent: int) -> Any:
            (pair, e, _), *_ = bases
            acc = yield from real(ring, [], comb, exponent)
            for bit in range(e.bit_length()):
                if e >> bit & 1:
                    acc = ring.mul(acc, pair)
                pair = ring.sqr(pair)
            return acc

        monkeypatch.setattr(core, "power", plain)
    o = bench.record.offset
    monkeypatch.setattr(core.Yan2024, "finish", lambda self: self._noise_slot(1, self._first, []))
    counts = {multiplications(bench, xi) for xi in (-o, -o + 1, -977, -1, 0, 1, 977, o)}
    assert (len(counts) == 1) is rule


def cheap_products(bench: Bench, xi: int) -> int:
    """Products by a factor of a few bits: 50 times faster than the others at 2048 bits."""
    cheap = 0
    real = type(bench.ring).mul

    def mul(x: Any, y: Any) -> Any:
        nonlocal cheap
        cheap += min(x[0].bit_length(), y[0].bit_length()) < 64
        return real(bench.ring, x, y)

    bench.ring.mul = mul
    play = bench.meter("one meter", Shares([0, xi, 0]))
    row = bench.one_hot("row")
    play.suite._first = play.suite._product = divmod(row[0], bench.n)[::-1]
    for _ in play.suite.row(2, divmod(row[1], bench.n)[::-1]):
        pass
    del bench.ring.mul
    return cheap


@pytest.mark.parametrize("rule", [False, True])
def test_the_time_of_a_slot_does_not_depend_on_the_share(rule: bool) -> None:
    """Multiplying by (1, 0) for a zero window takes no time, which the cloud sees in when SLOT
    arrives; Ring.one is the same element at full length."""
    bench = Bench()
    if not rule:
        bench.ring.one = (bench.ring.number(1), bench.ring.number(0))
    counts = {cheap_products(bench, xi) for xi in (0, 1, 77, 4096 - bench.record.offset)}
    assert (len(counts) == 1) is rule
