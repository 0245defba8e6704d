"""The product of many stored ciphertexts: one core, several processes, a Dask cluster."""

from __future__ import annotations

import importlib.util
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from gmpy2 import mpz

from wattveil.bench.host.record import HostPlan, HostRecord, Progress, Way, race, record
from wattveil.bench.host.rows import FLEET
from wattveil.paillier.accumulator import Accumulator, Partial, multiply
from wattveil.paillier.ciphertext import from_pair, to_pair
from wattveil.paillier.engines import open_executor
from wattveil.paillier.group import group_nonresidue
from wattveil.paillier.keys import PrivateKey, PublicKey
from wattveil.paillier.rows import RowFactory
from wattveil.store.packed import MAX_BATCH, PackedFile, Span

TASK = 10_000  # ciphertexts
SLICE, PART = 50_000, 250_000  # by these, ours and the bare loop, and the engines, take turns
BARE = "x * c % n^2 over integers in memory"


def run_product(key: PrivateKey, plan: HostPlan, progress: Progress) -> list[HostRecord]:
    """From a packed file on disk to one ciphertext, read, checked and multiplied."""
    public, count = key.public, plan.ciphertexts
    bits = public.bits
    with tempfile.TemporaryDirectory(prefix="wattveil-bench-") as folder:
        progress(f"{bits} bits: product: {count:,} ciphertexts")
        span, ones = _stored(public, Path(folder, "product.packed"), count)
        records = _one_core(key, span, ones, plan, progress)
        engines: dict[str, tuple[int, str]] = {"1 process": (1, "1")}
        if plan.processes > 1:
            engines[f"{plan.processes} processes"] = plan.processes, str(plan.processes)
        with _dask(plan.processes) as address:
            if address:
                engines["Dask"] = plan.processes, address
            progress(f"{bits} bits: product: {', '.join(engines)}")
            return records + _engines(key, span, ones, plan, engines)


def _stored(public: PublicKey, path: Path, count: int) -> tuple[Span, int]:
    """A file of different encryptions, and the sum of what they encrypt.

    Each is the product of two from a short list: 4 us to make instead of 90, as many bits to multiply.
    """
    factory = RowFactory(public, group_nonresidue(public.n, FLEET, 1))
    side = next(side for side in range(2, count + 3) if side * side >= count)
    left = [(factory.zero() if at % 3 else factory.one(), int(not at % 3)) for at in range(side)]
    right = [factory.zero() for _ in range(side)]
    pairs: list[tuple[int, bytes]] = []
    ones = 0
    with PackedFile(path, 2 * public.bytes, bytes(32), 0) as file:
        for index in range(count):
            (a, bit), b = left[index // side], right[index % side]
            ones += bit
            pairs.append((index, to_pair(a * b % public.n2, public)))
            if len(pairs) == MAX_BATCH or index + 1 == count:
                file.append(pairs)
                pairs = []
    return Span(str(path), 0, count), ones


def _one_core(
    key: PrivateKey, span: Span, ones: int, plan: HostPlan, progress: Progress
) -> list[HostRecord]:
    """Slice by slice in turns with the bare loop, in this process."""
    public = key.public
    accumulator = Accumulator(public)
    ours, bare = Way(lambda: None), Way(lambda: None)
    total, product, same = accumulator.create(), mpz(1), True
    for part in span.split(SLICE):
        numbers = [from_pair(pair, public) for pair in part.payloads()]
        ours.count = bare.count = part.count
        ours.run = partial(_slice, accumulator, part)
        bare.run = partial(_bare, numbers, public.n2)
        race(plan.repeats, ours, bare)
        same &= all(len(set(way.results[-plan.repeats :])) == 1 for way in (ours, bare))
        total = accumulator.merge(total, ours.results[-1])
        product = product * bare.results[-1] % public.n2
    result = accumulator.extract(total)
    right = result == product and key.decrypt(result) == ones
    checked = bool(same and right and total.count == span.count)
    return [
        record("product", "one core, a ciphertext", public.bits, ours.us, "us", checked,
               baseline=BARE, baseline_value=bare.us)
    ]  # fmt: skip


def _slice(accumulator: Accumulator, part: Span) -> Partial:
    return accumulator.add(accumulator.create(), part.payloads())


def _bare(numbers: list[mpz], n2: mpz) -> mpz:
    x = mpz(1)
    for c in numbers:
        x = x * c % n2
    return x


def _engines(
    key: PrivateKey, span: Span, ones: int, plan: HostPlan, engines: dict[str, tuple[int, str]]
) -> list[HostRecord]:
    """Each engine in turns, part by part, by the clock on the wall."""
    public = key.public
    accumulator = Accumulator(public)
    ways = {name: Way(lambda: None) for name in engines}
    totals = dict.fromkeys(engines, accumulator.create())
    resident = dict.fromkeys(engines, 0.0)
    same = True
    with ExitStack() as stack:
        executors: dict[str, Executor] = {}
        workers: dict[str, set[int | None]] = {}
        for name, (processes, where) in engines.items():
            before = {child.pid for child in multiprocessing.active_children()}
            executors[name] = stack.enter_context(open_executor(where))
            _warm(executors[name], processes, public, span)
            workers[name] = {c.pid for c in multiprocessing.active_children()} - before
        for part in span.split(PART):
            for name, way in ways.items():
                way.count = part.count
                way.run = partial(multiply, executors[name], public, part.split(TASK))
            race(plan.repeats, *ways.values(), clock=time.perf_counter)
            for name, way in ways.items():
                same &= len(set(way.results[-plan.repeats :])) == 1
                totals[name] = accumulator.merge(totals[name], way.results[-1])
        for name, pids in workers.items():
            resident[name] = max([0.0, *map(_resident_mb, filter(None, pids))])
    checked = same and all(
        total.count == span.count and key.decrypt(accumulator.extract(total)) == ones
        for total in totals.values()
    )

    names = list(engines)
    bases = dict(zip(names[1:], names, strict=False))  # each beside the one before

    def made(name: str, stage: str, value: float, unit: str, base: str | None) -> HostRecord:
        return record("product", f"{name}, {stage}", public.bits, value, unit, checked,
                      processes=engines[name][0], baseline=base,
                      baseline_value=ways[base].us if base else None)  # fmt: skip

    times = [made(name, "a ciphertext", ways[name].us, "us", bases.get(name)) for name in names]
    memory = [
        made(name, "resident memory of each", mb, "MB", None)
        for name, mb in resident.items()
        if mb
    ]
    return times + memory


def _warm(executor: Executor, processes: int, public: PublicKey, span: Span) -> None:
    """Have the workers started before time counts."""
    parts = [Span(span.path, 0, min(1000, span.count))] * (4 * processes)
    multiply(executor, public, parts)


def _resident_mb(pid: int) -> float:
    """The most memory a process ever had, MB; 0 where /proc does not say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    kib = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return kib[0] * 1024 / 1e6 if kib else 0.0


@contextmanager
def _dask(processes: int) -> Iterator[str | None]:
    """The address of a cluster of our own; None without dask.distributed."""
    if not importlib.util.find_spec("distributed"):
        yield None
        return
    from distributed import LocalCluster

    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=processes, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address
