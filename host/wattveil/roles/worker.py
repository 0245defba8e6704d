"""A cloud that is several processes over one store: any request may reach any of them.

Their turns do not overlap: in each, a worker first takes up what the others stored since its last
one (`absorb`), then serves its requests, then stores. So all see the same counters, rows and
reports, and a duplicate finds what the first one left, whoever served that. One of them leads: it
alone talks to centre and dealer, and closes. What others would ask the centre they leave in the
store for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from wattveil.roles.cloud import REGISTERED, Cloud, Meter
from wattveil.roles.common import Load, counter_key, error_code, number_of, u64
from wattveil.roles.effects import Drop, Effect, Save, Send
from wattveil.roles.period import DONE, KINDS
from wattveil_meter import wire
from wattveil_meter.fields import pack, unpack
from wattveil_meter.wire import Message, Refused

Rows = Iterable[tuple[str, str, bytes]]  # kind, key, value

FIRST = {kind: place for place, kind in enumerate(("rotated", "counter", "meter", *KINDS))}
LAST = len(FIRST)


class CloudWorker(Cloud):
    """See `Cloud`. `leads` until the end of its process, once `lead` was called."""

    leads = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.closer.closes = False
        self._links = dict.fromkeys(self._up, False)
        # A meter takes only answers with growing counters, and from all workers: they count on
        # together, in the store.
        self._sealed = self._stored = self.boot << 32
        self._by_id = {meter.id: meter for meter in self.meters.values()}
        self._by_key = {meter.key: meter for meter in self.meters.values()}
        for number, (key, _) in self.config.next_keys.items():
            self._by_key[counter_key(key)] = self.meters[number]

    def restore(self, load: Load) -> list[Effect]:
        """See `common.Role`."""
        effects = super().restore(load)
        self._sealed = max(self._sealed, number_of(load("sealed").get("", b"")))
        return [effect for effect in effects if not isinstance(effect, Send)]

    def absorb(self, rows: Rows) -> list[Effect]:
        """Take up what other workers have stored; at the beginning of a turn."""
        effects: list[Effect] = []
        for kind, key, value in sorted(rows, key=lambda row: FIRST.get(row[0], LAST)):
            if kind in KINDS:
                self.closer.absorb(kind, key, value)
            elif kind == "floor":
                self.closer.floor = number_of(value)
                for start, period in [*self.closer.periods.items()]:
                    if start <= self.closer.floor and period.phase == DONE:
                        del self.closer.periods[start]
            elif kind == "sealed":
                self._sealed = max(self._sealed, number_of(value))
            elif kind == "relay" and self.leads:
                effects += self._left(self.meters[int(key)], value)
            else:
                self._absorb_meter(kind, key, value)
        return effects

    def _absorb_meter(self, kind: str, key: str, value: bytes) -> None:
        meter = self._by_key.get(key)
        if kind == "rotated" and meter is not None and meter.coming is not None:
            self._move(meter)
        elif kind == "counter" and meter is not None and key == meter.key:
            meter.channel.last = max(meter.channel.last, number_of(value))
            meter.stored_boot = meter.channel.last >> 32
        elif kind == "meter":
            fingerprint, *texts = unpack(value, 5)
            found = self._by_id.get(key)
            if found is not None and fingerprint == self.record.fingerprint:
                found.state = REGISTERED
                found.texts = tuple(text.decode() for text in texts)

    def settle(self) -> list[Effect]:
        """What is left to store at the end of a turn."""
        if self._sealed == self._stored:
            return []
        self._stored = self._sealed
        return [Save("sealed", "", u64(self._sealed))]

    def lead(self, boot: int) -> list[Effect]:
        """This worker leads from now on; `boot`: a start counted for that."""
        self.leads = self.closer.closes = True
        for upstream in self._up.values():
            upstream.begin(boot)
        effects: list[Effect] = []
        for name, up in self._links.items():
            effects += super().linked(name, up)
        return [*effects, *self.closer.questions()]

    # --- in the place of Cloud's own ------------------------------------------------------------

    def linked(self, peer: str, up: bool) -> list[Effect]:
        """See `common.Role`."""
        self._links[peer] = up
        return super().linked(peer, up) if self.leads else []

    def tick(self) -> list[Effect]:
        """See `common.Role`."""
        return super().tick() if self.leads else self.closer.clear()

    def status(self) -> dict[str, Any]:
        """See `common.Role`."""
        return super().status() | {"leads": self.leads}

    def receive(self, peer: str, frame: bytes) -> list[Effect]:
        """See `common.Role`: every accepted counter is stored, for the others."""
        effects = super().receive(peer, frame)
        if effects and peer not in self._up:
            meter = self.meters[wire.peek(frame)[1]]
            effects.insert(0, Save("counter", meter.key, u64(meter.channel.last)))
        return effects

    def _seal(self, meter: Meter, type: int, payload: bytes, start: int, reply: int) -> bytes:
        counter = max(meter.channel.counter, self._sealed)
        if counter & 0xFFFFFFFF == 0xFFFFFFFF:
            counter += 1
        meter.channel.counter = counter
        frame: bytes = meter.channel.seal(type, payload, start, reply)
        self._sealed = meter.channel.counter
        return frame

    def _relay(
        self, peer: str, meter: Meter, message: Message, size: int, type: int, answer: int
    ) -> list[Effect]:
        if self.leads:
            return super()._relay(peer, meter, message, size, type, answer)
        if len(message.payload) != size:
            raise Refused("malformed")
        left = pack(peer.encode(), bytes((message.type,)), u64(message.counter), message.payload)
        return [Save("relay", str(meter.number), left)]

    def _left(self, meter: Meter, value: bytes) -> list[Effect]:
        """A request that another worker has left for us."""
        peer, type, counter, payload = unpack(value, 4)
        message = Message(type[0], meter.number, 0, 0, number_of(counter), 0, payload)
        effects: list[Effect] = [Drop("relay", str(meter.number))]
        try:
            effects += self._handlers[message.type](peer.decode(), meter, message)
        except Refused as refused:
            self.refusals.note(refused.reason, meter.number)
            code = error_code(refused.reason)
            effects.append(self._answer(peer.decode(), meter, message, wire.ERROR, code))
        return effects
