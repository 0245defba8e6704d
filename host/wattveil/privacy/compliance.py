"""Reports from the log: is what the rules ask for done, and what became of one customer's data.

Both are made from what the log holds, not from what the configuration promises.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from hashlib import sha256
from typing import Any

from wattveil.privacy import consent, ledger
from wattveil.privacy.accountant import CHARGE
from wattveil.privacy.config import show
from wattveil.privacy.contracts import Json
from wattveil.privacy.fipps import PRINCIPLES
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.log.verify import verify
from wattveil.privacy.people import Person

SHOWN = 50  # findings
_NAME = 8  # bytes of a subject's name in a remembered cohort, see history.Asking


def compliance(gateway: Gateway, person: Person | None = None) -> Json:
    """Principle by principle and rule by rule; Refused.

    person: who asks. None: whoever runs the gateway, on its machine; the report holds no customer's
    data and names no customer.
    """
    if person is not None:
        gateway.permit(person, "report-compliance", {}, {})
        gateway.note("report", {"person": person.logged, "report": "compliance"})
    state = gateway.state
    verdict = verify(state.gateway(), state.path / "witness").fields()
    found = _Counts()
    for entry in state.log().entries() if verdict["consistent"] else ():
        found.add(entry)
    findings = [f"log: {problem}" for problem in verdict["problems"]]
    findings += [f"ledger: {problem}" for problem in gateway.accountant.audit()]
    findings += found.findings()
    charged = ledger_charges(gateway)
    for charge, epsilon in sorted(found.spent.items()):
        if charge not in charged:
            findings.append(f"{charge}: the log has its spend, the ledger has not")
        elif charged[charge] != epsilon:
            findings.append(
                f"{charge}: epsilon {epsilon} in the log, {charged[charge]} in the ledger"
            )
    return {
        "report": "compliance",
        "made": stamp(time.time()),
        "dataset": state.config.dataset,
        "from": found.first and stamp(found.first / 1000),
        "to": found.last and stamp(found.last / 1000),
        "log": verdict,
        "findings": findings[:SHOWN],
        "finding_count": len(findings),
        "fipps": [
            principle._asdict()
            | {
                "entries": {kind: found.kinds[kind] for kind in principle.kinds},
                "status": "entries" if any(found.kinds[k] for k in principle.kinds) else "none yet",
            }
            for principle in PRINCIPLES
        ],
        "rules": [
            {
                "id": rule.id,
                "effect": rule.effect,
                "says": rule.says,
                "source": rule.source,
                "original": rule.original,
                "decided": found.rules[rule.id],
            }
            for rule in gateway.policy.rules.values()
        ],
        "no_rule": found.rules[None],
        "releases": [
            {"purpose": purpose, "technique": technique, "answers": count,
             "epsilon": show(found.epsilon[purpose, technique])}
            for (purpose, technique), count in sorted(found.releases.items())
        ],
        "refusals": dict(sorted(found.refusals.items())),
        "alarms": dict(sorted(found.alarms.items())),
        "entries": dict(sorted(found.kinds.items())),
        # Spent and then broken off before the entry: nothing was released for these.
        "charges_without_entry": len(charged.keys() - found.spent.keys()),
        "budgets": gateway.accountant.table(),
    }  # fmt: skip


class _Counts:
    """One pass over the log."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.last: int | None = None
        self.kinds: Counter[str] = Counter()
        self.rules: Counter[str | None] = Counter()
        self.refusals: Counter[str] = Counter()
        self.alarms: Counter[str] = Counter()
        self.releases: Counter[tuple[str, str]] = Counter()
        self.epsilon: defaultdict[tuple[str, str], Fraction] = defaultdict(Fraction)
        self.spent: dict[str, Fraction] = {}
        self._released: set[str] = set()
        self._permitted: Counter[tuple[str, str]] = Counter()
        self._wrong: list[str] = []

    def add(self, entry: Json) -> None:
        """Count an entry, and hold it against those before."""
        kind, body, index = entry["kind"], entry["body"], entry["index"]
        self.first = entry["at"] if self.first is None else self.first
        self.last = entry["at"]
        self.kinds[kind] += 1
        if kind == "decision":
            self.rules[body.get("rule")] += 1
            if body["allowed"]:
                self._permitted[body["person"], body["action"]] += 1
        elif kind == "refusal":
            self.refusals[body["reason"]] += 1
        elif kind == "alarm":
            self.alarms[body["alarm"]] += 1
        elif kind == "spend":
            self.spent[body["charge"]] = Fraction(body["epsilon"])
        elif kind == "release":
            self._release(body, index)

    def _release(self, body: Json, index: int) -> None:
        permitted = body["person"], body.get("action", "query")
        self._permitted[permitted] -= 1  # each decision is for one release
        if self._permitted[permitted] < 0:
            self._wrong.append(
                f"entry {index}: a release to {body['person']} without a permission"
            )
        query, charge = body.get("query", body), body.get("charge")
        name = query["purpose"], query.get("technique", "raw")
        self.releases[name] += 1
        if charge is None:  # one customer's own series: permitted by itself, not from the ledger
            return
        epsilon = Fraction(body["epsilon"])
        self.epsilon[name] += epsilon
        if charge in self._released:
            self._wrong.append(f"entry {index}: {charge} was released before")
        self._released.add(charge)
        if epsilon and self.spent.get(charge) != epsilon:
            self._wrong.append(f"entry {index}: released without its spend")

    def findings(self) -> list[str]:
        """What is not as it has to be."""
        return self._wrong


def ledger_charges(gateway: Gateway) -> dict[str, Fraction]:
    """Epsilon of all the gateway's charges in the ledger, by name."""
    charges = ledger.entries(gateway.state.ledger().load)
    return {one.name: one.epsilon for one in charges if one.name.startswith(CHARGE)}


def customer(gateway: Gateway, person: Person, subject: str, purpose: str) -> Json:
    """Which data of one customer went into which output; Refused.

    subject: the ledger's name of the meter; the report has the log's. Those who asked appear by
    their roles.
    """
    gateway.permit(person, "report-customer", {"subject": subject}, {"purpose": purpose})
    alias = gateway.accountant.logged(subject)
    body = {"person": person.logged, "report": "customer", "purpose": purpose}
    index = gateway.note("report", body | {"subject": alias})
    cohorts, state = _cohorts_with(gateway, subject), gateway.state
    releases, accesses = [], []
    for entry in state.log().entries():
        body = entry["body"]
        about = {"log_index": entry["index"], "at": stamp(entry["at"] / 1000),
                 "to": str(body.get("person", "")).partition(":")[0]}  # fmt: skip
        if entry["kind"] == "release" and body.get("cohort") in cohorts:
            amounts = {name: body[name] for name in ("charge", "epsilon", "delta")}
            releases.append(about | body["query"] | amounts)
        elif body.get("subject") == alias:
            shown = {k: v for k, v in body.items() if k not in ("person", "subject")}
            accesses.append(about | {"what": entry["kind"]} | {"details": shown})
    paid = list(_paid(gateway, subject))
    spent = sum((Fraction(row["epsilon"]) for row in paid), Fraction(0))
    most = gateway.accountant.limit("subject_lifetime")
    return {
        "report": "customer",
        "made": stamp(time.time()),
        "subject": alias,
        "log_index": index,
        "outputs": releases,
        "accesses": accesses,
        "charges": paid,
        "spent": show(spent),
        "limit": None if most is None else show(most),
        "remaining": None if most is None else show(most - spent),
        "consents": consent.history(state, subject),
    }


def _cohorts_with(gateway: Gateway, subject: str) -> set[str]:
    """Digests of the groups a subject was a member of."""
    name = sha256(subject.encode()).digest()[:_NAME]
    rows = gateway.state.gateway().execute("SELECT digest, members FROM cohorts")
    return {
        bytes(digest).hex()
        for digest, members in rows
        if any(members[at : at + _NAME] == name for at in range(0, len(members), _NAME))
    }


def _paid(gateway: Gateway, subject: str) -> Iterator[dict[str, Any]]:
    """The ledger's entries that a subject paid for, the control centre's included."""
    for charge in ledger.entries(gateway.state.ledger().load):
        if subject in charge.subjects():
            day = datetime.fromtimestamp(charge.day * 86_400, UTC).date().isoformat()
            yield {"charge": charge.name, "day": day, "epsilon": show(charge.epsilon)}


def stamp(at: float) -> str:
    """UTC seconds as text."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
