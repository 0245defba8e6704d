"""Real processes, killed with SIGKILL at random moments, over and over, while meters go on.

Stores are on disk (synchronous=NORMAL: a killed process is not a power cut), links are sockets.
"""

from __future__ import annotations

import time
from collections import Counter
from fractions import Fraction
from pathlib import Path
from random import Random

import pytest

from plainmeter import PERIOD, START
from processfleet import PATIENCE_S, Fleet, fleet
from soak.scale import scale
from wattveil.privacy.ledger import audit, spending
from wattveil.store import read_only

FLEETS = scale(1, 12)
PERIODS = scale(2, 5)
KILLS = (
    2  # while preparing, and again while reporting: 120 in all, and one that is dead on arrival
)


def pump_and_kill(running: Fleet, random: Random, figures: Counter[str]) -> None:
    """Meters until they have nothing more to ask; a role dies now and then."""
    strikes = sorted(random.uniform(0.0, 0.6) for _ in range(KILLS))
    began = time.monotonic()
    end = began + 3 * PATIENCE_S
    while True:
        busy = sum([line.pump() for line in running.lines])
        if strikes and time.monotonic() - began >= strikes[0]:
            strikes.pop(0)
            name = random.choice(["center", "cloud", "dealer"])
            running.processes[name].kill()
            running.start(name)
            figures["kills"] += 1
        elif not busy and not strikes:
            return
        assert time.monotonic() < end, [line.meter.errors for line in running.lines]


@pytest.mark.timeout(scale(300, 3600))
@pytest.mark.parametrize("number", range(FLEETS))
def test_killed_at_random(tmp_path: Path, number: int) -> None:
    random = Random(number)
    figures: Counter[str] = Counter()
    with fleet(tmp_path) as running:
        for i in range(PERIODS):
            start = START + i * PERIOD
            running.set_clock(start + 10)
            for line in running.lines:
                if not line.meter.tau:
                    line.meter.register()
                line.meter.prepare(start)
            pump_and_kill(running, random, figures)
            running.set_clock(start + PERIOD)
            for line in running.lines:
                line.meter.report(start, 100)
            pump_and_kill(running, random, figures)
            running.check(start)
            figures["released"] += 1
        running.processes["center"].kill()
        running.start("center")
        releases = running.processes["center"].status()["releases"]
        closings = running.processes["dealer"].status()["closings"]
        assert {r["total_wh"] for r in releases.values()} == {400}
        assert len(releases) == len(closings) == PERIODS
        load = read_only(tmp_path / "center" / "state.db")
        assert audit(load) == []
        assert set(spending(load).values()) == {Fraction(PERIODS, 2)}
    print(f"kill -9, fleet {number}: {dict(figures)}")
    assert figures["kills"] == 2 * KILLS * PERIODS
