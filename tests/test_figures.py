"""Each figure from a tiny run of the real thing: its CSV, its pictures, its words; and its statistics."""

from __future__ import annotations

import csv
import math
import random
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from scipy import stats

from wattveil import cli
from wattveil.baselines import dg_aped, wav, yan_plain
from wattveil.bench.rig import make_key
from wattveil.figures import command, draw, paper
from wattveil.figures.errors import DG, OURS, WAV, spread
from wattveil.figures.fit import line, power, student
from wattveil.figures.fleet import time_fleet
from wattveil.figures.sheet import Sheet
from wattveil.figures.study import DELTA, EPSILON, QUICK, Sizes, Study
from wattveil.fleet.runtime import RuntimeMissing, find_runtime
from wattveil.privacy.law import noise_sd

TINY = Sizes(
    bits=512, small=256, fig5_users=(4, 8, 12), fig6_gammas=(1, 2, 4), fig6_users=4, periods=1,
    meter_periods=1, compare_bits=(256, 512), compare_users=(6, 12), table_users=12, computed=3,
    runs=30,
)  # fmt: skip
Table = list[dict[str, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Sheet]]:
    out = tmp_path_factory.mktemp("figures")
    return out, command.build(Study(TINY), list(command.FIGURES), out)


def table(made: tuple[Path, list[Sheet]], name: str) -> Table:
    with (made[0] / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows and all(row.get("checked", "True") == "True" for row in rows)
    return rows


def column(rows: Table, name: str) -> list[float]:
    return [float(row[name]) for row in rows]


def test_every_figure_is_a_picture_twice_with_words(made: tuple[Path, list[Sheet]]) -> None:
    out, sheets = made
    text = (out / "figures.md").read_text()
    assert [sheet.name for sheet in sheets] == list(command.FIGURES)
    assert "cores" in text and "Python 3." in text and "gmpy2" in text
    for sheet in sheets:
        assert (out / f"{sheet.name}.png").read_bytes().startswith(b"\x89PNG")
        assert ElementTree.parse(out / f"{sheet.name}.svg").getroot().tag.endswith("svg")
        assert f"![{sheet.title}]({sheet.name}.png)" in text and sheet.caption in text
        assert sheet.notes and "nan" not in sheet.text() and "{" not in sheet.text()


@pytest.mark.parametrize(
    ("name", "x", "values"), [("fig5", "users", [4, 8, 12]), ("fig6", "gamma", [1, 2, 4])]
)
def test_times_against_users_and_slots(
    made: tuple[Path, list[Sheet]], name: str, x: str, values: list[int]
) -> None:
    rows = table(made, name)
    assert column(rows, x) == values
    times = [key for key in rows[0] if key.endswith("_ms")]
    assert len(times) == 14
    try:
        find_runtime("micropython")
    except RuntimeMissing:
        assert all(row["meter_micropython_ms"] == "" for row in rows)
        times = [key for key in times if "micropython" not in key]
    for key in times:
        assert all(ms >= 0 for ms in column(rows, key)), key
    for row in rows:
        low, middle, high = (float(row[f"meter_gmpy2{p}_ms"]) for p in ("_p5", "", "_p95"))
        assert 0 < low <= middle <= high
        assert float(row["cloud_rows_ms"]) > 0 and float(row["cloud_sum_ms"]) > 0
    plain, work = column(rows, "cloud_plain_ms"), [int(r["users"]) * int(r["gamma"]) for r in rows]
    each = [ms / count for ms, count in zip(plain, work, strict=True)]
    assert max(each) == pytest.approx(min(each), rel=1e-3)  # it is one time, multiplied


def test_slopes_are_fits_of_the_other_figures(made: tuple[Path, list[Sheet]]) -> None:
    rows = {(row["what"], row["against"]): row for row in table(made, "complexity")}
    assert {row["claim"] for row in rows.values()} == {"O(1)", "O(m)", "O(γ)", "O(m γ)"}
    source = table(made, "fig5")
    xs, ys = column(source, "users"), column(source, "cloud_rows_ms")
    fit, got = stats.linregress(xs, ys), rows["cloud rows", "users"]
    assert float(got["ms_per_unit"]) == pytest.approx(fit.slope, rel=1e-2)
    bent = stats.linregress([math.log(x) for x in xs], [math.log(y) for y in ys])
    assert float(got["exponent"]) == pytest.approx(bent.slope, rel=2e-2)
    half = bent.stderr * stats.t.ppf(0.975, 1)
    assert float(got["exponent_half95"]) == pytest.approx(half, rel=0.06)


def test_table_keeps_the_paper_apart(made: tuple[Path, list[Sheet]]) -> None:
    rows = table(made, "table1")
    for row in rows:
        theirs = {"WAV-like": "WAV", "DG-APED-like": "DG-APED", "ours, yan2024, γ = 4": "own"}
        meant = theirs.get(row["scheme"])
        expected = [str(value) for value in paper.TABLE[meant]] if meant else ["", ""]
        assert [row["paper_time_ms"], row["paper_sd"]] == expected
        assert float(row["time_ms"]) > 0 and row["users"] == "12"
    access = rows[0]
    assert access["scheme"] == "WAV-like, access" and float(access["sd_rel"]) == 0
    assert [int(row["bits"]) for row in rows[1:]] == [256] * 5 + [512] * 5


def test_schemes_against_users(made: tuple[Path, list[Sheet]]) -> None:
    rows = table(made, "fig7")
    assert len(rows) == 2 * 2 * 5
    for row in rows:
        whole = float(row["users"]) * float(row["user_ms"]) + float(row["rest_ms"])
        assert float(row["whole_ms"]) == pytest.approx(whole, rel=2e-3)
        assert int(row["timed_users"]) in (3, int(row["users"]))


def test_three_readings_of_sd(made: tuple[Path, list[Sheet]]) -> None:
    rows = table(made, "fig8")
    assert [row["scheme"] for row in rows] == [WAV] * 2 + [DG] * 2 + [OURS] * 2
    load = Study(TINY).load.mean
    for row in rows:
        assert 0 < float(row["sd_signed_low95"]) <= float(row["sd_signed"])
        assert float(row["sd_signed"]) <= float(row["sd_signed_high95"])
        assert float(row["sd_rel"]) < float(row["sd_signed"]) and float(row["sd_time_ms"]) >= 0
        users, formula = int(row["users"]), float(row["sd_signed_formula"])
        sd = {
            WAV: wav.noisy_sd(DELTA, EPSILON, wav.LEVELS),
            DG: dg_aped.noise_sd(users, DELTA / 2),
            OURS: noise_sd(users, users, EPSILON, DELTA, False),
        }[row["scheme"]]
        assert formula == pytest.approx(sd / (users * load), rel=1e-3)


@pytest.mark.parametrize("scheme", [WAV, DG, OURS])
def test_draws_follow_their_formula(scheme: str) -> None:
    got = spread(scheme, 4, 800, DELTA, EPSILON, 200.0)
    assert got == spread(scheme, 4, 800, DELTA, EPSILON, 200.0)  # seeded
    assert got.signed[0] == pytest.approx(got.formula, rel=0.1)
    if scheme == OURS:  # Laplace: E|x| and the standard deviation of |x| are both the scale
        assert got.mean_abs == pytest.approx(DELTA / 800, rel=0.1)
        assert got.rel[0] == pytest.approx(DELTA / 800, rel=0.15)


@pytest.mark.parametrize("suite", ["yan2024", "compact"])
def test_a_fleet_is_timed_whole(suite: str) -> None:
    seen: list[tuple[int, int]] = []
    times = time_fleet(make_key(512), suite, 5, 2, 2, lambda done, of: seen.append((done, of)))
    assert times.checked and len(times.meter) == 5 and min(times.meter) > 0
    parts = (times.rows, times.uploads, times.total, times.dealer, times.center, times.stores)
    assert min(parts) > 0 and seen == [(0, 2), (1, 2), (2, 2)]


def test_a_wrong_total_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = yan_plain.YanPlain.open
    monkeypatch.setattr(yan_plain.YanPlain, "open", lambda *args: plain(*args) + 1)
    monkeypatch.setattr(command, "QUICK", replace(TINY, compare_bits=(256,), suites=()))
    args = ["figures", "--quick", "--what", "fig7", "--out", str(tmp_path / "out")]
    assert cli.main(args) == 1
    captured = capsys.readouterr()
    assert "was wrong" in captured.err and "fig7.png" in captured.out
    assert not (tmp_path / "out" / "fig5.png").exists()


def test_unfit_data_are_refused_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hourly = tmp_path / "hourly.csv"
    rows = [f"a,2026-01-05T{hour:02}:00:00Z,9" for hour in range(3)]
    hourly.write_text("\n".join(["meter_id,timestamp,wh", *rows]))
    assert cli.main(["figures", "--data", str(hourly), "--out", str(tmp_path / "out")]) == 2
    assert "its period is 3600 s" in capsys.readouterr().err


def test_without_matplotlib(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(draw.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["figures", "--out", str(tmp_path)]) == 2
    assert "pip install 'wattveil[bench]'" in capsys.readouterr().err


def test_the_paper_s_ranges_are_the_paper_s() -> None:
    """Section 6.2: m in [100, 1000] at gamma 4, gamma in [2, 20] at 500 users; 7 and 8 to 2,000."""
    for sizes, bits in ((command.FULL, 2048), (QUICK, 1024)):
        assert (sizes.fig5_users[0], sizes.fig5_users[-1]) == (100, 1000)
        assert (sizes.fig6_gammas[0], sizes.fig6_gammas[-1], sizes.fig6_users) == (2, 20, 500)
        assert sizes.compare_users[-1] == 2000 and sizes.table_users in sizes.compare_users
        assert sizes.runs >= 200 and sizes.computed >= 30 and sizes.bits == bits


# --- fits --------------------------------------------------------------------------------------


def test_student_against_scipy() -> None:
    for freedom in range(1, 40):
        assert student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9)


def test_lines_against_scipy() -> None:
    chance = random.Random(3)
    points = [(x, 3 * x - 7 + chance.gauss(0, 2)) for x in (1, 2, 5, 9, 14)]
    expected, got = stats.linregress(*zip(*points, strict=True)), line(points)
    assert got.slope == pytest.approx(expected.slope)
    assert got.start == pytest.approx(expected.intercept)
    assert got.half == pytest.approx(expected.stderr * stats.t.ppf(0.975, 3))
    assert got.r2 == pytest.approx(expected.rvalue**2)
    assert math.isnan(line(points[:2]).half)
    assert power([(x, 5 * x**1.5) for x in (1, 2, 4)]).slope == pytest.approx(1.5)
    with pytest.raises(ValueError, match="two different x"):
        line([(1, 2), (1, 3)])
