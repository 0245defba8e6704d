"""Every figure of the benchmark at tiny sizes: its structure and its checks, not its speed."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

import lint_firmware
from wattveil.bench import Figure, run_all, run_host, run_meter, show
from wattveil.bench.figures import figure
from wattveil.bench.rig import PROGRAMS, BenchError, OutOfMemory, Rig, make_key
from wattveil.fleet.runtime import NAMES, RuntimeMissing, find_runtime

BITS = 512
PERIOD = {"prepare, off the clock", "report, at the period's end"}
COUNTS = {"modular multiplications", "serial bytes up", "serial bytes down"}
ALONE = {"report, all slots and C_i", "import from .py", "self-test and start"}
HEAP = {"heap in use when idle", "peak heap above idle", "smallest heap, whole period"}
HOST = {
    "key generation",
    "cloud row, one ciphertext",
    "decryption",
    "sum, one ciphertext from the wire",
    "sum, one ciphertext",
    "dealer's share, one meter",
}


def runtimes() -> list[str]:
    found = ["cpython"]
    for name in NAMES:
        try:
            find_runtime(name)
        except RuntimeMissing:
            continue
        found.append(name)
    return found


def names(figures: list[Figure], runtime: str, gamma: int | None) -> set[str]:
    return {f["figure"] for f in figures if (f["runtime"], f["gamma"]) == (runtime, gamma)}


def check(figures: list[Figure]) -> None:
    assert all(f["checked"] for f in figures)
    assert all(f["bits"] == BITS and f["value"] > 0 for f in figures)
    assert all(set(f) == set(Figure.__annotations__) for f in figures)
    assert json.loads(json.dumps(figures)) == figures
    console = Console(width=250, file=io.StringIO())
    for table in show(figures):
        console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(f["figure"] in text for f in figures)
    assert " NO " not in text


def test_the_meter_on_every_runtime_there_is() -> None:
    said: list[str] = []
    here = runtimes()
    figures = run_meter(
        [BITS], [1, 3], here, 2, said.append, heap_gammas=[2], budget_s=0.0, step=16_384
    )
    check(figures)
    assert said
    for runtime in here:
        assert names(figures, runtime, 1) == PERIOD
        assert names(figures, runtime, 3) == PERIOD | {"report, all slots and C_i"}
        assert names(figures, runtime, None) == ALONE - {"report, all slots and C_i"}
    assert names(figures, "every runtime", 1) == COUNTS
    report = next(f for f in figures if f["figure"].startswith("report, all"))
    assert report["extrapolated"]  # no budget: two slots of three were timed
    assert report["ratio"] == pytest.approx((report["baseline"] or 0) / report["value"])
    if "micropython-arm" in here:
        assert names(figures, "micropython-arm", 2) == HEAP
        assert all(f["met"] for f in figures if f["figure"] in HEAP and f["target"])


def test_all_slots_of_the_textbook_are_timed_when_there_is_time() -> None:
    figures = run_meter([BITS], [2], ["cpython"], 1, lambda _: None, heap_gammas=())
    check(figures)
    (report,) = (f for f in figures if f["figure"].startswith("report, all"))
    assert not report["extrapolated"]


def test_the_host() -> None:
    figures = run_host([BITS], 1, lambda _: None)
    check(figures)
    assert {f["figure"] for f in figures} == HOST


def test_all_is_both(monkeypatch: pytest.MonkeyPatch) -> None:
    one = figure("x", "host", BITS, "us", 1.0, True)
    monkeypatch.setattr("wattveil.bench.run_meter", lambda *_: [one])
    monkeypatch.setattr("wattveil.bench.run_host", lambda *_: [one])
    assert run_all([BITS], [1], ["cpython"], 1, lambda _: None) == [one, one]


def test_a_wrong_answer_does_not_pass(tmp_path: Path) -> None:
    rig = Rig(tmp_path, make_key(BITS), 2)
    rig.job()
    up = bytearray((tmp_path / "up.bin").read_bytes())
    assert rig.opened_uploads() == rig.total
    pair = rig.rows[rig.hot]  # an encryption of 1 in the place of a slot's noise
    assert rig.open([pair, rig.rows[0]], pair) != rig.total
    (tmp_path / "up.bin").write_bytes(up[: len(up) // 2])
    with pytest.raises(BenchError, match="came up"):
        rig.opened_uploads()


@pytest.mark.skipif("micropython-arm" not in runtimes(), reason="no micropython-arm here")
def test_too_little_memory_is_told_from_other_failures(tmp_path: Path) -> None:
    rig = Rig(tmp_path, make_key(BITS), 2)
    rig.job()
    with pytest.raises(OutOfMemory):
        rig.run("micropython-arm", "period.py", "2048")
    with pytest.raises(OutOfMemory):
        rig.run("micropython-arm", "period.py", heap="48k")
    (tmp_path / "h.tab").write_bytes(b"")
    with pytest.raises(BenchError, match="not one the record allows"):
        rig.run("micropython-arm", "period.py")


@pytest.mark.parametrize(
    ("more", "target", "met"),
    [({"at_least": 3}, ">= 3x", True), ({"at_least": 5}, ">= 5x", False), ({}, "", None),
     ({"at_most": 2}, "<= 2 us", True), ({"at_most": 0.5}, "<= 0.5 us", False)],
)  # fmt: skip
def test_targets(more: dict[str, float], target: str, met: bool | None) -> None:
    made = figure("x", "host", 512, "us", 1.0, True, baseline=4.0, **more)  # type: ignore[arg-type]
    assert (made["ratio"], made["target"], made["met"]) == (4.0, target, met)


def test_the_programs_are_micropython(capsys: pytest.CaptureFixture[str]) -> None:
    for path in PROGRAMS.glob("*.py"):
        findings = [reason for _, reason in lint_firmware.check(path.read_text())]
        assert [r for r in findings if "import of ticks" not in r] == []
