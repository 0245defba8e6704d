"""The accountant: what every answer cost, and who may still spend.

One charge is one transaction on the ledger that the control centre uses, too: each household of
the group, the data set, the person who asks and, for publication, the public. Either all of them
can pay or nobody does. A charge is never taken back: not when the answer is lost, not when it is
refused later. Limits hold on plain sums of exact rationals (sequential composition).

The ledger knows households by names that only the accountant can make from a meter id
(`subjects`), so that no change of pseudonyms gives anybody a fresh budget.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from wattveil.privacy import ledger
from wattveil.privacy.config import ConfigError, amount, show
from wattveil.privacy.ledger import Charge, Denied, Limits, OverLimit, Row, Rows
from wattveil.privacy.people import Person
from wattveil.privacy.refusals import Refused
from wattveil.privacy.state import State
from wattveil.privacy.techniques import Cost

SPENT, DELTA, LIMIT, EVENT = "account", "account delta", "account limit", "account event"  # kinds
DAY_S = 86_400
SUBJECT_LIMITS = ("subject_lifetime", "subject_day")
CHARGE = "gateway:"  # begins the names of the gateway's charges
PUBLICATION = "publication"  # the purpose whose answers are for everybody
# Amounts are multiples of 1 / GRID, so that sums of them stay short however many there are: with
# denominators of anybody's choice a few hundred charges would fill the ledger with digits.
GRID = 10**18 * 3**3 * 7 * 11 * 13

Load = Callable[[str], Mapping[str, bytes]]
Json = dict[str, Any]


@dataclass(frozen=True)
class Balance:
    """Accounts by name: spent, and the limit or None."""

    accounts: Mapping[str, tuple[Fraction, Fraction | None]]

    def fields(self) -> Json:
        """For an answer: the account with the least left, and what it has spent; exact text."""
        left = [(most - spent, name) for name, (spent, most) in self.accounts.items() if most]
        if not left:
            return {"spent": show(max(s for s, _ in self.accounts.values())), "remaining": None,
                    "budget": None}  # fmt: skip
        remaining, name = min(left)
        spent = self.accounts[name][0]
        return {"spent": show(spent), "remaining": show(remaining), "budget": name}


class Accountant:
    """The accounts of a gateway's folder."""

    def __init__(self, state: State) -> None:
        self._state, self._config = state, state.config

    def subjects(self, meter_ids: Iterable[str]) -> list[str]:
        """The ledger's names of these meters, in this order."""
        return list(self._state.subjects().names(meter_ids))

    def logged(self, subject: str) -> str:
        """The log's name of whom the ledger calls `subject`."""
        return self._state.subjects().logged(subject)

    def spend(
        self,
        name: str,
        person: Person,
        purpose: str,
        cost: Cost,
        subjects: Sequence[str],
        now: int,
    ) -> Balance:
        """Charge an answer durably, once; only then may it be computed. Refused: nothing spent.

        ValueError for a cost that is no exact amount on GRID, ConfigError for a ledger whose names
        another key has made.
        """
        check_cost(cost)
        every = bytes([255]) * (len(subjects) // 8)
        if len(subjects) % 8:
            every += bytes([(1 << len(subjects) % 8) - 1])
        check, note = self._state.subjects().check, f"query by {person.logged}"
        charge = Charge(name, now // DAY_S, cost.epsilon, tuple(subjects), every, check, note)
        accounts = self._accounts(person, purpose)
        balance: list[Balance] = []

        def decide(rows: Rows) -> list[Row]:
            if rows.get(EVENT, name) is not None or rows.get(ledger.ENTRY, name) is not None:
                raise ValueError(f"{name} was charged before")
            changes = [*self._charge(rows, accounts, cost)]
            limits = Limits(
                self._limit(rows, "subject_day"), self._limit(rows, "subject_lifetime")
            )
            entered = ledger.enter(rows, charge, limits)
            event = cost.event | {
                "accounts": accounts,
                "epsilon": str(cost.epsilon),
                "delta": str(cost.delta),
            }
            changes += [Row(EVENT, name, json.dumps(event, sort_keys=True).encode()), *entered]
            written = {(row.kind, row.key): row.value for row in changes}
            most = max(ledger.stored(r.value) for r in entered if r.kind == ledger.SPENT)
            balance.append(self._balance(rows, accounts, written, most))
            return changes

        try:
            self._state.ledger().transact(decide, durable=True)
        except OverLimit as over:
            # How many and which households stays here: the limit's name says enough.
            raise Refused(over.reason, f"the {over.limit} limit is epsilon {over.most}") from None
        except Denied as denied:
            raise ConfigError(str(denied)) from None
        return balance[-1]

    def _accounts(self, person: Person, purpose: str) -> list[str]:
        accounts = [f"dataset:{self._config.dataset}", str(person)]
        return [*accounts, "public"] if purpose == PUBLICATION else accounts

    def _charge(self, rows: Rows, accounts: list[str], cost: Cost) -> Iterable[Row]:
        for account in accounts:
            kind = _kind(account)
            total = ledger.stored(rows.get(SPENT, account)) + cost.epsilon
            most = self._limit(rows, account)
            if most is not None and total > most:
                left = most - total + cost.epsilon
                raise Refused(f"over_{kind}_budget", f"{show(left)} of {show(most)} are left")
            yield Row(SPENT, account, str(total).encode())
            if cost.delta:
                delta = ledger.stored(rows.get(DELTA, account)) + cost.delta
                most = self._limit(rows, "delta")
                if most is not None and delta > most:
                    raise Refused("over_delta_budget", f"of {account}: at most {show(most)}")
                yield Row(DELTA, account, str(delta).encode())

    def _limit(self, rows: Rows, account: str) -> Fraction | None:
        """What was set for this account, else what config.toml says for its kind."""
        text = rows.get(LIMIT, account)
        if text is not None:
            return None if text == b"none" else ledger.stored(text)
        return self._config.budgets.amount(_kind(account))

    def _balance(
        self,
        rows: Rows,
        accounts: list[str],
        written: Mapping[tuple[str, str], bytes],
        most: Fraction,
    ) -> Balance:
        known = {
            account: (
                ledger.stored(written.get((SPENT, account)) or rows.get(SPENT, account)),
                self._limit(rows, account),
            )
            for account in accounts
        }
        return Balance(known | {"subject_lifetime": (most, self._limit(rows, "subject_lifetime"))})

    def balance(self, person: Person, purpose: str) -> Balance:
        """What these accounts have now; of the households, the one that has spent most."""
        store = self._state.ledger()
        most = max(ledger.spending(store.load).values(), default=Fraction(0))
        return self._balance(store, self._accounts(person, purpose), {}, most)

    def limit(self, account: str) -> Fraction | None:
        """The limit of an account now; ValueError when there is no such account."""
        return self._limit(self._state.ledger(), check_account(account, self._config.dataset))

    def set_limit(self, account: str, most: Fraction | None, *, raising: bool) -> None:
        """Change a limit; who may was decided before. ValueError.

        Refused("approval_needed") where that raises it though `raising` was not decided: somebody
        else may have lowered it meanwhile.
        """
        account = check_account(account, self._config.dataset)
        text = b"none" if most is None else str(most).encode()

        def decide(rows: Rows) -> list[Row]:
            held = self._limit(rows, account)
            if not raising and held is not None and (most is None or most > held):
                raise Refused("approval_needed", f"the limit of {account} is {show(held)} now")
            return [Row(LIMIT, account, text)]

        self._state.ledger().transact(decide, durable=True)

    def table(self) -> dict[str, Json]:
        """Every account: limit, spent, remaining, sum of deltas; exact text."""
        store = self._state.ledger()
        spent, deltas = store.load(SPENT), store.load(DELTA)
        names = {f"dataset:{self._config.dataset}", "public", *spent}
        names |= {name for name in store.load(LIMIT) if name != "delta"} - set(SUBJECT_LIMITS)
        rows = {
            name: (ledger.stored(spent.get(name)), ledger.stored(deltas.get(name)))
            for name in names
        }
        lifetime = ledger.spending(store.load)
        rows["subject_lifetime"] = max(lifetime.values(), default=Fraction(0)), Fraction(0)
        table: dict[str, Json] = {}
        for name, (total, delta) in sorted(rows.items()):
            most = self._limit(store, name)
            table[name] = {
                "limit": None if most is None else show(most),
                "spent": show(total),
                "remaining": None if most is None else show(most - total),
                "delta": show(delta),
            }
        return table

    def events(self, account: str) -> list[Json]:
        """What was charged to an account: epsilon, delta, mechanism."""
        rows = self._state.ledger().load(EVENT)
        found = [json.loads(row) for _, row in sorted(rows.items())]
        return [event for event in found if account in event["accounts"]]

    def audit(self) -> list[str]:
        """Where sums and entries differ; an exact ledger gives an empty list."""
        store = self._state.ledger()
        wrong = ledger.audit(store.load)
        events = {name: json.loads(row) for name, row in store.load(EVENT).items()}
        entered = {c.name: c for c in ledger.entries(store.load) if c.name.startswith(CHARGE)}
        for name in sorted(events.keys() ^ entered.keys()):
            wrong.append(f"{name}: entered for accounts or for households, not for both")
        for name in sorted(events.keys() & entered.keys()):
            if Fraction(events[name]["epsilon"]) != entered[name].epsilon:
                wrong.append(f"{name}: another epsilon for accounts than for households")
        sums: defaultdict[tuple[str, str], Fraction] = defaultdict(Fraction)
        for event in events.values():
            for account in event["accounts"]:
                for kind, field in ((SPENT, "epsilon"), (DELTA, "delta")):
                    sums[kind, account] += Fraction(event[field])
        kinds = (SPENT, DELTA)
        held = {(kind, name): row for kind in kinds for name, row in store.load(kind).items()}
        return wrong + ledger.differing(held, sums)


def check_cost(cost: Cost) -> None:
    """ValueError unless a cost is exact, on GRID, above 0, and its delta a chance."""
    for name, value in (("epsilon", cost.epsilon), ("delta", cost.delta)):
        if not isinstance(value, Fraction) or GRID % value.denominator:
            raise ValueError(
                f"{name}: an exact amount, with at most 18 decimals or a small denominator like 3"
            )
    if cost.epsilon <= 0 or not 0 <= cost.delta < 1:
        raise ValueError("epsilon must be above 0, delta between 0 and 1")


def check_account(account: str, dataset: str) -> str:
    """The name an account goes by; ValueError unless one of this name can be."""
    from wattveil.privacy.people import parse

    if account in ("public", "delta", *SUBJECT_LIMITS, f"dataset:{dataset}"):
        return account
    try:
        return ":".join(parse(account))
    except ValueError:
        raise ValueError(
            f"{account!r} is no account: there are dataset:{dataset}, public, ROLE:NAME, delta, "
            f"{', '.join(SUBJECT_LIMITS)}"
        ) from None


def parse_limit(text: str) -> Fraction | None:
    """An amount, or "none"; ValueError."""
    return None if text == "none" else amount(text, "limit")


def _kind(account: str) -> str:
    """The entry of config.toml's [budgets] that an account's limit comes from by default."""
    if account.startswith("dataset:"):
        return "dataset"
    return "analyst" if ":" in account else account
