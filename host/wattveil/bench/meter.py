"""What the meter's work costs on a runtime, beside the paper's formulas: one record for each row length.

A whole period of the real meter runs over a serial line, registration to report, against a `rig.Cloud`;
runtimes and row lengths take turns in every round, so that a busy machine slows all alike. Slots of the
textbook are timed between the rows of the same period. What of it would take longer than the budget is
computed: from the median slot, or, where not even one slot fits, from the cost of one multiplication in
a power of the textbook's that was timed (`textbook_extrapolated`).

Runtimes: "micropython" (64-bit), "micropython-arm" (32-bit, digits of integers as on the boards, under
qemu: its times are no board's, its ratios, counts and heap are), "cpython", "pico-emulated", boards.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from wattveil.bench.build import Build
from wattveil.bench.heap import peak
from wattveil.bench.places import Emulated, Place, Port
from wattveil.bench.records import Measured, Record
from wattveil.bench.rig import (
    BOOK_REPORT,
    BOOK_UNIT,
    READING,
    START,
    BenchError,
    Choice,
    Cloud,
    Job,
    Rig,
    make_key,
)
from wattveil.bench.shim import KERNELS, shim
from wattveil.fleet.pico import PicoEmulator
from wattveil.fleet.runtime import NAMES, RuntimeMissing, find_runtime
from wattveil.fleet.settings import SUITES
from wattveil_meter.masks import mask_k

RUNTIMES = ("micropython", "micropython-arm", "cpython", "pico-emulated")
BUDGET_S = 10.0  # of textbook slots a period; in rounds after the first, of one slot
HEAP_STEP = 1024

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What to measure. noise None: each suite's default. heap_step: bytes, 0 for no heap figures."""

    suites: Sequence[str] = tuple(SUITES)
    bits: Sequence[int] = (2048,)
    gammas: Sequence[int] = (1, 2, 5, 10, 20)
    runtimes: Sequence[str] = RUNTIMES[:2]
    ports: Sequence[str] = ()
    noise: str | None = None
    level: str = "short"
    tables: int = 384
    row_check: bool = True
    kernel: str = "auto"
    repeats: int = 3
    budget_s: float = BUDGET_S
    heap_step: int = HEAP_STEP

    def choices(self) -> list[Choice]:
        """One fleet for each suite."""
        options = (self.noise, self.level, self.tables, self.row_check)
        return [Choice(suite, *options) for suite in self.suites]


def run_meter(plan: Plan, progress: Progress) -> list[Measured]:
    """All records, in the order of bits, suite, runtime, gamma. A runtime that is missing is said and
    skipped; RuntimeMissing when none is left. BenchError."""
    done: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="wattveil-bench-") as name:
        folder = Path(name)
        build = Build(folder / "build")
        with open_places(plan, build, folder, progress) as places:
            for bits in plan.bits:
                progress(f"a key of {bits} bits")
                key = make_key(bits)
                for choice in plan.choices():
                    progress(f"{bits} bits: a fleet of suite {choice.suite}")
                    rig = Rig(folder / f"{bits}-{choice.suite}", key, choice)
                    done += _suite(plan, rig, places, build, progress)
    return done


@contextmanager
def open_places(
    plan: Plan, build: Build, folder: Path, progress: Progress
) -> Iterator[list[Place]]:
    """The plan's runtimes and ports, until the end of the block."""
    with ExitStack() as stack:
        places: list[Place] = []
        for name in plan.runtimes:
            try:
                place = _place(name, build, folder, progress)
            except RuntimeMissing as missing:
                progress(f"skipped: {missing}")
                last = missing
                continue
            stack.callback(place.close)
            places.append(place)
        for port in plan.ports:
            place = Port(port, port, build, progress)
            stack.callback(place.close)
            places.append(place)
        if not places:
            raise last
        yield places


def _place(name: str, build: Build, folder: Path, progress: Progress) -> Place:
    if name == "pico-emulated":
        home = folder / name
        home.mkdir()
        pico = PicoEmulator(home)
        pico.start()
        return Port(name, pico.port, build, progress, owner=pico)
    if name in NAMES:
        find_runtime(name)
    return Emulated(name, build, folder / name)


class _Series:
    """The periods of one row length on one place."""

    def __init__(self, plan: Plan, job: Job, place: Place, probe: dict[str, Any]) -> None:
        self.plan, self.job, self.place, self.probe = plan, job, place, probe
        self.runs: list[dict[str, Any]] = []
        self.checked = bool(probe["right"])
        self.cloud = Cloud(job)

    def period(self, *, free: int = 0, book_us: int = -1) -> dict[str, Any]:
        """One more, with its answers checked; the textbook is in it unless book_us is below 0."""
        files, code = code_for(self.plan, self.place)
        files |= self.job.files(self.probe["form"])
        job: dict[str, Any] = {
            "start": START,
            "reading": READING,
            "hot": self.job.hot,
            "free": free,
        }
        job |= {"kernel": self.plan.kernel, "book_us": book_us} | code
        cloud = Cloud(self.job)
        run: dict[str, Any] = self.place.run("bench_period", job, files, cloud)
        right = cloud.checked(run["xi"]) and not run["refused"]
        if book_us >= 0:
            right = right and cloud.book_checked(run["xi"])
        self.cloud = cloud
        self.checked = self.checked and right
        return run

    def round(self, first: bool) -> None:
        """A timed period."""
        budget = self.plan.budget_s * 1e6
        if not first and self.slots_us:
            budget = 1.5 * median(self.slots_us)
        self.runs.append(self.period(book_us=int(budget)))

    @property
    def slots_us(self) -> list[float]:
        """Of all the textbook's slots timed by now."""
        ends = (str(BOOK_UNIT), str(BOOK_REPORT))
        return [us for run in self.runs for at, us in run["book_us"].items() if at not in ends]

    def textbook(self) -> tuple[float, bool]:
        """(us for a whole report, whether some of it was computed)."""
        gamma = self.job.record.gamma
        reports = [
            run["book_us"][str(BOOK_REPORT)]
            for run in self.runs
            if str(BOOK_REPORT) in run["book_us"]
        ]
        whole = [run for run in self.runs if len(run["book_us"]) == gamma + 2]
        if whole:
            unit = str(BOOK_UNIT)
            return median(
                sum(run["book_us"].values()) - run["book_us"][unit] for run in whole
            ), False
        if reports:
            return gamma * median(self.slots_us) + median(reports), True
        unit_us = median(run["book_us"][str(BOOK_UNIT)] / run["unit_steps"] for run in self.runs)
        return unit_us * textbook_steps(self.job, self.runs[0]["shares"]), True

    def measured(self, build: Build, heap: int | None) -> Measured:
        """The record of all rounds."""
        record = self.job.record
        prepare = [(run["us"]["prepare"] + run["us"]["draw"]) / 1000 for run in self.runs]
        report = self._ms("report")
        book_us, extrapolated = self.textbook()
        total = median(prepare) + report
        counts = {run["modmuls"] for run in self.runs}
        first = self.runs[0]
        tables_bytes = sum(len(data) for data in self.job.tables[self.probe["form"]].values())
        cpython = self.place.name == "cpython"
        made = Record(
            suite=record.suite,
            bits=8 * record.nb,
            gamma=record.gamma,
            noise=record.noise,
            runtime=self.place.name,
            kernel=first["kernel"],
            prepare_ms=_digits(median(prepare)),
            report_ms=_digits(report),
            modmuls=max(counts),
            heap_peak_bytes=heap,
            heap_firmware_bytes=None if cpython else first["idle"] - first["bare"],
            flash_bytes=tables_bytes + build.firmware_bytes,
            link_ms=_digits(self._ms("link")),
            tables=self.plan.tables,
            level=record.level,
            periods=len(self.runs),
            mad_ms=_digits(median(abs(ms - median(prepare)) for ms in prepare)),
            bytes_up=self.cloud.bytes_up,
            bytes_down=self.cloud.bytes_down,
            textbook_ms=_digits(book_us / 1000),
            textbook_extrapolated=extrapolated,
            ratio=_digits(book_us / 1000 / total),
            checked=self.checked and len(counts) == 1,
        )
        return Measured(
            made,
            bool(record.row_check),
            self.place.arm,
            tables_bytes,
            self._ms("draw"),
            self._ms("store"),
            median(run["import_us"] + run["build_us"] for run in self.runs) / 1000,
            self.cloud.bytes_other,
            record.exponent_bits,
            self.probe,
        )

    def _ms(self, what: str) -> float:
        return float(median(run["us"][what] for run in self.runs)) / 1000


def _digits(value: float) -> float:
    return float(f"{value:.5g}")


def pow_steps(exponent: int) -> int:
    """Multiplications and squarings of MicroPython's pow() (py/mpz.c): right to left, no window."""
    return exponent.bit_length() + exponent.bit_count() - 1


def textbook_steps(job: Job, shares: Sequence[int]) -> int:
    """Modular multiplications of one report by Eq. 18 and 22, with full-size r."""
    record = job.record
    slots = sum(pow_steps(max(0, xi + record.offset)) + pow_steps(record.n) + 3 for xi in shares)
    return slots + pow_steps(record.n + mask_k(record, job.seeds[0], START)) + 2


def _suite(
    plan: Plan, rig: Rig, places: Sequence[Place], build: Build, progress: Progress
) -> list[Measured]:
    jobs = {gamma: rig.job(gamma) for gamma in plan.gammas}
    title = f"{8 * next(iter(jobs.values())).record.nb} bits, {rig.choice.suite}"
    series: dict[tuple[int, int], _Series] = {}
    for at, place in enumerate(places):
        progress(f"{title}: {place.name}: choosing a kernel")
        smallest = jobs[min(jobs)]
        files, code = code_for(plan, place)
        ask = {"kernel": plan.kernel, "repeats": place.repeats} | code
        probe = place.run("bench_probe", ask, files | smallest.files(1))
        if plan.kernel not in ("auto", probe["kernel"]):
            why = probe["reasons"].get(plan.kernel, "not known")
            raise BenchError(f"{place.name}: kernel {plan.kernel} does not run there: {why}")
        for gamma, job in jobs.items():
            series[at, gamma] = _Series(plan, job, place, probe)
    for turn in range(plan.repeats):
        for one in series.values():
            gamma = one.job.record.gamma
            progress(f"{title}: round {turn + 1} of {plan.repeats}: {one.place.name}, γ = {gamma}")
            one.round(turn == 0)
    done = []
    guess = 0
    for one in series.values():
        heap = None
        if plan.heap_step and one.place.name != "cpython":
            progress(f"{title}: heap: {one.place.name}, γ = {one.job.record.gamma}")
            heap = guess = peak(one.period, guess, plan.heap_step)
        done.append(one.measured(build, heap))
    return done


def code_for(plan: Plan, place: Place) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Files and entries of a job that bring a machine-code kernel to where there is no assembler."""
    if place.name == "micropython-arm" and plan.kernel in KERNELS:
        return shim(plan.kernel)
    return {}, {}
