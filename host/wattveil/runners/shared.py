"""The loop of one of several cloud workers: each turn is a transaction on the store they share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from wattveil.roles.effects import Drop, Effect, Save, Send
from wattveil.roles.worker import CloudWorker
from wattveil.runners.loop import TOGETHER, Runner
from wattveil.store.postgres import SharedStore

log = logging.getLogger("wattveil.runner")


class WorkerRunner(Runner):
    """A Runner that gathers requests instead of effects: the role serves them inside the turn.

    If the store raises, nothing of the turn was stored or sent, and the role's memory is ahead of
    it: the process ends, and meters ask again, of whichever worker is left.
    """

    def __init__(self, role: CloudWorker, store: SharedStore, *more: Any) -> None:
        super().__init__(role, store, *more)
        self._worker = role
        self._shared = store
        self._acts: list[Callable[[], Sequence[Effect]]] = []

    def act(self, act: Callable[[], Sequence[Effect]]) -> None:
        """See `Runner`; at the end of the turn."""
        self._acts.append(act)

    def _receive(self, peer: str, frame: bytes) -> bool:
        self.act(lambda: self._worker.receive(peer, frame))
        if len(self._acts) >= TOGETHER:
            self._commit()
        return True

    def _commit(self) -> None:
        super()._commit()
        if not self._acts or self._committing:
            return
        acts, self._acts = self._acts, []
        boot = 0
        if not self._worker.leads and self._shared.lead():
            boot = self._shared.boot()
            log.info("this worker leads")
        effects: list[Effect] = []
        with self._shared.turn() as turn:
            effects += self._worker.absorb(turn.rows)
            if boot:
                effects += self._worker.lead(boot)
            for act in acts:
                effects += act()
            effects += self._worker.settle()
            turn.changes.extend(e for e in effects if isinstance(e, (Save, Drop)))
        for effect in effects:
            if isinstance(effect, Send):
                self._send(effect.peer, effect.frame)
