"""What must hold of the three roles whatever happened to them; for tests that do much to them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fractions import Fraction
from typing import Any

from mortal import MortalNet
from plainworld import World
from wattveil.privacy.ledger import audit, entries, spending

ONCE = {  # what is never made twice, by role and kind of row
    "dealer": ("closing",),
    "center": ("request", "answer", "entry"),
    "cloud": ("opening", "rows", "report", "slot", "absent"),
}


def nothing_twice(net: MortalNet) -> None:
    """One closing, request, answer, opening, row and report for its key; one set, one decryption."""
    for role, kinds in ONCE.items():
        written: dict[tuple[str, str], bytes] = {}
        for kind, key, value in net.history[role]:
            if kind in kinds:
                assert written.setdefault((kind, key), value) == value, (role, kind, key)
    for what in (net.decrypted, net.closed):
        done: dict[int, Any] = {}
        for start, parts in what:
            assert done.setdefault(start, parts) == parts, start


def reports_count(
    world: World, net: MortalNet, start: int, acknowledged: Collection[int], sent: Collection[int]
) -> str:
    """The outcome of a finished period: acknowledged reports are in S, S is among those sent.

    Readings are 100 Wh times the meter's number, noise is 0.
    """
    releases = net.roles["center"].status()["releases"]
    outcome: str = net.roles["cloud"].status()["periods"][start]["outcome"]
    if outcome == "released":
        members = set(releases[start]["members"])
        assert set(acknowledged) <= members <= set(sent), "an accepted report is lost"
        assert len(members) >= world.record.quorum_count
        assert releases[start]["total_wh"] == 100 * sum(members)
    else:  # no value and no price
        assert outcome in ("below_quorum", "over_limit"), outcome
        assert start not in releases
        if outcome == "below_quorum":
            assert len(acknowledged) < world.record.quorum_count
    return outcome


def ledger_is_exact(world: World, net: MortalNet, starts: Iterable[int]) -> None:
    """Every household has paid for the released periods it was in, and nothing else."""
    load = world.stores["center"].load
    releases = net.roles["center"].status()["releases"]
    assert len(list(entries(load))) == len(releases)
    assert set(releases) <= set(starts)
    assert audit(load) == []
    epsilon = Fraction(world.record.epsilon_num, world.record.epsilon_den)
    for number, name in enumerate(world.roster, 1):
        times = sum(number in release["members"] for release in releases.values())
        assert spending(load).get(world.subjects.name(name), 0) == epsilon * times
        assert world.limits.lifetime is None or epsilon * times <= world.limits.lifetime
