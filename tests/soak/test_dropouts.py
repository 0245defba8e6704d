"""Whoever drops out, the total over those who did report is exact.

Every set with quorum <= |S| <= m for m up to 8; samples of sets for fleets of up to 5,000 meters.
Meters, dealer and centre are real; the cloud's part is a product.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from random import Random

import pytest

from plainmeter import PERIOD, START, Material, material
from plainworld import SUITES, Asker, World, opening
from soak.scale import scale
from wattveil_meter.fields import unpack
from wattveil_meter.wire import CLOSE, ERROR, OPEN, RELEASED, SHARE

SIZES = scale([(3, 6), (8, 40), (64, 4)], [(500, 12), (2000, 8), (5000, 6)])  # meters, sets


class Fleet:
    """Real dealer and centre; what a meter would upload is made once a period."""

    def __init__(self, root: Path, size: int, suite: str, gamma: int = 2) -> None:
        changes = {"gamma": gamma, **SUITES[suite]}
        self.world = World(root, size, changes, disk=False)
        self.dealer, self.center = Asker(self.world, "dealer"), Asker(self.world, "center")

    def reading(self, number: int, start: int) -> int:
        return (number * 7919 + start // PERIOD * 104729) % 1001

    def uploads(self, numbers: list[int], start: int) -> dict[int, Material]:
        meters = self.world.meters
        return {n: material(meters[n], start, self.reading(n, start)) for n in numbers}

    def total(self, uploads: dict[int, Material], start: int) -> int | None:
        """What the centre releases over these; None when dealer or centre refuse."""
        world = self.world
        world.clock.utc = max(world.clock.utc, start + PERIOD)
        members = world.members(*uploads)
        answer = self.dealer(CLOSE, members, start)
        assert answer is not None
        if answer[0] == ERROR:
            return None
        assert answer[0] == SHARE
        suite = self.dealer.role.suite
        *share, _ = unpack(answer[1], suite.share_fields + 1)
        pair = world.meters[1].pair
        reports = [pair(report) for _, report in uploads.values()]
        slots = [pair(slot) for slots, _ in uploads.values() for slot in slots]
        pairs = suite.combine(world.record, world.key.public, reports, slots, share)
        payload = opening(world, uploads, pairs, start)
        assert self.center(OPEN, payload, start) == (RELEASED, b"")
        total: int = self.center.role.status()["releases"][start]["total_wh"]
        return total

    def expected(self, numbers: list[int], start: int) -> int:
        return sum(self.reading(n, start) for n in numbers)


@pytest.mark.timeout(scale(300, 3600))
@pytest.mark.parametrize("size", range(2, 9))
@pytest.mark.parametrize("suite", SUITES)
def test_every_set(tmp_path: Path, suite: str, size: int) -> None:
    """A period for each of the sets; below the quorum of 2 there is no value."""
    fleet = Fleet(tmp_path, size, suite, gamma=1)
    everyone = list(range(1, size + 1))
    sets = [list(s) for k in range(size + 1) for s in itertools.combinations(everyone, k)]
    assert len(sets) == 2**size
    for i, numbers in enumerate(sets):
        start = START + i * PERIOD
        total = fleet.total(fleet.uploads(numbers, start), start)
        assert total == (fleet.expected(numbers, start) if len(numbers) >= 2 else None), numbers


@pytest.mark.timeout(scale(300, 7200))
@pytest.mark.parametrize(("size", "samples"), SIZES)
@pytest.mark.parametrize("suite", SUITES)
def test_sampled_sets(tmp_path: Path, suite: str, size: int, samples: int) -> None:
    fleet = Fleet(tmp_path, size, suite, gamma=1)
    random = Random(size)
    everyone = list(range(1, size + 1))
    for i in range(samples):
        start = START + i * PERIOD
        k = [2, size, size - 1][i] if i < 3 else random.randint(2, size)
        numbers = random.sample(everyone, k)
        total = fleet.total(fleet.uploads(numbers, start), start)
        assert total == fleet.expected(numbers, start), (size, k)
    print(f"dropouts: {suite}, {size} meters, {samples} sets exact")
