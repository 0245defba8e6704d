"""The common CSV: what it accepts, what it refuses, and where it says the fault is."""

from __future__ import annotations

import gzip
import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattveil.importers import readings
from wattveil.importers.csv_file import MAX_LINE, read_csv
from wattveil.importers.households import generate
from wattveil.importers.readings import DataError, LoadData, check_meter_id, parse_timestamp

REAL = Path(__file__).parents[1] / "../shared/data/lcl_dev_30min_winter4w.csv.gz"
HEAD = "meter_id,timestamp,wh\n"
T0 = 1_358_121_600  # 2013-01-14T00:00:00Z
HALF = 1800
# a has three half-hours, b lacks the middle one
ROWS = [
    "a,2013-01-14T00:00:00Z,10",
    "a,2013-01-14T00:30:00Z,11",
    "a,2013-01-14T01:00:00Z,12",
    "b,2013-01-14T00:00:00Z,20",
    "b,2013-01-14T01:00:00Z,22",
]
VALUES = {
    "a": {T0: 10, T0 + HALF: 11, T0 + 2 * HALF: 12},
    "b": {T0: 20, T0 + 2 * HALF: 22},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("csv")


def load(folder: Path, content: str | bytes, **options: Any) -> LoadData:
    path = folder / "x.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_csv(path, **options)


def body(*rows: str, head: str = HEAD) -> str:
    return head + "".join(row + "\n" for row in rows)


def refuse(folder: Path, content: str | bytes, **options: Any) -> tuple[str, DataError]:
    """What the message says after the file's name, and the error itself."""
    with pytest.raises(DataError) as caught:
        load(folder, content, **options)
    prefix = str(folder / "x.csv") + ":"
    assert str(caught.value).startswith(prefix)
    assert "; " in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)[len(prefix) :], caught.value


# --- what is accepted


def test_reads(folder: Path) -> None:
    data = load(folder, body(*ROWS))
    assert data.meters == ("a", "b")
    assert data.period_s == HALF
    assert data.starts == (T0, T0 + HALF, T0 + 2 * HALF)
    assert data.values == VALUES
    assert data.get("a", T0) == 10
    assert data.get("b", T0 + HALF) is None
    assert (data.present, data.duplicates, data.skipped) == (5, 0, Counter())


@pytest.mark.parametrize(
    "content",
    [
        body(*ROWS).rstrip("\n"),
        "\ufeff" + body(*ROWS),
        body(*ROWS).replace("\n", "\r\n"),
        body(*ROWS).replace("\n", "\n\n"),
        gzip.compress(body(*ROWS).encode()),
        gzip.compress(("\ufeff" + HEAD).encode()) + gzip.compress("\n".join(ROWS).encode()),
        body(*reversed(ROWS)),
        body(*(",".join(f'"{f}"' for f in r.split(",")) for r in ROWS)),
        body(*(",".join(reversed(r.split(","))) for r in ROWS), head="Wh, timestamp ,METER_ID\n"),
        body(*(f'"x,""y",{r},' for r in ROWS), head="note,meter_id,timestamp,wh,more\n"),
        body(*ROWS).replace(",1", ",0001"),
    ],
    ids=[
        "no-eol",
        "bom",
        "crlf",
        "blank",
        "gzip",
        "gzip-parts",
        "disorder",
        "quoted",
        "columns",
        "extra",
        "zeros",
    ],
)
def test_reads_the_same_however_written(folder: Path, content: str | bytes) -> None:
    data = load(folder, content)
    assert (data.meters, data.period_s, data.values) == (("a", "b"), HALF, VALUES)


def test_extra_column_may_hold_anything(folder: Path) -> None:
    rows = b"meter_id,timestamp,wh,note\n" + b"".join(r.encode() + b",\xff\x00\n" for r in ROWS)
    assert load(folder, rows).values == VALUES


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


# --- selection


def test_first_meters_in_string_order(folder: Path) -> None:
    rows = [f"{m},2013-01-14T0{h}:00Z,{h}" for m in ("m9", "m10", "é", "M", "z") for h in (0, 1)]
    assert load(folder, body(*rows)).meters == ("M", "m10", "m9", "z", "é")
    assert load(folder, body(*rows), meters=3).meters == ("M", "m10", "m9")
    message, _ = refuse(folder, body(*rows), meters=6)
    assert message == " 6 meters asked for but the data hold 5; ask for at most 5"
    assert "ask for at least 1" in refuse(folder, body(*rows), meters=0)[0]


def test_first_periods_begin_with_the_selected_meters(folder: Path) -> None:
    rows = ["a,2013-01-14T01:00Z,1", "a,2013-01-14T03:00Z,3", "b,2013-01-14T00:30Z,9"]
    data = load(folder, body(*rows), meters=1, periods=2)
    assert data.starts == (T0 + 2 * HALF, T0 + 3 * HALF)  # nobody reports in the second
    assert data.values == {"a": {T0 + 2 * HALF: 1}}
    assert load(folder, body(*rows), periods=2).starts[0] == T0 + HALF
    message, _ = refuse(folder, body(*rows), meters=1, periods=6)
    assert message == " 6 periods asked for but the data hold 5; ask for at most 5"


def test_a_meter_may_be_silent_in_the_selected_periods(folder: Path) -> None:
    data = load(folder, body(*ROWS, "c,2013-01-14T01:00:00Z,5"), periods=1)
    assert data.values == {"a": {T0: 10}, "b": {T0: 20}, "c": {}}


@given(
    rows=st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(0, 12), st.integers(0, 3)), min_size=2
    ),
    meters=st.integers(1, 5),
    periods=st.integers(1, 13),
    shuffle=st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_order_and_selection_properties(
    folder: Path,
    rows: list[tuple[str, int, int]],
    meters: int,
    periods: int,
    shuffle: random.Random,
) -> None:
    lines = [f"{m},2013-01-14T{h:02}:00Z,{v}" for m, h, v in rows]
    lines += ["z,2013-01-14T00:00Z,1", "z,2013-01-14T01:00Z,1"]
    whole = load(folder, body(*lines), skip_bad=True)
    # what it means: a meter and time with one value is a reading, with several it is absent
    found: dict[tuple[str, int], set[int]] = {}
    for m, h, v in rows:
        found.setdefault((m, T0 + h * 3600), set()).add(v)
    present = {(m, s): wh for m in whole.meters for s, wh in whole.values[m].items() if m != "z"}
    assert present == {key: min(v) for key, v in found.items() if len(v) == 1}
    assert whole.skipped["conflicting duplicate"] == sum(len(v) > 1 for v in found.values())
    assert whole.duplicates == len(rows) - sum(map(len, found.values()))
    shuffle.shuffle(lines)
    assert load(folder, body(*lines), skip_bad=True) == whole
    assert load(folder, whole.to_csv()).values == whole.values
    try:
        part = load(folder, body(*lines), skip_bad=True, meters=meters, periods=periods)
    except DataError as error:
        with pytest.raises(DataError) as other:
            whole.select(meters, periods)
        assert str(other.value) == str(error)  # noqa: PT017
    else:
        assert part == whole.select(meters, periods)
        assert part.starts == tuple(range(part.starts[0], part.starts[-1] + 1, 3600))
        assert len(part.starts) == periods
        assert len(part.meters) == meters


# --- duplicates and bad readings


def test_identical_duplicate_is_ignored_and_counted(folder: Path) -> None:
    data = load(folder, body(*ROWS, ROWS[1], "b,2013-01-14T02:00:00+02:00,20", ROWS[1]))
    assert data.values == VALUES
    assert data.duplicates == 3
    assert data.skipped == Counter()


def test_conflicting_duplicate(folder: Path) -> None:
    content = body(*ROWS, ROWS[0], '"a","2013-01-14T01:30:00+01:00",99', "a,2013-01-14T00:30Z,98")
    message, error = refuse(folder, content)
    assert message == (
        "8:33: conflicting duplicate of line 3: same meter and time, other wh;"
        " keep the right one of the two"
    )
    assert (error.line, error.column) == (8, 33)
    data = load(folder, content, skip_bad=True)
    assert data.get("a", T0 + HALF) is None
    assert data.values["b"] == VALUES["b"]
    assert data.skipped == {"conflicting duplicate": 1}
    assert data.duplicates == 1


BAD = [
    ("a,2013-01-14T01:30:00Z,-3", 24, "negative value", "wh '-3' is negative"),
    ("a,2013-01-14T01:30:00Z,-3.5", 24, "negative value", "wh '-3.5' is negative"),
    ("a,2013-01-14T01:30:00Z,12.0", 24, "stray text", "wh '12.0': Wh must be a whole number"),
    ("a,2013-01-14T01:30:00Z,Null", 24, "stray text", "wh 'Null': Wh must be a whole number"),
    ("a,2013-01-14T01:30:00Z,1_0", 24, "stray text", "wh '1_0': Wh must be a whole number"),
    ("a,2013-01-14T01:30:00Z, 12", 24, "stray text", "wh ' 12': Wh must be a whole number"),
    ("a,2013-01-14T01:30:00Z,+12", 24, "stray text", "wh '+12': Wh must be a whole number"),
    ("a,2013-01-14T01:30:00Z,\uff11\uff12", 24, "stray text", "Wh must be a whole number"),
    ("a,2013-01-14T01:30:00Z,1e3", 24, "stray text", "Wh must be a whole number"),
    ("a,2013-01-14T01:30:00Z,\x00", 24, "stray text", "Wh must be a whole number"),
    ("a,2013-01-14T01:30:00Z,", 24, "stray text", "wh is empty"),
    ("a,2013-01-14T01:30:00Z,1000000000", 24, "value too large", "is above 999999999 Wh"),
    ("a,2013-01-14T01:30:00Z," + "9" * 50_000, 24, "value too large", "is above 999999999 Wh"),
    ("a,2013-01-14T01:30:00Z,12,5", 27, "stray text", "the row has 4 columns, the header 3"),
    ('a,"2013-01-14T01:30:00Z,12', 3, "stray text", "stray quotation mark"),
    ('a,2013-01-14T01:30:00Z,1"2"', 24, "stray text", "stray quotation mark"),
    ("a,2013-01-14T01:30:00Z", 23, "missing column", "the row has 2 of 3 columns"),
    ("é", 2, "missing column", "the row has 1 of 3 columns"),
    (" ", 2, "missing column", "the row has 1 of 3 columns"),
    ("a,2013-01-14T01:30:00,12", 3, "timestamp without offset", "has no offset"),
    ("éa,yesterday,12", 4, "bad timestamp", "'yesterday' is not an ISO 8601"),
    (",2013-01-14T01:30:00Z,12", 1, "bad meter id", "meter_id is empty"),
    ("x" * 33 + ",2013-01-14T01:30:00Z,12", 1, "bad meter id", "is longer than 32 bytes"),
    ("é" * 17 + ",2013-01-14T01:30:00Z,12", 1, "bad meter id", "is longer than 32 bytes"),
    ("a\x1b[2J,2013-01-14T01:30:00Z,12", 1, "bad meter id", "control, unprintable"),
    ("a\u202e,2013-01-14T01:30:00Z,12", 1, "bad meter id", "control, unprintable"),
    ("a ,2013-01-14T01:30:00Z,12", 1, "bad meter id", "begins or ends with a space"),
    ('"a,b",2013-01-14T01:30:00Z,12', 1, "bad meter id", "holds a comma"),
    ('"a""b",2013-01-14T01:30:00Z,12', 1, "bad meter id", "quotation mark"),
    (
        "a,2013-01-14T01:30:00Z," + "1" * (1 << 20),
        1,
        "line too long",
        f"the line is longer than {MAX_LINE} bytes",
    ),
]


@pytest.mark.parametrize(("row", "column", "kind", "reason"), BAD, ids=range(len(BAD)))
def test_bad_readings(folder: Path, row: str, column: int, kind: str, reason: str) -> None:
    content = body(*ROWS[:2], row, *ROWS[2:])
    message, error = refuse(folder, content)
    assert message.startswith(f"4:{column}: ")
    assert reason in error.reason
    assert (error.line, error.column) == (4, column)
    assert len(message) < 200
    assert message.isprintable()
    data = load(folder, content, skip_bad=True)
    assert data.values == VALUES
    assert data.skipped == {kind: 1}


def test_skipped_by_reason(folder: Path) -> None:
    content = body(*(row for row, *_ in BAD), *ROWS, "a,2013-01-14T00:00Z,1")
    data = load(folder, content, skip_bad=True)
    assert data.skipped == Counter(kind for _, _, kind, _ in BAD) + Counter(
        {"conflicting duplicate": 1}
    )
    assert data.values == {"a": {s: v for s, v in VALUES["a"].items() if s > T0}, "b": VALUES["b"]}


def test_skipped_rows_do_not_move_the_grid_or_name_meters(folder: Path) -> None:
    bad = ["0,2013-01-14T00:00:07Z,-1", "0,2013-01-15T00:00:00Z,x"]
    data = load(folder, body(*bad, *ROWS), skip_bad=True)
    assert (data.meters, data.period_s, len(data.starts)) == (("a", "b"), HALF, 3)


def test_bytes_that_are_not_utf8(folder: Path) -> None:
    content = HEAD.encode() + b"caf\xe9,2013-01-14T00:00:00Z,1\n"
    message, _ = refuse(folder, content)
    assert message.startswith(
        r"2:1: meter_id 'caf\udce9' holds a control, unprintable or non-UTF-8"
    )


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


# --- headers and whole files


@pytest.mark.parametrize(
    ("content", "place", "reason"),
    [
        (b"", "1:1", "the file is empty"),
        (b"\xef\xbb\xbf", "1:1", "the file is empty"),
        (gzip.compress(b""), "1:1", "the file is empty"),
        (ROWS[0].encode(), "1:1", "the header has no column meter_id"),
        (b"meter_id,timestamp\n", "1:1", "the header has no column wh"),
        (b"\nmeter_id,timestamp,wh\n", "1:1", "the header has no column meter_id"),
        (b"meter_id;timestamp;wh\n", "1:1", "the header has no column meter_id"),
        (b"wh,meter_id,timestamp,wh\n", "1:23", "column wh stands twice"),
        (b'meter_id,"wh', "1:10", "no header: stray quotation mark"),
        (body(*ROWS).encode("utf-16"), "1:1", "the file is UTF-16"),
        (bytes(2000), "1:1", "the header has no column meter_id"),
        (b"x" * (1 << 20), "1:1", f"no header: the line is longer than {MAX_LINE} bytes"),
        (random.Random(5).randbytes(5000), "1:1", "the header has no column meter_id"),
        (b"\x1f\x8bnot gzip at all", "1:1", "the gzip data are damaged after this point"),
        (b"\x1f\x8b", "1:1", "the gzip data are cut short after this point"),
        (gzip.compress(body(*ROWS).encode())[:-4], "1:1", "the gzip data are cut short"),
        (gzip.compress(HEAD.encode()) + b"tail", "1:1", "the gzip data are damaged"),
        (HEAD.encode(), "", "the file has no readings"),
    ],
)
@pytest.mark.parametrize("skip_bad", [False, True])
def test_files_refused(
    folder: Path, content: bytes, place: str, reason: str, skip_bad: bool
) -> None:
    message, error = refuse(folder, content, skip_bad=skip_bad)
    assert error.reason.startswith(reason)
    assert message.startswith(f"{place}: " if place else " ")


def test_nothing_left_says_what_was_skipped(folder: Path) -> None:
    message, _ = refuse(folder, body("a,2013-01-14T00:00,1", "b,b,b"), skip_bad=True)
    assert message.startswith(" the file has no readings (2 bad ones skipped)")


def test_truncated_gzip_says_how_far_it_got(folder: Path) -> None:
    noise = random.Random(1)
    rows = [f"a,2013-01-14T00:00:00Z,{noise.randrange(10**8)}" for _ in range(100_000)]
    whole = gzip.compress(body(*rows).encode())
    _, error = refuse(folder, whole[: len(whole) // 2], skip_bad=True)
    assert error.reason == "the gzip data are cut short after this point"
    assert error.line > 1


def test_unreadable_places(tmp_path: Path) -> None:
    cases: list[tuple[str | Path, str]] = [
        (tmp_path, "not a regular file"),
        (tmp_path / "none.csv", "cannot be read (No such file or directory)"),
        ("/dev/zero", "not a regular file"),
        ("nul\x00.csv", "cannot be read (embedded null byte)"),
        (tmp_path / ("n" * 300), "cannot be read (File name too long)"),
    ]
    for name, reason in cases:
        with pytest.raises(DataError) as caught:
            read_csv(name)
        assert str(caught.value).startswith(
            f"{name}: {reason}" if str(name).isprintable() else f"{name!a}: {reason}"
        )


PACKED = gzip.compress(body(*ROWS).encode(), mtime=0)
PIECE = st.one_of(
    st.sampled_from(["a", "b", "2013-01-14T00:00Z", "2013-01-14T00:30Z", "1", "-1", ",", "\n"]),
    st.sampled_from(['"', '""', "\r", "\x00", "\ufeff", "é", "9" * 30, HEAD, *ROWS, "\n", ","]),
    st.text(max_size=5),
)


@given(
    content=st.one_of(
        st.lists(PIECE).map(lambda p: "".join(p).encode("utf-8", "replace")),
        st.lists(PIECE).map(lambda p: (HEAD + "".join(p)).encode("utf-8", "replace")),
        st.binary(max_size=300),
        st.binary(max_size=100).map(lambda b: HEAD.encode() + b),
        st.binary(max_size=100).map(lambda b: b"\x1f\x8b\x08\x00" + b),
        st.tuples(st.integers(0, 200), st.binary(max_size=2)).map(
            lambda cut: PACKED[: cut[0]] + cut[1] + PACKED[cut[0] + 1 :]
        ),
    ),
    skip_bad=st.booleans(),
    stamp=st.sampled_from(["start", "end"]),
    periods=st.none() | st.integers(-1, 3),
)
@settings(deadline=None, max_examples=400)
def test_anything_loads_or_is_a_data_error(
    folder: Path, content: bytes, skip_bad: bool, stamp: str, periods: int | None
) -> None:
    data, refusal = None, ""
    try:
        data = load(folder, content, skip_bad=skip_bad, stamp=stamp, periods=periods)
    except DataError as error:
        refusal = str(error)
    assert "\n" not in refusal
    assert (data is None) == ("; " in refusal)
    if data is not None:
        assert data.starts[0] >= 0
        assert list(data.meters) == sorted(data.values)
        for meter in data.meters:
            check_meter_id(meter)
            assert set(data.values[meter]) <= set(data.starts)
        assert skip_bad or not data.skipped


# --- a sample of its own, and the real one


def test_own_sample_survives_the_round_trip(folder: Path) -> None:
    made = generate(7, 60, seed=3)
    back = load(folder, gzip.compress(made.to_csv().encode()))
    assert (back.meters, back.period_s, back.starts) == (made.meters, made.period_s, made.starts)
    assert back.values == made.values


def test_real_file() -> None:
    if not REAL.is_file():
        pytest.skip(f"{REAL} is not here")
    began = time.monotonic()
    data = read_csv(REAL, meters=600, periods=48)
    assert time.monotonic() - began < 20  # about 1 s on an idle machine
    assert (len(data.meters), data.period_s, len(data.starts)) == (600, HALF, 48)
    assert data.meters[0] == "MAC000003"
    assert data.starts[0] == T0
    assert data.get("MAC000003", T0) == 3140
    assert (data.duplicates, data.skipped) == (0, Counter())
    assert 28_000 < data.present <= 600 * 48
