"""Asking the cloud, one request at a time, and through it the centre for the time.

The half of a meter that knows frames, retries and clocks; what is asked, and why, is in meter.py.
"""

from wattveil_meter import wire
from wattveil_meter.drbg import same
from wattveil_meter.masks import time_mac
from wattveil_meter.utc import Utc

_TIMEOUT_MS = 3000  # first retry of an unanswered request; doubles up to _TIMEOUT_MAX_MS
_TIMEOUT_MAX_MS = 30000
_FLASH_MS = 3000  # between tries to write to a flash that refused


class Denied(Exception):
    """The cloud answered ERROR, or the flash took no write; args[0] names it."""


class Asking:
    """Frames out and answers in; see Meter for the arguments, which are the same."""

    def __init__(self, package, clock, drbg, boot, poll_ms):
        """boot: number of this start, which nothing was sent under yet."""
        record = package.record
        self.package = package
        self.record = record
        self.drbg = drbg
        self.state = "unregistered"
        self.refused = {}  # reason -> count of what was not accepted or did not work
        self.time = Utc(clock)  # by the centre's word
        self._clock = clock
        self._poll_ms = poll_ms
        args = (package.number, wire.CLOUD, True, record.fingerprint, boot)
        self._channel = wire.Channel(package.link_key, record.fleet, *args)
        self._answer = None
        self._asked = (0, 0)  # counter and start of the request under way
        self._deadline = 0  # clock ms at which it is sent again
        self._nonce = b""  # of the TIME request under way

    def utc(self):
        """UTC s by the centre's clock, None before the first sync."""
        return self.time.known()

    def wake(self):
        """The link is up again: what is unanswered is asked again within half a second."""
        if self._asked[0]:
            soon = self._clock.ms() + self.drbg.below(500)  # not the whole fleet in step
            self._deadline = min(self._deadline, soon)

    def receive(self, frame):
        """Take one frame from the cloud; what is not the answer awaited is counted and dropped."""
        try:
            message = self._channel.open(frame)
            counter, start = self._asked
            if not counter or (message.reply, message.start) != (counter, start):
                raise wire.Refused("replayed")
            self._asked = (0, 0)
            self._answer = message
        except wire.Refused as refusal:
            self._count(refusal.reason)

    def _register_again(self):
        """Generator: register, however often it takes."""
        raise NotImplementedError
        yield 0

    def _ask(self, type, payload, start=0, until=0):
        """Generator: send a request until it is answered; the Message, or Denied by name.

        payload: bytes, or a function that makes them anew for each attempt. until: UTC s at which
        it is `unanswered`, 0 for never.
        """
        timeout = _TIMEOUT_MS
        while True:
            sent = payload if isinstance(payload, bytes) else payload()
            frame = self._channel.seal(type, sent, start)
            self._asked = (self._channel.counter, start)
            self._answer = None
            yield frame
            self._deadline = self._clock.ms() + timeout
            if until and self.time.running:
                self._deadline = min(self._deadline, self.time.ms_at(until))
            while self._answer is None and self._clock.ms() < self._deadline:
                yield self._deadline - self._clock.ms()
            answer, self._asked = self._answer, (0, 0)
            if answer is None:
                if until and self.time.now() >= until:
                    raise Denied("unanswered")
                # jitter, so that a fleet does not come back in step after an outage
                timeout = min(2 * timeout, _TIMEOUT_MAX_MS) + self.drbg.below(500)
                continue
            if answer.type == type | 0x40:
                return answer
            name = "malformed"
            if answer.type == wire.ERROR and len(answer.payload) == 1:
                name = wire.NAMES.get(answer.payload[0], name)
            if name == "unregistered" and type not in (wire.HELLO, wire.TIME, wire.REGISTER):
                yield from self._register_again()  # the cloud forgot us; the request itself stands
            elif name in ("unavailable", "early"):
                yield from self._sleep(self._poll_ms)
                # only with a start: a TIME between TIME and REGISTER would replace the nonce
                back = name == "early" and start and (yield from self._went_back(start))
                if back and type == wire.ROW:
                    raise Denied(name)
            else:
                raise Denied(name)

    def _sync(self, until=0):
        """Generator: ask the centre, through the cloud, for the time; its nonce. until: as in `_ask`."""

        def fresh():  # each time: an old answer must not serve a cloud that holds it back
            self._nonce = self.drbg.bytes(16)
            return self._nonce

        data = (yield from self._ask(wire.TIME, fresh, 0, until)).payload
        if len(data) != 57:
            raise Denied("malformed")
        now, running, center_nonce = int.from_bytes(data[:8], "little"), data[8], data[9:25]
        key, meter_id = self.package.registration_key, self.package.id
        mac = time_mac(key, self.record, meter_id, self._nonce, center_nonce, now, running)
        if not same(mac, data[25:]):
            raise Denied("refused")
        if self.time.set(now, running):
            self._count("clock_jump")
        return center_nonce

    def _went_back(self, start, until=0):
        """Generator: whether the centre's clock, asked again, has not reached `start` (UTC s)."""
        try:
            yield from self._sync(until)
        except Denied as denied:
            self._count(denied.args[0])
        return self.time.now() < start

    def _sleep(self, ms):
        deadline = self._clock.ms() + ms
        while self._clock.ms() < deadline:
            yield deadline - self._clock.ms()

    def _wait_after(self, reason):
        """Generator: count a reason, and give what caused it time."""
        self._count(reason)
        yield from self._sleep(_FLASH_MS if reason == "flash" else self._poll_ms)

    def _count(self, reason):
        self.refused[reason] = self.refused.get(reason, 0) + 1
