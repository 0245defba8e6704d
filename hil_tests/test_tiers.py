"""The suite itself: boards by `--bench` run it, skips say what to set, a failure says where the logs are.

The boards are unix builds behind rawrepl.py; for the suite that runs on them they are real ones.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

import tiers
from tiers import Tier
from wattveil.boards.inventory import Bench, BrokerPlace, Place
from wattveil.fleet import pico
from wattveil.fleet.emulated import EmulatedMeter
from wattveil.fleet.runtime import RuntimeMissing, find_runtime

HERE = Path(__file__).parent
ROOT = HERE.parent
# Done by whoever runs the stand-in (`serve`); the command waits until it is.
POWER = "touch {0}; while test -e {0}; do sleep 0.02; done"


class StandIn:
    """A board, and the hand on its power that shell commands reach through two files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.off, self.on = folder / "off", folder / "on"
        for name in ("flash", "nothing to import"):
            (folder / name).mkdir()
        main = HERE / "rawrepl.py"
        empty = folder / "nothing to import"
        self.board = EmulatedMeter(folder / "flash", "micropython", main=main, firmware=empty)
        self.cuts = 0

    def serve(self) -> None:
        """Do what was asked for."""
        if self.off.exists():
            self.board.kill()
            (self.board.folder / "starts.bin").unlink(missing_ok=True)  # hal.reset_reason()
            self.cuts += 1
            self.off.unlink()
        if self.on.exists():
            self.board.start()
            self.on.unlink()


@pytest.fixture
def stand_ins(tmp_path: Path) -> Iterator[list[StandIn]]:
    try:
        find_runtime("micropython")
    except RuntimeMissing as missing:
        pytest.skip(str(missing))
    made = [StandIn(tmp_path / "kitchen"), StandIn(tmp_path / "attic")]
    for one in made:
        one.board.start()
    yield made
    for one in made:
        one.board.close()


def test_boards_on_a_bench_run_the_suite(stand_ins: list[StandIn], tmp_path: Path) -> None:
    """One whose power can be cut, and one whose power command fails: a test fails, and shows logs."""
    kitchen, attic = stand_ins
    bench = tmp_path / "bench.toml"
    bench.write_text(
        f'[[board]]\nname = "kitchen"\nport = "{kitchen.board.port}"\n'
        f'power_off = "{POWER.format(kitchen.off)}"\npower_on = "{POWER.format(kitchen.on)}"\n'
        f'[[board]]\nname = "attic"\nport = "{attic.board.port}"\n'
        'power_off = "exit 7"\npower_on = "exit 7"\n'
    )
    xml, html, out = tmp_path / "report.xml", tmp_path / "report.html", tmp_path / "out.txt"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += ["hil_tests/test_conformance.py", "hil_tests/test_faults_device.py", "--bench"]
    command += [str(bench), "-k", "(kitchen or attic) and (reading and 1 or any_moment)"]
    command += [f"--junitxml={xml}", f"--html={html}", "--self-contained-html"]
    command += [f"--basetemp={tmp_path / 'run'}"]
    with out.open("wb") as file:
        running = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
        try:
            while running.poll() is None:
                kitchen.serve()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.wait(0.05)
        finally:
            running.kill()
            running.wait()
    said = out.read_text()
    cases = {case.get("name"): case for case in ET.parse(xml).iter("testcase")}
    outcomes = {
        name: child.tag
        for name, case in cases.items()
        for child in case
        if child.tag in ("failure", "error", "skipped")
    }
    cut = "test_a_power_cut_at_any_moment_repeats_nothing[board:{}]"
    assert len(cases) == 4 and outcomes.pop(cut.format("attic")) == "failure", said
    assert outcomes == {}, said  # the rest has passed
    assert kitchen.cuts == 9
    assert "exit status 7" in said
    logs = (tmp_path / "run").glob("test_a_power_cut*/meter0/board-log.txt")
    assert any(f"log of meter0: {path}" in said for path in logs), said
    assert "board:kitchen" in html.read_text()
    seed = next(cases[cut.format("kitchen")].iter("property"))
    assert seed.get("name") == "seed"


# --- skips -------------------------------------------------------------------------------------


def skipped(function: object, *args: object) -> str:
    with pytest.raises(pytest.skip.Exception) as skip:
        function(*args)  # type: ignore[operator]
    return str(skip.value)


def test_every_skip_names_what_to_set(monkeypatch: pytest.MonkeyPatch, pytestconfig) -> None:
    monkeypatch.delenv(pico.UF2, raising=False)
    monkeypatch.setenv("WATTVEIL_MICROPYTHON", "")
    board = Tier("board:a", place=Place(name="a", port="/dev/x"), bench=Bench(board=()))
    assert "power_off and power_on of this board in bench.toml" in skipped(board.needs_power)
    assert "[broker]" in skipped(board.needs_network)
    assert "--bench" in skipped(Tier(tiers.PICO).needs_network)
    assert "WATTVEIL_PICO_UF2" in skipped(tiers.find, tiers.PICO, pytestconfig, None)
    if not pytestconfig.getoption("--port") and not pytestconfig.getoption("--bench"):
        assert "--port" in skipped(tiers.find, tiers.BOARD, pytestconfig, None)
    reached = BrokerPlace(address="192.168.1.10")
    able = Place(name="a", port="/dev/x", power_off="x", power_on="y")
    tier = Tier("board:a", place=able, bench=Bench(board=(able,), broker=reached))
    tier.needs_power()
    tier.needs_network()
