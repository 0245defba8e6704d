"""Faults of one meter's power, flash and program, alone with its peers (onemeter.py), on every tier.

What only a chip has (watchdog, resets, a REPL to fall back to) is asked of boards and of the emulated
Pico; test_faults_power.py has its like for processes.
"""

from __future__ import annotations

import contextlib
import random
import re
import time
from pathlib import Path

import pytest
import serial
from mpremote.transport_serial import SerialTransport

from onemeter import Bench, opened
from support import PERIOD, START
from tiers import PATIENCE_S, Tier
from wattveil.boards.repl import RawRepl
from wattveil_meter import wire
from wattveil_meter.supervisor import UNCLEAN

BOARD_MAIN = Path(__file__).parent / "board_main.py"
WATCHDOG_MS = 2000
HAS_WATCHDOG = """\
try:
    from machine import WDT
    print(True)
except ImportError:
    print(False)
"""


@pytest.fixture
def chip(tier: Tier) -> Tier:
    """A tier with a watchdog and resets of its own."""
    if tier.place is not None:
        with RawRepl(tier.place.port_id) as repl:
            if repl.run(HAS_WATCHDOG).strip() != "True":
                pytest.skip("no chip at --port: its machine has no WDT")
    return tier


def starts(log: str) -> list[str]:
    """What each start said of itself."""
    return re.findall(r"^\S+ \d+ start (.*)$", log, re.MULTILINE)


def test_a_power_cut_at_any_moment_repeats_nothing(bench, tier: Tier, record_property) -> None:
    """Cut while it says hello, registers, works on a row, on what it sends, and on its report."""
    tier.needs_power()
    seed = random.randrange(1 << 32)
    record_property("seed", seed)
    rng = random.Random(seed)
    made = bench(gamma=1)
    counters: list[bytes] = []
    made.before = lambda frame: counters.append(frame[28:36])
    for number, moment in enumerate((wire.HELLO, wire.REGISTER, wire.ROW, wire.SLOT, wire.REPORT)):
        start = START + 3 * number * PERIOD
        made.peers.now = start
        if number:
            made.cut()  # so that it says hello
        if moment == wire.REPORT:
            made.until(lambda at=start: made.prepared(at))
            made.peers.now = start + PERIOD
        made.seen.clear()
        made.until(lambda what=moment: what in made.seen)
        time.sleep(rng.random() * 0.1 * tier.slow)  # anywhere in what it does next
        made.cut()
        made.period(start + PERIOD)
        first = {payload for at, payload in made.peers.reports if at == start}
        absent = [reason for at, reason in made.peers.absent if at == start]
        assert len(first) <= 1 and set(absent) <= {wire.RESTARTED}, (first, absent)
        assert not (first and absent)
    assert len(set(counters)) == len(counters)  # no nonce twice


def test_a_flash_that_is_full_at_the_report_costs_a_moment(chip: Tier, bench) -> None:
    made = bench(BOARD_MAIN, gamma=1, files={"full": b"1"})
    made.until(made.prepared)
    made.peers.now = START + PERIOD
    made.until(made.reported, limit_s=PATIENCE_S)
    made.check(START)
    assert re.search(r" stop .*\bflash=1\b", made.stop())


def test_the_watchdog_resets_a_hung_board_and_its_log_names_the_task(chip: Tier, bench) -> None:
    at = START + PERIOD // 2
    config = {"watchdog_ms": WATCHDOG_MS}
    made = bench(BOARD_MAIN, gamma=1, config=config, files={"hang": b"%d" % at})
    made.until(made.prepared)
    made.peers.now = at
    made.until(lambda: made.peers.absent)  # it is back by itself, and says so
    assert made.peers.absent == [(START, wire.RESTARTED)]
    made.period(START + PERIOD)
    last = starts(made.stop())[-1].split()
    assert (last[0], last[2:]) == ("wdt", ["unclean=1", "hung=sensor"])


def test_a_crash_loop_ends_in_safe_mode_at_the_repl(chip: Tier, bench) -> None:
    made = bench(gamma=1)
    made.until(lambda: made.seen)
    with made.stopped() as files:
        secret = files.read("meter.bin")
        files.write("meter.bin", secret[:-7])
        files.remove("log.txt")
    made.link.close()
    wait_for_prompt(made)
    with made.stopped() as files:
        log = files.read("log.txt").decode()
        files.write("meter.bin", secret)
        files.remove("starts.bin")
    lines = [line.split()[2:] for line in log.splitlines()]
    assert [words[:2] for words in lines].count(["crash", "Malformed"]) == UNCLEAN, log
    assert lines[-1] == ["safe_mode", "for_s=600"]
    assert secret[-7:].hex() not in log
    made.period(START)


def wait_for_prompt(made: Bench) -> None:
    """Until the REPL answers: no program runs, and none is about to."""
    end = time.monotonic() + PATIENCE_S * made.tier.slow
    seen = b""
    while not seen.endswith(b">>> "):
        assert time.monotonic() < end, seen[-200:]
        seen = b""
        with contextlib.suppress(OSError), serial.Serial(made.meter.port, timeout=0.5) as port:
            port.write(b"\r")
            while piece := port.read(256):
                seen += piece


def test_ctrl_c_stops_a_running_meter_and_its_watchdog(chip: Tier, bench) -> None:
    made = bench(gamma=1, config={"watchdog_ms": WATCHDOG_MS})
    made.until(made.prepared)
    made.link.close()
    with RawRepl(made.meter.port, fresh=False) as repl:
        repl.run("import time\nbegun = time.ticks_ms()")
        passed = 0
        while passed < 3 * WATCHDOG_MS:  # of the board's own time, unfed
            time.sleep(3.1 * WATCHDOG_MS / 1000)
            passed = repl.ask("time.ticks_diff(time.ticks_ms(), begun)")
    made.link = opened(made.meter.port)
    made.until(lambda: made.peers.absent)
    assert made.peers.absent == [(START, wire.RESTARTED)]
    made.period(START + PERIOD)
    assert [words.split()[2] for words in starts(made.stop())] == ["unclean=0"] * 2


def test_resets_are_told_apart(chip: Tier, bench) -> None:
    """By the program after a while, as in safe mode, and by the power."""
    chip.needs_power()
    made = bench(gamma=1)
    made.until(lambda: made.seen)
    made.link.close()
    repl = SerialTransport(made.meter.port)
    repl.enter_raw_repl(timeout_overall=20)
    repl.exec_raw_no_follow("from wattveil_meter import hal\nhal.reset_after(1)")
    repl.close()
    made.link = opened(made.meter.port)
    for step in (lambda: None, made.cut):
        step()
        boot = made.boot
        made.until(lambda before=boot: made.boot > before)
    told = [words.split() for words in starts(made.stop())]
    assert [words[0] for words in told[-2:]] == [
        "wdt" if chip.name == "pico" else told[-2][0],
        "pwron",
    ]
    assert all(len(words) == 3 for words in told)  # nothing hung
