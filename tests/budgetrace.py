"""A process that spends: light to import, since eight of them start at once."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from wattveil.privacy.accountant import Accountant
from wattveil.privacy.people import Person
from wattveil.privacy.refusals import Refused
from wattveil.privacy.state import State
from wattveil.privacy.techniques import Cost


def race(path: Path, number: int, start: Any, granted: Any) -> None:
    """Want 0.1 five times."""
    accountant = Accountant(State.open(path))
    person, cost = Person("analyst", f"a{number}"), Cost(Fraction(1, 10))
    start.wait()
    for attempt in range(5):
        name = f"gateway:{number}-{attempt}"
        try:
            accountant.spend(name, person, "research", cost, ("a", "b"), 1_800_000_000)
        except Refused as no:
            if no.reason != "over_dataset_budget":
                raise
        else:
            with granted.get_lock():
                granted.value += 1
