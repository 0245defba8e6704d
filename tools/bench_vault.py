#!/usr/bin/env python3
"""Time and memory of the vault at the size of a small utility: a month of 10,000 homes, 15 minutes.

    python tools/bench_vault.py DIR [--homes 10000] [--days 30] [--order meter|time]

Makes the readings with the household model (once; DIR keeps them), ingests them in a process of its
own, twice, and asks for a load curve of everybody in a warm process: of the vault alone, and through
the gateway with noise. Wall time and processor time in s, sizes in bytes. The year is the month times
365/30.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from wattveil.importers.households import DEFAULT_START, generate
from wattveil.privacy.config import DEFAULT
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.people import Person
from wattveil.privacy.query import ask
from wattveil.privacy.state import State
from wattveil.privacy.vault.ingest import ingest
from wattveil.privacy.vault.vault import Vault

INTERVAL_S = 900
_SEED_HOMES = 250  # homes generated at once: bounds the memory of the making, too


def make(folder: Path, homes: int, days: int, order: str) -> Path:
    """The CSV of so many homes, by meter (as an archive has it) or by time (as a head-end does)."""
    path = folder / f"{homes}x{days}-{order}.csv"
    if path.exists():
        return path
    slots = days * 86_400 // INTERVAL_S
    saved = folder / f"{homes}x{days}.npy"
    if not saved.exists():
        table = np.empty((homes, slots), np.uint32)
        for seed, at in enumerate(range(0, homes, _SEED_HOMES)):
            count = min(_SEED_HOMES, homes - at)
            data = generate(count, slots, seed, period_s=INTERVAL_S)
            for i, meter in enumerate(data.meters):
                table[at + i] = list(data.values[meter].values())
            print(f"made {at + count} of {homes} homes", file=sys.stderr)
        np.save(saved, table)
    table = np.load(saved)
    starts = range(DEFAULT_START, DEFAULT_START + slots * INTERVAL_S, INTERVAL_S)
    stamps = [datetime.fromtimestamp(s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for s in starts]
    meters = [f"meter-{i:06}" for i in range(homes)]
    part = path.with_suffix(".part")
    with part.open("w") as file:
        file.write("meter_id,timestamp,wh\n")
        if order == "meter":
            for meter, row in zip(meters, table, strict=True):
                pairs = zip(stamps, row.tolist(), strict=True)
                file.write("".join(f"{meter},{stamp},{wh}\n" for stamp, wh in pairs))
        else:
            for stamp, column in zip(stamps, table.T, strict=True):
                pairs2 = zip(meters, column.tolist(), strict=True)
                file.write("".join(f"{meter},{stamp},{wh}\n" for meter, wh in pairs2))
    part.rename(path)
    return path


def timed(name: str, start: tuple[float, float], **more: Any) -> dict[str, Any]:
    """Wall and processor time since `start`, and the peak of this process's memory."""
    wall, cpu = time.monotonic() - start[0], time.process_time() - start[1]
    # Not ru_maxrss: it begins with what the parent had.
    (line,) = (s for s in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in s)
    peak = int(line.split()[1]) * 1024
    return {
        "step": name,
        "wall_s": round(wall, 2),
        "cpu_s": round(cpu, 2),
        "peak_bytes": peak,
    } | more


def _now() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


def child(step: str, state_dir: Path, file: Path, days: int) -> None:
    """One step in this process; prints JSON."""
    if step == "init":
        config = DEFAULT.replace("interval_s = 1800 ", f"interval_s = {INTERVAL_S} ")
        Vault.create(State.create(state_dir, config))
        return
    vault = State.open(state_dir).vault()
    if step == "ingest":
        start = _now()
        (report,) = ingest(vault, [file], state_dir / "rejects.csv")
        print(json.dumps(timed(step, start, report=report.json(), bytes=vault.usage.size())))
        return
    end = DEFAULT_START + days * 86_400
    if step == "query":
        asked = ask.make(
            vault.state.config, "curve", ask.stamp(DEFAULT_START), ask.stamp(end), "research",
            epsilon="0.01", delta="1e-6", clip=1000,
        )  # fmt: skip
        gateway, person = Gateway(vault.state), Person("researcher", "rob")
        for run in range(4):  # the first loads the library of mechanisms
            start = _now()
            answer = gateway.query(person, asked)
            assert answer["refused"] is None, answer
            values = len(answer["values"])
            print(json.dumps(timed("query", start, run=run, values=values)))
        return
    for run in range(3):
        start = _now()
        members = vault.members({}, DEFAULT_START, end)
        curve = np.zeros(days * 86_400 // INTERVAL_S, np.int64)
        for block in vault.blocks(members, DEFAULT_START, end):
            curve += block.wh.sum(axis=0)
        total = int(curve.sum())
        print(json.dumps(timed("curve", start, run=run, members=len(members), total_wh=total)))


def main() -> int:
    """All steps in order; JSON lines."""
    parse = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parse.add_argument("folder", type=Path)
    parse.add_argument("--homes", type=int, default=10_000)
    parse.add_argument("--days", type=int, default=30)
    parse.add_argument("--order", choices=("meter", "time"), default="meter")
    parse.add_argument(
        "--step", choices=("init", "ingest", "curve", "query"), help=argparse.SUPPRESS
    )
    parse.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parse.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    state_dir = args.folder / f"state-{args.homes}x{args.days}-{args.order}"
    if args.step:
        child(args.step, state_dir, args.file, args.days)
        return 0
    file = make(args.folder, args.homes, args.days, args.order)
    if state_dir.exists():
        print(f"{state_dir} is there already: remove it for a fresh run", file=sys.stderr)
        return 2
    for step in ("init", "ingest", "ingest", "curve", "query"):
        options = ["--step", step, "--file", str(file), "--days", str(args.days),
                   "--homes", str(args.homes), "--order", args.order]  # fmt: skip
        subprocess.run([sys.executable, __file__, str(args.folder), *options], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
