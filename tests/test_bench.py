"""Every figure of the benchmark at tiny sizes: its structure and its checks, not its speed."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import lint_firmware
from undisturbed import undisturbed
from wattveil import cli
from wattveil.bench import command
from wattveil.bench.build import PROGRAMS, Build
from wattveil.bench.figures import Figure, figure
from wattveil.bench.heap import smallest
from wattveil.bench.insn import TARGETS, plugin, run_insn
from wattveil.bench.meter import Plan, pow_steps, run_meter
from wattveil.bench.places import Emulated
from wattveil.bench.plot import MISSING, fit
from wattveil.bench.records import KEYS, Measured
from wattveil.bench.rig import (
    READING,
    START,
    BenchError,
    Choice,
    Cloud,
    Job,
    OutOfMemory,
    Rig,
    make_key,
)
from wattveil.bench.shim import machine_code
from wattveil.bench.show import show, show_records
from wattveil.bench.targets import figures
from wattveil.fleet.emulated import firmware_folder
from wattveil.fleet.runtime import NAMES, RuntimeMissing, find_runtime

BITS = 512


def runtimes() -> list[str]:
    found = ["cpython"]
    for name in NAMES:
        try:
            find_runtime(name)
        except RuntimeMissing:
            continue
        found.append(name)
    return found


arm = pytest.mark.skipif("micropython-arm" not in runtimes(), reason="no micropython-arm here")


def shown(tables: list[Any]) -> str:
    console = Console(width=250, file=io.StringIO())
    for table in tables:
        console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.fixture(scope="module")
def measured() -> list[Measured]:
    plan = Plan(bits=(BITS,), gammas=(1, 3), runtimes=runtimes(), repeats=2, heap_step=8192)
    return run_meter(plan, lambda _: None)


def test_a_record_for_each_suite_runtime_and_row_length(measured: list[Measured]) -> None:
    records = [one.record for one in measured]
    at = [(r["suite"], r["runtime"], r["gamma"]) for r in records]
    assert at == [(s, r, g) for s in ("yan2024", "compact") for r in runtimes() for g in (1, 3)]
    for r in records:
        assert tuple(r) == KEYS
        assert r["checked"] and r["bits"] == BITS and r["periods"] == 2 and r["kernel"]
        assert r["noise"] == {"yan2024": "gamma", "compact": "discrete"}[r["suite"]]
        numbers = (r["prepare_ms"], r["report_ms"], r["link_ms"], r["textbook_ms"], r["modmuls"])
        assert min(numbers) > 0 and r["mad_ms"] >= 0
        assert r["ratio"] == pytest.approx(
            r["textbook_ms"] / (r["prepare_ms"] + r["report_ms"]), rel=1e-3
        )
        assert not r["textbook_extrapolated"]
        assert (r["heap_peak_bytes"] is None) == (r["runtime"] == "cpython")
        uploads = 1 + r["gamma"] * (r["suite"] == "yan2024")
        assert r["bytes_up"] == uploads * (72 + BITS // 4) + 2 * (uploads - 1)
        assert r["bytes_down"] == r["gamma"] * (72 + 34 + BITS // 4)
    assert len({(r["suite"], r["gamma"], r["modmuls"]) for r in records}) == 4  # on every runtime
    assert json.loads(json.dumps(records)) == records
    text = shown(show_records(records))
    assert " NO " not in text and "compact" in text


def test_the_targets_are_for_one_size(measured: list[Measured]) -> None:
    made = figures(measured)
    assert made and all(set(f) == set(Figure.__annotations__) and f["checked"] for f in made)
    assert not any(f["target"] for f in made if "prepare" in f["figure"])
    fake = []
    for one in measured:
        changed = {"bits": 2048, "gamma": 20, "ratio": 1.0, "runtime": "micropython"}
        if one.record["gamma"] == 3 and one.record["runtime"] == "micropython":
            record = {**one.record, **changed, "textbook_ms": 100 * one.record["prepare_ms"]}
            fake.append(replace(one, record=record))  # type: ignore[arg-type]
    met = {
        f["figure"]: (f["target"], f["met"]) for f in figures(fake) if "and report" in f["figure"]
    }
    if fake:
        assert met == {
            "yan2024: prepare and report": (">= 40x", True),
            "compact: prepare and report": (">= 200x", False),
        }
    assert "MISSED" in shown(show(figures(fake))) or not fake


@pytest.mark.parametrize("budget", [0.0, 1e-3])
def test_a_textbook_that_would_take_too_long_is_computed_and_marked(budget: float) -> None:
    plan = Plan(("compact",), (BITS,), (3,), ("cpython",), repeats=1, heap_step=0)

    def about_the_same() -> bool:
        (one,) = run_meter(replace(plan, budget_s=budget), lambda _: None)
        (full,) = run_meter(replace(plan, budget_s=60.0), lambda _: None)
        assert one.record["checked"] and one.record["textbook_extrapolated"]
        assert not full.record["textbook_extrapolated"]
        return 0.2 < one.record["textbook_ms"] / full.record["textbook_ms"] < 5

    assert undisturbed(about_the_same)


def test_without_row_check_and_with_another_noise_and_level() -> None:
    plan = Plan(("compact",), (BITS,), (2,), ("cpython",), repeats=1, row_check=False)
    plan = replace(plan, noise="gamma", level="half", tables=128, heap_step=0)
    (one,) = run_meter(plan, lambda _: None)
    r = one.record
    assert (r["noise"], r["level"], r["tables"], r["checked"]) == ("gamma", "half", 128, True)
    assert not one.row_check


def test_runtimes_that_are_missing_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATTVEIL_PICO_UF2", raising=False)
    said: list[str] = []
    plan = Plan(("compact",), (BITS,), (1,), ("pico-emulated",), repeats=1)
    with pytest.raises(RuntimeMissing, match="WATTVEIL_PICO_UF2"):
        run_meter(plan, said.append)
    assert any(text.startswith("skipped: pico-emulated") for text in said)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    return Rig(tmp_path_factory.mktemp("rig") / "fleet", make_key(BITS), Choice("compact"))


def period(place: Emulated, job: Job, **more: Any) -> Any:
    what = {"kernel": "auto", "free": 0, "book_us": -1, "start": START, "reading": READING}
    return place.run("bench_period", what | {"hot": job.hot} | more, job.files(1), Cloud(job))


def test_a_wrong_answer_does_not_pass(tmp_path: Path, rig: Rig) -> None:
    job = rig.job(2)
    cloud = Cloud(job)
    assert not cloud.checked(0)
    place = Emulated("cpython", Build(tmp_path / "build"), tmp_path / "run")
    what = {"kernel": "auto", "free": 0, "book_us": 10**7, "start": START, "reading": READING}
    run = place.run("bench_period", what | {"hot": job.hot}, job.files(1), cloud)
    assert cloud.checked(run["xi"]) and cloud.book_checked(run["xi"])
    assert not cloud.checked(run["xi"] + 1) and not cloud.book_checked(run["xi"] + 1)
    cloud.report = job.rows[0]
    assert not cloud.checked(run["xi"])


@arm
def test_too_little_memory_is_told_from_other_failures(tmp_path: Path, rig: Rig) -> None:
    place = Emulated("micropython-arm", Build(tmp_path / "build"), tmp_path / "run")
    job = rig.job(2)
    with pytest.raises(OutOfMemory):
        period(place, job, free=2048)
    with pytest.raises(BenchError, match="no kernel"):
        period(place, job, kernel="abacus")


@pytest.mark.parametrize("guess", [1, 5, 17, 18, 19, 40, 99])
def test_the_smallest_is_found_from_any_guess(guess: int) -> None:
    tried: list[int] = []

    def works(number: int) -> bool:
        tried.append(number)
        return number >= 18

    assert smallest(works, guess, 200) == 18
    assert smallest(lambda _: True, guess, 200) == 1
    assert len(tried) == len(set(tried)) < 16 and (guess != 18 or len(tried) == 2)
    with pytest.raises(BenchError, match="more than 200"):
        smallest(lambda _: False, guess, 200)


def test_instructions() -> None:
    try:
        with plugin():
            pass
    except RuntimeMissing as missing:
        pytest.skip(str(missing))
    made = run_insn([BITS], lambda _: None, gamma=2, shares=20, keys=1)
    assert all(f["checked"] and f["value"] > 0 for f in made)
    assert [f["figure"] for f in made[:4]] == [f"{suite}, {kernel}" for suite, kernel in TARGETS]
    portable, fast = made[0]["value"], made[1]["value"]
    assert fast < portable and all((f["ratio"] or 0) > 1 for f in made[:4])


def test_machine_code_is_read_from_the_firmwares_source() -> None:
    for path in sorted((firmware_folder() / "wattveil_meter" / "kernels").glob("thumb*.py")):
        code, scratch = machine_code(path.read_text())
        assert len(code) > 500 and len(code) % 2 == 0 and scratch > 0
    with pytest.raises(ValueError, match="data"):
        machine_code("SCRATCH = 4\ndef multiply(r0, r1, r2, r3):\n    add(r0, r0, 1)\n")


@pytest.mark.parametrize(
    ("more", "target", "met"),
    [({"at_least": 3}, ">= 3x", True), ({"at_least": 5}, ">= 5x", False), ({}, "", None),
     ({"at_most": 2}, "<= 2 us", True), ({"at_most": 0.5}, "<= 0.5 us", False)],
)  # fmt: skip
def test_targets(more: dict[str, float], target: str, met: bool | None) -> None:
    made = figure("x", "host", 512, "us", 1.0, True, baseline=4.0, **more)  # type: ignore[arg-type]
    assert (made["ratio"], made["target"], made["met"]) == (4.0, target, met)


def bench(*arguments: str) -> int:
    return cli.main(["bench", *arguments])


TINY = ("--bits", str(BITS), "--gamma", "2,1", "--repeats", "1", "--runtime", "cpython")


def test_the_command_prints_json_writes_csv_and_plots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    table, picture = tmp_path / "a.csv", tmp_path / "a.svg"
    files = ("--csv", str(table), "--plot", str(picture))
    assert bench("meter", *TINY, "--suite", "compact", "--json", *files) == 0
    records = json.loads(capsys.readouterr().out)
    assert [(r["suite"], r["gamma"]) for r in records] == [("compact", 1), ("compact", 2)]
    with table.open() as file:
        assert [row["gamma"] for row in csv.DictReader(file)] == ["1", "2"]
    assert "<svg" in picture.read_text()
    assert bench("meter", *TINY, "--suite", "all") == 0
    assert "heap" in capsys.readouterr().out


def test_what_cannot_be_measured_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bench("meter", "--runtime", "abacus") == 2
    assert bench("meter", "--gamma", "0") == 2
    assert bench("meter", "--plot", "plot.pdf") == 2
    assert bench("meter", "--json", "--instructions") == 2
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert bench("meter", "--plot", str(tmp_path / "a.png")) == 2
    assert MISSING in capsys.readouterr().err


def test_all_is_everything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], measured: list[Measured]
) -> None:
    one = figure("x", "host", BITS, "us", 1.0, True)
    monkeypatch.setattr(command, "run_meter", lambda *_: measured)
    monkeypatch.setattr(command, "run_host", lambda *_: [{**one, "host": True}])

    def missing(*_: object) -> list[Figure]:
        raise RuntimeMissing("no gcc")

    monkeypatch.setattr(command, "run_insn", missing)
    assert bench("all", "--json") == 0
    out = capsys.readouterr()
    assert "skipped: no gcc" in out.err
    both = json.loads(out.out)
    assert both["meter"] == [m.record for m in measured] and both["figures"]
    assert both["host"] == [{**one, "host": True}]
    monkeypatch.setattr(command, "run_insn", lambda *_: [{**one, "checked": False}])
    assert bench("insn", "--json") == 1


def test_the_fitted_slope_and_the_counts_of_pow() -> None:
    assert [pow_steps(e) for e in (1, 2, 3, 0b1011)] == [1, 2, 3, 6]
    assert fit([(1, 5.0), (2, 7.0), (10, 23.0)]) == pytest.approx((2.0, 3.0))
    assert fit([(4, 7.0)]) == (0.0, 7.0)


def test_the_programs_are_micropython() -> None:
    own = {path.stem for path in PROGRAMS.glob("*.py")} | {"armkernel"}
    for path in PROGRAMS.glob("*.py"):
        for _, reason in lint_firmware.check(path.read_text()):
            assert any(f"import of {name}" in reason for name in own), (path.name, reason)
