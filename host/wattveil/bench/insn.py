"""Instructions on ARM, counted by a QEMU plugin (tools/tcg/insn.c): exact, whatever the machine does.

Each figure is the difference of two runs with different repetitions, divided by theirs: start, imports
and tables cancel. What is counted is a meter's report with its noise, without frames and link; ciphertexts
of the last repetition are opened. Of the textbook, a slot and C_i are executed in full.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

from wattveil.bench.build import Build
from wattveil.bench.figures import Figure, figure
from wattveil.bench.meter import textbook_steps
from wattveil.bench.places import Emulated
from wattveil.bench.rig import BOOK_REPORT, READING, START, Choice, Cloud, Job, Rig, make_key
from wattveil.bench.shim import shim
from wattveil.fleet.emulated import firmware_folder
from wattveil.fleet.runtime import RuntimeMissing, find_runtime
from wattveil.roles.suites import SUITES

RUNTIME = "micropython-arm"
APIS = range(1, 8)  # plugin interfaces of QEMU, 7.2's first
GAMMA = 20
TARGETS = {
    ("compact", "portable"): 280,
    ("compact", "thumb2"): 4500,
    ("yan2024", "portable"): 50,
    ("yan2024", "thumb2"): 800,
}
SHARES = 10_000  # counted for the noise, and twice as many more
KEYS = 5  # MicroPython's division takes up to half as long again for some n as for others
SHARE_INSN = 60_000
SHARE_BYTES = 2

Progress = Callable[[str], None]


def run_insn(
    bits: Sequence[int],
    progress: Progress,
    *,
    gamma: int = GAMMA,
    shares: int = SHARES,
    keys: int = KEYS,
) -> list[Figure]:
    """All counts. RuntimeMissing says what is not there."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="wattveil-bench-") as name, plugin() as qemu:
        folder = Path(name)
        place = _Counted(Build(folder / "build"), folder, qemu)
        for size in bits:
            progress(f"a key of {size} bits")
            key = make_key(size)
            jobs = {s: Rig(folder / f"{size}-{s}", key, Choice(s)).job(gamma) for s in SUITES}
            progress(f"{size} bits: the textbook, instruction by instruction")
            costs, right = _textbook(place, folder, size, keys)
            steps = textbook_steps(jobs["compact"], [0] * gamma)
            book = mean(costs) * steps
            spread = f"{min(costs) / 1e3:,.0f} to {max(costs) / 1e3:,.0f} k instructions"
            for (suite, kernel), target in TARGETS.items():
                progress(f"{size} bits: {suite}, {kernel}")
                count, opened = _report(place, jobs[suite], kernel)
                figures.append(
                    figure(f"{suite}, {kernel}", RUNTIME, size, "M insn", count / 1e6,
                           right and opened, gamma=gamma, baseline=book / 1e6,
                           baseline_is=f"textbook, {steps} multiplications at the mean over {keys}"
                                       f" keys of a whole slot and C_i ({spread} each)",
                           at_least=target if size == 2048 and gamma == GAMMA else None,
                           extrapolated=True)
                )  # fmt: skip
        progress("noise")
        for noise in ("discrete", "gamma"):
            figures += _share(place, jobs["compact"], noise, shares)
    return figures


@contextmanager
def plugin() -> Iterator[list[str]]:
    """Arguments that make qemu-arm count, but for the file; RuntimeMissing."""
    argv = find_runtime(RUNTIME).argv
    source = firmware_folder().parent / "tools" / "tcg" / "insn.c"
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not Path(argv[0]).name.startswith("qemu-arm"):
        raise RuntimeMissing(f"instructions are counted by qemu-arm, {RUNTIME} runs on {argv[0]}")
    if compiler is None or not source.exists():
        raise RuntimeMissing(
            "instruction counts need gcc and a wattveil checkout (tools/tcg/insn.c)"
        )
    with tempfile.TemporaryDirectory(prefix="wattveil-insn-") as name:
        built, out = Path(name, "insn.so"), Path(name, "count")
        for api in APIS:
            make = [
                compiler,
                "-shared",
                "-fPIC",
                "-O2",
                f"-DAPI={api}",
                "-o",
                str(built),
                str(source),
            ]
            subprocess.run(make, check=True, capture_output=True)
            arguments = ["-plugin", f"{built},out={out}"]
            test = [argv[0], *arguments, *argv[1:], "-c", "pass"]
            done = subprocess.run(test, capture_output=True, text=True, check=False)
            if not done.returncode and out.exists():
                yield arguments
                return
        raise RuntimeMissing(f"{argv[0]} does not load the plugin: {done.stderr.strip()}")


class _Counted(Emulated):
    """micropython-arm that counts what it executes."""

    def __init__(self, build: Build, folder: Path, qemu: list[str]) -> None:
        super().__init__(RUNTIME, build, folder / RUNTIME, qemu=qemu)
        self._out = Path(qemu[1].split("out=")[1])

    def count(self, job: dict[str, Any], files: dict[str, bytes], cloud: Cloud) -> tuple[int, Any]:
        """(instructions of a whole run, what the program said)."""
        self._out.unlink(missing_ok=True)
        job = {"kernel": "portable", "start": START, "reading": READING, "report": False} | job
        answer = self.run("bench_insn", job, files, cloud)
        return int(self._out.read_text()), answer


def _textbook(place: _Counted, folder: Path, bits: int, keys: int) -> tuple[list[float], bool]:
    """(instructions of one multiplication of the textbook's pow(), for each of some fresh keys;
    whether its answers were right)."""
    costs, right = [], True
    for number in range(keys):
        job = Rig(folder / f"{bits}-book-{number}", make_key(bits), Choice()).job(1)
        what = {"mode": "book", "count": 0, "hot": job.hot}
        less, _ = place.count(what, job.files(1), Cloud(job))
        cloud = Cloud(job)
        more, said = place.count(what | {"count": 1, "report": True}, job.files(1), cloud)
        right = right and cloud.book_checked(said["xi"])
        costs.append((more - less) / textbook_steps(job, [said["xi"]]))
    return costs, right


def _report(place: _Counted, job: Job, kernel: str) -> tuple[float, bool]:
    """(instructions of one report, whether all opened)."""
    files: dict[str, bytes] = {}
    what: dict[str, Any] = {}
    form = 1
    if kernel != "portable":
        files, what = shim(kernel)
        form = 2
    counts, right = [], True
    few, many = 1, 4
    for repetitions in (few, many):
        cloud = Cloud(job)
        more = {"mode": "suite", "count": repetitions, "hot": job.hot}
        count, said = place.count(what | more, {**job.files(form), **files}, cloud)
        counts.append(count)
        slots = dict(cloud.book)
        report = slots.pop(BOOK_REPORT)
        suite = SUITES[job.record.suite]
        total = job.open(suite, list(slots.values()), report)
        right = right and total == READING + said["xi"] and said["kernel"] == kernel
    return (counts[1] - counts[0]) / (many - few), right


def _share(place: _Counted, job: Job, noise: str, shares: int) -> list[Figure]:
    """Instructions and random bytes of one noise share."""
    counts, drawn = [], []
    for repetitions in (shares, 3 * shares):
        what = {"mode": "share", "noise": noise, "count": repetitions, "hot": job.hot}
        count, said = place.count(what, job.files(1), Cloud(job))
        counts.append(count)
        drawn.append(said["random_bytes"])
    insn, size = ((b - a) / (2 * shares) for a, b in (counts, drawn))
    exact = noise == "discrete"
    note = f"quorum count {job.record.a}, scale {job.record.delta * job.record.epsilon_den} Wh"
    bits = 8 * job.record.nb
    return [
        figure(f"noise share, {noise}", RUNTIME, bits, "k insn", insn / 1000, True, note=note,
               at_most=SHARE_INSN / 1000 if exact else None),
        figure(f"noise share, {noise}: random", RUNTIME, bits, "B", size, True, note=note,
               at_most=SHARE_BYTES if exact else None),
    ]  # fmt: skip
