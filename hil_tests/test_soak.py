"""A fleet for hours, with a fault in every period: `--hours 8`. Nothing is released that is not exact."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from fieldfleet import ROLES, Field
from tiers import Tier

ALL = [1, 2, 3, 4]


def test_soak(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    runtimes: tuple[str, ...],
    field_tier: Tier | None,
    record_property,
) -> None:
    hours: float = request.config.getoption("--hours")
    if not hours:
        pytest.skip("the soak is as long as you say: give --hours 1")
    seed = int(time.time())
    rng = random.Random(seed)
    record_property("seed", seed)
    end = time.monotonic() + hours * 3600
    faults = dict.fromkeys(("none", *ROLES, "power", "noise"), 0)
    with Field(tmp_path, runtimes=runtimes, cables=(1,), tier=field_tier) as field:
        field.up()
        noisy = field.target(1)
        if field_tier and not field_tier.has_power:
            del faults["power"]
        while time.monotonic() < end:
            fault = rng.choice(list(faults))
            faults[fault] += 1
            start, members = field.begin(), list(ALL)
            if fault == "noise":
                field.cables[noisy].noise = 2000
            field.prepared(start, ALL)
            if fault in ROLES:
                field.roles[fault].kill()
                field.start_role(fault)
            if fault == "power":
                number = field.target(rng.choice(ALL))
                field.meters[number].kill()
                field.power(number)
                field.wait(
                    "it says so", lambda at=start, n=number: n in field.period(at)["absent"]
                )
                members.remove(number)
            field.end(start, members)
            field.cables[noisy].noise = 0
        field.whole()
        field.released_once()
        for number in ALL:
            with field.stopped(number) as files:
                assert all(len(files.read(name)) <= 3072 for name in ("log.txt", "log.old"))
    record_property("faults", str(faults))
