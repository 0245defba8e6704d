"""`wattveil demo` as scripts use it: its JSON, its exit codes, and totals that are exact.

Where a total must be exact, epsilon is so large that every noise share rounds to zero.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from wattveil.cli import main
from wattveil.demo.plan import DemoOptions, make_plan
from wattveil.demo.run import run_demo
from wattveil.privacy.ledger import Limits
from wattveil.roles.folders import load_limits

NO_NOISE = ["--epsilon", "1000000"]
FAST = ["--link", "memory", "--bits", "512", "--insecure-test-key", "--gamma", "2"]
KEYS = (
    "suite noise bits gamma epsilon delta_wh quorum quorum_count colluding row_check own_noise "
    "period_s offset link runtime meters epsilon_spent periods"
).split()
ROW = (
    "start end roster reported clamped epsilon epsilon_received released_wh true_wh noise_wh refused"
).split()


@pytest.fixture
def demo(capsys: pytest.CaptureFixture[str]) -> Any:
    """demo(*options) -> the JSON of a run that must succeed."""

    def run(*options: str) -> dict[str, Any]:
        assert main(["demo", *FAST, *options, "--json"]) == 0
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return run


@pytest.fixture
def failed(capsys: pytest.CaptureFixture[str]) -> Any:
    """failed(*options) -> (exit code, what it says); nothing may be on stdout."""

    def run(*options: str) -> tuple[int, str]:
        code = main(["demo", *options])
        out = capsys.readouterr()
        assert out.out == ""
        assert "Traceback" not in out.err
        return code, out.err

    return run


def test_json_has_the_documented_keys_and_types(demo: Any) -> None:
    result = demo("--meters", "3", "--periods", "2")
    assert list(result) == KEYS
    assert [list(row) for row in result["periods"]] == [ROW, ROW]
    assert result["epsilon"] == 1 and result["quorum"] == 0.7 and result["quorum_count"] == 3
    assert result["delta_wh"] == 11500 and result["offset"] == 690000
    assert result["row_check"] is True and result["own_noise"] is False
    assert result["runtime"][0]["name"] == "cpython" and result["runtime"][0]["meters"] == 3
    first, second = result["periods"]
    assert first["start"] == "2026-01-05T18:00:00Z"
    assert first["end"] == second["start"] == "2026-01-05T18:30:00Z"
    for row in (first, second):
        assert isinstance(row["released_wh"], int)
        assert row["noise_wh"] == row["released_wh"] - row["true_wh"]
        assert row["epsilon"] == row["epsilon_received"] == 1
    assert result["epsilon_spent"] == 2


@pytest.mark.parametrize("noise", ["gamma", "discrete"])
def test_drop_with_a_low_quorum_stays_exact(demo: Any, noise: str) -> None:
    result = demo("--drop", "0.3", "--quorum", "0.5", "--noise", noise, *NO_NOISE)
    assert result["quorum_count"] == 6
    for row in result["periods"]:
        assert row["reported"] == 12 - 4  # 3.6 meters: halves and more round up
        assert row["released_wh"] == row["true_wh"] and row["refused"] is None


def test_suite_compact_and_its_noise(demo: Any) -> None:
    result = demo("--suite", "compact", "--periods", "2")
    assert list(result) == KEYS
    assert [list(row) for row in result["periods"]] == [ROW, ROW]
    assert (result["suite"], result["noise"], result["quorum_count"]) == ("compact", "discrete", 9)
    for row in result["periods"]:
        assert row["refused"] is None and row["reported"] == 12
        assert row["noise_wh"] == row["released_wh"] - row["true_wh"]
    assert demo("--suite", "compact", "--noise", "gamma", "--periods", "1")["noise"] == "gamma"
    assert demo("--periods", "1")["noise"] == "gamma"  # yan2024's own


@pytest.mark.parametrize("suite", ["yan2024", "compact"])
@pytest.mark.parametrize(
    "options",
    [
        ("--level", "short"),
        ("--level", "half"),
        ("--level", "full"),
        ("--level", "full", "--tables", "128"),
        ("--tables", "128"),
        ("--tables", "256", "--drop", "0.25"),
        ("--tables", "384", "--own-noise"),
        ("--tables", "512", "--no-row-check"),
        ("--gamma", "1"),
        ("--gamma", "9"),
    ],
    ids=" ".join,
)
def test_both_suites_are_exact(demo: Any, suite: str, options: tuple[str, ...]) -> None:
    """At every randomiser level, with every set of tables, for rows of any length."""
    result = demo("--suite", suite, "--meters", "4", "--periods", "2", *options, *NO_NOISE)
    for row in result["periods"]:
        assert row["refused"] is None and row["released_wh"] == row["true_wh"]


def test_too_few_meters_release_nothing_and_cost_nothing(demo: Any) -> None:
    result = demo("--drop", "0.8")
    assert result["epsilon_spent"] == 0
    for row in result["periods"]:
        assert row["refused"] == "below_quorum" and row["released_wh"] is None
        assert row["noise_wh"] is None and row["epsilon"] == row["epsilon_received"] == 0
        assert row["reported"] == 12 - 10


def test_the_same_meters_drop_for_the_same_seed() -> None:
    def plan(seed: int) -> list[list[int]]:
        made = make_plan(DemoOptions(drop="0.5", quorum="0.5", seed_data=seed, periods=6))
        return [made.expected(start) for start in made.starts]

    assert plan(1) == plan(1) != plan(2)
    assert {len(present) for present in plan(1)} == {6}
    assert len({tuple(present) for present in plan(1)}) > 1


def csv(folder: Path, *rows: str) -> str:
    path = folder / "loads.csv"
    path.write_text("\n".join(["meter_id,timestamp,wh", *rows]) + "\n")
    return str(path)


def test_data_with_gaps_disorder_and_clamped_values(demo: Any, tmp_path: Path) -> None:
    data = csv(
        tmp_path,
        "c,2020-01-01T00:15:00Z,30",
        "a,2020-01-01T01:00:00+01:00,99999",
        "b,2020-01-01T00:00:00Z,7",
        "a,2020-01-01T00:15:00Z,10",
        "b,2020-01-01T00:15:00Z,20",
    )
    options = ("--data", data, "--meters", "3", "--periods", "2", "--delta", "500")
    result = demo(*options, "--quorum", "0.5", *NO_NOISE)
    first, second = result["periods"]
    assert result["period_s"] == 900 and result["meters"] == 3
    assert (first["reported"], first["clamped"], first["released_wh"]) == (2, 1, 507)
    assert (second["reported"], second["clamped"], second["released_wh"]) == (3, 0, 60)


def test_stamps_may_mark_the_end(demo: Any, tmp_path: Path) -> None:
    data = csv(tmp_path, *(f"{m},2020-01-01T{h:02}:00:00Z,5" for m in "ab" for h in (1, 2)))
    options = ("--data", data, "--meters", "2", "--periods", "2", *NO_NOISE)
    assert demo(*options)["periods"][0]["start"] == "2020-01-01T01:00:00Z"
    assert demo(*options, "--stamp", "end")["periods"][0]["start"] == "2020-01-01T00:00:00Z"


def test_options_that_only_change_the_law(demo: Any) -> None:
    result = demo("--own-noise", "--no-row-check", "--colluding", "2", *NO_NOISE)
    assert result["own_noise"] is True and result["row_check"] is False
    assert result["colluding"] == 2
    assert all(row["noise_wh"] == 0 for row in result["periods"])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--meters", "1"], "hides nobody"),
        (["--periods", "0"], "--periods"),
        (["--bits", "512"], "insecure"),
        (["--bits", "1000"], "bits"),
        (["--quorum", "1.1"], "quorum"),
        (["--quorum", "0"], "quorum"),
        (["--quorum", "half"], "quorum"),
        (["--colluding", "9"], "colluding"),
        (["--epsilon", "0"], "epsilon"),
        (["--epsilon", "-1"], "epsilon"),
        (["--drop", "1.5"], "drop"),
        (["--delta", "0"], "delta"),
        (["--gamma", "0"], "gamma"),
        (["--gamma", "300"], "gamma"),
        (["--suite", "compact", "--gamma", "0"], "gamma"),
        (["--deadline", "0"], "deadline"),
        (["--link", "memory", "--runtime", "micropython"], "--runtime"),
        (["--link", "memory", "--port", "x"], "--port"),
        (["--data", "no such file"], "no such file"),
        (["--data", "{csv}", "--meters", "3"], "3"),
        (["--data", "{bad}", "--meters", "2", "--periods", "2"], ":3:"),
    ],
)
def test_bad_usage_is_exit_2_with_a_reason(
    failed: Any, tmp_path: Path, options: list[str], word: str
) -> None:
    good = [f"{m},2020-01-01T{h:02}:00:00Z,5" for m in "ab" for h in (1, 2)]
    files = {"csv": csv(tmp_path, *good)}
    (tmp_path / "bad").mkdir()
    files["bad"] = csv(tmp_path / "bad", good[0], "b,2020-01-01T01:00:00Z,five", *good[2:])
    options = [option.format(**files) for option in options]
    code, said = failed(*options)
    assert code == 2
    assert word in said


def test_unknown_options_are_exit_2() -> None:
    for argv in (
        ["demo", "--suite", "none"],
        ["demo", "--level", "none"],
        ["demo", "--tables", "100"],
        ["demo", "--nonsense"],
        [],
        ["fly"],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(argv)
        assert stopped.value.code == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("wattveil ")


def test_without_json_a_person_can_read_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", *FAST, "--periods", "2"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in ("2 of 2 totals were released", "1,000 homes", "epsilon 2", "12/12"):
        assert words in text


def test_real_load_data(demo: Any) -> None:
    path = Path(__file__).parents[2] / "shared/data/lcl_dev_30min_winter4w.csv.gz"
    if not path.exists():
        pytest.skip(f"the Low Carbon London sample is not at {path}")
    result = demo("--data", str(path), "--meters", "40", "--periods", "3", *NO_NOISE)
    assert [row["noise_wh"] for row in result["periods"]] == [0, 0, 0]
    assert result["period_s"] == 1800


def test_inspect_tells_the_totals_a_centre_released(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = DemoOptions(
        meters=3, periods=2, bits=512, insecure_test_key=True, gamma=2, link="memory"
    )
    result = run_demo(make_plan(options), root=tmp_path)
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "fleet")]) == 0
    text = capsys.readouterr().out
    for row in result["periods"]:
        assert f"{row['released_wh']:,} Wh  over 3 of 3 meters, epsilon 1" in text
    assert "spent most: 2" in text and "2026-01-05 18:00:00Z  released" in text


@pytest.mark.parametrize("suite", ["yan2024", "compact"])
def test_keygen_and_inspect_show_no_secret(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, suite: str
) -> None:
    out = tmp_path / "fleet"
    argv = ["keygen", "--bits", "512", "--insecure-test-key", "--meters", "3", "--out", str(out)]
    argv += ["--suite", suite]
    assert main([*argv, "--epsilon-per-day", "0.5"]) == 2  # less than a period's: nothing is made
    assert not out.exists()
    argv += ["--epsilon-per-day", "47.5", "--epsilon-lifetime", "17520"]
    assert main(argv) == 0
    assert load_limits(out / "center" / "limits.json") == Limits(Fraction(95, 2), Fraction(17520))
    assert main(argv) == 2  # never over an existing fleet
    for path in (out, out / "meters" / "meter-0001", out / "center" / "key.json"):
        assert main(["inspect", str(path)]) == 0
    assert main(["inspect", str(tmp_path)]) == 0
    text = "".join(capsys.readouterr())
    key = json.loads((out / "center" / "key.json").read_text())
    secrets = [str(v) for name, v in key.items() if name in ("p", "q")]
    for folder in ("center", "cloud", "dealer"):
        for name in ("meters.json", "links.json"):
            values = json.loads((out / folder / name).read_text())
            for value in values.values():
                secrets += (
                    [v for v in value.values() if isinstance(v, str)]
                    if isinstance(value, dict)
                    else [value]
                )
    assert len(secrets) > 10
    assert not any(secret in text for secret in secrets)
