"""The household model: the same readings everywhere, and readings a household could have."""

from __future__ import annotations

import time
from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattveil.importers.csv_file import read_csv
from wattveil.importers.households import DEFAULT_START, Home, generate
from wattveil.importers.readings import DataError, LoadData

SAMPLE = Path(__file__).parents[1] / "docs/sample/homes.csv"
WEEK = 7 * 48


@pytest.fixture(scope="module")
def week() -> LoadData:
    return generate(400, WEEK, seed=7)


def wh(data: LoadData) -> Iterator[int]:
    return (value for row in data.values.values() for value in row.values())


def hour_totals(data: LoadData, days: range) -> list[int]:
    """Wh of all meters by hour of the day, over ``days`` of the data."""
    totals = [0] * 24
    for row in data.values.values():
        for at, value in enumerate(row.values()):
            if at // 48 in days:
                totals[at % 48 // 2] += value
    return totals


def test_golden() -> None:
    """What a seed means does not change: demos and recorded results depend on it."""
    text = generate(20, 100, seed=42).to_csv().encode()
    assert (
        sha256(text).hexdigest()
        == "738dbf4aaab3895156e91c4237c1048c95a00313e2faa8234feda809be0f63e1"
    )


def test_sample_file_is_what_the_model_gives() -> None:
    assert SAMPLE.read_bytes() == generate(12, 48, seed=1).to_csv().encode()
    data = read_csv(SAMPLE)
    assert (len(data.meters), len(data.starts), data.present) == (12, 48, 12 * 48)


def test_shape() -> None:
    data = generate(3, 50, seed=0)
    assert data.meters == ("home-0001", "home-0002", "home-0003")
    assert data.period_s == 1800
    assert data.starts == tuple(range(DEFAULT_START, DEFAULT_START + 50 * 1800, 1800))
    assert all(tuple(data.values[m]) == data.starts for m in data.meters)
    assert time.gmtime(DEFAULT_START)[:7] == (2026, 1, 5, 0, 0, 0, 0)  # a Monday


def test_ids_stay_in_string_order_past_9999() -> None:
    data = generate(10_000, 1, seed=0)
    assert data.meters[0] == "home-00001"
    assert list(data.meters) == sorted(data.meters)


@given(
    meters=st.integers(1, 4),
    periods=st.integers(1, 100),
    seed=st.integers(-5, 2**70),
    late=st.integers(0, 60),
)
@settings(deadline=None, max_examples=25)
def test_a_reading_depends_on_seed_home_and_interval_alone(
    meters: int, periods: int, seed: int, late: int
) -> None:
    large = generate(5, 160, seed)
    small = generate(meters, periods, seed, start=DEFAULT_START + late * 1800)
    for meter in small.meters:
        for start in small.starts:
            assert small.get(meter, start) == large.get(meter, start)


@pytest.mark.parametrize("period_s", [300, 900, 3600, 86_400])
def test_periods_add_up(period_s: int) -> None:
    half = generate(5, 96, seed=9)
    other = generate(5, 2 * 86_400 // period_s, seed=9, period_s=period_s)
    for meter in half.meters:
        for day in range(2):
            begin = DEFAULT_START + day * 86_400
            span = range(begin, begin + 86_400)
            assert sum(v for s, v in half.values[meter].items() if s in span) == sum(
                v for s, v in other.values[meter].items() if s in span
            )
    if period_s == 3600:
        for meter in half.meters:
            for start, value in other.values[meter].items():
                assert value == half.values[meter][start] + half.values[meter][start + 1800]


def test_readings_are_household_like(week: LoadData) -> None:
    values = sorted(wh(week))
    assert all(isinstance(value, int) for value in values)
    assert 185 <= sum(values) / len(values) <= 215
    assert values[0] >= 5
    assert values[-1] < 11_500
    assert values[len(values) // 2] < 150  # skewed: most half-hours are quiet
    assert values[len(values) * 99 // 100] > 1000
    daily = sorted(sum(row.values()) / 7000 for row in week.values.values())
    assert daily[0] < 5
    assert daily[-1] > 20


def test_the_fuse_holds_everywhere() -> None:
    assert max(wh(generate(2000, 48, seed=123))) <= 11_450
    assert max(wh(generate(300, 288, seed=123, period_s=300))) <= 22_900 // 12 + 1


def test_day_and_week_have_their_rhythm(week: LoadData) -> None:
    workday, weekend = hour_totals(week, range(5)), hour_totals(week, range(5, 7))
    assert workday.index(max(workday)) in (17, 18, 19, 20)
    night = sum(workday[2:5]) / 3
    assert workday[7] > 1.8 * night
    assert workday[18] > 4 * night
    # at noon weekends are busier, at seven in the morning weekdays are
    assert weekend[11] / 2 > 1.3 * workday[11] / 5
    assert weekend[6] / 2 < 0.7 * workday[6] / 5


def test_homes_differ(week: LoadData) -> None:
    assert len({tuple(row.values()) for row in week.values.values()}) == len(week.meters)
    homes = [Home.draw(7, number) for number in range(1, 401)]
    assert {home.occupants for home in homes} == {1, 2, 3, 4, 5}
    assert {home.size for home in homes} == {0, 1, 2}
    assert 0 < sum(home.car > 0 for home in homes) < 60
    small = [sum(r.values()) for h, r in zip(homes, week.values.values(), strict=True)
             if h.occupants == 1]  # fmt: skip
    large = [sum(r.values()) for h, r in zip(homes, week.values.values(), strict=True)
             if h.occupants >= 4]  # fmt: skip
    assert sum(large) / len(large) > 1.5 * sum(small) / len(small)


def test_appliances_run_past_midnight() -> None:
    """A car still charging at midnight goes on charging, whichever day the data begin with."""
    number = next(n for n in range(1, 100) if Home.draw(7, n).car)
    row = generate(number, 60 * 48, seed=7).values[f"home-{number:04}"]
    over = [b for a, b in pairwise(row) if b % 86_400 == 0 and row[a] > 3600 and row[b] > 3600]
    assert over
    again = generate(number, 1, seed=7, start=over[0])
    assert again.values[f"home-{number:04}"][over[0]] == row[over[0]]


def test_seeds_differ() -> None:
    assert generate(2, 48, 1).values != generate(2, 48, 2).values
    assert generate(2, 48, 1) == generate(2, 48, 1)


def test_select() -> None:
    data = generate(5, 20, seed=1)
    part = data.select(meters=2, periods=3)
    assert part.values == generate(2, 3, seed=1).values
    assert (part.meters, part.starts) == (data.meters[:2], data.starts[:3])
    assert data.select() == data
    with pytest.raises(DataError, match="household model, seed 1: 6 meters asked for"):
        data.select(meters=6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"meters": 0}, "meters"),
        ({"meters": 100_001}, "meters"),
        ({"periods": 0}, "periods"),
        ({"periods": 1_000_001}, "periods"),
        ({"period_s": 0}, "period_s"),
        ({"period_s": 1000}, "period_s"),
        ({"period_s": 2100}, "period_s"),
        ({"start": 1}, "start"),
        ({"start": -1800}, "start"),
    ],
)
def test_refuses_what_it_cannot_make(arguments: dict[str, int], says: str) -> None:
    wanted = {"meters": 1, "periods": 1, "seed": 0} | arguments
    with pytest.raises(ValueError, match=f"^{says} must be "):
        generate(**wanted)


def test_speed() -> None:
    began = time.process_time()
    generate(1000, 48, seed=1)
    assert time.process_time() - began < 5  # about 0.25 s on an idle machine
