"""Three roles with their stores and some plain meters, for tests; see plainmeter.py."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from gmpy2 import mpz, powmod

from plainmeter import (
    ERROR,
    FIRST_DAY,
    FLEET,
    PERIOD,
    START,
    Material,
    PlainLink,
    PlainMeter,
    Secrets,
    bitmap,
    certificate,
    pack,
    prf,
    to_pair,
)
from wattveil.paillier.group import group_element, group_nonresidue
from wattveil.paillier.keyfile import save_private
from wattveil.paillier.keys import PrivateKey, generate
from wattveil.paillier.rows import InlineRows
from wattveil.privacy.ledger import Limits
from wattveil.privacy.subjects import Subjects
from wattveil.roles.center import Center
from wattveil.roles.cloud import Cloud
from wattveil.roles.dealer import Dealer
from wattveil.roles.folders import CenterConfig, CloudConfig, DealerConfig
from wattveil.roles.seeds import Seed, Seeds
from wattveil.roles.uploads import row_recipe
from wattveil.runners.host import apply
from wattveil.runners.memory import MemoryNet
from wattveil.store import Store
from wattveil_meter.record import Record

SUITES: dict[str, dict[str, Any]] = {  # the record's changes
    "yan2024": {},
    "compact": {"suite": "compact", "noise": "discrete"},
}


FIXED_PRIMES = (  # safe ones, of 256 bits
    0xEC055B427B0F51DCBB9FA94E0B6009213A2D1BF117B224328E6ACA44FF93F2B3,
    0xFEB369CB91FC1E8A237DFCF1B8945D97C9EC888746BDE4A00EF7913BE949754B,
)


class TestClock:
    """Moves only when told."""

    __test__ = False

    def __init__(self, now: int = START + 10) -> None:
        self.utc, self.running, self.seconds = now, False, 1000.0

    def now(self) -> int:
        return self.utc

    def mono(self) -> float:
        return self.seconds


@cache
def test_key() -> PrivateKey:
    """One 512-bit key for all tests of a process."""
    return generate(512, insecure_test_key=True)


test_key.__test__ = False  # type: ignore[attr-defined]


def make_record(key: PrivateKey, roster: tuple[str, ...], **changes: Any) -> Any:
    n = key.public.n
    values: dict[str, Any] = {
        "suite": "yan2024",
        "noise": "gamma",
        "n": int(n),
        "key_epoch": 1,
        "fleet": FLEET,
        "roster_epoch": 1,
        "roster_size": len(roster),
        "gamma": 3,
        "quorum_count": 2,
        "roster_digest": hashlib.sha256(pack(*(i.encode() for i in roster))).digest(),
        "colluding": 0,
        "lo": 0,
        "hi": 1000,
        "epsilon_num": 1,
        "epsilon_den": 2,
        "unit": "Wh",
        "offset": 120_000,
        "period_s": PERIOD,
        "phase_s": 0,
        "level": "short",
        "row_check": 1,
        "own_noise": 0,
        "tables": bytes(64),
        "h": int(group_element(n, FLEET, 1)),
        "h_s": int(group_nonresidue(n, FLEET, 1)),
    }
    return Record.make(**(values | changes))


class MemoryStore:
    """A Store without a disk."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], bytes] = {}
        self.boots = 0

    def apply(self, changes: Iterable[Any]) -> None:
        for change in changes:
            self.rows.pop((change.kind, change.key), None)
            if change.value is not None:
                self.rows[change.kind, change.key] = change.value

    def transact(self, decide: Any) -> None:
        self.apply(list(decide(self)))

    def get(self, kind: str, key: str) -> bytes | None:
        return self.rows.get((kind, key))

    def load(self, kind: str) -> dict[str, bytes]:
        return {key: value for (k, key), value in self.rows.items() if k == kind}

    def boot(self) -> int:
        self.boots += 1
        return self.boots

    def close(self) -> None:
        pass


@dataclass
class World:
    """A whole fleet in one process, each role with a store on disk."""

    root: Path
    size: int = 4
    changes: dict[str, Any] = field(default_factory=dict)
    disk: bool = True
    limits: Limits = field(default_factory=Limits)
    fixed: bool = False  # the same keys always, for a corpus that is kept

    def __post_init__(self) -> None:
        self.key = PrivateKey(*map(mpz, FIXED_PRIMES)) if self.fixed else test_key()
        self.roster = tuple(f"meter-{i:02}" for i in range(1, self.size + 1))
        self.record = make_record(self.key, self.roster, **self.changes)
        self.clock = TestClock()
        self.secrets = [
            Secrets(name, i, *(self.secret(f"{name} {j}") for j in range(4)))
            for i, name in enumerate(self.roster, 1)
        ]
        roles = ("cloud center", "cloud dealer", "dealer mac")
        self.cloud_center, self.cloud_dealer, self.dealer_mac = map(self.secret, roles)
        self.subjects = Subjects(hashlib.sha256(b"accountant").digest())  # of all fleets in a test
        self.seeds = {  # the roles': their folders' seeds.json
            "center": [Seed(FIRST_DAY, s.center_seed) for s in self.secrets],
            "dealer": [Seed(FIRST_DAY, s.dealer_seed) for s in self.secrets],
        }
        self.stores: dict[str, Any] = {}
        self.next_link: dict[int, tuple[bytes, int]] = {}  # keys that meters are moved to
        self.next_registration: dict[int, tuple[bytes, int]] = {}
        self.meters = {s.number: PlainMeter(s, self.record) for s in self.secrets}

    def secret(self, name: str) -> bytes:
        """A key: random, or always the same for its name."""
        return hashlib.sha256(name.encode()).digest() if self.fixed else os.urandom(32)

    def role(self, name: str) -> Any:
        """A role, new from its store (which is opened again)."""
        if self.disk:
            if name in self.stores:
                self.stores[name].close()
            self.stores[name] = Store(self.root / name / "state.db", "NORMAL")
        store = self.stores.setdefault(name, MemoryStore())
        keys = [s.registration for s in self.secrets]
        common = (self.record, self.roster)
        role: Any
        if name == "center":
            own = (self.cloud_center, self.dealer_mac, self.subjects)
            config = CenterConfig(
                *common,
                self.key,
                self._seeds(name),
                keys,
                *own,
                self.limits,
                self.next_registration,
            )
            role = Center(config, store.boot(), self.clock, os.urandom)
        elif name == "dealer":
            dealer = DealerConfig(*common, self._seeds(name), self.cloud_dealer, self.dealer_mac)
            role = Dealer(dealer, store.boot(), self.clock)
        else:
            links = (self.cloud_center, self.cloud_dealer)
            cloud = CloudConfig(*common, [s.link for s in self.secrets], *links, self.next_link)
            rows = InlineRows(row_recipe(self.record))
            role = Cloud(cloud, store.boot(), self.clock, rows, deadline_s=30)
        apply(role, store, role.restore(store.load), lambda peer, frame: None)
        return role

    def _seeds(self, name: str) -> Seeds:
        """As its last process left them."""

        def keep(held: Sequence[Seed]) -> None:
            self.seeds[name] = list(held)

        return Seeds(self.seeds[name], keep)

    def net(self) -> MemoryNet:
        """All three roles, started (again)."""
        roles = [self.role(name) for name in ("center", "cloud", "dealer")]
        return MemoryNet(*roles, self.stores)

    def members(self, *numbers: int) -> bytes:
        return bitmap(numbers, self.size)

    def end(self, start: int = START) -> None:
        self.clock.utc = start + PERIOD

    def close(self) -> None:
        for store in self.stores.values():
            store.close()

    def write_folders(self) -> None:
        """The roles' folders as provisioning makes them."""
        ids = {
            "center": lambda s: (
                {"registration_key": s.registration.hex(), "day": FIRST_DAY}
                | {"seed": s.center_seed.hex()}
            ),
            "cloud": lambda s: {"link_key": s.link.hex()},
            "dealer": lambda s: {"day": FIRST_DAY, "seed": s.dealer_seed.hex()},
        }
        links = {
            "center": {"cloud": self.cloud_center, "dealer_mac": self.dealer_mac},
            "cloud": {"center": self.cloud_center, "dealer": self.cloud_dealer},
            "dealer": {"cloud": self.cloud_dealer, "center_mac": self.dealer_mac},
        }
        for name, entry in ids.items():
            folder = self.root / name
            folder.mkdir(mode=0o700, exist_ok=True)
            (folder / "record.bin").write_bytes(self.record.raw)
            (folder / "roster.json").write_text(json.dumps({"meters": self.roster}))
            (folder / "meters.json").write_text(json.dumps({s.id: entry(s) for s in self.secrets}))
            keys = {peer: key.hex() for peer, key in links[name].items()}
            (folder / "links.json").write_text(json.dumps(keys))
        save_private(self.key, self.root / "center" / "key.json")
        key = self.root / "center" / "accountant.key"
        key.touch(0o600)
        key.write_bytes(self.subjects.key)


class Asker:
    """A cloud under the test's control: asks one role whatever the test wants."""

    def __init__(self, world: World, name: str, boot: int = 1) -> None:
        key = world.cloud_center if name == "center" else world.cloud_dealer
        self.world, self.name = world, name
        self.link = PlainLink(key, 0, world.record, boot)
        self.role = world.role(name)
        self.store: Any = world.stores[name]

    def __call__(self, type: int, payload: bytes, start: int = 0) -> tuple[int, bytes] | None:
        """The answer, None when there is none."""
        return self.give(self.link.seal(type, payload, start))

    def give(self, frame: bytes) -> tuple[int, bytes] | None:
        answers: list[bytes] = []
        effects = self.role.receive("x", frame)
        apply(self.role, self.store, effects, lambda peer, frame: answers.append(frame))
        return self.link.open(answers[0]) if answers else None

    def code(self, type: int, payload: bytes, start: int = 0) -> int:
        """The code of the ERROR that must be the answer."""
        answer = self(type, payload, start)
        assert answer is not None
        assert answer[0] == ERROR
        return answer[1][0]

    def restart(self) -> None:
        self.role = self.world.role(self.name)
        self.store = self.world.stores[self.name]


def combine(world: World, given: list[tuple[int, Material]], start: int = START) -> list[bytes]:
    """C1 and C2, or T, with the dealer's share over the meters given, repetitions included."""
    record, n = world.record, mpz(world.record.n)
    compact = record.suite == "compact"
    c1 = c2 = mpz(1)
    for number, (slots, report) in given:
        seed = world.secrets[number - 1].dealer_seed
        for slot in slots:
            c1 = c1 * slot % (n * n)
        u = prf(seed, b"u", record.fingerprint, start, record.nb + 10)
        k = 0 if compact else prf(seed, b"k", record.fingerprint, start, 32)
        c2 = c2 * report * powmod(mpz(record.h), -k, n * n) * (1 - u * n) % (n * n)
    assert not compact or c1 == 1
    return [to_pair(c, record) for c in ([c2] if compact else [c1, c2])]


def opening(
    world: World, numbers: Iterable[int], pairs: Iterable[bytes], start: int = START
) -> bytes:
    """The payload of OPEN, with the certificate a dealer would give (or a colluding one gives)."""
    members = bitmap(numbers, world.size)
    return pack(members, certificate(world.dealer_mac, world.record, start, members), *pairs)
