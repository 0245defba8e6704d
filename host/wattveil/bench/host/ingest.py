"""Ingestion: reports through mosquitto and TLS into a cloud process, verified, stored, acknowledged.

What is timed begins when a sealed frame is handed to the broker and ends when the cloud's answer is
back; broker, cloud and load generator share the machine. Frames are sealed beforehand, and one
connection speaks for all meters, so that the generator takes a tenth of the cloud's time.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

from gmpy2 import mpz

from wattveil.bench.host.record import HostPlan, HostRecord, Progress, record
from wattveil.bench.host.site import (
    NOWHERE,
    PERIOD_S,
    Load,
    clock,
    cloud_process,
    cpu_s,
    fill_store,
    make_site,
    own_broker,
    registered,
)
from wattveil.bench.rig import START
from wattveil.fleet.packages import MeterKeys
from wattveil.fleet.provision import Fleet
from wattveil.paillier.accumulator import Accumulator
from wattveil.paillier.ciphertext import to_pair
from wattveil.paillier.keys import PrivateKey
from wattveil.paillier.rows import RowFactory
from wattveil.roles.period import Period
from wattveil.roles.suites import suite_of
from wattveil.store import Row, read_only
from wattveil_meter import wire
from wattveil_meter.wire import Channel

METERS = {"compact": 20_000, "yan2024": 2_500}
GAMMA = 8
WINDOW = 1000  # requests under way
SIDE = 300  # encryptions of which all others are products of two


class _Uploads(NamedTuple):
    """Packets of one kind of request, and the sum that their ciphertexts encrypt."""

    packets: list[bytes]
    total: int


class _Timed(NamedTuple):
    """Microseconds a frame: on the clock, and of processor time by process."""

    wall: float
    cloud: float
    broker: float
    generator: float


def run_ingest(key: PrivateKey, plan: HostPlan, progress: Progress) -> list[HostRecord]:
    """Both suites, one after the other."""
    records: list[HostRecord] = []
    for suite, natural in METERS.items():
        meters = max(2, plan.meters or natural)
        progress(f"{key.public.bits} bits: ingest: {suite}, {meters:,} meters")
        with tempfile.TemporaryDirectory(prefix="wattveil-bench-") as folder:
            fleet = make_site(Path(folder, "fleet"), key, suite, meters, GAMMA)
            records += _suite(key, fleet, plan)
    return records


def _suite(key: PrivateKey, fleet: Fleet, plan: HostPlan) -> list[HostRecord]:
    slots = suite_of(fleet.record).slots(fleet.record)
    state = fleet.role_folder("cloud") / "state.db"
    fill_store(state, _before(fleet))
    options = ("--row-workers", "0", "--deadline", "100000", *NOWHERE)
    timed: dict[str, _Timed] = {}
    with ExitStack() as stack:
        broker, account, access = stack.enter_context(own_broker(fleet))
        cloud = stack.enter_context(cloud_process(fleet, broker, access, *options))
        load = Load(account)
        stack.callback(load.close)
        pids = (cloud.pid, broker.pid or 0)
        uploads = _sealed(key, fleet, load, slots)
        answered = True
        for name, (packets, _) in uploads.items():
            clock(cloud, START + (PERIOD_S if name == "REPORT" else 10))
            timed[name], right = _timed(load, packets, pids, plan.repeats, name)
            answered &= right
    stored = read_only(state)
    checked = answered and all(
        _right(key, stored(kind).values(), uploads[name])
        for name, kind in (("REPORT", "report"), ("SLOT", "slot"))
        if name in uploads
    )

    def made(stage: str, us: float, processes: int = 1) -> HostRecord:
        return record("ingest", stage, key.public.bits, us, "us", checked,
                      suite=fleet.record.suite, gamma=GAMMA, meters=len(fleet.roster),
                      processes=processes)  # fmt: skip

    records = []
    for name, one in timed.items():
        records += [
            made(f"a {name}", one.wall, 3),
            made(f"a {name}, processor time of the cloud", one.cloud),
            made(f"a {name}, processor time of the broker", one.broker),
            made(f"a {name}, processor time of the generator", one.generator),
        ]
    if slots:
        whole = slots * timed["SLOT"].wall + timed["REPORT"].wall
        records.append(made(f"a meter: {slots} SLOTs and a REPORT", whole, 3))
    # A few frames take no tick of a process's clock.
    return [one for one in records if one["value"]]


def _before(fleet: Fleet) -> Iterator[Row]:
    """Registered meters that have their rows; what the rows encrypt does not matter here."""
    yield from registered(fleet)
    period = Period(START, len(fleet.roster)).save(fleet.record.fingerprint)
    yield Row(period.kind, period.key, period.value)
    row = bytes(2 * fleet.record.nb * GAMMA)
    for number in range(1, len(fleet.roster) + 1):
        yield Row("rows", f"{START}:{number}", row)


def _sealed(key: PrivateKey, fleet: Fleet, load: Load, slots: int) -> dict[str, _Uploads]:
    """All frames, in the order in which they are sent: SLOTs of all meters, then REPORTs."""
    public, record = key.public, fleet.record
    factory = RowFactory(public, mpz(record.h_s))
    bases = [factory.one() if at % 3 else factory.zero() for at in range(SIDE)]
    ones = [int(at % 3 > 0) for at in range(SIDE)]
    made = 0

    def pair() -> tuple[bytes, int]:
        """One of 90,000 different ciphertexts, and what it encrypts."""
        nonlocal made
        a, b = divmod(made % SIDE**2, SIDE)
        made += 1
        return to_pair(bases[a] * bases[b] % public.n2, public), ones[a] + ones[b]

    channels = [
        Channel(MeterKeys.read(fleet.meters[name].files).link, record.fleet, number, wire.CLOUD, True,
                record.fingerprint, 1)
        for number, name in enumerate(fleet.roster, 1)
    ]  # fmt: skip
    uploads = {}
    kinds = [("SLOT", wire.SLOT, [bytes((slot, 0)) for slot in range(1, slots + 1)])]
    for name, type, prefixes in [*kinds, ("REPORT", wire.REPORT, [b""])]:
        packets, total = [], 0
        for number, channel in enumerate(channels, 1):
            for prefix in prefixes:
                data, plain = pair()
                total += plain
                frame = channel.seal(type, prefix + data, START)
                packets.append(load.packet(number, frame))
        if packets:
            uploads[name] = _Uploads(packets, total)
    return uploads


def _timed(
    load: Load, packets: Sequence[bytes], pids: tuple[int, int], repeats: int, name: str
) -> tuple[_Timed, bool]:
    """Medians over `repeats` slices, and whether each request was answered as it should be."""
    types: Counter[int] = Counter()

    def answer(number: int, frame: bytes) -> None:
        types[frame[3]] += 1

    size = -(-len(packets) // repeats)
    slices = []
    for at in range(0, len(packets), size):
        some = packets[at : at + size]
        before = cpu_s(pids[:1]), cpu_s(pids[1:]), time.process_time(), time.perf_counter()
        load.exchange(some, answer, WINDOW)
        wall = time.perf_counter() - before[3]
        used = (cpu_s(pids[:1]), cpu_s(pids[1:]), time.process_time())
        cpu = [after - begun for after, begun in zip(used, before, strict=False)]
        slices.append(_Timed(*(1e6 * seconds / len(some) for seconds in (wall, *cpu))))
    expected = wire.STORED if name == "SLOT" else wire.REPORTED
    middle = _Timed(*(median(values) for values in zip(*slices, strict=True)))
    return middle, types == {expected: len(packets)}


def _right(key: PrivateKey, stored: Iterable[bytes], uploads: _Uploads) -> bool:
    """Whether the store has all of them, and their product decrypts to the sum."""
    accumulator = Accumulator(key.public)
    partial = accumulator.add(accumulator.create(), stored)
    complete = partial.count == len(uploads.packets)
    return bool(complete and key.decrypt(accumulator.extract(partial)) == uploads.total)
