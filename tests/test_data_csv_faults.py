"""The common CSV: what it refuses, skips or counts, and where it says the fault is."""

from __future__ import annotations

import gzip
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csvdata import HALF, HEAD, ROWS, T0, VALUES, body, load, refuse
from wattveil.importers.csv_file import MAX_LINE, read_csv
from wattveil.importers.readings import DataError, check_meter_id


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("csv")


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


# --- headers and whole files


FILES = [
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
]


# numbered: gzip writes the time, and what the two workers of xdist collect must be the same
@pytest.mark.parametrize(("content", "place", "reason"), FILES, ids=range(len(FILES)))
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
