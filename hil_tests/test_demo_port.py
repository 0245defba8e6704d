"""A board joins the demo by `--port`: provisioned over its raw REPL, its readings come sealed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wattveil.demo.plan import DemoOptions, make_plan
from wattveil.demo.run import run_demo


@pytest.mark.parametrize("drop", ["0", "0.34"])
def test_a_board_joins_emulated_meters(
    board_console: tuple[str, Any], drop: str, tmp_path: Path
) -> None:
    port, _ = board_console
    options = DemoOptions(
        meters=3, periods=2, bits=1024, gamma=2, quorum="0.5", drop=drop, ports=(port,),
        deadline=120.0,
    )  # fmt: skip
    plan = make_plan(options)
    result = run_demo(plan, root=tmp_path)
    assert sum(entry["meters"] for entry in result["runtime"]) == 3
    for start, row in zip(plan.starts, result["periods"], strict=True):
        assert row["refused"] is None
        assert row["reported"] == len(plan.expected(start))
    # the cloud's folder holds no reading in the clear
    values = {f",{wh}" for days in plan.readings.values() for wh in days.values() if wh}
    for path in (tmp_path / "fleet" / "cloud").iterdir():
        data = path.read_bytes()
        assert not any(value.encode() + b"\n" in data for value in values)
