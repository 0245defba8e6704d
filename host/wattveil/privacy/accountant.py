"""The accountant: what every answer cost, and who may still spend.

One charge is one transaction on the ledger that the control centre uses, too: each household of
the group, the data set, the person who asks and, for publication, the public. Either all of them
can pay or nobody does. A charge is never taken back: not when the answer is lost, not when it is
refused later. Limits hold on plain sums of exact rationals (sequential composition).

The ledger knows households by HMAC-SHA-256 of the meter id under a key that only the accountant
has and that is never rotated, so that no change of pseudonyms gives anybody a fresh budget.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from wattveil.privacy import ledger
from wattveil.privacy.config import ConfigError, amount, show
from wattveil.privacy.ledger import Charge, Limits, OverLimit, Row, Rows
from wattveil.privacy.people import Person
from wattveil.privacy.refusals import Refused
from wattveil.privacy.state import State
from wattveil.privacy.techniques import Cost

SPENT, DELTA, LIMIT, EVENT = "account", "account delta", "account limit", "account event"  # kinds
DAY_S = 86_400
SUBJECT_LIMITS = ("subject_lifetime", "subject_day")
PUBLICATION = "publication"  # the purpose whose answers are for everybody

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
        if self._config.stores.subjects == "ids":
            return list(meter_ids)
        key = self._state.key("subject")
        return [hmac.digest(key, name.encode(), "sha256").hex() for name in meter_ids]

    def _check_names(self, rows: Rows) -> None:
        """A centre's ledger knows households by meter id: under other names they would pay twice."""
        if self._config.stores.subjects == "hmac" and rows.load("record"):
            raise ConfigError(
                "the ledger is a control centre's, which knows households by meter id: set "
                'stores.subjects = "ids" in config.toml, so that both draw on one account'
            )

    def spend(
        self,
        name: str,
        person: Person,
        purpose: str,
        cost: Cost,
        subjects: Sequence[str],
        now: int,
    ) -> Balance:
        """Charge an answer durably, once; only then may it be computed. Refused: nothing spent."""
        every = bytes([255]) * (len(subjects) // 8)
        if len(subjects) % 8:
            every += bytes([(1 << len(subjects) % 8) - 1])
        charge = Charge(
            name, now // DAY_S, cost.epsilon, tuple(subjects), every, f"query by {person.logged}"
        )
        accounts = self._accounts(person, purpose)
        balance: list[Balance] = []

        def decide(rows: Rows) -> list[Row]:
            self._check_names(rows)
            if rows.get(EVENT, name) is not None:
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
            most = max(Fraction(r.value.decode()) for r in entered if r.kind == ledger.SPENT)
            balance.append(self._balance(rows, accounts, written, most))
            return changes

        try:
            self._state.ledger().transact(decide, durable=True)
        except OverLimit as over:
            # How many and which households stays here: the limit's name says enough.
            raise Refused(over.reason, f"the {over.limit} limit is epsilon {over.most}") from None
        return balance[0]

    def _accounts(self, person: Person, purpose: str) -> list[str]:
        accounts = [f"dataset:{self._config.dataset}", str(person)]
        return [*accounts, "public"] if purpose == PUBLICATION else accounts

    def _charge(self, rows: Rows, accounts: list[str], cost: Cost) -> Iterable[Row]:
        for account in accounts:
            kind = _kind(account)
            total = _fraction(rows.get(SPENT, account)) + cost.epsilon
            most = self._limit(rows, account)
            if most is not None and total > most:
                left = most - total + cost.epsilon
                raise Refused(f"over_{kind}_budget", f"{show(left)} of {show(most)} are left")
            yield Row(SPENT, account, str(total).encode())
            if cost.delta:
                delta = _fraction(rows.get(DELTA, account)) + cost.delta
                most = self._limit(rows, "delta")
                if most is not None and delta > most:
                    raise Refused("over_delta_budget", f"of {account}: at most {show(most)}")
                yield Row(DELTA, account, str(delta).encode())

    def _limit(self, rows: Rows, account: str) -> Fraction | None:
        """What was set for this account, else what config.toml says for its kind."""
        text = rows.get(LIMIT, account)
        if text is not None:
            return None if text == b"none" else Fraction(text.decode())
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
                _fraction(written.get((SPENT, account)) or rows.get(SPENT, account)),
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
        check_account(account, self._config.dataset)
        return self._limit(self._state.ledger(), account)

    def set_limit(self, account: str, most: Fraction | None) -> None:
        """Change a limit; who may was decided before. ValueError."""
        check_account(account, self._config.dataset)
        text = b"none" if most is None else str(most).encode()
        self._state.ledger().transact(lambda rows: [Row(LIMIT, account, text)], durable=True)

    def table(self) -> dict[str, Json]:
        """Every account: limit, spent, remaining, sum of deltas; exact text."""
        store = self._state.ledger()
        spent, deltas = store.load(SPENT), store.load(DELTA)
        names = {f"dataset:{self._config.dataset}", "public", *spent}
        names |= {name for name in store.load(LIMIT) if name != "delta"} - set(SUBJECT_LIMITS)
        rows = {name: (_fraction(spent.get(name)), _fraction(deltas.get(name))) for name in names}
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
        entered = {c.name: c for c in ledger.entries(store.load) if c.name.startswith("gateway:")}
        for name in sorted(events.keys() ^ entered.keys()):
            wrong.append(f"{name}: entered for accounts or for households, not for both")
        for kind, field in ((SPENT, "epsilon"), (DELTA, "delta")):
            sums: dict[str, Fraction] = {}
            for event in events.values():
                for account in event["accounts"]:
                    sums[account] = sums.get(account, Fraction(0)) + Fraction(event[field])
            stored = {name: _fraction(row) for name, row in store.load(kind).items()}
            for name in sorted(sums.keys() | stored.keys()):
                if sums.get(name, 0) != stored.get(name, 0):
                    wrong.append(
                        f"{kind} of {name}: {stored.get(name, 0)} stored, {sums.get(name, 0)} entered"
                    )
        return wrong


def check_account(account: str, dataset: str) -> None:
    """ValueError unless an account of this name can be."""
    from wattveil.privacy.people import parse

    if account in ("public", "delta", *SUBJECT_LIMITS, f"dataset:{dataset}"):
        return
    try:
        parse(account)
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


def _fraction(text: bytes | None) -> Fraction:
    return Fraction(text.decode()) if text else Fraction(0)
