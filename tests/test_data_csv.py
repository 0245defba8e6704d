"""The common CSV: what it accepts, which meters and periods are taken, and whole files of readings."""

from __future__ import annotations

import gzip
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csvdata import HALF, HEAD, ROWS, T0, VALUES, body, load, refuse
from wattveil.importers.csv_file import read_csv
from wattveil.importers.households import generate
from wattveil.importers.readings import DataError

REAL = Path(__file__).parents[1] / "../shared/data/lcl_dev_30min_winter4w.csv.gz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("csv")


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


# --- a sample of its own, and the real one


def test_own_sample_survives_the_round_trip(folder: Path) -> None:
    made = generate(7, 60, seed=3)
    back = load(folder, gzip.compress(made.to_csv().encode()))
    assert (back.meters, back.period_s, back.starts) == (made.meters, made.period_s, made.starts)
    assert back.values == made.values


def test_real_file() -> None:
    if not REAL.is_file():
        pytest.skip(f"{REAL} is not here")
    began = time.process_time()
    data = read_csv(REAL, meters=600, periods=48)
    assert time.process_time() - began < 20  # about 1 s
    assert (len(data.meters), data.period_s, len(data.starts)) == (600, HALF, 48)
    assert data.meters[0] == "MAC000003"
    assert data.starts[0] == T0
    assert data.get("MAC000003", T0) == 3140
    assert (data.duplicates, data.skipped) == (0, Counter())
    assert 28_000 < data.present <= 600 * 48
