"""What a demo released, against what its meters drew and its cloud chose (hil_tests/recording_main.py)."""

from __future__ import annotations

from pathlib import Path

from wattveil.demo.plan import Plan
from wattveil.store import Store


def drawn(folder: Path) -> dict[int, list[int]]:
    """start -> the shares drawn for it, in order: slot 1 .. gamma, then own noise."""
    shares: dict[int, list[int]] = {}
    ahead: list[int] = []  # drawn while the meter waited, before it knew for which period
    begun: set[int] = set()
    for line in (folder / "shares.csv").read_text().splitlines():
        if line == "boot":  # what was drawn ahead is gone; what was not stored may begin again
            ahead, begun = [], set()
        elif line.startswith("start "):
            start = int(line[6:])
            assert start not in begun, "a period was begun twice"
            begun.add(start)
            shares[start], ahead = ahead, []
        else:
            ahead.append(int(line))
    return shares


def noise_of(
    plan: Plan, root: Path, start: int, members: list[int], fleet: Path | None = None
) -> int:
    """Sum of b_ij xi_ij (and own shares) over the meters that reported; fleet: default root/fleet."""
    fleet = fleet or root / "fleet"
    with Store(fleet / "cloud" / "state.db", shared=True) as store:
        bits = {key: int.from_bytes(value, "little") for key, value in store.load("bits").items()}
    total = 0
    for number in members:
        shares = drawn(fleet / "meters" / plan.roster[number - 1])[start]
        assert len(shares) == plan.settings.gamma + plan.settings.own_noise
        total += shares[bits[f"{start}:{number}"]]
        total += sum(shares[plan.settings.gamma :])
    return total
