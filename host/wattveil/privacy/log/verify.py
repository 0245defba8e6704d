"""`wattveil log verify`: is the log what was signed, and what the witness saw?

Everything is computed again from the entries. tools/verify_log.py does the same for an exported log
without this package.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wattveil.privacy.log import merkle
from wattveil.privacy.log.heads import Head, LogError, canonical, public_key, witnessed
from wattveil.privacy.log.log import Log

SHOWN = 20  # problems


@dataclass
class Verdict:
    """What was found; consistent when there is no problem."""

    entries: int = 0
    heads: int = 0
    witnessed: int = 0
    root: str = ""
    problems: list[str] = field(default_factory=list)

    @property
    def consistent(self) -> bool:
        """Whether the log can be relied on."""
        return not self.problems

    def fields(self) -> dict[str, Any]:
        """As JSON has it."""
        found = asdict(self) | {"consistent": self.consistent}
        return found | {"problems": self.problems[:SHOWN], "problem_count": len(self.problems)}


def verify(db: sqlite3.Connection, witness: Path) -> Verdict:
    """Check a whole log against its signatures and a witness folder."""
    verdict = Verdict()
    try:
        seen = list(witnessed(witness))  # before the log, which may grow meanwhile
        db.execute("BEGIN")  # one snapshot
        try:
            _verify(Log(db), witness, seen, verdict)
        finally:
            db.execute("ROLLBACK")
    except (LogError, sqlite3.DatabaseError, UnicodeError) as error:
        verdict.problems.append(str(error))
    return verdict


def _verify(log: Log, witness: Path, seen: list[Head], verdict: Verdict) -> None:
    problems, own = verdict.problems, list(log.heads())
    verdict.heads, verdict.entries = len(own), log.size
    if verdict.entries or own or seen:
        key = public_key(witness)
        if not seen:
            problems.append("the witness has no head of this log")
        for where, heads in (("log", own), ("witness", seen)):
            for head in heads:
                if not head.valid(key):
                    problems.append(f"{where}: the head of {head.size} entries is forged")
    verdict.witnessed = len(seen)
    last = own[-1].size if own else 0
    if verdict.entries > last:
        problems.append(f"{verdict.entries - last} entries after the last signed head")
    claimed: defaultdict[int, list[tuple[str, Head]]] = defaultdict(list)
    for where, heads in (("log", own), ("witness", seen)):
        for head in heads:
            claimed[head.size].append((where, head))
    found = dict(merkle.roots(_leaves(log, problems), {*claimed, verdict.entries}))
    verdict.root = found.get(verdict.entries, b"").hex()
    for size in sorted(claimed):
        for where, head in claimed[size]:
            if size not in found:
                problems.append(
                    f"truncated or rolled back: the {where} has a head of {size} entries, "
                    f"the log has {verdict.entries}"
                )
            elif found[size] != head.root:
                problems.append(f"the first {size} entries are not those the {where} signed for")
    if not problems and log.root() != found[verdict.entries]:
        problems.append("the stored tree is not that of the entries: no proof can be made from it")


def _leaves(log: Log, problems: list[str]) -> Iterator[bytes]:
    for expected, (index, leaf) in enumerate(log.leaves()):
        if index != expected:
            problems.append(f"entry {expected} is missing")
            return
        if not isinstance(leaf, str):
            problems.append(f"entry {index} is no text")
            return
        yield leaf.encode()


def proof(log: Log, index: int, since: int | None = None) -> dict[str, Any]:
    """Evidence that entry `index` is in the newest signed tree, and, with `since`, that this tree
    begins with the one whose signed head has that size. LogError, ValueError."""
    head = log.head()
    if head is None:
        raise LogError("the log is empty: there is nothing to prove")
    leaf = log.leaf(index)
    found: dict[str, Any] = {
        "format": "wattveil-proof-1",
        "index": index,
        "leaf": leaf,
        "path": [step.hex() for step in merkle.inclusion(log.node, index, head.size)],
        "head": head.fields(),
    }
    if since is not None:
        first = log.head(since)
        if first is None:
            raise ValueError(f"no head of {since} entries was signed")
        path = merkle.consistency(log.node, since, head.size)
        found["since"] = {"head": first.fields(), "path": [step.hex() for step in path]}
    return found


def export(log: Log, key: bytes) -> Iterator[str]:
    """The whole log as lines: what it is, the entries as they were hashed, the heads."""
    heads = list(log.heads())
    yield canonical(
        {"format": "wattveil-log-1", "key": key.hex(), "entries": log.size, "heads": len(heads)}
    )
    for _, leaf in log.leaves():
        yield leaf
    for head in heads:
        yield canonical(head.fields())
