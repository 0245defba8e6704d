"""`wattveil board calibrate` against a board whose converter is a sine wave in a file of the test's."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from boardkit import command, powered

AMPS, VOLTS = 8.0, 230.0
# A build for PCs has no ADC, and a busy one no steady 200 ms: so the wave has a clock of its own. The
# load is on while a file says so.
TIME = """\
from utime import *
_us = 0
def ticks_us():
    global _us
    _us = (_us + 5) & 0x3fffffff
    return _us
"""
MACHINE = """\
from math import pi, sin
from time import ticks_us
class Pin:
    def __init__(self, number):
        self.number = number
class ADC:
    def __init__(self, pin):
        try:
            with open('load') as file:
                on = file.read() == 'on'
        except OSError:
            on = False
        self.peak = 14000 if pin.number == 27 else 9000 if on else 0
    def read_u16(self):
        t = ticks_us()
        return int(32768.5 + self.peak * sin(2 * pi * 50 * t / 1000000)) + (t * 5 & 31) - 16
"""


@pytest.fixture
def board(tmp_path: Path) -> Any:
    with powered(tmp_path) as start:
        made = start("micropython")
        (made.folder / "machine.py").write_text(MACHINE)
        (made.folder / "time.py").write_text(TIME)
        assert command("deploy", "--port", made.port) == 0
        yield made


class Person:
    """Standard input of someone who does what was asked, then presses Enter."""

    def __init__(self, flash: Path) -> None:
        self._flash, self._asked = flash, 0

    def readline(self) -> str:
        self._asked += 1
        (self._flash / "load").write_text("on" if self._asked % 2 else "off")
        return "\n"


def test_gains_come_from_two_samples_and_two_known_values(board, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", Person(board.folder))
    out = tmp_path / "sensor.toml"
    pins = ("--current-pin", 26, "--voltage-pin", 27)
    known = ("--amps", AMPS, "--volts", VOLTS, "--out", out)
    assert command("calibrate", "--port", board.port, *pins, *known) == 0
    sensor = tomllib.loads(out.read_text())["sensor"]
    assert sensor["kind"] == "adc_ct"
    assert (sensor["current_pin"], sensor["voltage_pin"], sensor["mains_hz"]) == (26, 27, 50)
    assert sensor["i_gain"] == pytest.approx(AMPS * 1e6 * 2**0.5 / 9000, rel=0.02)
    assert sensor["v_gain"] == pytest.approx(VOLTS * 1e6 * 2**0.5 / 14000, rel=0.02)


def test_what_is_missing_is_said(board, monkeypatch, capsys):
    where = ("calibrate", "--port", board.port, "--amps", 8)
    assert command(*where) == 1
    assert "--current-pin" in capsys.readouterr().err
    assert command(*where, "--current-pin", 26, "--volts", 230) == 1
    assert "--voltage-pin" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", Person(board.folder))
    monkeypatch.setattr(Person, "readline", lambda self: "")
    assert command(*where, "--current-pin", 26) == 2
    assert "nobody is there" in capsys.readouterr().err
