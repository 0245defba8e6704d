"""The gateway survives death at any step: nothing is lost, nothing is released without its spend and
its entry in the log, rotation and deletion are done or not begun.

Every statement of every database, every change of a key file and every wait for the disk is a step,
before and after it. A short version in CI, 1,000 deaths in each operation under `make soak`.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from soak.scale import scale
from vaultkit import DAY, DAY0, T0, Crash, Readings, held, make, merge, mortal, readings, write_csv
from wattveil.privacy import approvals, people
from wattveil.privacy.accountant import EVENT
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.log.verify import verify
from wattveil.privacy.query import ask
from wattveil.privacy.state import State
from wattveil.privacy.vault import exports
from wattveil.privacy.vault import ingest as ingesting
from wattveil.privacy.vault.ingest import ingest
from wattveil.privacy.vault.keys import kek_name
from wattveil.privacy.vault.retention import expire, kept
from wattveil.privacy.vault.rotate import rotate_keys, rotate_pseudonyms
from wattveil.privacy.vault.vault import Vault

CRASHES = scale(5, 1000)  # of each operation
HOMES, SLOTS = 16, 70
EPSILON = Fraction(1, 2)
FIRST, MORE = readings(HOMES, 0, SLOTS), readings(HOMES + 2, SLOTS, 40)
ALL = merge(FIRST, MORE)
OTHER = {m: {t: wh + 7 for t, wh in list(row.items())[3:9]} for m, row in list(FIRST.items())[:3]}
CORRECT = merge(FIRST, OTHER)
LATER = {m: {t: wh for t, wh in row.items() if t >= T0 + DAY} for m, row in FIRST.items()}
KINDS = ("decision", "spend", "release")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault with FIRST in it, in two epochs of which the second is empty; files beside."""
    folder = tmp_path_factory.mktemp("gateway")
    vault = make(folder / "state")
    ingest(vault, [write_csv(folder / "first.csv", FIRST)], folder / "state" / "rejects.csv")
    write_csv(folder / "more.csv", MORE)
    write_csv(folder / "other.csv", OTHER)
    vault.state.close()
    return folder


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingesting, "LINES", 300)
    monkeypatch.setattr(ingesting, "DAYS", 8)


class Life:
    """What one process does with the folder, and what it has handed out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = State.open(folder / "state")
        self.handed: list[dict[str, Any]] = []

    @property
    def vault(self) -> Vault:
        return self.state.vault()

    def ingest(self) -> None:
        ingest(self.vault, [self.folder / "more.csv"], self.folder / "rejects.csv")

    def correct(self) -> None:
        ingest(self.vault, [self.folder / "other.csv"], self.folder / "rejects.csv", correct=True)

    def pseudonyms(self) -> None:
        if len(self.vault.catalogue.epochs()) < 2:
            rotate_pseudonyms(self.vault)

    def keys(self) -> None:
        rotate_keys(self.vault, data=True)

    def expire(self) -> None:
        expire(self.vault, DAY0 + 1)

    def query(self) -> None:
        gateway = Gateway(self.state)
        query = ask.make(
            self.state.config, "sum", "2013-01-14", "2013-01-15", "research", epsilon=str(EPSILON)
        )
        self.handed.append(gateway.query(people.Person("researcher", "rob"), query))

    def relink(self) -> None:
        """One asks, the other approves, and it is carried out: from wherever it has got to."""
        gateway = Gateway(self.state)
        pia, bob = people.Person("privacy-officer", "pia"), people.Person("billing", "bob")
        self.pseudonyms()
        pseudonym = self.vault.members({}, T0, T0 + DAY)[0]
        waiting = approvals.waiting(gateway)
        number = waiting[0]["id"] if waiting else None
        if number is None:
            number = exports.ask_relink(gateway, pia, pseudonym, 2)["approval"]
        approvals.approve(gateway, bob, number)
        self.handed.append(exports.do_relink(gateway, pia, pseudonym, 2, number))


OPERATIONS: dict[str, Callable[[Life], None]] = {
    "ingest": Life.ingest,
    "correct": Life.correct,
    "pseudonyms": Life.pseudonyms,
    "keys": Life.keys,
    "expire": Life.expire,
    "query": Life.query,
    "relink": Life.relink,
}


def between(low: Readings, now: Readings, high: Readings) -> bool:
    """All of low, nothing that is not in high."""
    return all(row.items() <= now.get(m, {}).items() for m, row in low.items()) and all(
        row.items() <= high.get(m, {}).items() for m, row in now.items()
    )


def check(life: Life, name: str, handed: list[dict[str, Any]]) -> None:
    """What must hold whenever a process opens the folder again."""
    state, vault = life.state, life.vault
    with vault.writing():
        pass
    verdict = verify(state.gateway(), state.path / "witness")
    assert verdict.fields()["consistent"], verdict.fields()["problems"]
    entries = list(state.log().entries())
    kinds = Counter(entry["kind"] for entry in entries)
    now = held(vault)
    if name == "ingest":
        assert between(FIRST, now, ALL)
    elif name == "correct":
        for meter, row in FIRST.items():
            new = CORRECT[meter]
            assert row.keys() == now[meter].keys()
            assert all(now[meter][t] in (wh, new[t]) for t, wh in row.items())
    elif name == "expire":
        done = kinds["deletion"] > 0
        assert now == (LATER if done else FIRST)
        mine = [bytes.fromhex(p) for m in FIRST for p in vault.pseudonyms_of(m).values()]
        assert len(list(vault.usage.read(mine, 0, DAY0 + 1))) == (0 if done else HOMES)
        assert len(list(kept(vault, 0, DAY0 + 1))) == done  # one group, one day
        asked = state.gateway().execute("SELECT count(*) FROM asked").fetchone()
        assert asked == (done,)
    else:
        assert now == FIRST
    if name in ("pseudonyms", "relink"):
        epochs = vault.catalogue.epochs()
        members = [len(vault.catalogue.members(e, {})) for e, _ in epochs]
        rotated = [e for e in entries if e["body"].get("event") == "pseudonyms rotated"]
        assert members in ([HOMES], [HOMES] * 2) and len(rotated) == len(epochs) - 1
    if name == "query":
        check_query(life, entries, handed)
    if name == "relink":
        rows = state.gateway().execute("SELECT approved_by, used_at FROM approvals").fetchall()
        used = [e for e in entries if e["body"].get("event") == "used"]
        relinked = [e for e in entries if e["body"].get("event") == "relinked"]
        assert len(used) == sum(row[1] is not None for row in rows)
        assert len(handed) <= len(relinked) <= len(used)
    kek = vault.catalogue.value("kek")
    files = {path.stem for path in (state.path / "keys").glob("vault-kek-*.key")}
    assert kek_name(kek) in files and not files - {kek_name(kek), kek_name(kek + 1)}


def check_query(life: Life, entries: list[dict[str, Any]], handed: list[dict[str, Any]]) -> None:
    """Whatever was handed out or entered as released was spent, in the log and in the ledger."""
    books = Gateway(life.state).accountant
    assert books.audit() == []
    charged = set(life.state.ledger().load(EVENT))
    for kind in KINDS[1:]:
        named = [e["body"]["charge"] for e in entries if e["kind"] == kind]
        assert len(set(named)) == len(named) and set(named) <= charged
    spent, released = (
        {e["body"]["charge"] for e in entries if e["kind"] == kind} for kind in KINDS[1:]
    )
    assert released <= spent
    for answer in handed:
        assert answer["refused"] is None and entries[answer["log_index"]]["kind"] == "release"
    held_for = Fraction(books.table().get("researcher:rob", {"spent": "0"})["spent"])
    assert held_for == EPSILON * len(charged)  # nothing is given back, either


def life_and_after(template: Path, folder: Path, name: str, at: int) -> int:
    """A life that ends at a step, and the next that finds what it left; steps taken, -1 if it died."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder)
    died, handed = False, []
    with mortal(at) as fate:
        try:
            first = Life(folder)
            handed = first.handed
            OPERATIONS[name](first)
        except Crash:
            died = True
        steps = fate.count
        fate.bury()
    again = Life(folder)
    check(again, name, handed)
    OPERATIONS[name](again)  # it goes on, or changes nothing, or asks once more
    check(again, name, handed + again.handed)
    expected = {"ingest": ALL, "correct": CORRECT, "expire": LATER}.get(name, FIRST)
    assert held(again.vault) == expected
    catalogue = again.vault.catalogue
    assert catalogue.pending() is None and catalogue.value("deleting") == 0
    assert sum(day[2] for day in catalogue.days()) == sum(map(len, held(again.vault).values()))
    again.state.close()
    return -1 if died else steps


@pytest.mark.timeout(scale(300, 7200))
@pytest.mark.parametrize("name", OPERATIONS)
def test_death_at_random_steps(template: Path, tmp_path: Path, name: str) -> None:
    steps = life_and_after(template, tmp_path / "run", name, 1 << 30)
    assert steps > 20
    chance, died = random.Random(name), 0
    for _ in range(CRASHES):
        died += life_and_after(template, tmp_path / "run", name, chance.randrange(steps)) < 0
    print(f"{name}: {died} deaths at {steps} steps")
    assert died >= scale(0.4, 0.9) * CRASHES  # drawn nonces and ids move the last steps a little
