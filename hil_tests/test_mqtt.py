"""A whole demo over a real mosquitto with TLS: what is released is exactly d + xi."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mqttfleet import MAIN, check, options, usable
from wattveil.demo.plan import DemoOptions, make_plan
from wattveil.demo.run import run_demo
from wattveil.fleet.broker import AMQTT


def test_the_command_line() -> None:
    usable("micropython")
    command = "demo --link mqtt --meters 8 --periods 4 --runtime micropython --json".split()
    command += ["--deadline", "120"]  # on a busy machine nobody is left out
    done = subprocess.run(
        [sys.executable, "-m", "wattveil", *command], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["link"] == "mqtt" and result["bits"] == 2048
    assert result["runtime"][0]["name"] == "micropython"
    for row in result["periods"]:
        assert row["refused"] is None and row["reported"] == 8
        assert row["released_wh"] - row["true_wh"] == row["noise_wh"]
    assert len(result["periods"]) == 4


@pytest.mark.parametrize(
    "chosen",
    [
        options(8, 2, gamma=4),
        options(2, 2, "micropython-arm", bits=2048, insecure_test_key=False),
        options(3, 2, "micropython", suite="compact", drop="0.34"),
    ],
    ids=["micropython", "micropython-arm-2048", "compact-drop"],
)
def test_released_minus_true_is_the_chosen_noise(chosen: DemoOptions, tmp_path: Path) -> None:
    usable(str(chosen.runtime))
    plan = make_plan(chosen)
    result = run_demo(plan, root=tmp_path, main=MAIN)
    for start, row in zip(plan.starts, result["periods"], strict=True):
        check(plan, tmp_path, start, row)


def test_with_amqtt_where_mosquitto_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usable("micropython")
    pytest.importorskip(AMQTT, reason="pip install 'wattveil[broker]'")
    monkeypatch.setattr("wattveil.fleet.broker.find_broker", lambda: AMQTT)
    plan = make_plan(options(3, 2))
    result = run_demo(plan, root=tmp_path, main=MAIN)
    for start, row in zip(plan.starts, result["periods"], strict=True):
        check(plan, tmp_path, start, row)
