"""The pulse counter's PIO program, stepped cycle by cycle: what it counts is what `Debounce` counts.

hil_tests/test_pico_pins.py runs it on an emulated RP2040.  The instructions here are the few it uses, after
the RP2040's datasheet, 3.4: one cycle each, and a jump tests the pin at its own cycle.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattveil_meter.sensors.pulse import Debounce

SOURCE = Path(__file__).parent.parent / "firmware/wattveil_meter/sensors/pulse_rp2.py"
CYCLES = 64  # that a level lasts before it counts


class Machine:
    """One state machine, its pin a level that the test sets; as rp2.StateMachine, and `step`."""

    def __init__(self, number: int, program: list[Any], freq: int, jmp_pin: object) -> None:
        assert 1908 <= freq <= 125_000_000  # divisors 1 to 65,536
        self.number, self.freq = number, freq
        self.code = [step for step in program if step[0] != "label"]
        assert len(self.code) <= 32
        places = [i - k for k, i in enumerate(i for i, s in enumerate(program) if s[0] == "label")]
        names = [step[1] for step in program if step[0] == "label"]
        self.labels = dict(zip(names, places, strict=True))
        self.x = self.y = self.at = 0
        self.level = True
        self.pushed: list[int] = []

    def exec(self, instruction: str) -> None:
        if instruction == "set(x, 0)":
            self.x = 0
        else:
            assert instruction == "in_(x, 32)"
            self.pushed.append(self.x)

    def active(self, on: int) -> None:
        assert on

    def get(self) -> int:
        return self.pushed.pop()

    def step(self) -> None:
        """One cycle."""
        name, *arguments = self.code[self.at]
        self.at = (self.at + 1) % len(self.code)
        if name == "set":
            assert arguments[0] == "y" and 0 <= arguments[1] < 32
            self.y = arguments[1]
            return
        condition, target = arguments if len(arguments) == 2 else ("", *arguments)
        taken = True
        if condition == "pin":
            taken = self.level
        elif condition == "x_dec":
            taken, self.x = self.x != 0, (self.x - 1) & 0xFFFFFFFF
        elif condition == "y_dec":
            taken, self.y = self.y != 0, (self.y - 1) & 0xFFFFFFFF
        if taken:
            self.at = self.labels[target]


def assembler(autopush: bool) -> Callable[[Callable[[], None]], list[Any]]:
    """rp2.asm_pio: the instructions, in order, as (name, arguments...)."""
    assert autopush

    def assemble(program: Callable[[], None]) -> list[Any]:
        steps: list[Any] = []
        words: dict[str, Any] = {word: word for word in ("pin", "x_dec", "y_dec", "x", "y")}
        for name in ("label", "set", "jmp"):
            words[name] = lambda *arguments, name=name: steps.append((name, *arguments))
        exec(program.__code__, words)
        return steps

    return assemble


@pytest.fixture(scope="module")
def counter() -> Any:
    """pulse_rp2.counter, over these."""
    machines: list[Machine] = []

    def make(*arguments: Any, **keys: Any) -> Machine:
        machines.append(Machine(*arguments, **keys))
        return machines[-1]

    def encode(instruction: str, _: int) -> str:
        return instruction

    rp2 = SimpleNamespace(asm_pio=assembler, StateMachine=make, asm_pio_encode=encode)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "rp2", rp2)
        open_counter = runpy.run_path(str(SOURCE))["counter"]

    def make_counter(debounce_ms: int) -> tuple[Callable[[], int], Machine]:
        return open_counter(None, debounce_ms), machines[-1]

    return make_counter


def test_clocks(counter: Any) -> None:
    for debounce_ms in range(1, 17):
        assert abs(counter(debounce_ms)[1].freq * debounce_ms / 1000 - CYCLES) < 1
    assert counter(0)[1].freq == 6_400_000  # 10 us


# Levels that last clearly shorter or clearly longer than the filter: in between either is right.
SHORT, LONG = st.integers(1, CYCLES - 4), st.integers(CYCLES + 8, 300)


@given(st.lists(st.one_of(SHORT, LONG), max_size=60))
@settings(deadline=None)
def test_it_counts_what_the_interrupt_would(counter: Any, lengths: list[int]) -> None:
    count, machine = counter(15)
    debounce = Debounce(CYCLES - 1)
    now = 0
    for level, length in enumerate([400, *lengths, 400, 400]):  # high first
        machine.level = level % 2 == 0
        debounce.edge(not machine.level, now)
        for _ in range(length):
            machine.step()
        now += length
    if not machine.level:  # the machine counts a pulse when it is over
        machine.level = True
        debounce.edge(False, now)
        for _ in range(400):
            machine.step()
    assert count() == debounce.count


def test_reading_wraps(counter: Any) -> None:
    count, machine = counter(15)
    assert count() == 0
    machine.x = 1  # 2^32 - 1 pulses
    for level in (True, False, True):
        machine.level = level
        for _ in range(200):
            machine.step()
    assert count() == 0 and machine.x == 0
