"""A process that spends, as the gateway or as a centre: light to import, eight start at once."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from wattveil.privacy.accountant import Accountant
from wattveil.privacy.ledger import Charge, Ledger, Limits, OverLimit
from wattveil.privacy.people import Person
from wattveil.privacy.refusals import Refused
from wattveil.privacy.state import State
from wattveil.privacy.techniques import Cost


def race(path: Path, number: int, start: Any, granted: Any) -> None:
    """Want 0.1 of two homes five times."""
    state, homes, price = State.open(path), ("a", "b"), Fraction(1, 10)
    accountant, person = Accountant(state), Person("analyst", f"a{number}")
    most, check = state.config.budgets.amount("subject_lifetime"), state.subjects().check
    start.wait()
    for attempt in range(5):
        name = f"{number}-{attempt}"
        try:
            if number % 2:
                charge = Charge(name, 0, price, homes, b"\x03", check, "total of a period")
                Ledger(state.ledger(), Limits(lifetime=most)).debit(charge)
            else:
                asked = f"gateway:{name}"
                accountant.spend(asked, person, "research", Cost(price), homes, 1_800_000_000)
        except OverLimit:
            pass
        except Refused as no:
            if no.reason != "over_lifetime_limit":
                raise
        else:
            with granted.get_lock():
                granted.value += 1
