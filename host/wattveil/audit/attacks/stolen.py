"""Cloud + centre, who kept a meter's ciphertexts, and a thief who brings seeds once their day is over.

From a meter's board or from the dealer's folder: u_i and k_i of the period, and the private key opens d + xi
of that one meter. What stops it is the ratchet: the seeds of the day are gone from the board with the first
period of the next day, and from the dealer 48 h after the day's end; no way leads back to them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gmpy2 import mpz

from wattveil.audit.attacks.lives import live
from wattveil.audit.attacks.score import Score
from wattveil.audit.bench import START, drbg
from wattveil.audit.world import World, world
from wattveil.roles.folders import SEEDS, load_json
from wattveil.roles.seeds import DAY_S, KEPT_DAYS
from wattveil_meter import masks
from wattveil_meter.seeds import Seeds

HOT = 1  # the slot that is added


def stolen_board(suite: str, tries: int) -> Score:
    """The board of meter 1, after its first period of the next day."""
    outcomes, source = [], drbg(("stolen board", suite))
    with world(suite) as fleet:
        for i in range(tries):
            storage, reading = fleet.packages[0].storage(), source.below(1001)
            start = _period(fleet, source)
            given = []
            for life, at in enumerate((start, START + DAY_S)):
                row = fleet.bench.one_hot(("row", i, life), hot=HOT)
                given.append(live(fleet, storage, row, at, reading, drbg((i, life)).bytes(64)))
            (line, drawn), _ = given
            found = bytes(Seeds(storage).dealer)
            opened = line.report and _open(fleet, line.slots.values(), line.report, found, start)
            outcomes.append(opened == reading + drawn[HOT])
    return Score.of(outcomes)


def stolen_dealer(suite: str, tries: int) -> Score:
    """The dealer's folder, when the seeds of the day should be gone from it."""
    outcomes, source = [], drbg(("stolen dealer", suite))
    for i in range(tries):  # a fleet each: its seeds do not come back
        with world(suite) as fleet:
            dealer, start = fleet.ask("dealer"), _period(fleet, source)
            reading, noise = source.below(1001), source.below(401) - 200
            play = fleet.play(1, start, [noise, 5, -5])
            slots = play.answer(fleet.bench.one_hot(("row", i, start)))
            report = play.report(reading)
            fleet.clock.set(START + (1 + KEPT_DAYS) * DAY_S)
            dealer.role.tick()
            entry = load_json(fleet.fleet.role_folder("dealer") / SEEDS)[fleet.packages[0].id]
            opened = _open(fleet, slots, report, bytes.fromhex(entry["seed"]), start)
            outcomes.append(opened == reading + noise)
    return Score.of(outcomes)


def _period(fleet: World, source: Any) -> int:
    """Some period of the fleet's first day, UTC s."""
    length: int = fleet.record.period_s
    return START + length * int(source.below(DAY_S // length))


def _open(fleet: World, slots: Iterable[mpz], report: mpz, found: bytes, start: int) -> int:
    """d + xi of meter 1, by the seed that was found, the private key and v."""
    bench, record = fleet.bench, fleet.record
    k = 0 if record.suite == "compact" else int(masks.mask_k(record, found, start))
    u = int(masks.mask_u(record, found, start))
    v = int(masks.mask_v(record, fleet.seeds(1, start)[1], start))
    opened = bench.key.decrypt(bench.product(slots)) + bench.key.decrypt(bench.strip(report, k))
    return bench.signed(opened - u - v - record.offset)
