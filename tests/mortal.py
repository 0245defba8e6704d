"""Roles that die where a test says, and come back from their stores alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from plainworld import World
from wattveil.roles.effects import Change, Effect
from wattveil.runners.host import apply
from wattveil.runners.memory import MemoryNet
from wattveil_meter.wire import SHARE


class Killed(Exception):
    """The process is gone."""


@dataclass
class Fate:
    """When a role dies: at its k-th effect, before or after it is done. k < 0: never."""

    role: str = ""
    k: int = -1
    after: bool = False
    count: int = 0

    def step(self, role: str, done: bool) -> None:
        """Called before (done False) and after (True) each effect."""
        if role != self.role:
            return
        if not done:
            self.count += 1
        if self.count == self.k and done == self.after:
            self.k = -1
            raise Killed


@dataclass
class RandomFate(Fate):
    """Roles die now and then, before or after an effect, until they have died `most` times."""

    random: Random = field(default_factory=Random)
    chance: float = 0.0
    most: int = 0
    deaths: int = 0

    def step(self, role: str, done: bool) -> None:
        """See `Fate`."""
        self.count += not done
        if self.deaths < self.most and self.random.random() < self.chance:
            self.deaths += 1
            raise Killed


@dataclass
class MortalStore:
    """A store in front of which a role may die, and the history of what went into it."""

    role: str
    inner: Any
    fate: Fate
    history: list[tuple[str, str, bytes]]

    def apply(self, changes: Iterable[Change]) -> None:
        self.transact(lambda rows: changes)

    def transact(self, decide: Any) -> None:
        self.fate.step(self.role, False)
        changes = list(decide(self.inner))
        self.inner.apply(changes)
        self.history += [(c.kind, c.key, c.value) for c in changes if c.value is not None]
        self.fate.step(self.role, True)


class MortalNet(MemoryNet):
    """Roles that die by their fate and come back from their stores."""

    def __init__(self, world: World, fate: Fate) -> None:
        self.world, self.fate = world, fate
        self.history: dict[str, list[tuple[str, str, bytes]]] = {
            name: [] for name in ("center", "cloud", "dealer")
        }
        self.decrypted: list[tuple[int, Any]] = []
        self.closed: list[tuple[int, Any]] = []
        self.deaths = 0
        roles = [self._born(name) for name in ("center", "cloud", "dealer")]
        super().__init__(*roles, self._stores())

    def _stores(self) -> dict[str, Any]:
        return {
            name: MortalStore(name, store, self.fate, self.history[name])
            for name, store in self.world.stores.items()
        }

    def _born(self, name: str) -> Any:
        role = self.world.role(name)
        if name == "center":
            real = role.suite

            class Watched(type(real)):  # type: ignore[misc]
                def total(inner, record: Any, key: Any, ciphertexts: Any, *rest: Any) -> int:
                    self.decrypted.append((rest[-1], tuple(ciphertexts)))
                    return int(real.total(record, key, ciphertexts, *rest))

            role.suite = Watched()
        return role

    def carry_out(self, name: str, effects: Iterable[Effect]) -> None:
        def send(peer: str, frame: bytes) -> None:
            self.fate.step(name, False)
            if name == "dealer" and frame[3] == SHARE:
                start = int.from_bytes(frame[20:28], "little")
                self.closed.append((start, self.roles[name]._closings[start].members))
            self._frames.append((name, peer, frame))
            self.fate.step(name, True)

        try:
            apply(self.roles[name], self.stores[name], effects, send)
        except Killed:
            self.restart(name)

    def restart(self, name: str) -> None:
        """A role comes back from its store alone."""
        self.deaths += 1
        self.roles[name] = self._born(name)
        self.stores = self._stores()
        # the sockets went down with it: the cloud notices either way
        peers = ("center", "dealer") if name == "cloud" else (name,)
        for peer in peers:
            for up in (False, True):
                self.carry_out("cloud", self.roles["cloud"].linked(peer, up))
