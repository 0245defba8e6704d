"""Carrying out what a role asks for, in its order: stored first, then sent, then on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from wattveil.privacy.ledger import Denied, Row, Rows, enter
from wattveil.roles.common import Role
from wattveil.roles.effects import Again, Change, Debit, Effect, Send


class Changes(Protocol):
    """The part of a store that `apply` needs; a test puts its own in between."""

    def apply(self, changes: Iterable[Change]) -> None:
        """All changes durably in one transaction, or none and an exception."""

    def transact(self, decide: Callable[[Rows], Iterable[Change | Row]]) -> None:
        """The changes `decide` returns for the rows it reads, all in one transaction."""


def apply(
    role: Role,
    store: Changes,
    effects: Iterable[Effect],
    send: Callable[[str, bytes], None],
) -> None:
    """Carry out effects, of one frame or of many, and those an Again or a Debit gives in turn.

    A group commit: up to the next Again or Debit all changes are one transaction, and only then
    is anything sent. If the store raises, nothing after that point happens and the role's memory
    is ahead of its disk: the caller must give the role up and build it anew from the store.
    """
    queue = deque(effects)
    changes: list[Change] = []
    sends: list[Send] = []

    def commit() -> None:
        if changes:
            store.apply(changes)
        for one in sends:
            send(one.peer, one.frame)

    while queue:
        effect = queue.popleft()
        if isinstance(effect, (Again, Debit)):
            commit()
            changes, sends = [], []
            event = _debit(store, effect) if isinstance(effect, Debit) else effect.event
            queue.extendleft(reversed(role.resume(event)))
        elif isinstance(effect, Send):
            sends.append(effect)
        else:
            changes.append(effect)
    commit()


def _debit(store: Changes, debit: Debit) -> tuple[str, int]:
    try:
        store.transact(lambda rows: [*debit.changes, *enter(rows, debit.charge, debit.limits)])
    except Denied as refused:
        return refused.reason, debit.event[1]
    return debit.event
