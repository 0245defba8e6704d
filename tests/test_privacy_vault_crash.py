"""The vault survives death at any step: nothing is lost, a rotation is done or not begun.

By hand with more: WATTVEIL_VAULT_CRASHES=1000 (in process), WATTVEIL_VAULT_KILLS=100 (kill -9).
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vaultkit import DAY0, Crash, Readings, held, make, merge, mortal, readings, write_csv
from wattveil.privacy.state import State
from wattveil.privacy.vault import ingest as ingesting
from wattveil.privacy.vault.ingest import ingest
from wattveil.privacy.vault.keys import kek_name
from wattveil.privacy.vault.retention import expire
from wattveil.privacy.vault.rotate import rotate_keys, rotate_pseudonyms
from wattveil.privacy.vault.vault import Vault

CRASHES = int(os.environ.get("WATTVEIL_VAULT_CRASHES", "40"))
KILLS = int(os.environ.get("WATTVEIL_VAULT_KILLS", "2"))
FIRST, MORE = readings(5, 0, 70), readings(7, 60, 70)
ALL = merge(FIRST, MORE)
AFTER = {m: {t: wh for t, wh in row.items() if t >= (DAY0 + 1) * 86_400} for m, row in ALL.items()}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault with FIRST in it, and MORE in a file beside."""
    folder = tmp_path_factory.mktemp("vault")
    vault = make(folder / "state")
    ingest(vault, [write_csv(folder / "first.csv", FIRST)], folder / "state" / "rejects.csv")
    write_csv(folder / "more.csv", MORE)
    vault.state.close()
    return folder


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingesting, "LINES", 150)
    monkeypatch.setattr(ingesting, "DAYS", 4)


def _log(vault: Vault, kind: str) -> int:
    rows = vault.catalogue.db.execute("SELECT leaf FROM log_leaves").fetchall()
    return sum(json.loads(row[0])["kind"] == kind for row in rows)


def _ingest(vault: Vault, folder: Path) -> None:
    ingest(vault, [folder / "more.csv"], folder / "state" / "rejects.csv")


def _pseudonyms(vault: Vault, folder: Path) -> None:
    if len(vault.catalogue.epochs()) < 2:
        rotate_pseudonyms(vault)


def _keys(vault: Vault, folder: Path) -> None:
    rotate_keys(vault, data=True)


def _expire(vault: Vault, folder: Path) -> None:
    expire(vault, DAY0 + 1)


def _between(low: Readings, now: Readings, high: Readings) -> bool:
    """All of low, nothing that is not in high."""
    return all(row.items() <= now.get(m, {}).items() for m, row in low.items()) and all(
        row.items() <= high.get(m, {}).items() for m, row in now.items()
    )


def _check(vault: Vault, name: str) -> None:
    """What must hold whenever a process opens the vault again."""
    with vault.writing():
        pass
    now = held(vault)
    kept = {m: {t: w for t, w in r.items() if t >= (DAY0 + 1) * 86_400} for m, r in FIRST.items()}
    if name == "ingest":
        assert _between(FIRST, now, ALL)
    elif name == "expire":
        kept = {meter: row for meter, row in kept.items() if row}
        done = _log(vault, "deletion")
        assert now == (kept if done else FIRST)
        rows = list(vault.usage.read([bytes.fromhex(p) for m in FIRST
                                      for p in vault.pseudonyms_of(m).values()], 0, DAY0 + 1))  # fmt: skip
        assert len(rows) == (0 if done else 5)
    else:
        assert now == FIRST
    if name == "pseudonyms":
        epochs = vault.catalogue.epochs()
        members = [len(vault.catalogue.members(e, {})) for e, _ in epochs]
        assert members in ([5], [5, 5]) and _log(vault, "key") == len(epochs) - 1
    kek = vault.catalogue.value("kek")
    files = {path.stem for path in (vault.state.path / "keys").glob("vault-kek-*.key")}
    assert kek_name(kek) in files and not files - {kek_name(kek), kek_name(kek + 1)}


OPERATIONS: dict[str, Callable[[Vault, Path], None]] = {
    "ingest": _ingest,
    "pseudonyms": _pseudonyms,
    "keys": _keys,
    "expire": _expire,
}


def _life(template: Path, folder: Path, name: str, at: int) -> int:
    """One life that ends at a step, and the next that finds what it left; steps taken, or -1."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder)
    died = False
    with mortal(at) as fate:
        try:
            OPERATIONS[name](State.open(folder / "state").vault(), folder)
        except Crash:
            died = True
        steps = fate.count
        fate.bury()
    state = State.open(folder / "state")
    vault = state.vault()
    _check(vault, name)
    OPERATIONS[name](vault, folder)  # again: it goes on, or changes nothing
    expected = {"ingest": ALL, "expire": {m: r for m, r in AFTER.items() if r}}.get(name, FIRST)
    if name == "expire":
        expected = {m: {t: w for t, w in r.items() if t in AFTER[m]} for m, r in FIRST.items()}
    assert held(vault) == {m: r for m, r in expected.items() if r}
    assert vault.catalogue.pending() is None and vault.catalogue.value("deleting") == 0
    assert sum(day[2] for day in vault.catalogue.days()) == sum(map(len, held(vault).values()))
    state.close()
    return -1 if died else steps


@pytest.mark.parametrize("name", OPERATIONS)
def test_death_at_random_steps(template: Path, tmp_path: Path, name: str) -> None:
    steps = _life(template, tmp_path / "run", name, 1 << 30)
    assert steps > 20
    chance = random.Random(CRASHES)
    died = 0
    for _ in range(CRASHES // len(OPERATIONS)):
        died += _life(template, tmp_path / "run", name, chance.randrange(steps)) < 0
    assert died == CRASHES // len(OPERATIONS)


_CHILD = """
import sys
from pathlib import Path
from wattveil.privacy.state import State
from wattveil.privacy.vault import ingest as ingesting
from wattveil.privacy.vault.rotate import rotate_keys
ingesting.LINES, ingesting.DAYS = 150, 4
folder = Path(sys.argv[1])
vault = State.open(folder / "state").vault()
print("ready", flush=True)
ingesting.ingest(vault, [folder / "more.csv"], folder / "state" / "rejects.csv")
rotate_keys(vault, data=True)
print("done", flush=True)
"""


def test_kill(template: Path, tmp_path: Path) -> None:
    chance = random.Random(KILLS)
    folder, longest, killed, run = tmp_path / "run", 0.5, 0, -1
    while killed < KILLS:
        run += 1
        assert run < 4 * KILLS + 20  # most must die at work
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(template, folder)
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(folder)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        begun = time.monotonic()
        if run:  # the first lives, to learn how long it takes
            time.sleep(chance.random() * longest)
            child.send_signal(signal.SIGKILL)
        rest = child.stdout.read()
        child.wait(120)
        child.stdout.close()
        longest = time.monotonic() - begun if not run else longest
        killed += not rest
        assert rest == b"done\n" or run
        state = State.open(folder / "state")
        vault = state.vault()
        with vault.writing():
            pass
        assert _between(FIRST, held(vault), ALL)
        ingest(vault, [folder / "more.csv"], folder / "state" / "rejects.csv")
        rotate_keys(vault)
        assert held(vault) == ALL
        state.close()
    print(f"{killed} were killed at work, in {run + 1} runs")
