"""The common CSV's timestamps: which moment they mean, which are refused, and the period they give."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csvdata import HALF, ROWS, T0, body, load, refuse
from wattveil.importers import readings
from wattveil.importers.readings import parse_timestamp


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("csv")


# --- one timestamp


@pytest.mark.parametrize(
    "text",
    [
        "2013-01-14T00:30:00Z",
        "2013-01-14T00:30Z",
        "2013-01-14t00:30:00z",
        "2013-01-14T01:30:00+01:00",
        "2013-01-13T19:30:00-05:00",
        "2013-01-14T06:15:00+0545",
        "2013-01-14T10+09:30",
        "20130114T003000Z",
        "2013-W03-1T00:30:00Z",
        "2013-01-14T00:30:00.000Z",
        "2013-01-14T01:30:00+01",
        "2013-01-13T24:00:00-00:30",
        "2013-01-14 00:30:00+00:00",
    ],
)
def test_timestamps_of_one_moment(text: str) -> None:
    assert parse_timestamp(text) == T0 + HALF


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2013-01-14T00:30:00", "no offset, so its moment is ambiguous"),
        ("2013-01-14 00:30", "no offset, so its moment is ambiguous"),
        ("2013-01-14", "not an ISO 8601 date and time"),
        ("2013-02-29T00:00Z", "not an ISO 8601 date and time"),
        ("14/01/2013 00:30", "not an ISO 8601 date and time"),
        ("2013-01-14T25:00Z", "not an ISO 8601 date and time"),
        ("2013-01-14T24:30Z", "not an ISO 8601 date and time"),
        ("2013-01-14T23:60Z", "not an ISO 8601 date and time"),
        ("2013-01-14T00:00:60Z", "not an ISO 8601 date and time"),
        ("2013-01-14T00:3000Z", "not an ISO 8601 date and time"),
        ("2013-01-14T00:00+24:00", "not an ISO 8601 date and time"),
        ("2013-01-14T00:00:00.5Z", "fraction of a second"),
        ("1969-12-31T23:59Z", "not between 1970 and 2099"),
        ("2100-01-01T00:00Z", "not between 1970 and 2099"),
        ("1358121600", "not an ISO 8601 date and time"),
        ("\uff12\uff10\uff11\uff13-01-14T00:00Z", "not an ISO 8601 date and time"),
        (" 2013-01-14T00:00Z", "not an ISO 8601 date and time"),
        ("", "not an ISO 8601 date and time"),
    ],
)
def test_timestamps_refused(folder: Path, text: str, says: str) -> None:
    message, error = refuse(folder, body(ROWS[0], f"a,{text},11"))
    assert message.startswith("3:3: timestamp ")
    assert says in error.reason
    if "offset, so" in says:
        assert error.todo == "add Z (UTC) or an offset (+01:00)"


@given(moment=st.datetimes(), minutes=st.integers(-1439, 1439))
def test_timestamps_agree_with_datetime(moment: datetime, minutes: int) -> None:
    there = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)), microsecond=0)
    expected = (there - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    if expected < 0 or there.year > 2099:
        with pytest.raises(readings.BadReading):
            parse_timestamp(there.isoformat())
    else:
        assert parse_timestamp(there.isoformat()) == expected


# --- the times of a file


def test_clock_change_in_local_time(folder: Path) -> None:
    # London, 27 October 2013: the half-hours from 01:00 come twice, told apart by the offset
    data = load(
        folder,
        body(
            "a,2013-10-27T01:00:00+01:00,1",
            "a,2013-10-27T01:30:00+01:00,2",
            "a,2013-10-27T01:00:00+00:00,3",
            "a,2013-10-27T01:30:00+00:00,4",
            "b,2013-10-27T02:30:00+02:00,5",
        ),
    )
    first = parse_timestamp("2013-10-27T00:00:00Z")
    assert data.starts == tuple(first + i * HALF for i in range(4))
    assert list(data.values["a"].values()) == [1, 2, 3, 4]
    assert data.values["b"] == {first + HALF: 5}
    assert data.duplicates == 0
    # 31 March: local time jumps from 01:00 to 02:00
    data = load(folder, body("a,2013-03-31T00:30:00+00:00,1", "a,2013-03-31T02:00:00+01:00,2"))
    assert (data.period_s, len(data.starts)) == (HALF, 2)


def test_stamp_end(folder: Path) -> None:
    data = load(folder, body(*ROWS), stamp="end")
    assert data.starts == (T0 - HALF, T0, T0 + HALF)
    assert data.values["b"] == {T0 - HALF: 20, T0 + HALF: 22}


def test_stamp_end_before_1970(folder: Path) -> None:
    rows = body("a,1970-01-01T00Z,1", "a,1970-01-01T01Z,1")
    assert load(folder, rows).starts == (0, 3600)
    assert "begins before 1970" in refuse(folder, rows, stamp="end")[0]


def test_period_is_the_smallest_step_of_the_file(folder: Path) -> None:
    rows = ["a,2013-01-14T00:00Z,1", "a,2013-01-14T06:00Z,2", "b,2013-01-14T02:00Z,3"]
    data = load(folder, body(*rows, "b,2013-01-14T03:00Z,4"), meters=1)
    assert data.period_s == 3600
    assert len(data.starts) == 7  # five of them without a row
    assert data.values == {"a": {T0: 1, T0 + 6 * 3600: 2}}


def test_off_the_grid(folder: Path) -> None:
    rows = ["b,2013-01-14T02:00Z,1", '"a",2013-01-14T01:15:00Z,1']
    message, error = refuse(folder, body(*ROWS, "a,2013-01-14T04:10:00Z,1", *rows))
    assert message.startswith(
        "7:3: timestamp off the grid of the 900 s period (from lines 4 and 9"
    )
    assert error.todo == "correct whichever timestamp is wrong"
    message, _ = refuse(folder, body(*ROWS, '"a",2013-01-14T04:10Z,1'), skip_bad=True)
    assert message.startswith("7:5: timestamp off the grid of the 1800 s period")


def test_one_timestamp_gives_no_period(folder: Path) -> None:
    assert "period is unknown" in refuse(folder, body(ROWS[0], ROWS[3]))[0]


def test_too_long_a_grid(folder: Path) -> None:
    rows = body("a,2013-01-14T00:00:00Z,1", "a,2013-01-14T00:00:01Z,1", "a,2053-01-14T00:00Z,1")
    assert "more than 1000000" in refuse(folder, rows)[0]
    assert len(load(folder, rows, periods=5).starts) == 5
