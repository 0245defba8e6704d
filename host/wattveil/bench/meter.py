"""What the meter's work costs: time beside the paper's formulas, multiplications, memory, bytes.

Runtimes: "micropython" (64-bit), "micropython-arm" (32-bit, digits of integers as on the boards, under
qemu: its times are no board's, its ratios, counts and heap are) and "cpython". A report's slots and the
textbook's take turns, so that a busy machine slows both alike. Whole periods take turns among
themselves; their baseline is the textbook's median slot of some minutes before: a rougher ratio.

Heap. `micropython.mem_peak()` does not tell: it adds what is allocated and never takes off what the
collector frees (500 times 1 kB counts 500 kB in a heap of 192 kB). So a period is run again with less
and less memory: the firmware is imported from its .py files, the real Meter built, the heap collected
(that is "idle"), and a ballast takes all but F bytes. The smallest F, by bisection, with which a whole
period from registration to report ends without MemoryError is the peak above idle, fragmentation and
the serial codec's buffers included. "Smallest heap" is the same for `-X heapsize`, compiler and all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from wattveil.bench.figures import Figure, figure
from wattveil.bench.rig import READING, BenchError, OutOfMemory, Rig, make_key, split
from wattveil.paillier.ciphertext import to_pair

TEXTBOOK = "Eq. 18 and 22 by pow() mod n^2, full-size r, 1 + x n"
AT_END = "C_i of Eq. 18 made then, by pow()"
COUNTED = "the textbook's by MicroPython's pow(), 1.5 a bit; computed"
EVERY = "every runtime"  # counts are the same on all, or the figure is not checked
BUDGET_S = 45  # of textbook slots a runtime, in all; what is left out is extrapolated
HEAP_RUNTIME = "micropython-arm"
HEAP_KIB = 192
HEAP_GAMMAS = (8, 20)


def run_meter(
    bits: Sequence[int],
    gammas: Sequence[int],
    runtimes: Sequence[str],
    repeats: int,
    progress: Callable[[str], None],
    *,
    heap_gammas: Sequence[int] = HEAP_GAMMAS,
    budget_s: float = BUDGET_S,
    step: int = 1024,
) -> list[Figure]:
    """All figures of the meter. The report is timed at the largest gamma, the heap (on ARM only) at
    `heap_gammas`, to `step` bytes. RuntimeMissing, BenchError."""
    figures: list[Figure] = []
    for size in bits:
        progress(f"a key of {size} bits")
        key = make_key(size)
        with tempfile.TemporaryDirectory(prefix="wattveil-bench-") as folder:
            rigs = {}
            for gamma in sorted({*gammas, *heap_gammas}):
                progress(f"{size} bits: a meter with {gamma} slots")
                rigs[gamma] = Rig(Path(folder, str(gamma)), key, gamma)
            top = rigs[max(gammas)]
            books = {}
            for runtime in runtimes:
                progress(f"{size} bits: report and textbook on {runtime}")
                books[runtime] = _Book(top, runtime, repeats, budget_s)
                figures.append(books[runtime].figure())
            chosen = {gamma: rigs[gamma] for gamma in sorted(gammas)}
            figures += _periods(chosen, books, repeats, progress)
            if HEAP_RUNTIME in runtimes:
                for gamma in heap_gammas:
                    progress(f"{size} bits: heap with {gamma} slots")
                    figures += _heap(rigs[gamma], step)
    return figures


class _Book:
    """Reports beside the textbook on one runtime: programs/report.py."""

    def __init__(self, rig: Rig, runtime: str, repeats: int, budget_s: float) -> None:
        self.rig, self.runtime = rig, runtime
        rig.job(repeats=repeats, budget_us=int(budget_s * 1e6) // repeats)
        self.runs: list[dict[str, Any]] = rig.run(runtime, "report.py")
        self.slot_us = median(us for run in self.runs for us in run["slots_us"])
        self.c_us = median(run["c_us"] for run in self.runs)
        self.checked = all(self._check())

    def us(self, gamma: int) -> float:
        """The textbook's time for a report with gamma slots."""
        return float(gamma * self.slot_us + self.c_us)

    def modmuls(self, gamma: int) -> float:
        """What MicroPython's pow() multiplies and squares for it, on average: 1.5 a bit."""
        record = self.rig.record
        bits: int = 8 * record.nb
        exponent: int = record.exponent_bits
        return gamma * (1.5 * (exponent + bits) + 3) + 1.5 * bits + 2

    def _check(self) -> list[bool]:
        """Of each run and way: does it open to the reading plus the noise of the hot slot?"""
        rig, size = self.rig, 2 * self.rig.record.nb
        ours = split((rig.folder / "ours.bin").read_bytes(), size)
        book = split((rig.folder / "textbook.bin").read_bytes(), size)
        answers = []
        for run in self.runs:
            slots, report = ours[: rig.record.gamma], ours[rig.record.gamma]
            del ours[: rig.record.gamma + 1]
            answers.append(rig.open(slots, report) == READING + run["xi"])
            done = len(run["slots_us"])
            slots, report = book[:done], book[done]
            del book[: done + 1]
            public = rig.key.public  # g^x of the slots that were not timed
            rest = to_pair(1 + int(run["rest"], 16) * public.n, public)
            answers.append(rig.open([*slots, rest], report) == READING + run["xi"])
        return [*answers, not ours, not book]

    def figure(self) -> Figure:
        gamma, record = self.rig.record.gamma, self.rig.record
        timed = min(len(run["slots_us"]) for run in self.runs)
        ours = median(run["ours_us"] for run in self.runs)
        target = 40 if self.runtime == "micropython" and 8 * record.nb >= 2048 else None
        if timed == gamma:
            book = median(sum(run["slots_us"]) + run["c_us"] for run in self.runs)
        else:
            book = self.us(gamma)
        return figure(
            "report, all slots and C_i",
            self.runtime,
            8 * record.nb,
            "ms",
            ours / 1000,
            self.checked,
            gamma=gamma,
            baseline=book / 1000,
            baseline_is=TEXTBOOK,
            at_least=target,
            extrapolated=timed < gamma,
            note=f"level {record.level}, row check on; {timed} textbook slots timed a run",
        )


def _periods(
    rigs: dict[int, Rig], books: dict[str, _Book], repeats: int, progress: Callable[[str], None]
) -> list[Figure]:
    """Whole periods of real meters: programs/period.py, all gammas and runtimes in turns."""
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {}
    right: dict[tuple[str, int], bool] = {}
    for rig in rigs.values():
        rig.job()
    for turn in range(repeats):
        progress(f"periods, round {turn + 1} of {repeats}")
        for runtime in books:
            for gamma, rig in rigs.items():
                at = runtime, gamma
                runs.setdefault(at, []).append(rig.run(runtime, "period.py"))
                right[at] = right.get(at, True) and _same_total(rig, runs[at][-1])
    bits = 8 * next(iter(rigs.values())).record.nb
    figures = []
    for (runtime, gamma), got in runs.items():
        book, ok = books[runtime], right[runtime, gamma] and books[runtime].checked
        for name, key, base, what in (
            ("prepare, off the clock", "rows", book.us(gamma), TEXTBOOK),
            ("report, at the period's end", "prepared", book.c_us, AT_END),
        ):
            value = median(run["us"][key] for run in got) / 1000
            figures.append(
                figure(name, runtime, bits, "ms", value, ok, gamma=gamma, baseline=base / 1000,
                       baseline_is=what, extrapolated=key == "rows")
            )  # fmt: skip
    for runtime in books:
        some = [run for gamma in rigs for run in runs[runtime, gamma]]
        for name, key in (("import from .py", "import_us"), ("self-test and start", "build_us")):
            value = median(run[key] for run in some) / 1000
            figures.append(figure(name, runtime, bits, "ms", value, all(right.values())))
    for gamma in rigs:
        got = [run for runtime in books for run in runs[runtime, gamma]]
        counts = {run["modmuls"] for run in got}
        ok = len(counts) == 1 and all(right.values())
        base = next(iter(books.values())).modmuls(gamma)
        figures.append(
            figure("modular multiplications", EVERY, bits, "", max(counts), ok, gamma=gamma,
                   baseline=base, baseline_is=COUNTED, extrapolated=True)
        )  # fmt: skip
        for name, way in (("serial bytes up", 0), ("serial bytes down", 1)):
            value = median(run["bytes"][way] for run in got)
            figures.append(figure(name, EVERY, bits, "B", value, ok, gamma=gamma))
    return figures


def _same_total(rig: Rig, run: dict[str, Any]) -> bool:
    """Do the uploads of the period just run open to what the twin's did?"""
    return not run["refused"] and rig.opened_uploads() == rig.total


def _heap(rig: Rig, step: int) -> list[Figure]:
    """Heap above idle, and the smallest heaps, in KiB."""
    rig.job()
    bits, gamma = 8 * rig.record.nb, rig.record.gamma
    idle_run = rig.run(HEAP_RUNTIME, "period.py", "-1")
    checks: list[bool] = []

    def period(heap: str, free: str) -> bool:
        try:
            run = rig.run(HEAP_RUNTIME, "period.py", free, heap=heap)
        except OutOfMemory:
            return False
        if free != "-1":
            checks.append(_same_total(rig, run))
        return True

    whole = HEAP_KIB * 1024
    above = _smallest(lambda n: period(f"{HEAP_KIB}k", str(n)), whole - idle_run["idle"], step)
    total = _smallest(lambda n: period(str(n), "0"), 4 * whole, step)
    alone = _smallest(lambda n: period(str(n), "-1"), 4 * whole, step)
    idle = idle_run["idle"] / 1024
    rest: dict[str, Any] = {"gamma": gamma}
    what = rest | {"baseline": idle, "baseline_is": "in use when idle", "same_work": False}
    start = rest | {"baseline": alone / 1024, "baseline_is": "to start only", "same_work": False}
    firmware = (idle_run["imported"] - idle_run["bare"]) / 1024
    return [
        figure("heap in use when idle", HEAP_RUNTIME, bits, "KiB", idle, all(checks), **rest,
               note=f"{firmware:.1f} of it the firmware, imported from .py"),
        figure("peak heap above idle", HEAP_RUNTIME, bits, "KiB", above / 1024, all(checks),
               at_most=100, **what),
        figure("smallest heap, whole period", HEAP_RUNTIME, bits, "KiB", total / 1024, all(checks),
               at_most=HEAP_KIB, **start),
    ]  # fmt: skip


def _smallest(works: Callable[[int], bool], largest: int, step: int) -> int:
    """The smallest multiple of `step` that works, by bisection; BenchError when `largest` fails."""
    low, high = 0, largest // step
    if not works(high * step):
        raise BenchError(f"a period needs more than {high * step} bytes")
    while high - low > 1:
        middle = (low + high) // 2
        if works(middle * step):
            high = middle
        else:
            low = middle
    return high * step
