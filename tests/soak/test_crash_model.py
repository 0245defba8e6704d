"""Randomised kill-and-restart runs over the three roles, in one process.

Roles die before or after any transaction and any frame, up to a dozen times a run, also while they
recover; frames get lost, meters stay away, a limit may end the budget. What must hold, each time:
no accepted report is lost, none counts twice, no period is closed or opened twice, and the ledger
is what was released, exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from random import Random

import pytest

from invariants import ledger_is_exact, nothing_twice, reports_count
from mortal import MortalNet, RandomFate
from plainmeter import PERIOD, START
from plainworld import SUITES, World
from soak.scale import scale
from wattveil.privacy.ledger import Limits
from wattveil.roles.effects import Effect

CHUNKS = scale(2, 20)
RUNS = scale(40, 520)  # a chunk: 10,400 in all
PERIODS = 2


class LossyNet(MortalNet):
    """A net that loses frames too, and remembers whose report was acknowledged."""

    def __init__(self, world: World, fate: RandomFate, loss: float) -> None:
        self.loss = loss
        self.lost = 0
        super().__init__(world, fate)

    def carry_out(self, name: str, effects: Iterable[Effect]) -> None:
        before = len(self._frames)
        super().carry_out(name, effects)
        for _ in range(len(self._frames) - before):
            if self.fate.random.random() < self.loss:  # type: ignore[attr-defined]
                self._frames.pop()
                self.lost += 1


def one_run(root: Path, seed: int) -> Counter[str]:
    """One fleet, two periods, deaths by the seed; figures for the summary."""
    random = Random(seed)
    suite = random.choice(list(SUITES))
    limits = Limits(lifetime=Fraction(1, 2)) if random.random() < 0.15 else Limits()
    world = World(
        root, size=random.choice([3, 4]), disk=False, changes=SUITES[suite], limits=limits
    )
    most = random.randint(1, 12)
    fate = RandomFate(random=random, chance=random.choice([0.01, 0.03, 0.1]), most=most)
    net = LossyNet(world, fate, random.choice([0.0, 0.0, 0.05]))
    meters = list(world.meters.values())
    for meter in meters:
        meter.patient = True
    acknowledged: set[tuple[int, int]] = set()
    wanted: dict[int, list[int]] = {}

    def pass_time(turns: int) -> None:
        for _ in range(turns):
            random.shuffle(meters)
            for meter in meters:
                meter.unanswered = 0
            net.settle(meters)
            world.clock.seconds += 6
            net.tick()

    for meter in meters:
        meter.register()
    for i in range(PERIODS):
        start = START + i * PERIOD
        world.clock.utc = start + 10
        there = random.sample(meters, random.randint(2, len(meters)))
        wanted[start] = sorted(meter.secrets.number for meter in there)
        for meter in there:
            meter.prepare(start)
        pass_time(5)
        world.end(start)
        for meter in there:
            meter.report(start, 100 * meter.secrets.number, acknowledged)
        pass_time(12)
    fate.most = 0  # nobody dies any more: what is left to do gets done
    net.loss = 0.0
    pass_time(12)
    figures = Counter(deaths=fate.deaths, effects=fate.count, lost=net.lost, runs=1)
    nothing_twice(net)
    for start, numbers in wanted.items():
        acked = [number for at, number in acknowledged if at == start]
        figures[reports_count(world, net, start, acked, numbers)] += 1
        figures["reports"] += len(acked)
    ledger_is_exact(world, net, wanted)
    return figures


@pytest.mark.timeout(scale(300, 7200))
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_deaths(tmp_path: Path, chunk: int) -> None:
    figures: Counter[str] = Counter()
    for i in range(RUNS):
        seed = chunk * 1_000_000 + i
        try:
            figures += one_run(tmp_path, seed)
        except BaseException:
            print(f"seed {seed}")
            raise
    print(f"crash model, chunk {chunk}: {dict(figures)}")
    assert figures["deaths"] > figures["runs"]
    assert figures["released"] > figures["runs"]
