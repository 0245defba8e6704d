"""A whole demo over serial ports on real MicroPython: what is released is exactly d + xi.

A test-only main records every share xi_ij that a meter draws; the bits b_ij come from the cloud's
store, which no other role can read. Their scalar product must be what the released total is off by.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from exactness import noise_of
from wattveil.demo.plan import DemoOptions, make_plan
from wattveil.demo.run import run_demo
from wattveil.fleet.runtime import RuntimeMissing, find_runtime

MAIN = Path(__file__).with_name("recording_main.py")


@pytest.mark.parametrize(
    "options",
    [
        DemoOptions(meters=12, periods=4, bits=2048, gamma=8, runtime="micropython"),
        DemoOptions(meters=4, periods=4, bits=2048, gamma=8, runtime="micropython-arm"),
        DemoOptions(
            meters=5,
            periods=3,
            bits=1024,
            gamma=3,
            runtime="micropython",
            noise="discrete",
            own_noise=True,
            drop="0.2",
            delta=300,
        ),
        DemoOptions(meters=3, periods=2, bits=1024, gamma=1, runtime="cpython", row_check=False),
        DemoOptions(meters=4, periods=3, gamma=8, suite="compact", runtime="micropython"),
        DemoOptions(meters=3, periods=2, gamma=20, suite="compact", runtime="micropython-arm"),
        DemoOptions(
            meters=3,
            periods=2,
            bits=1024,
            gamma=5,
            suite="compact",
            noise="gamma",
            own_noise=True,
            level="full",
            tables=128,
            runtime="micropython",
        ),
    ],
    ids=[
        "micropython",
        "micropython-arm",
        "micropython-discrete-own-drop",
        "cpython",
        "compact-micropython",
        "compact-arm",
        "compact-gamma-own-full",
    ],
)
def test_released_minus_true_is_the_chosen_noise(options: DemoOptions, tmp_path: Path) -> None:
    if options.runtime != "cpython":
        try:
            find_runtime(str(options.runtime))
        except RuntimeMissing as missing:
            pytest.skip(str(missing))
    plan = make_plan(replace(options, deadline=120.0))  # on a busy machine nobody is left out
    result = run_demo(plan, root=tmp_path, main=MAIN)
    json.dumps(result)
    assert [row["refused"] for row in result["periods"]] == [None] * options.periods
    assert result["runtime"][0]["name"] == options.runtime
    assert sum(entry["meters"] for entry in result["runtime"]) == options.meters
    for start, row in zip(plan.starts, result["periods"], strict=True):
        members = plan.expected(start)
        assert row["reported"] == len(members)
        assert row["true_wh"] == sum(plan.clamped(n, start) or 0 for n in members)
        assert row["noise_wh"] == noise_of(plan, tmp_path, start, members)
    assert result["epsilon_spent"] == options.periods


def test_the_firmware_has_no_hook() -> None:
    """Nothing in firmware/ records or injects noise: the words of this test's main are not there."""
    firmware = Path(__file__).parent.parent / "firmware"
    for path in firmware.glob("**/*.py"):
        if "typings" in path.parts:
            continue
        text = path.read_text()
        # a method called exec is a state machine's of the RP2040
        found = re.search(r"shares\.csv|Recorder|getenv|environ|(?<!\.)\b(exec|eval)\(", text)
        assert found is None, f"{path}: {found}"
