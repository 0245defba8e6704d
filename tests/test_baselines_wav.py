"""WAV-like: the transforms against hand-worked values, the key chain, exact sums, and the noise's law."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from wattveil.baselines import wav
from wattveil.bench.rig import make_key
from wattveil_meter.drbg import Drbg

SERIES = st.integers(1, 4).flatmap(
    lambda levels: st.tuples(
        st.just(levels),
        st.integers(1, 3).flatmap(
            lambda blocks: st.lists(
                st.integers(-(10**9), 10**9),
                min_size=blocks << levels,
                max_size=blocks << levels,
            )
        ),
    )
)


def test_linear_transform_by_hand() -> None:
    # (9, 7), (3, 5) -> sums 16, 8 and differences 2, -2; (16, 8) -> 24 and 8
    assert wav.forward([9, 7, 3, 5], 2) == [[24], [8], [2, -2]]
    assert wav.inverse([[24], [8], [2, -2]]) == [9, 7, 3, 5]
    assert wav.inverse([[24], [8]]) == [16, 8]  # without the finest band: sums of two


def test_lifting_by_hand() -> None:
    # (9, 7): d = -2, s = 9 - 1 = 8; (3, 6): d = 3, s = 3 + 1 = 4; (8, 4): d = -4, s = 6
    assert wav.lift([9, 7, 3, 6], 2) == [[6], [-4], [-2, 3]]
    assert wav.unlift([[6], [-4], [-2, 3]]) == [9, 7, 3, 6]
    assert wav.unlift([[6], [-4]]) == [8, 4]


@given(SERIES)
def test_perfect_reconstruction(series: tuple[int, list[int]]) -> None:
    levels, values = series
    assert wav.inverse(wav.forward(values, levels)) == values
    assert wav.unlift(wav.lift(values, levels)) == values
    assert sum(map(len, wav.forward(values, levels))) == len(values)  # no redundancy


@given(SERIES, st.integers(-1000, 1000))
def test_only_the_linear_transform_is_linear(series: tuple[int, list[int]], factor: int) -> None:
    levels, values = series
    other = [v * factor + i for i, v in enumerate(values)]
    both = zip(wav.forward(values, levels), wav.forward(other, levels), strict=True)
    summed = [[a + b for a, b in zip(x, y, strict=True)] for x, y in both]
    assert wav.inverse(summed) == [a + b for a, b in zip(values, other, strict=True)]


def test_lifted_sums_are_biased() -> None:
    """Why aggregation must not use lifting: about -1/4 Wh a meter and level (the floors)."""
    chance, meters, levels = random.Random(1), 1000, 4
    readings = [[chance.randrange(2000) for _ in range(16)] for _ in range(meters)]
    lifted = [wav.lift(values, levels) for values in readings]
    summed = [
        [sum(column) for column in zip(*band, strict=True)] for band in zip(*lifted, strict=True)
    ]
    exact = [sum(column) for column in zip(*readings, strict=True)]
    bias = sum(a - b for a, b in zip(wav.unlift(summed), exact, strict=True)) / 16
    assert -1.15 * meters < bias < -0.85 * meters


def test_what_does_not_split_is_refused() -> None:
    for count, levels in ((6, 2), (0, 1), (8, 0)):
        with pytest.raises(ValueError, match="split"):
            wav.forward([1] * count, levels)


def test_keys_open_their_resolution_and_coarser_ones_only() -> None:
    values = [100, 104, 90, 95, 0, 3, 50, 50, 60, 61, 62, 63, 8, 8, 8, 9]
    meter = wav.Access(b"k" * 32)
    sealed = meter.seal(values)
    for resolution in range(wav.LEVELS + 1):
        seen = wav.open_access(sealed, meter.key(resolution), resolution)
        assert len(seen) == 1 << resolution
        whole = wav.lift(values, wav.LEVELS)
        assert seen == wav.unlift(whole[: resolution + 1])
        if resolution < wav.LEVELS:  # the finer band stays shut, whatever is derived from the key
            with pytest.raises(InvalidTag):
                wav.open_access(sealed, meter.key(resolution), resolution + 1)
            assert wav.coarser(meter.key(resolution + 1)) == meter.key(resolution)
    assert wav.open_access(sealed, meter.key(wav.LEVELS), wav.LEVELS) == values
    sealed[2] = sealed[2][:-1] + bytes([sealed[2][-1] ^ 1])
    with pytest.raises(InvalidTag):
        wav.open_access(sealed, meter.key(wav.LEVELS), wav.LEVELS)


def test_aggregation_is_exact_and_bands_have_keys_of_their_own() -> None:
    chance, levels = random.Random(2), 2
    keys = [make_key(256) for _ in range(levels + 1)]
    scheme = wav.Aggregation(keys)
    readings = [[chance.randrange(11_501) for _ in range(8)] for _ in range(5)]
    uploads = [scheme.encrypt(values) for values in readings]
    total = scheme.aggregate(uploads)
    assert scheme.decrypt(total) == [sum(column) for column in zip(*readings, strict=True)]
    values = [keys[0].decrypt(c) for c in total[0]]  # the coarsest band: sums of four readings
    assert sum(values) == sum(map(sum, readings))
    foreign = [keys[1].decrypt(c % keys[1].public.n2) for c in total[0]]
    assert foreign != values


def test_noise_formula_by_hand() -> None:
    # one level: (A + D) / 2, each of scale 2 delta: sd = sqrt(2 * 2 * (2 delta)^2) / 2 = 2 delta
    assert wav.noisy_sd(100, Fraction(1), 1) == pytest.approx(200)
    assert wav.noisy_sd(100, Fraction(1, 2), 1) == pytest.approx(400)
    assert wav.noisy_sd(100, Fraction(1), 4) == pytest.approx(409.9, abs=0.1)


def test_drawn_noise_has_the_formula_s_spread() -> None:
    drbg = Drbg(b"a seed for the test of the noise of WAV", b"")
    draws = [wav.noisy_error(8, 300, Fraction(1), 2, drbg) for _ in range(3000)]
    square = sum(x * x for x in draws) / len(draws)
    assert square**0.5 == pytest.approx(wav.noisy_sd(300, Fraction(1), 2), rel=0.06)
