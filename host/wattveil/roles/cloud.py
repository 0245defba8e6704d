"""The cloud platform: the meters' side of every link, and the sums of their ciphertexts.

It draws the one-hot rows, so it knows which slot counts, but it has neither the private key nor
any seed. It speaks only when asked: meters pull, one request at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from wattveil.paillier.ciphertext import NotACiphertext
from wattveil.paillier.rows import RowSource
from wattveil.roles.closing import Closer
from wattveil.roles.common import (
    Clock,
    Load,
    Refusals,
    counter_key,
    error_code,
    number_of,
    u32,
    u64,
)
from wattveil.roles.effects import Effect, Save, Send
from wattveil.roles.folders import CloudConfig
from wattveil.roles.revoked import Revoked
from wattveil.roles.sightings import Sighting
from wattveil.roles.suites import suite_of
from wattveil.roles.uploads import Uploads
from wattveil.roles.upstream import Ask, Reply, Upstream
from wattveil_meter import wire
from wattveil_meter.fields import Malformed, pack, unpack
from wattveil_meter.wire import Channel, Message, Refused

RELAY_S = 4.0  # a meter waits this long for the centre's word before it is told "unavailable"
DEADLINE_S = 30.0  # after a period's end, for reports
TEXT = 64  # characters kept of what a meter says about itself

SILENT, GREETED, REGISTERED = "silent", "greeted", "registered"

log = logging.getLogger("wattveil.cloud")


@dataclass
class Meter:
    """What the cloud knows of one meter."""

    number: int
    id: str
    channel: Channel = field(repr=False)
    key: str  # of its counter in the store
    state: str = SILENT
    texts: tuple[str, ...] = ("", "", "", "")  # runtime, firmware, kernel, self-test
    stored_boot: int = 0
    coming: Channel | None = field(default=None, repr=False)  # under the key it is moved to
    until: int = 0  # UTC s, when the old key ends all the same
    seen: Sighting = field(default_factory=Sighting)
    relay: tuple[str, int] | None = None  # link and counter of the request the centre is asked


class Cloud:
    """Meters' requests in, answers out; periods end in `Closer`."""

    def __init__(
        self,
        config: CloudConfig,
        boot: int,
        clock: Clock,
        rows: RowSource,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        record = config.record
        self.config, self.record, self.boot, self.clock = config, record, boot, clock
        self.refusals = Refusals("cloud", clock)
        self._rows = rows
        self.readings: dict[int, dict[int, bytes]] = {}  # demonstrations: sealed, by meter, start

        def channel(key: bytes, peer: int, asks: bool, limit: int) -> Channel:
            args = (key, record.fleet, wire.CLOUD, peer, asks, record.fingerprint, boot)
            return Channel(*args, limit)

        center = channel(config.center, wire.CENTER, True, wire.ROLE_LIMIT)
        dealer = channel(config.dealer, wire.DEALER, True, wire.ROLE_LIMIT)
        self._up = {
            "center": Upstream("center", center, clock),
            "dealer": Upstream("dealer", dealer, clock),
        }
        self.meters: dict[int, Meter] = {}
        for number, (name, key) in enumerate(zip(config.roster, config.link_keys, strict=True), 1):
            link = channel(key, number, False, wire.METER_LIMIT)
            self.meters[number] = Meter(number, name, link, counter_key(key))
        for number, (key, until) in config.next_keys.items():
            self.meters[number].coming = channel(key, number, False, wire.METER_LIMIT)
            self.meters[number].until = until
        suite = suite_of(record)
        self.revoked = Revoked(config.roster)
        links = (self._up["center"], self._up["dealer"])
        self.closer = Closer(record, suite, clock, self.refusals, *links, deadline_s, self.revoked)
        self._uploads = Uploads(record, self.closer, rows)
        self._handlers: dict[int, Callable[[str, Meter, Message], list[Effect]]] = {
            wire.HELLO: self._hello,
            wire.TIME: self._time,
            wire.REGISTER: self._register,
            wire.READING: self._reading,
            **dict.fromkeys(self._uploads.handlers, self._upload),
        }

    def restore(self, load: Load) -> list[Effect]:
        """See `common.Role`."""
        self.revoked.restore(load)
        counters, registered = load("counter"), load("meter")
        done = load("rotated")
        for number, (key, _) in self.config.next_keys.items():
            if counter_key(key) in done:
                self._move(self.meters[number])
        for meter in self.meters.values():
            meter.channel.last = number_of(counters.get(meter.key, b""))
            meter.stored_boot = meter.channel.last >> 32
            fingerprint, *texts = unpack(registered.get(meter.id, pack(*[b""] * 5)), 5)
            if fingerprint == self.record.fingerprint:
                meter.state = REGISTERED
                meter.texts = tuple(text.decode() for text in texts)
        return self.closer.restore(load)

    # --- links ----------------------------------------------------------------------------------

    def linked(self, peer: str, up: bool) -> list[Effect]:
        """See `common.Role`."""
        return list(self._up[peer].linked(up))

    def tick(self) -> list[Effect]:
        """See `common.Role`."""
        effects: list[Effect] = []
        for upstream in self._up.values():
            for ask in upstream.expired():
                self.refusals.note("unavailable", ask.key[1])
                effects += self._tell(
                    self.meters[ask.key[1]], wire.ERROR, error_code("unavailable")
                )
        effects += self.closer.due() + self.closer.clear()
        for upstream in self._up.values():
            effects += upstream.pump()
        return effects

    def resume(self, event: tuple[str, int]) -> list[Effect]:
        """See `common.Role`."""
        raise AssertionError(f"unexpected {event}")

    def receive(self, peer: str, frame: bytes) -> list[Effect]:
        """See `common.Role`: `peer` is "center", "dealer", or the name of a meter link."""
        if peer in self._up:
            return self._from_role(self._up[peer], frame)
        try:
            _, sender = wire.peek(frame)
            meter = self.meters.get(sender)
            if meter is None:
                raise Refused("unknown_sender")
            if sender in self.revoked:
                raise Refused("revoked")
            message, moved = self._open(meter, frame)
        except Refused as refused:
            self.refusals.note(refused.reason)
            return []
        meter.seen.request(peer, message, self.clock)
        try:
            handler = self._handlers.get(message.type)
            if handler is None:
                raise Refused("malformed")
            effects = handler(peer, meter, message)
        except (Refused, Malformed, NotACiphertext) as error:
            reason = error.reason if isinstance(error, Refused) else "malformed"
            if isinstance(error, NotACiphertext):
                reason = "not_a_ciphertext"
            self.refusals.note(reason, meter.number)
            effects = [self._answer(peer, meter, message, wire.ERROR, error_code(reason))]
        effects[:0] = moved
        boot = message.counter >> 32
        if boot > meter.stored_boot or any(isinstance(effect, Save) for effect in effects):
            meter.stored_boot = boot
            effects.insert(0, Save("counter", meter.key, u64(message.counter)))
        if message.type in (wire.REPORT, wire.ABSENT):
            effects += self.closer.due()
        return effects

    def _open(self, meter: Meter, frame: bytes) -> tuple[Message, list[Effect]]:
        """A meter's frame, under the key it is moved to if it has that; Refused.

        The first frame under the new key, or the deadline, ends the old one for good.
        """
        if meter.coming is None:
            return meter.channel.open(frame), []
        try:
            message = meter.coming.open(frame)
        except Refused as refused:
            if refused.reason != "forged" or self.clock.now() >= meter.until:
                raise
            return meter.channel.open(frame), []
        self._move(meter)
        return message, [Save("rotated", meter.key, b"")]

    def _move(self, meter: Meter) -> None:
        key, _ = self.config.next_keys[meter.number]
        assert meter.coming is not None
        meter.channel, meter.coming, meter.key = meter.coming, None, counter_key(key)
        meter.stored_boot = 0

    def _from_role(self, upstream: Upstream, frame: bytes) -> list[Effect]:
        try:
            reply = upstream.answer(frame)
        except Refused as refused:
            self.refusals.note(refused.reason)
            return []
        effects: list[Effect] = []
        if reply is not None:
            kind, number = reply.ask.key
            if kind == "close":
                effects += self.closer.share(reply)
            elif kind == "open":
                effects += self.closer.opened(reply)
            else:
                effects += self._relayed(kind, self.meters[number], reply)
        return [*effects, *upstream.pump()]

    def _answer(
        self, peer: str, meter: Meter, message: Message, type: int, payload: bytes = b""
    ) -> Send:
        return Send(peer, self._seal(meter, type, payload, message.start, message.counter))

    def _seal(self, meter: Meter, type: int, payload: bytes, start: int, reply: int) -> bytes:
        frame: bytes = meter.channel.seal(type, payload, start, reply)
        return frame

    # --- registration ---------------------------------------------------------------------------

    def _hello(self, peer: str, meter: Meter, message: Message) -> list[Effect]:
        name, *texts = unpack(message.payload, 5)
        if name != meter.id.encode():
            raise Refused("wrong_id")
        meter.texts = tuple(text.decode("utf-8", "replace")[:TEXT] for text in texts)
        if meter.texts[3]:
            self.refusals.note("selftest", meter.number)  # told to the operator, not refused
        if meter.state == SILENT:
            meter.state = GREETED
        return [self._answer(peer, meter, message, wire.WELCOME)]

    def _time(self, peer: str, meter: Meter, message: Message) -> list[Effect]:
        self.closer.idle(meter.number)
        return self._relay(peer, meter, message, 16, wire.RELAY_TIME, wire.RELAYED_TIME)

    def _register(self, peer: str, meter: Meter, message: Message) -> list[Effect]:
        types = (wire.RELAY_REGISTER, wire.RELAYED_REGISTER)
        return self._relay(peer, meter, message, 8 + 32 + 32, *types)

    def _relay(
        self, peer: str, meter: Meter, message: Message, size: int, type: int, answer: int
    ) -> list[Effect]:
        center = self._up["center"]
        if len(message.payload) != size:
            raise Refused("malformed")
        for kind in ("time", "register"):
            center.forget((kind, meter.number))
        if not center.up:
            raise Refused("unavailable")
        meter.relay = (peer, message.counter)
        key = ("time" if type == wire.RELAY_TIME else "register", meter.number)
        payload = u32(meter.number) + message.payload
        expires = self.clock.mono() + RELAY_S
        return list(center.ask(Ask(key, type, answer, payload, expires=expires)))

    def _relayed(self, kind: str, meter: Meter, reply: Reply) -> list[Effect]:
        payload = reply.payload
        if reply.error is not None:
            self.refusals.note(f"center_{reply.error}", meter.number)
            return self._tell(meter, wire.ERROR, error_code(reply.error))
        if kind == "time":
            return self._tell(meter, wire.TIME_IS, payload)
        if len(payload) != 32 + 32:
            self.refusals.note("malformed")
            return self._tell(meter, wire.ERROR, error_code("unavailable"))
        meter.state = REGISTERED
        texts = (text.encode() for text in meter.texts)
        saved = Save("meter", meter.id, pack(self.record.fingerprint, *texts))
        return [saved, *self._tell(meter, wire.REGISTERED, payload[32:])]

    def _tell(self, meter: Meter, type: int, payload: bytes) -> list[Effect]:
        """Answer a relayed request, unless the meter has given up on it."""
        if meter.relay is None:
            return []
        (peer, counter), meter.relay = meter.relay, None
        return [Send(peer, self._seal(meter, type, payload, 0, counter))]

    # --- one period -----------------------------------------------------------------------------

    def _upload(self, peer: str, meter: Meter, message: Message) -> list[Effect]:
        if meter.state != REGISTERED:
            raise Refused("unregistered")
        type, payload, changes = self._uploads.handlers[message.type](meter.number, message)
        if type == wire.REPORTED:
            meter.seen.report = message.start
        return [*changes, self._answer(peer, meter, message, type, payload)]

    def _reading(self, peer: str, meter: Meter, message: Message) -> list[Effect]:
        blob = self.readings.get(meter.number, {}).get(message.start)
        if blob is None:
            raise Refused("no_reading")
        return [self._answer(peer, meter, message, wire.READING_IS, blob)]

    # --- the operator ---------------------------------------------------------------------------

    def close(self, start: int) -> list[Effect]:
        """Close a period now, without waiting for the deadline; Refused when it cannot be."""
        period = self.closer.find(start)
        if not self.closer.ended(start):
            raise Refused("early")
        return self.closer.close(period)

    def status(self) -> dict[str, Any]:
        """See `common.Role`."""
        meters = {}
        for number, meter in self.meters.items():
            runtime, firmware, kernel, selftest = meter.texts
            meters[number] = {
                "id": meter.id,
                "runtime": runtime,
                "firmware": firmware,
                "kernel": kernel,
                "selftest": selftest,
                "state": meter.state,
                "refused": self.refusals.of[number],
                **meter.seen.status(),
            }
        periods, slots = self.closer.periods, self.closer.slots
        return {
            "role": "cloud",
            "boot": self.boot,
            "clock": self.clock.now(),
            "meters": meters,
            "revoked": self.revoked.names(),
            "periods": {start: periods[start].status(slots) for start in sorted(periods)},
            "steps": sum(period.steps() for period in periods.values()),
            "rows": self._rows.counts(),
            "refused": dict(self.refusals.counts),
            "watched": self.closer.shown,
        }
