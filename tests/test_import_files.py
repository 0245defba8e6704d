"""`wattveil import` and `--data`: any file by its content, several at once, what is unused is said."""

from __future__ import annotations

import gzip
import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csvdata import ROWS, body
from importing import FIXTURES, put, read
from wattveil.cli import main
from wattveil.demo.plan import DemoOptions, make_plan
from wattveil.importers.csv_file import read_csv
from wattveil.importers.files import kind_of, read_load
from wattveil.importers.readings import DataError, LoadData
from wattveil.importers.series import Interval, Note, Register, gather, intervals_of

SOLAR, HOURLY = (FIXTURES / f"greenbutton/{name}.xml" for name in ("solar", "hourly"))
LOG, PUSHES = FIXTURES / "dsmr/log_dst.telegram", FIXTURES / "dlms/pushes.log"
SAMPLE = Path(__file__).parents[1] / "docs/sample/homes.csv"


@pytest.mark.parametrize(
    ("path", "expected"),
    [(SOLAR, "green button"), (LOG, "dsmr"), (PUSHES, "dlms"), (SAMPLE, "csv"),
     (FIXTURES / "dlms/raw.log", "dlms"), (FIXTURES / "dsmr/decimals.telegram", "dsmr")],
)  # fmt: skip
def test_the_content_says_what_a_file_is(path: Path, expected: str, tmp_path: Path) -> None:
    content = path.read_bytes()
    assert kind_of(content[:65536]) == expected
    packed = put(tmp_path, gzip.compress(content), "no-suffix")
    (found,), _, _ = read(packed)
    assert found.format == expected


@given(st.binary(max_size=300))
def test_any_content_is_of_some_kind(head: bytes) -> None:
    assert kind_of(head) in ("csv", "green button", "dsmr", "dlms")


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = main(["import", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize(
    ("path", "readings", "total"),
    [(SOLAR, 8, 509), (HOURLY, 71, 12_932), (LOG, 12, 1266), (PUSHES, 2, 245)],
)
def test_the_common_csv(
    path: Path, readings: int, total: int, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, err = run(capsys, path)
    assert code == 0 and f"1 meters, {readings} readings" in err.splitlines()[-1]
    data = read_csv(put(tmp_path, out))
    assert (data.present, sum(sum(row.values()) for row in data.values.values())) == (
        readings,
        total,
    )
    made = tmp_path / "made.csv"
    assert run(capsys, path, "--out", made)[:2] == (0, "")
    assert made.read_text() == out and stat.S_IMODE(made.stat().st_mode) == 0o600


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, PUSHES, "--json")
    summary = json.loads(out)
    assert code == 0 and summary["meters"] == {"WATTVEIL-D1": {"readings": 2, "wh": 245}}
    assert (summary["period_s"], summary["first"]) == (900, "2026-03-29T00:45:00Z")
    assert summary["registers"][1]["import_mwh"] == 700_120_000
    code, out, err = run(capsys, FIXTURES / "dsmr/v5.telegram", "--json")
    summary = json.loads(out)
    assert code == 2 and "nothing in the files can be used" in err
    assert (
        summary["registers"][0]["import_mwh"] == 6_825_000 and summary["unused"][0]["line"] == 16
    )


def test_csv_rows_that_are_left_out_are_said_by_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = [*ROWS, "a,2013-01-14T01:30:00Z,-4", "a,2013-01-14T00:00:00Z,99", "a,yesterday,1"]
    path = put(tmp_path, body(*rows))
    code, out, err = run(capsys, path)
    assert code == 0 and out.count("\n") == 5
    assert f"{path}:7: wh '-4' is negative" in err
    assert f"{path}:8: conflicting duplicate of line 2" in err
    assert f"{path}:9: timestamp 'yesterday'" in err
    path = put(tmp_path, body(*ROWS, *["a,2013-01-14T01:30:00Z,x"] * 50))
    _, _, err = run(capsys, path)
    assert err.count("must be a whole number") == 21 and "30 more: wh" in err


def test_nothing_usable(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    broken = put(tmp_path, SOLAR.read_text()[:3000])
    code, out, err = run(capsys, broken)
    assert (code, out) == (2, "") and "not well-formed XML" in err
    assert f"{broken}:" in err and err.split(f"{broken}:")[1].split(":")[0].isdigit()
    for content in (b"", b"\0\1\2", b"meter_id,timestamp,wh\n", b"\x1f\x8b\x08junk"):
        code, out, err = run(capsys, put(tmp_path, content))
        assert (code, out) == (2, "") and err
    assert run(capsys, tmp_path / "missing")[0] == 2
    assert run(capsys, tmp_path)[0] == 2


def test_several_files_of_different_kinds(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    one = put(
        tmp_path, "meter_id,timestamp,wh\nc,2026-03-29T00:15Z,5\nc,2026-03-29T00:30Z,6\n", "c.csv"
    )
    _, data, _ = read(one, LOG, PUSHES)
    assert data is not None and data.meters == ("WATTVEIL-D1", "WATTVEIL00000005", "c")
    assert (data.period_s, data.present, len(data.starts)) == (900, 16, 12)
    code, out, err = run(capsys, one, tmp_path / "missing", LOG)
    assert code == 0 and out.count("\n") == 15 and "missing: cannot be read" in err


def data_of(period: int, start: int, values: list[int], meter: str = "a") -> LoadData:
    made = gather(
        [Interval(meter, start + period * k, period, wh, "f", k) for k, wh in enumerate(values)],
        [],
    )
    assert made is not None
    return made


def test_files_that_do_not_fit_together(tmp_path: Path) -> None:
    first = put(tmp_path, data_of(900, 900, [1, 2, 3]).to_csv(), "1")
    same = put(tmp_path, data_of(900, 1800, [2, 3, 4]).to_csv(), "2")
    assert list(read_load([first, same]).values["a"].values()) == [1, 2, 3, 4]
    for other, says in (
        (data_of(1800, 1800, [1, 2]), "its period is 1800 s, that of .* is 900 s"),
        (data_of(900, 1000, [1, 2]), "begin at other moments"),
        (data_of(900, 900, [1, 9]), "meter a has another value at 1970-01-01T00:30:00Z"),
    ):
        with pytest.raises(DataError, match=says):
            read_load([first, put(tmp_path, other.to_csv(), "3")])


def test_data_of_a_demo(tmp_path: Path) -> None:
    plan = make_plan(DemoOptions(data=(LOG, PUSHES), link="memory", quorum="0.5", bits=2048))
    assert plan.roster == ("WATTVEIL-D1", "WATTVEIL00000005")
    assert len(plan.starts) == 4 and plan.settings.period_s == 900
    assert plan.readings["WATTVEIL00000005"][plan.starts[0]] == 100
    solar = read_load([SOLAR])  # what is only of no use is no reason to stop
    assert solar.present == 8
    damaged = put(tmp_path, LOG.read_bytes().replace(b"0.48", b"0.49", 1))
    with pytest.raises(DataError, match="wrong CRC; --skip-bad"):
        read_load([damaged])
    assert read_load([damaged], skip_bad=True).present == 11
    assert read_load([damaged], skip_bad=True, periods=3).present == 3
    with pytest.raises(DataError, match="no interval"):
        read_load([FIXTURES / "dsmr/v5.telegram"])


@given(
    st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 10**12)), max_size=40),
    st.sampled_from(["a", "b"]),
)
def test_intervals_add_up_to_their_registers(rows: list[tuple[int, int]], meter: str) -> None:
    """Whatever registers there are, energy in a run of intervals is what the register grew by."""
    rising = sorted(dict(rows).items())
    values = sorted(mwh for _, mwh in rising)
    registers = [
        Register(meter, utc, mwh, 0, "f", 1) for (utc, _), mwh in zip(rising, values, strict=True)
    ]
    notes: list[Note] = []
    found = intervals_of(registers, notes)
    assert bool(found or notes) == bool(registers)
    assert all(0 <= i.wh <= 10**9 for i in found)
    assert sum(i.wh for i in found) <= (values[-1] // 1000 if values else 0)
    assert len({i.start for i in found}) == len(found)
