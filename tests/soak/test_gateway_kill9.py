"""A gateway's process killed with SIGKILL while it works: ingesting, correcting, answering, rotating,
deleting, over days of readings. Whatever the kill hits, the next process finds nothing lost and
nothing released without its spend and its entry.

The same folder lives through all kills. A few in CI, 120 under `make soak`.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from soak.scale import scale
from vaultkit import DAY, DAY0, HALF, T0, Readings, held, make, write_csv
from wattveil.privacy import people
from wattveil.privacy.accountant import EVENT
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.log.verify import verify
from wattveil.privacy.query import ask
from wattveil.privacy.state import State
from wattveil.privacy.vault.ingest import ingest
from wattveil.privacy.vault.retention import expire, kept
from wattveil.privacy.vault.rotate import rotate_keys, rotate_pseudonyms

KILLS = scale(3, 120)
HOMES, KEEP = 16, 3
OLD, NEW = 1000, 2000  # a reading, and what it is corrected to, each plus its slot


def day_of(day: int, level: int) -> Readings:
    """Everybody's readings of a day; of a correction the first three homes' evening alone."""
    homes, slots = (HOMES, range(48)) if level == OLD else (3, range(36, 44))
    return {
        f"home-{h:02}": {T0 + day * DAY + s * HALF: level + s for s in slots} for h in range(homes)
    }


def work(folder: Path) -> None:
    """Day after day, from where the folder stands; tells what begins and what is done."""
    state = State.open(folder / "state")
    vault, gateway = state.vault(), Gateway(state)
    rob = people.Person("researcher", "rob")

    def asked(day: int) -> ask.Query:
        start, end = (ask.stamp(T0 + (day + n) * DAY) for n in (0, 1))
        return ask.make(state.config, "sum", start, end, "research", epsilon="0.0001")

    def tell(*words: object) -> None:
        print(*words, flush=True)

    days = vault.catalogue.days()
    day = max(days[-1][0] - DAY0, 0) if days else 0
    if days:  # the first question takes longer than all else, and would draw most kills
        gateway.query(rob, asked(day), preview=True)
    tell("ready")
    while True:
        for name, level in (("ingest", OLD), ("correct", NEW)):
            tell("begin", name)
            file = write_csv(folder / "day.csv", day_of(day, level))
            ingest(vault, [file], folder / "rejects.csv", correct=level == NEW)
            tell("done", name, day)
        tell("begin", "query")
        answer = gateway.query(rob, asked(day))
        tell("done", "query", answer["log_index"], answer["refused"])
        for name, run in (
            ("keys", lambda: rotate_keys(vault, data=True)),
            ("pseudonyms", lambda: rotate_pseudonyms(vault)),
            ("expire", lambda now=day: expire(vault, DAY0 + now - KEEP + 1)),
        ):
            if name != "pseudonyms" or day % 3 == 0:
                tell("begin", name)
                run()
                tell("done", name, day)
        day += 1


def check(folder: Path, complete: int, released: list[int]) -> dict[str, Any]:
    """What must hold when a process opens the folder after a kill; some figures.

    complete: the last day that was told to be whole; released: log entries of answers handed out.
    """
    state = State.open(folder / "state")
    vault = state.vault()
    with vault.writing():
        pass
    verdict = verify(state.gateway(), state.path / "witness").fields()
    assert verdict["consistent"], verdict["problems"]
    entries = list(state.log().entries())
    horizon = vault.catalogue.value("horizon")
    deletions = [e["body"]["before"] for e in entries if e["kind"] == "deletion"]
    assert bool(deletions) == bool(horizon)
    now = held(vault)
    days: dict[int, int] = Counter(t // DAY for row in now.values() for t in row)
    assert all(day >= horizon for day in days)
    first = max(horizon, DAY0)
    assert all(days[day] == HOMES * 48 for day in range(first, DAY0 + complete + 1)), days
    for meter, row in now.items():
        for t, wh in row.items():
            slot = t % DAY // HALF
            assert wh == OLD + slot or (wh == NEW + slot and meter < "home-03" and slot >= 36)
    assert {k.day for k in kept(vault, DAY0, first)} == set(range(DAY0, first))
    epochs = vault.catalogue.epochs()
    assert all(len(vault.catalogue.members(e, {})) == HOMES for e, _ in epochs[:-1])
    events = Counter(e["body"].get("event") for e in entries if e["kind"] == "key")
    assert events["pseudonyms rotated"] == len(epochs) - 1
    assert events["key-encryption key rotated"] == vault.catalogue.value("kek") - 1
    spent, out = (
        {e["body"]["charge"] for e in entries if e["kind"] == kind}
        for kind in ("spend", "release")
    )
    charged = set(state.ledger().load(EVENT))
    assert out <= spent <= charged and Gateway(state).accountant.audit() == []
    assert all(entries[index]["kind"] == "release" for index in released)
    figures = {"days": len(days), "expired": first - DAY0, "epochs": len(epochs), "log": len(entries),
               "answers": len(out), "charges": len(charged)}  # fmt: skip
    state.close()
    return figures


@pytest.mark.timeout(scale(300, 7200))
def test_killed_at_work(tmp_path: Path) -> None:
    make(tmp_path / "state").state.close()
    chance = random.Random(KILLS)
    hit: Counter[str] = Counter()
    released: list[int] = []
    complete, figures = -1, dict[str, Any]()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for _ in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, __file__, str(tmp_path)],
            stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.05, 1.5))
        child.send_signal(signal.SIGKILL)
        told = child.stdout.read().split("\n")
        child.stdout.close()
        assert child.wait(120) == -signal.SIGKILL
        doing = "between"
        for line in told[:-1]:  # what follows the last newline was cut off
            word, name, *rest = line.split()
            doing = name if word == "begin" else "between"
            if word == "done" and name == "ingest":
                complete = max(complete, int(rest[0]))
            if word == "done" and name == "query":
                assert rest[1] == "None", line
                released.append(int(rest[0]))
        hit[doing] += 1
        figures = check(tmp_path, complete, released)
    print(f"{KILLS} kills, in the midst of {dict(hit)}; {len(released)} answers; {figures}")


if __name__ == "__main__":
    work(Path(sys.argv[1]))
