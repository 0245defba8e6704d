"""Rule 6, the row check: a cloud that sends rows that are not one-hot.

All zeros, O given back: the noise-free reading; with s_i in the plaintext the total is off by s_i
(sigma - 1) for a row of sum sigma. Rows that do sum to 1 pass, which the protocol says with its odds:
(2, -1, 0) only makes the noise wider; (1/w, .., 1/w) passes once in w with the noise divided by w; (1 - a,
a), a large, passes only if xi_1 = xi_2. These odds are measured here: they must not be better.
"""

from __future__ import annotations

import pytest

from attacks.kit import CORE, Bench, Shares, drbg
from wattveil.audit.attacks import rows as attack

READING = 500


@pytest.fixture(params=CORE)
def suite(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("rule", [False, True])
@pytest.mark.parametrize("sigma", [0, 2, 5, -1])
def test_rows_of_another_sum(suite: str, rule: bool, sigma: int) -> None:
    """Attack: no noise (sigma 0), or the reading with a multiple of one share."""
    bench = Bench(suite=suite, row_check=int(rule))
    offsets = attack.another_sum(bench, sigma, 12, READING)
    if not rule:
        assert offsets == [0] * 12
    else:
        factors = [offset // (sigma - 1) for offset in offsets]
        assert [f * (sigma - 1) for f in factors] == offsets  # s_i and nothing else
        assert len(set(factors)) == 12
        assert all(0 <= f < 1 << bench.record.check_bits for f in factors)
        assert not any(bench.plausible(o) for o in offsets)


def test_the_odds_against_a_row_of_another_sum() -> None:
    """|s (sigma - 1)| within W has chance at most (W + 1) / 2^bits, W / 2^bits <= 2^-20."""
    record = Bench().record
    assert record._width() << 20 <= 1 << record.check_bits
    wide = Bench(roster_size=200, quorum_count=100, hi=40_000).record
    assert wide._width() << 20 <= 1 << wide.check_bits


@pytest.mark.parametrize("rule", [False, True])
def test_one_share_twice_minus_another(suite: str, rule: bool) -> None:
    """(2, -1, 0) sums to 1 and passes, check or no check: the noise is 2 xi_1 - xi_2, not less."""
    bench = Bench(suite=suite, row_check=int(rule))
    play = bench.meter("two", Shares([30, 7, 1000]))
    slots = play.answer(bench.rows([2, -1, 0], "two"))
    assert bench.total(slots, play.report(READING)) == READING + 2 * 30 - 7


@pytest.mark.parametrize("w", [2, 3, 5])
def test_a_row_of_fractions_passes_once_in_w(suite: str, w: int) -> None:
    """With a full Laplace share (a = 1) of scale 1,000 Wh; 6 standard deviations around 1 / w."""
    tries = 240
    passed, exact = attack.fractions(suite, w, tries)
    assert exact
    assert abs(passed - tries / w) < 6 * (tries * (w - 1)) ** 0.5 / w


def test_a_row_that_compares_two_shares(suite: str) -> None:
    """(1 - a, a, 0): in range exactly when the first two shares are equal; otherwise random."""
    passed, equal, same = attack.comparing(suite, 40)
    assert same
    assert 0 < passed == equal < 40


def test_the_factor_is_fresh_every_period(suite: str) -> None:
    """A cloud that learned s_i of one period (by a false row and a friend at the centre) could
    correct for it in the next one, were it the same."""
    bench = Bench(suite=suite)
    source = drbg("one meter's generator")
    factors = {bench.meter(source, Shares([0, 0, 0])).suite._s for _ in range(5)}
    assert len(factors) == 5
