"""A city: one period of a whole fleet through the real roles, broker and stores, stage by stage.

Cloud, centre and dealer are processes of their own with their own stores; meters and cloud meet at
mosquitto. Meters are simulated by the formulas of PROTOCOL.md with gmpy2: their ciphertexts are
true ones, and the total released has to be exactly their readings and the noise the cloud chose.
Registrations are in the cloud's store beforehand: they belong to a start, not to a period.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from gmpy2 import mpz, powmod

from wattveil.bench.host.record import HostPlan, HostRecord, Progress, record
from wattveil.bench.host.site import (
    PERIOD_S,
    Load,
    clock,
    cloud_process,
    cpu_s,
    descendants,
    fill_store,
    make_site,
    own_broker,
    registered,
    resident_mb,
    role_process,
    wait_for_word,
)
from wattveil.bench.rig import DAY, START
from wattveil.fleet.packages import MeterKeys
from wattveil.fleet.provision import Fleet
from wattveil.paillier.ciphertext import from_pair, to_pair
from wattveil.paillier.keys import PrivateKey, PublicKey
from wattveil.paillier.rows import RowFactory
from wattveil.store import read_only
from wattveil_meter import masks, wire
from wattveil_meter.drbg import Drbg
from wattveil_meter.noise import clamp, make_sampler
from wattveil_meter.record import Record
from wattveil_meter.wire import Channel

METERS = (1_000, 10_000, 100_000)
FEW = 300  # when it is one of many pieces of work
GAMMA = 8
SUITE = "compact"
WINDOW = 1000  # requests under way
TASK = 500  # meters
ROLES = ("cloud", "center", "dealer")
STILL_S = 1.0  # a row factory that computes nothing for so long is full


@dataclass
class Stage:
    """What one stage took: seconds by the clock, and of processor time by process; MB at its end,
    and the most until then."""

    name: str
    wall: float
    cpu: dict[str, float]
    resident: dict[str, float]
    most: dict[str, float]


def run_city(key: PrivateKey, plan: HostPlan, progress: Progress) -> list[HostRecord]:
    """Cities of growing size; small ones only, unless this is what was asked for."""
    sizes = METERS if "city" in plan.what else (FEW,)
    records: list[HostRecord] = []
    for meters in (max(2, plan.meters),) if plan.meters else sizes:
        with tempfile.TemporaryDirectory(prefix="wattveil-bench-") as folder:
            say = partial(_say, progress, f"{key.public.bits} bits: city: {meters:,} meters: ")
            city = City(key, Path(folder), meters, plan.processes, say)
            city.run()
        records += city.records()
    return records


def _say(progress: Progress, before: str, text: str) -> None:
    progress(before + text)


@dataclass
class City:
    """One period of one fleet."""

    key: PrivateKey
    root: Path
    meters: int
    processes: int
    progress: Progress
    stages: list[Stage] = field(default_factory=list)
    checked: bool = False

    def run(self) -> None:
        """All of it."""
        self.progress("provisioning")
        fleet = make_site(self.root / "fleet", self.key, SUITE, self.meters, GAMMA)
        fill_store(fleet.role_folder("cloud") / "state.db", registered(fleet))
        peers = {role: f"unix:{self.root}/{role}.sock" for role in ("center", "dealer")}
        with ExitStack() as stack:
            pids: dict[str, list[int]] = {}
            roles: dict[str, Any] = {}

            def stage(name: str, work: Callable[[], Any]) -> Any:
                self.progress(name)
                before = {who: cpu_s(some) for who, some in pids.items()}
                begun, own = time.perf_counter(), time.process_time()
                result = work()
                wall = time.perf_counter() - begun
                cpu = {who: cpu_s(some) - before[who] for who, some in pids.items()}
                cpu["meters"] = time.process_time() - own
                roles_only = [who for who in pids if who != "rows"]
                self.stages.append(Stage(
                    name, wall, cpu,
                    {who: resident_mb(pids[who][0]) for who in roles_only},
                    {who: resident_mb(pids[who][0], most=True) for who in roles_only},
                ))  # fmt: skip
                return result

            for role, address in peers.items():
                process = role_process(fleet, role, "--listen", address)
                roles[role] = stack.enter_context(process)
                pids[role] = [roles[role].pid]
            broker, account, access = stack.enter_context(own_broker(fleet))
            options = [f"--peer={role}={address}" for role, address in peers.items()]
            options += ["--row-workers", str(self.processes), "--deadline", "1000000"]
            roles["cloud"] = cloud = stack.enter_context(
                cloud_process(fleet, broker, access, *options)
            )
            pids |= {"cloud": [cloud.pid], "broker": [broker.pid or 0]}
            pids["rows"] = descendants(cloud.pid)
            stage("start and rows made ahead", lambda: _still(pids["rows"]))

            for role in roles.values():
                clock(role, START + 10)
            load = Load(account)
            stack.callback(load.close)
            site = _Meters(fleet, load, self.root / "rows")
            stage("rows pulled", site.pull)
            made = self._compute(site)
            for role in ("dealer", "center", "cloud"):
                clock(roles[role], START + PERIOD_S)
            stage("reports", lambda: site.report(made.pairs))
            log = roles["cloud"].log
            stage("closing", lambda: wait_for_word(log, f"period {START}: ", 2))
            stage("clearing", lambda: _cleared(fleet.role_folder("cloud") / "state.db"))
            status = roles["center"].ask(status=True)
        self.checked = site.right and _exact(fleet, status, made)

    def _compute(self, site: _Meters) -> _Made:
        """All meters' ciphertexts, in processes of their own."""
        self.progress("meters' own work")
        begun = time.perf_counter()
        made = _Made()
        with ProcessPoolExecutor(
            self.processes, mp_context=get_context("spawn"), initializer=_prepare,
            initargs=(site.record.raw, str(site.spool)),
        ) as pool:  # fmt: skip
            for pairs, wh, xi, seconds in pool.map(_work, site.tasks()):
                made.pairs += pairs
                made.wh += wh
                made.xi += xi
                made.seconds += seconds
        wall = time.perf_counter() - begun
        self.stages.append(Stage("meters' own work", wall, {"meters": made.seconds}, {}, {}))
        return made

    def records(self) -> list[HostRecord]:
        """Each stage: time, processor time by process, memory by role."""

        def made(stage: str, value: float, unit: str, processes: int = 1) -> HostRecord:
            return record("city", stage, self.key.public.bits, value, unit, self.checked,
                          suite=SUITE, gamma=GAMMA, meters=self.meters, processes=processes,
                          level="short")  # fmt: skip

        records: list[HostRecord] = []
        for one in self.stages:
            records.append(made(one.name, 1000 * one.wall, "ms", max(1, len(one.cpu))))
            for who, seconds in one.cpu.items():
                if seconds:
                    name = f"{one.name}, processor time of {who}"
                    records.append(made(name, 1000 * seconds, "ms"))
            for who, mb in one.resident.items():
                records.append(made(f"{one.name}, memory of {who} then", mb, "MB"))
        if self.stages:
            for who, mb in self.stages[-1].most.items():
                records.append(made(f"most memory of {who}", mb, "MB"))
        return records


@dataclass
class _Made:
    """What all meters made. xi: GAMMA noise shares a meter. seconds: of processor time."""

    pairs: list[bytes] = field(default_factory=list)
    wh: int = 0
    xi: list[int] = field(default_factory=list)
    seconds: float = 0.0


Task = tuple[int, list[tuple[bytes, bytes, bytes]]]  # first meter; seeds and DRBG secret of each


class _Meters:
    """The meters' side of all links. spool: the file with the rows, in roster order."""

    def __init__(self, fleet: Fleet, load: Load, spool: Path) -> None:
        self.record, self.spool = fleet.record, spool
        self.right = True
        self._load = load
        self._keys = [MeterKeys.read(fleet.meters[name].files) for name in fleet.roster]
        record = fleet.record
        self._channels = [
            Channel(keys.link, record.fleet, number, wire.CLOUD, True, record.fingerprint, 1)
            for number, keys in enumerate(self._keys, 1)
        ]

    def pull(self) -> None:
        """ROW 1 .. GAMMA of every meter, one at a time each."""
        size = 2 * self.record.nb
        with self.spool.open("wb") as file:

            def ask(number: int, slot: int) -> bytes:
                frame = self._channels[number - 1].seal(wire.ROW, bytes((slot, 0)), START)
                return self._load.packet(number, frame)

            def answer(number: int, frame: bytes) -> bytes | None:
                message = self._channels[number - 1].open(frame)
                self.right &= message.type == wire.ROW_IS
                slot = message.payload[0]
                file.seek(size * ((number - 1) * GAMMA + slot - 1))
                file.write(message.payload[2 + 32 :])
                return ask(number, slot + 1) if slot < GAMMA else None

            first = (ask(number, 1) for number in range(1, len(self._keys) + 1))
            self._load.exchange(first, answer, WINDOW)

    def tasks(self) -> Iterator[Task]:
        """What the worker processes get."""
        for at in range(0, len(self._keys), TASK):
            keys = self._keys[at : at + TASK]
            yield at, [(*one.day(DAY), one.drbg) for one in keys]

    def report(self, pairs: Sequence[bytes]) -> None:
        """REPORT of every meter."""
        answers: Counter[int] = Counter()

        def answer(number: int, frame: bytes) -> None:
            answers[self._channels[number - 1].open(frame).type] += 1

        packets = (
            self._load.packet(number, channel.seal(wire.REPORT, pair, START))
            for number, (channel, pair) in enumerate(zip(self._channels, pairs, strict=True), 1)
        )
        self._load.exchange(packets, answer, WINDOW)
        self.right &= answers == {wire.REPORTED: len(pairs)}


# --- in a worker process ------------------------------------------------------------------------

_worker: _Worker


class _Worker:
    """One process's share of the meters."""

    def __init__(self, raw: bytes, spool: str) -> None:
        self.record: Any = Record.parse(raw)
        self.public = PublicKey(mpz(self.record.n))
        self._rows = open(spool, "rb")  # noqa: SIM115  # as long as the process
        self._zeros = RowFactory(self.public, mpz(self.record.h_s), self.record.randomiser_bits)
        record = self.record
        epsilon = record.epsilon_num, record.epsilon_den
        self._sampler = make_sampler(record.noise, record.a, *epsilon, record.delta)

    def meter(self, index: int, seeds: tuple[bytes, bytes, bytes]) -> tuple[bytes, int, list[int]]:
        """T_i of the meter at `index`, its reading in Wh, and its noise shares."""
        record, n, n2 = self.record, self.public.n, self.public.n2
        dealer_seed, center_seed, secret = seeds
        drbg = Drbg(secrets.token_bytes(64), secret)
        wh = record.lo + random.Random(index).randrange(record.delta + 1)
        xi = [clamp(self._sampler.share(drbg), record.offset) for _ in range(record.gamma)]
        s = drbg.bits(record.check_bits) if record.row_check else 0
        plain = wh - s + masks.mask_u(record, dealer_seed, START)
        plain += masks.mask_v(record, center_seed, START)
        size = 2 * record.nb
        self._rows.seek(index * record.gamma * size)
        t, everything = self._zeros.zero() * (1 + plain % n * n) % n2, mpz(1)
        for one in xi:
            b = from_pair(self._rows.read(size), self.public)
            t = t * powmod(b, one + record.offset, n2) % n2
            everything = everything * b % n2
        t = t * powmod(everything, s, n2) % n2
        return to_pair(t, self.public), wh, xi


def _prepare(raw: bytes, spool: str) -> None:
    global _worker
    _worker = _Worker(raw, spool)


def _work(task: Task) -> tuple[list[bytes], int, list[int], float]:
    begun = time.process_time()
    first, seeds = task
    pairs, total, shares = [], 0, []
    for index, one in enumerate(seeds, first):
        pair, wh, xi = _worker.meter(index, one)
        pairs.append(pair)
        total += wh
        shares += xi
    return pairs, total, shares, time.process_time() - begun


# --- afterwards ---------------------------------------------------------------------------------


def _still(pids: Sequence[int]) -> None:
    """Wait until these processes compute nothing any more."""
    last, since = -1.0, time.monotonic()
    while time.monotonic() - since < STILL_S:
        time.sleep(0.05)
        now = cpu_s(pids)
        if now > last:
            last, since = now, time.monotonic()


def _cleared(state: Path) -> None:
    """Wait until the cloud has removed what it collected, which it does between its requests."""
    with contextlib.closing(sqlite3.connect(f"file:{state}?mode=ro", uri=True)) as db:
        query = "SELECT 1 FROM state WHERE kind IN ('rows', 'report') LIMIT 1"
        while db.execute(query).fetchone():
            time.sleep(0.05)


def _exact(fleet: Fleet, center: dict[str, Any], made: _Made) -> bool:
    """Whether the release is the readings and the noise of the slots the cloud chose, to the Wh."""
    bits = read_only(fleet.role_folder("cloud") / "state.db")("bits")
    noise = sum(
        made.xi[(number - 1) * GAMMA + int.from_bytes(bits[f"{START}:{number}"], "little")]
        for number in range(1, len(fleet.roster) + 1)
    )
    release = center["releases"].get(str(START), {})
    members = len(release.get("members", []))
    return bool(release.get("total_wh") == made.wh + noise and members == len(fleet.roster))
