"""One provisioning fault that no role starts with, and an attack the protocol does not claim to stop.

A cloud may shift a total within its bounds by g^delta, and learns one bit of it a period from whether the
sum was valid. LIMITS.md says so; if this test fails, the protocol has become better than it claims.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plainmeter import START as T0
from plainmeter import material
from plainworld import SUITES, Asker, World, combine, opening
from wattveil.roles.common import ConfigError
from wattveil.roles.folders import load_cloud
from wattveil_meter import wire


def test_two_meters_under_one_link_key_are_refused(tmp_path: Path) -> None:
    """Two roster numbers under one link key would share their keystream: no role starts so."""
    world = World(tmp_path)
    world.write_folders()
    path = tmp_path / "cloud" / "meters.json"
    table = json.loads(path.read_text())
    first, second, *_ = table
    load_cloud(tmp_path / "cloud")
    table[second] = table[first]
    path.write_text(json.dumps(table))
    with pytest.raises(ConfigError, match="same link_key"):
        load_cloud(tmp_path / "cloud")


@pytest.mark.parametrize("suite", SUITES)
def test_not_claimed_a_cloud_may_shift_a_total(tmp_path: Path, suite: str) -> None:
    """C2 g^delta, T g^delta: the released total moves by delta within the bounds, and `sum_invalid` tells the
    cloud on which side of a threshold of its choice the noisy total lies, one bit a period."""
    for delta, opened in ((-400, 200), (121_400, 122_000), (121_401, None)):
        world = World(tmp_path, disk=False, changes=SUITES[suite])
        world.end()
        center = Asker(world, "center")
        given = [(i, material(world.meters[i], T0, 300)) for i in (1, 2)]
        *rest, last = combine(world, given)
        n = world.record.n
        moved = world.meters[1].unpair(last) * (1 + delta * n) % (n * n)
        pairs = [*rest, world.meters[1].pair(moved)]
        answer = center(0x12, opening(world, (1, 2), pairs), T0)
        assert center.role.status()["releases"][T0]["total_wh"] == opened
        assert answer == ((0x52, b"") if opened else (0x7F, bytes((wire.CODES["sum_invalid"],))))
