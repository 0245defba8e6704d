"""The asking end of a link between roles: one question at a time, repeated until answered."""

from __future__ import annotations

from dataclasses import dataclass, field

from wattveil.roles.common import Clock
from wattveil.roles.effects import Send
from wattveil_meter.wire import ERROR, NAMES, Channel, Message, Refused

RETRY_S = 5.0  # no answer in this time: ask again, in a fresh frame
PAUSE_S = 1.0  # before asking again after "early" or "unavailable"

TRANSIENT = ("early", "unavailable")


@dataclass
class Ask:
    """One question; `key` names it, a newer one with the same key replaces it."""

    key: tuple[str, int]
    type: int
    answer: int  # type of the answer
    payload: bytes = field(repr=False)
    start: int = 0
    expires: float | None = None  # mono; None: repeat for ever
    not_before: float = 0.0  # mono


@dataclass(frozen=True)
class Reply:
    """The answer to an Ask: a payload, or the name of an error."""

    ask: Ask
    payload: bytes = field(repr=False)
    error: str | None


class Upstream:
    """Questions to one peer, in order; a question that gets no answer goes to the back."""

    def __init__(self, peer: str, channel: Channel, clock: Clock) -> None:
        self.peer = peer
        self.up = False
        self._channel = channel
        self._clock = clock
        self._waiting: dict[tuple[str, int], Ask] = {}
        self._flight: Ask | None = None
        self._counter = 0
        self._sent = 0.0

    def ask(self, ask: Ask) -> list[Send]:
        """Queue a question and send it if it is its turn."""
        self._waiting[ask.key] = ask
        return self.pump()

    def begin(self, boot: int) -> None:
        """Nothing has been asked yet, and our frames count from here."""
        self._waiting.clear()
        self._flight = None
        self._channel.counter = boot << 32

    def forget(self, key: tuple[str, int]) -> None:
        """Nobody wants this answer any more."""
        self._waiting.pop(key, None)
        if self._flight is not None and self._flight.key == key:
            self._flight = None

    def linked(self, up: bool) -> list[Send]:
        """The link came up (what was under way is asked again) or went down."""
        self.up = up
        self._shelve()
        return self.pump()

    def expired(self) -> list[Ask]:
        """Take out the questions whose time is over."""
        now = self._clock.mono()
        flight = [self._flight] if self._flight is not None else []
        late = [
            ask
            for ask in [*flight, *self._waiting.values()]
            if ask.expires is not None and now >= ask.expires
        ]
        for ask in late:
            self.forget(ask.key)
        return late

    def pump(self) -> list[Send]:
        """Send the next question if none is under way, or the same again after RETRY_S."""
        now = self._clock.mono()
        if self._flight is not None and now - self._sent >= RETRY_S:
            self._shelve()
        if not self.up or self._flight is not None:
            return []
        for key, ask in self._waiting.items():
            if now >= ask.not_before:
                del self._waiting[key]
                frame: bytes = self._channel.seal(ask.type, ask.payload, ask.start)
                self._flight, self._counter, self._sent = ask, self._channel.counter, now
                return [Send(self.peer, frame)]
        return []

    def answer(self, frame: bytes) -> Reply | None:
        """The answer in a frame; None for a passing error, which is asked again. Refused."""
        message: Message = self._channel.open(frame)
        ask = self._flight
        if ask is None or message.reply != self._counter or message.start != ask.start:
            raise Refused("replayed")
        error = None
        if message.type == ERROR and len(message.payload) == 1:
            error = NAMES.get(message.payload[0], "refused")
        elif message.type != ask.answer:
            raise Refused("malformed")
        if error in TRANSIENT and ask.expires is None:
            self.pause()
            return None
        self._flight = None
        return Reply(ask, message.payload, error)

    def pause(self) -> None:
        """Put the question under way back, for a little later."""
        if self._flight is not None:
            self._flight.not_before = self._clock.mono() + PAUSE_S
            self._shelve()

    def _shelve(self) -> None:
        if self._flight is not None:
            self._waiting.setdefault(self._flight.key, self._flight)
            self._flight = None
