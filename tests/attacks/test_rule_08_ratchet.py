"""Rule 8, the daily ratchet: who takes the dealer's and the centre's folders gets no day that is over.

The thief has the private key with them, and recorded one meter's ciphertexts long ago. A stolen board, and
the dealer's folder alone, are played by `attacks.stolen` in the audit.
"""

from __future__ import annotations

from typing import Any

import pytest

from wattveil.audit.bench import START, drbg
from wattveil.audit.weak import WEAKNESSES
from wattveil.audit.world import World, world
from wattveil.roles.folders import SEEDS, load_json
from wattveil_meter import masks

DAY = 86_400
SUITES = ("yan2024", "compact")


def taken(fleet: World, start: int) -> tuple[int, int, int]:
    """(u, k, v) of meter 1 for a period, by the seeds in the folders as if they were of its day."""
    found = {
        role: bytes.fromhex(
            load_json(fleet.fleet.role_folder(role) / SEEDS)[fleet.packages[0].id]["seed"]
        )
        for role in ("dealer", "center")
    }
    record = fleet.record
    k = 0 if record.suite == "compact" else masks.mask_k(record, found["dealer"], start)
    u = masks.mask_u(record, found["dealer"], start)
    return u, k, masks.mask_v(record, found["center"], start)


def thief(fleet: World, slots: list[Any], report: Any, start: int) -> int:
    u, k, v = taken(fleet, start)
    bench = fleet.bench
    opened = bench.key.decrypt(bench.product(slots)) + bench.key.decrypt(bench.strip(report, k))
    return bench.signed(opened - u - v - fleet.record.offset)


def play(suite: str, days: int) -> bool:
    """Whether a reading is opened by folders that were taken `days` after the period's day."""
    source = drbg(("ratchet", suite, days))
    with world(suite) as fleet:
        roles = [fleet.ask(name).role for name in ("dealer", "center")]
        start = START + 5 * fleet.record.period_s
        reading, noise = source.below(1001), source.below(401) - 200
        meter = fleet.play(1, start, [noise, 5, -5])
        slots = meter.answer(fleet.bench.one_hot(("row", start)))
        report = meter.report(reading)
        fleet.clock.set(START + days * DAY)
        for role in roles:
            role.tick()
        return thief(fleet, slots, report, start) == reading + noise


@pytest.mark.parametrize("suite", SUITES)
def test_yesterday_is_closed_to_a_thief_of_both_folders(suite: str) -> None:
    with WEAKNESSES["no-ratchet"].planted():
        assert play(suite, 3)
    assert not play(suite, 3)


@pytest.mark.parametrize("suite", SUITES)
def test_not_claimed_the_days_a_role_still_holds(suite: str) -> None:
    """Up to 48 hours after a day's end its seeds are there, for periods that close late."""
    assert play(suite, 2)
