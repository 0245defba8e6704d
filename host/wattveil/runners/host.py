"""Carrying out what a role asks for, in its order: stored first, then sent, then on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from wattveil.roles.common import Role
from wattveil.roles.effects import Again, Change, Effect, Send


class Changes(Protocol):
    """The part of a store that `apply` needs; a test puts its own in between."""

    def apply(self, changes: Iterable[Change]) -> None:
        """All changes durably in one transaction, or none and an exception."""


def apply(
    role: Role,
    store: Changes,
    effects: Iterable[Effect],
    send: Callable[[str, bytes], None],
) -> None:
    """Carry out effects, and those that an Again gives in turn.

    If the store raises, nothing after that point happens and the role's memory is ahead of its
    disk: the caller must give the role up and build it anew from the store.
    """
    queue = deque(effects)
    changes: list[Change] = []
    while queue:
        effect = queue.popleft()
        if isinstance(effect, (Send, Again)):
            if changes:
                store.apply(changes)
                changes = []
            if isinstance(effect, Send):
                send(effect.peer, effect.frame)
            else:
                queue.extendleft(reversed(role.resume(effect.event)))
        else:
            changes.append(effect)
    if changes:
        store.apply(changes)
