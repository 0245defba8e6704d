"""`wattveil web`: the board of a fleet that runs elsewhere, from what its roles say of themselves."""

from __future__ import annotations

import time
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from wattveil.demo.live import ROLES
from wattveil.demo.report import iso
from wattveil.demo.screen import LEVEL
from wattveil.runners.status import ask
from wattveil.web.events import Board
from wattveil.web.views import KEPT, Bands, epsilon_item, meter_item, roles_item

EVERY_S = 1.0
UNUSABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)  # of what a role answered


class Attached:
    """Asks the roles it was told of, once a second, and writes the board. Reads, never writes."""

    def __init__(self, board: Board, addresses: Mapping[str, str]) -> None:
        self._board, self._addresses = board, dict(addresses)
        self._fleet: dict[str, Any] = {}
        self._bands: Bands | None = None
        self._refused: dict[str, dict[str, int]] = {}
        self._shown: list[str] = []

    def run(self) -> None:
        """Until KeyboardInterrupt."""
        while True:
            self.look()
            time.sleep(EVERY_S)

    def look(self) -> None:
        """Ask every role once; one that does not answer, or not as a role, is down."""
        down = set()
        for role, address in self._addresses.items():
            try:
                status = ask(address)
                if status["role"] != role:
                    raise ValueError(f"{address} is not the {role}")
                self._record(status["record"])
                self._refused[role] = status["refused"]
                {"cloud": self._cloud, "center": self._center}.get(role, lambda _: None)(status)
            except UNUSABLE:
                down.add(role)
        known = [role for role in ROLES if role in self._addresses]
        self._board.put("roles", roles_item(known, self._refused, down))

    def _record(self, record: dict[str, Any]) -> None:
        epsilon = Fraction(record["epsilon_num"], record["epsilon_den"])
        if record != self._fleet:
            self._fleet = record
            own = bool(record["own_noise"])
            self._bands = Bands(record["a"], epsilon, record["delta"], own)
            self._board.put("fleet", {
                "fleet": 1, "mode": "attached", "suite": record["suite"],
                "gamma": record["gamma"], "epsilon": str(epsilon),
                "meters": record["roster_size"], "quorum": record["quorum_count"],
                "bits": 8 * record["nb"], "noise": record["noise"],
                "period_s": record["period_s"], "delta": record["delta"], "level": LEVEL,
            })  # fmt: skip

    def _cloud(self, status: dict[str, Any]) -> None:
        length, phase = self._fleet["period_s"], self._fleet["phase_s"]
        now = status["clock"]
        start = now - (now - phase) % length
        period = status["periods"].get(str(start), {})
        for text, meter in status["meters"].items():
            self._board.put(f"m:{text}", meter_item(int(text), meter, period))
        self._board.put("clock", {
            "phase": "running", "now": iso(now), "start": iso(start), "end": iso(start + length),
            "done": len({*period.get("prepared", ()), *period.get("absent", ())}),
            "total": self._fleet["roster_size"],
        })  # fmt: skip

    def _center(self, status: dict[str, Any]) -> None:
        releases = status["releases"]
        newest = sorted(releases, key=int)[-KEPT:]
        for key in newest:
            release, size = releases[key], len(releases[key]["members"])
            total = release["total_wh"]
            assert self._bands is not None
            band = None if total is None else round(self._bands.band(size))
            start = iso(int(key))
            self._board.put(f"p:{start}", {
                "start": start, "reported": size, "released_wh": total, "band_wh": band,
                "refused": release["refused"], "true_wh": None, "noise_wh": None,
            })  # fmt: skip
        for start in set(self._shown) - {iso(int(key)) for key in newest}:
            self._board.put(f"p:{start}", None)
        self._shown = [iso(int(key)) for key in newest]
        day = self._shown[-1] if newest else iso(status["clock"])
        self._board.put("epsilon", epsilon_item(status, day))
