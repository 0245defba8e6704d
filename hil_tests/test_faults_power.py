"""Faults of one meter's flash and program: what is lost, what is counted, how long it takes.

These need a hand on a process. Their like for a chip is in test_faults_device.py.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fieldfleet import SLOW, Field
from tiers import PATIENCE_S

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory, runtimes: tuple[str, ...]) -> Iterator[Field]:
    """Four meters; the last two have a littlefs, and a watchdog."""
    with Field(tmp_path_factory.mktemp("power"), runtimes=runtimes[:1]) as field:
        for name in ("dealer", "center", "cloud"):
            field.start_role(name)
        config = field.prepare_folder(4) / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"watchdog_ms": 2000}))
        mains = {3: HERE / "littlefs_main.py", 4: HERE / "watchdog_main.py"}
        for number in range(1, 5):
            field.start_meter(number, mains.get(number), "640k" if number == 3 else None)
        field.wait("registration", lambda: set(field.states()) == {"registered"})
        yield field


@pytest.mark.parametrize("write", [0, 1, 2, 3])
def test_a_power_cut_in_the_middle_of_a_flash_write(field: Field, recovered, write: int) -> None:
    """On a real littlefs, in the writes of a period; tests/core/test_meter_flash.py tries them all."""
    start = field.begin()
    end = start + field.settings.period_s
    meter = field.meters[3]
    (field.folder(3) / "cut").write_text(str(write))
    field.prepared(start, [1, 2, 4])
    field.wait(
        "the cut, or no more writes",
        lambda: not meter.alive() or 3 in field.period(start)["prepared"],
    )
    field.clock(end)
    field.wait("the cut", lambda: not meter.alive())
    assert meter.wait() == 137
    meter.start()

    def knows() -> bool:  # it said something of this period, or had stored nothing and went on
        state = field.period(start)
        accounted = {*state["absent"], *state["reported"], *field.period(end)["prepared"]}
        return 3 in accounted or bool(state["outcome"])

    took = field.wait("meter 3", knows)
    field.end(start, [1, 2, 3, 4] if 3 in field.period(start)["reported"] else [1, 2, 4])
    recovered(took + field.whole())


def test_a_full_flash_sends_nothing_it_could_not_store(field: Field, recovered) -> None:
    """tests/core/test_meter_flash.py and test_meter_field.py: at a start, a registration, a row."""
    start = field.begin()
    field.prepared(start, [1, 2, 3, 4])
    full = field.folder(3) / "full"
    full.touch()
    field.clock(start + field.settings.period_s)
    field.wait("the meter counts it", lambda: field.counts(3).get("flash", 0) >= 1)
    assert field.meters[3].alive() and 3 not in field.period(start)["reported"]
    full.unlink()  # within the tries it makes (24 s); after them it says ABSENT
    took = field.end(start, [1, 2, 3, 4])
    recovered(took + field.whole())


def test_a_hung_sensor_is_ended_by_the_watchdog(field: Field, recovered) -> None:
    start = field.begin()
    field.prepared(start, [1, 2, 3, 4])
    begun = time.monotonic()
    (field.folder(4) / "hang").touch()
    assert field.meters[4].wait(PATIENCE_S) == -signal.SIGALRM
    assert time.monotonic() - begun > 1  # the limit is 2 s, in whole seconds of alarm(2)
    (field.folder(4) / "hang").unlink()
    field.meters[4].start()  # what the reset does on a board
    field.wait("the meter says so", lambda: 4 in field.period(start)["absent"])
    field.end(start, [1, 2, 3])
    assert any(line.endswith("unclean=1") for line in field.log_lines(4))
    recovered(field.whole())


def test_a_crash_loop_ends_in_safe_mode(field: Field, recovered) -> None:
    start = field.begin()
    field.prepared(start, [1, 2, 3, 4])
    meter = field.meters[1]
    secret = (field.folder(1) / "meter.bin").read_bytes()
    with field.stopped(1) as files:
        files.write("meter.bin", secret[:-7])
    for _ in range(5):
        assert meter.wait(PATIENCE_S) == 1
        meter.start()
    assert meter.wait(PATIENCE_S) == 0  # a board is at its REPL now: test_faults_device.py
    lines = field.log_lines(1)
    assert lines[-1].split()[2:] == ["safe_mode", "for_s=600"]
    assert lines[-3].split()[2:4] == ["crash", "Malformed"] and "fields.py:" in lines[-3]
    told = "".join(lines)
    assert secret[-7:].hex() not in told and len(told) < 4000
    field.end(start, [2, 3, 4])
    (field.folder(1) / "meter.bin").write_bytes(secret)
    (field.folder(1) / "starts.bin").unlink()  # the power came back: hal.reset_reason() on a board
    meter.start()
    recovered(field.whole())


def test_all_that_was_released_is_exact(field: Field) -> None:
    """Over the whole life of this fleet: nothing twice, nothing else."""
    field.released_once()
    for number in field.meters:
        counts = field.counts_at_stop(number)
        assert set(counts) <= {"unclean", "flash", *SLOW}, counts
