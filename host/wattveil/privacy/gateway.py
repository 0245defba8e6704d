"""The one door between meter data and anyone who asks.

Each operation in this order: authenticate, ask the policy, log the decision, spend in the ledger
(durably), compute, log the release, hand out. So a crash at any point leaves nothing released
without its spend and its log entry; what was spent is never given back.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wattveil.privacy import history, people, techniques
from wattveil.privacy.accountant import Accountant, Balance
from wattveil.privacy.config import amount, show
from wattveil.privacy.consent import consented
from wattveil.privacy.contracts import Appender, Block, Json, VaultReader
from wattveil.privacy.people import Person
from wattveil.privacy.policy import Decision, Policy
from wattveil.privacy.refusals import Refused
from wattveil.privacy.state import State
from wattveil.privacy.techniques import Cost, Group

if TYPE_CHECKING:
    from wattveil.privacy.query.ask import Query

Blocks = Iterable[Block]


class Gateway:
    """An open gateway; `vault` and `log` may be others than the folder's own."""

    def __init__(
        self,
        state: State,
        *,
        vault: VaultReader | None = None,
        log: Appender | None = None,
        policy: Policy | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.state, self._clock = state, clock
        self._vault, self._log, self._local = vault, log, threading.local()
        self.policy = policy or Policy(state.config.purposes)
        self.accountant = Accountant(state)

    @property
    def vault(self) -> VaultReader:
        """Where readings come from; each thread has one, since it holds connections."""
        if self._vault is not None:
            return self._vault
        if not hasattr(self._local, "vault"):
            self._local.vault = self.state.vault()
        vault: VaultReader = self._local.vault
        return vault

    def note(self, kind: str, body: Json) -> int:
        """Append to the log, in the transaction that is open or in one of its own; the index."""
        with self.state.transaction():
            return (self._log or self.state.log()).append(kind, body)

    def authenticate(self, who: str, secret: Path | str | None) -> Person:
        """The person, or Refused; a failure is logged without what was presented."""
        try:
            return people.authenticate(self.state, who, secret)
        except Refused as no:
            self.note("refusal", {"action": "authenticate", "reason": no.reason})
            raise

    def permit(self, person: Person, action: str, resource: Json, context: Json) -> Decision:
        """Ask the policy and log what it said; Refused when it forbids."""
        decision = self.policy.decide(person, action, resource, context)
        body = {
            "person": person.logged,
            "action": action,
            "purpose": context.get("purpose"),
            "allowed": decision.allowed,
            "rule": decision.rule_id,
        }
        if not decision.allowed:
            body["reason"] = decision.reason
        self.note("decision", body)
        if not decision.allowed:
            why = decision.why
            if decision.reason == "purpose_unknown":
                known = self.state.config.purposes
                why += f" config.toml lists {', '.join(known.primary + known.secondary)}."
            raise Refused(decision.reason, why, decision.rule_id)
        return decision

    @contextmanager
    def refusing(self, person: Person, action: str) -> Iterator[None]:
        """Enter in the log what is refused inside."""
        try:
            yield
        except Refused as no:
            body = {"person": person.logged, "action": action, "reason": no.reason}
            self.note("refusal", body)
            raise

    def query(self, person: Person, query: Query, *, preview: bool = False) -> Json:
        """Answer, preview or refuse; see `wattveil query --json`. ValueError for bad input."""
        answer = query.template(self.state.config.release.group_min)
        try:
            answer |= (
                self._preview(person, query) if preview else self._answer(person, query, answer)
            )
        except Refused as no:
            body: Json = {"person": person.logged, "action": "query", "reason": no.reason}
            answer |= {
                "refused": no.reason,
                "refused_because": str(no).partition(": ")[2],
                "rule": no.rule,
                "log_index": self.note("refusal", body | {"technique": query.technique}),
            }
            answer |= self.accountant.balance(person, query.purpose).fields()
        return answer

    def _prepare(self, person: Person, query: Query, act: str) -> tuple[list[str], Group, Cost]:
        """Members, group and cost of a query that the policy permits."""
        members = self.vault.members(dict(query.segment), query.start, query.end)
        release = self.state.config.release
        dominance = amount(release.dominance, "release.dominance")
        group = Group(len(members), release.group_min, dominance)
        technique = techniques.technique(query.technique)
        cost = technique.check(query, group)
        recipient = str(person)
        context = {
            "purpose": query.purpose,
            "technique": query.technique,
            "epsilon": cost.epsilon,
            "delta": cost.delta,
            "members": group.members,
            "group_min": group.group_min,
            "resolution_s": query.resolution_s,
            "consent": consented(
                self.state, lambda: self._subjects(members), query.purpose, recipient
            ),
        }
        self.permit(person, act, {"dataset": self.state.config.dataset}, context)
        return members, group, cost

    def _subjects(self, members: list[str]) -> list[str]:
        return self.accountant.subjects(self.vault.meter_ids(members))

    def _preview(self, person: Person, query: Query) -> Json:
        _, group, cost = self._prepare(person, query, "query")
        expected = techniques.technique(query.technique).preview(query, group)
        body: Json = {"person": person.logged, "query": query.public()}
        body["epsilon"] = show(cost.epsilon)
        index = self.note("preview", body)
        balance = self.accountant.balance(person, query.purpose)
        return expected | {"log_index": index} | balance.fields()

    def _answer(self, person: Person, query: Query, template: Json) -> Json:
        members, group, cost = self._prepare(person, query, "query")
        subjects = self._subjects(members)
        now = int(self._clock())
        charge = f"gateway:{secrets.token_hex(8)}"
        asking = history.Asking(
            charge, now, str(person), query, history.Cohort.of(subjects), self.vault.written(),
            lambda: self.vault.revisions(members, query.start, query.end),
        )  # fmt: skip
        with self.state.transaction() as db:  # looked at and remembered in one go
            for alarm in history.remember(db, asking, group.group_min):
                raised = {"alarm": alarm.kind, "earlier": alarm.earlier, "charge": charge}
                self.note("alarm", raised | {"person": person.logged})
        balance = self._spend(charge, person, query, cost, subjects, now)
        technique = techniques.technique(query.technique)
        blocks = self.vault.blocks(members, query.start, query.end)
        released = template | technique.run(query, group, blocks) | balance.fields()
        # The log commits to the answer; without the nonce, who guesses an exact sum could check it.
        released["nonce"] = secrets.token_hex(16)
        text = json.dumps(released, sort_keys=True, separators=(",", ":"))
        body: Json = {
            "charge": charge,
            "person": person.logged,
            "query": query.public(),
            "epsilon": show(cost.epsilon),
            "delta": show(cost.delta),
            "cohort": asking.cohort.digest.hex(),
            "answer_sha256": hashlib.sha256(text.encode()).hexdigest(),
        }
        return released | {"log_index": self.note("release", body)}

    def _spend(
        self,
        charge: str,
        person: Person,
        query: Query,
        cost: Cost,
        subjects: list[str],
        now: int,
    ) -> Balance:
        if not cost.epsilon and not cost.delta:
            return self.accountant.balance(person, query.purpose)
        balance = self.accountant.spend(charge, person, query.purpose, cost, subjects, now)
        body: Json = {"charge": charge, "person": person.logged, "event": cost.event}
        self.note("spend", body | {"epsilon": show(cost.epsilon), "delta": show(cost.delta)})
        return balance
