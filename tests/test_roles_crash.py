"""A whole period, with every role killed at every single effect, and then finished.

One run counts the effects (a transaction or a frame) of each role. Then each run is repeated with
one role dying at the k-th of them: before a transaction (nothing of it is on disk), after a
transaction (all of it is, the caller never knows), or instead of a frame. The role comes back
from its store alone (here in memory: test_runner_process.py kills real processes).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mortal import Fate, MortalNet
from plainmeter import PERIOD, START
from plainworld import SUITES, World

TOTAL = 100 + 200 + 300 + 400
NEXT = START + PERIOD


def run(root: Path, fate: Fate, suite: str) -> tuple[World, MortalNet]:
    """Two periods of four honest meters that repeat what is not answered."""
    world = World(root, disk=False, changes=SUITES[suite])
    net = MortalNet(world, fate)
    meters = list(world.meters.values())

    def until_done() -> None:
        for _ in range(6):
            for meter in meters:
                meter.unanswered = 0
            net.settle(meters)
            world.clock.seconds += 6
            net.tick()

    for meter in meters:
        meter.register().prepare(START)
    until_done()
    for start in (START, NEXT):
        world.end(start)
        for meter in meters:
            assert not meter.errors
            meter.report(start, 100 * meter.secrets.number)
            if start == START:
                meter.prepare(NEXT)
        until_done()
    return world, net


def check(world: World, net: MortalNet) -> None:
    for start in (START, NEXT):
        assert net.roles["cloud"].status()["periods"][start]["outcome"] == "released"
        release = net.roles["center"].status()["releases"][start]
        assert release["total_wh"] == TOTAL
        assert release["members"] == [1, 2, 3, 4]
        # at most one closing, one set of ciphertexts, one release ever went to disk
        for role, kind in [("dealer", "closing"), ("center", "request"), ("center", "answer")]:
            rows = {v for k, key, v in net.history[role] if (k, key) == (kind, str(start))}
            assert len(rows) == 1, (role, kind)
        openings = {v for k, key, v in net.history["cloud"] if (k, key) == ("opening", str(start))}
        assert len(openings) == 1
        assert len({c for s, c in net.decrypted if s == start}) == 1
        # a row is never drawn twice
        for number in world.meters:
            key = f"{start}:{number}"
            assert len({v for k, i, v in net.history["cloud"] if (k, i) == ("rows", key)}) == 1
    assert net.roles["center"].status()["epsilon_spent"] == "1"
    assert net.roles["dealer"].status()["closings"] == {START: 4, NEXT: 4}


ROLES = ("center", "dealer", "cloud")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("suite", SUITES)
def test_killed_at_every_effect(tmp_path: Path, suite: str, role: str, after: bool) -> None:
    fate = Fate(role)
    world, net = run(tmp_path / "whole", fate, suite)
    check(world, net)
    world.close()
    effects = fate.count
    least = {"center": 15, "dealer": 3, "cloud": 90 if suite == "yan2024" else 60}
    assert effects > least[role]
    for k in range(1, effects + 1):
        fate = Fate(role, k, after)
        world, net = run(tmp_path / str(k), fate, suite)
        assert net.deaths == 1, k
        check(world, net)
        world.close()
