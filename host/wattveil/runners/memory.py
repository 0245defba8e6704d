"""All roles and any number of meters in one process: no sockets, no wall clock, separate stores."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Protocol

from wattveil.roles.common import Role
from wattveil.roles.effects import Effect
from wattveil.runners.host import Changes, apply

STEPS = 1_000_000  # more than any period takes: a loop that never ends is a bug


class MemoryMeter(Protocol):
    """A meter in this process."""

    def poll(self) -> bytes | int | None:
        """The next request; 0: busy, call again; None or milliseconds: nothing now."""

    def receive(self, frame: bytes) -> None:
        """The cloud's answer."""


class MemoryNet:
    """The three roles joined by queues; `stores` by role name: center, cloud, dealer.

    Nothing moves by itself: `deliver` takes one request of a meter through to its answer, `tick`
    passes time to all roles, `settle` does both until nobody has anything to say.
    """

    def __init__(
        self, center: Role, cloud: Role, dealer: Role, stores: Mapping[str, Changes]
    ) -> None:
        self.roles: dict[str, Role] = {"center": center, "cloud": cloud, "dealer": dealer}
        self.stores = stores
        self._frames: deque[tuple[str, str, bytes]] = deque()  # from, to, frame
        self._meters: dict[str, MemoryMeter] = {}
        for peer in ("center", "dealer"):
            self.carry_out("cloud", cloud.linked(peer, True))
        self.quiet()

    def carry_out(self, name: str, effects: Iterable[Effect]) -> None:
        """Carry out effects of one role; frames to others wait for `quiet`."""

        def send(peer: str, frame: bytes) -> None:
            self._frames.append((name, peer, frame))

        apply(self.roles[name], self.stores[name], effects, send)

    def quiet(self) -> int:
        """Deliver frames until none is under way; returns how many."""
        count = 0
        while self._frames:
            source, target, frame = self._frames.popleft()
            if target in self._meters:
                self._meters[target].receive(frame)
            elif target in self.roles:
                self.carry_out(target, self.roles[target].receive(source, frame))
            count += 1
            if count > STEPS:
                raise RuntimeError("the roles do not come to rest")
        return count

    def deliver(self, meter: MemoryMeter) -> bool:
        """One request of the meter, and everything that follows; False when it had none."""
        while (frame := meter.poll()) == 0:
            pass
        if not isinstance(frame, bytes):
            return False
        name = f"meter {id(meter)}"
        self._meters[name] = meter
        self._frames.append((name, "cloud", frame))
        self.quiet()
        return True

    def tick(self) -> None:
        """Tell every role that time has passed."""
        for name in ("dealer", "center", "cloud"):
            self.carry_out(name, self.roles[name].tick())
        self.quiet()

    def settle(self, meters: Iterable[MemoryMeter]) -> int:
        """Take requests in turn until no meter has one; returns how many there were."""
        waiting, count = list(meters), 0
        while served := sum([self.deliver(meter) for meter in waiting]):
            count += served
            if count > STEPS:
                raise RuntimeError("the meters do not come to rest")
        self.tick()
        return count
