"""A provisioned fleet on a small key, each party by the folder it holds.

Roles are built from their folders as the product builds them. An attacker who is a party reads that
party's folder and no other.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from gmpy2 import mpz

from wattveil.audit.bench import START, Bench, Play, Shares, audit_key
from wattveil.demo.memory import VirtualClock
from wattveil.fleet.packages import SEEDS_BIN, MeterPackage, MeterSeeds
from wattveil.fleet.provision import provision
from wattveil.fleet.settings import SUITES, FleetSettings
from wattveil.paillier.ciphertext import to_pair
from wattveil.roles.common import encode_members
from wattveil.roles.seeds import day_of
from wattveil.runners.host import apply
from wattveil.runners.process import build
from wattveil.store import Store
from wattveil_meter import wire

PEERS = {"dealer": wire.DEALER, "center": wire.CENTER}


class World:
    """meters numbered from 1; quorum: the fewest whose total opens. Use `world`."""

    def __init__(self, root: Path, suite: str, meters: int, quorum: int, stack: ExitStack) -> None:
        self.key = audit_key()
        settings = FleetSettings(
            delta=1000, quorum=f"{quorum}/{meters}", gamma=3, suite=suite, noise=SUITES[suite],
            bits=self.key.public.bits, tables=128, period_s=1800,
        )  # fmt: skip
        ids = [f"meter-{i:02}" for i in range(1, meters + 1)]
        self.fleet = provision(
            root / "fleet", self.key, ids, settings, emulated=True, day=START // 86_400
        )
        self.record: Any = self.fleet.record
        self.clock = VirtualClock(START)
        self.packages: list[MeterPackage] = list(self.fleet.meters.values())
        self._seeds = [MeterSeeds.read(package.files[SEEDS_BIN]) for package in self.packages]
        self.bench = Bench.of(self.key, self.record, self.packages[0].tables())
        self._stack = stack

    def links(self, role: str) -> dict[str, bytes]:
        """The keys to other roles that a role holds."""
        text = (self.fleet.role_folder(role) / "links.json").read_text()
        return {name: bytes.fromhex(key) for name, key in json.loads(text).items()}

    def seeds(self, number: int, start: int) -> tuple[bytes, bytes]:
        """Dealer and centre seed of a meter for a period."""
        return self._seeds[number - 1].at(day_of(start))

    def ask(self, name: str) -> Asker:
        """A cloud's link to the real dealer or centre."""
        folder = self.fleet.role_folder(name)
        store = self._stack.enter_context(Store(folder / "state.db", "NORMAL"))
        role, effects = build(name, folder, store, self.clock)
        apply(role, store, effects, lambda peer, frame: None)
        return Asker(self, name, role, store)

    def play(self, number: int, start: int, shares: Iterable[int]) -> Play:
        """A meter's suite for one period, with shares given."""
        seed = ("world", number, start)
        return self.bench.meter(seed, Shares(shares), start, self.seeds(number, start))

    def members(self, numbers: Iterable[int]) -> bytes:
        """The set S on the wire."""
        return encode_members(numbers, self.record.roster_size)

    def pair(self, c: mpz) -> bytes:
        """A ciphertext on the wire."""
        return bytes(to_pair(c, self.key.public))


class Asker:
    """Asks one role whatever its holder wants."""

    def __init__(self, world: World, name: str, role: Any, store: Any) -> None:
        self.role, self._store = role, store
        record, key = world.record, world.links("cloud")[name]
        args = (key, record.fleet, wire.CLOUD, PEERS[name], True, record.fingerprint, 1)
        self._channel = wire.Channel(*args, wire.ROLE_LIMIT)

    def __call__(self, type: int, payload: bytes, start: int) -> Any:
        """The answering message."""
        answers: list[bytes] = []
        effects = self.role.receive("audit", self._channel.seal(type, payload, start))
        apply(self.role, self._store, effects, lambda peer, frame: answers.append(frame))
        return self._channel.open(answers[0])


@contextmanager
def world(suite: str, meters: int = 3, quorum: int = 2) -> Iterator[World]:
    """A World in a folder that goes with it."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="wattveil-audit-"))
        yield World(Path(folder), suite, meters, quorum, stack)


def starts(record: Any, count: int) -> Sequence[int]:
    """The first periods of a fleet, UTC s."""
    return [START + i * record.period_s for i in range(count)]
