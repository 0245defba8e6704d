"""The control centre: registers meters, and opens one total per period, never anything else.

Rule 4 of the protocol lives here: a certified set of at least Q meters, a period that has ended by
our own clock and overlaps no other, the request and its epsilon in the ledger before the
decryption, and one decryption per period, ever. See docs/PROTOCOL.md, "Control centre".
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from gmpy2 import mpz

from wattveil.paillier.ciphertext import NotACiphertext, from_pair
from wattveil.privacy import ledger
from wattveil.privacy.law import sum_bounds
from wattveil.roles.answering import Answering
from wattveil.roles.common import (
    Clock,
    Load,
    Random,
    counter_key,
    decode_members,
    equal,
    error_code,
    number_of,
    u64,
)
from wattveil.roles.effects import Again, Effect, Save
from wattveil.roles.folders import CenterConfig
from wattveil.roles.releases import SUM_INVALID, Answer, Releases, Request, digest_of
from wattveil.roles.suites import suite_of
from wattveil_meter.fields import unpack
from wattveil_meter.masks import (
    closing_certificate,
    identity_hash,
    register_mac,
    registered_mac,
    time_mac,
)
from wattveil_meter.wire import (
    CENTER,
    CODES,
    ERROR,
    OPEN,
    RELAY_REGISTER,
    RELAY_TIME,
    RELAYED_REGISTER,
    RELAYED_TIME,
    RELEASED,
    Message,
    Refused,
)

SKEW_S = 300  # how far a registration's tau may be from our clock

log = logging.getLogger("wattveil.center")


@dataclass(frozen=True)
class _Pending:
    """A request between ledger and decryption."""

    peer: str
    reply: int
    request: Request | None  # to be entered; None: it was before a restart
    seeds: list[bytes] = field(repr=False)  # of the meters in S
    ciphertexts: list[mpz]


class Center(Answering):
    """RELAY_TIME, RELAY_REGISTER and OPEN in; the totals stay here."""

    name = "center"

    def __init__(self, config: CenterConfig, boot: int, clock: Clock, random: Random) -> None:
        args = (config.record, config.roster, config.seeds, config.cloud, CENTER, boot, clock)
        super().__init__(*args)
        self.config = config
        self.suite = suite_of(config.record)
        self.releases = Releases(config.record, config.roster, config.limits, config.subjects)
        self._random = random
        self._nonces: dict[int, bytes] = {}  # the last one told to each meter, until it is used
        self._last_tau: dict[str, int] = {}
        self._pending: dict[int, _Pending] = {}
        self._keys = list(config.registration_keys)
        self._coming = dict(config.next_keys)  # registration keys that meters are moved to
        self._told: dict[int, bytes] = {}  # the key of the last TIME_IS to such a meter

    def restore(self, load: Load) -> list[Effect]:
        """See `common.Role`."""
        self.releases.restore(load)
        bound = [] if load(ledger.KEY) else [Save(ledger.KEY, "", self.config.subjects.check)]
        self._last_tau = {name: number_of(row) for name, row in load("tau").items()}
        done = load("rotated")
        for number, (key, _) in list(self._coming.items()):
            if counter_key(key) in done:
                self._move(number)
        return [*bound, *super().restore(load)]

    def answer(self, peer: str, message: Message) -> list[Effect]:
        """See `Answering`."""
        if message.type == OPEN:
            return self._open(peer, message)
        if message.type == RELAY_TIME:
            return self._time(peer, message)
        if message.type == RELAY_REGISTER:
            return self._register(peer, message)
        raise Refused("malformed")

    # --- registration ---------------------------------------------------------------------------

    def _meter(self, payload: bytes, size: int) -> tuple[int, bytes]:
        """Number and id of the meter a relayed message names."""
        number = number_of(payload[:4])
        if len(payload) != size:
            raise Refused("malformed")
        if not 1 <= number <= len(self.config.roster):
            raise Refused("unknown_meter")
        if number in self.revoked:
            raise Refused("revoked")
        return number, self.config.roster[number - 1].encode()

    def _time_key(self, number: int) -> bytes:
        """The registration key for the next TIME_IS.

        While a meter is moved to a new key nobody knows which one it has: it is told under the
        one and the other in turn, asks again when it cannot check what it was told, and registers
        under the one it has.
        """
        old = self._keys[number - 1]
        if number not in self._coming:
            return old
        new, until = self._coming[number]
        if self.clock.now() >= until:
            return new
        self._told[number] = old if self._told.get(number) == new else new
        return self._told[number]

    def _move(self, number: int) -> None:
        self._keys[number - 1] = self._coming.pop(number)[0]

    def _time(self, peer: str, message: Message) -> list[Effect]:
        number, meter_id = self._meter(message.payload, 4 + 16)
        key = self._time_key(number)
        nonce = message.payload[4:]
        now, running = self.clock.now(), int(self.clock.running)
        fresh = self._nonces[number] = self._random(16)
        mac = time_mac(key, self.record, meter_id, nonce, fresh, now, running)
        payload = u64(now) + bytes((running,)) + fresh + mac
        return [self.send(peer, message.counter, 0, RELAYED_TIME, payload)]

    def _register(self, peer: str, message: Message) -> list[Effect]:
        number, meter_id = self._meter(message.payload, 4 + 8 + 32 + 32)
        key = self._told.pop(number, None) or self._time_key(number)
        claim, mac = message.payload[12:44], message.payload[44:]
        tau = number_of(message.payload[4:12])
        nonce = self._nonces.pop(number, None)
        if nonce is None:
            raise Refused("no_nonce")
        digest: bytes = identity_hash(meter_id, tau)
        expected: bytes = register_mac(key, self.record, meter_id, tau, nonce)
        if not (equal(digest, claim) & equal(expected, mac)):
            raise Refused("bad_registration")
        name = self.config.roster[number - 1]
        if abs(tau - self.clock.now()) > SKEW_S:
            raise Refused("tau_skew")
        row = self.config.subjects.name(name)
        if tau <= self._last_tau.get(row, -1):
            raise Refused("tau_not_increasing")
        self._last_tau[row] = tau
        log.debug("meter %d registered", number)
        payload = digest + registered_mac(key, self.record, meter_id, tau, nonce)
        moved = []
        if number in self._coming and key == self._coming[number][0]:
            moved.append(Save("rotated", counter_key(key), b""))
            self._move(number)
        return [
            *moved,
            Save("tau", row, u64(tau)),
            self.send(peer, message.counter, 0, RELAYED_REGISTER, payload),
        ]

    # --- one total per period -------------------------------------------------------------------

    def _open(self, peer: str, message: Message) -> list[Effect]:
        start: int = message.start
        members, certificate, *pairs = unpack(message.payload, 2 + self.suite.ciphertexts)
        record = self.record
        expected: bytes = closing_certificate(self.config.dealer_mac, record, start, members)
        if not equal(expected, certificate):
            raise Refused("bad_certificate")
        request = Request(
            record.fingerprint, record.period_s, members, certificate, digest_of(pairs)
        )
        known = self.releases.requests.get(start)
        if known is not None and known != request:
            raise Refused("closed")
        answer = self.releases.answers.get(start)
        if answer is not None:
            return [self._reply(peer, message.counter, start, answer)]
        if (
            start in self._pending
        ):  # its charge is being entered: never two ciphertexts for one charge
            raise Refused("unavailable")
        if self.releases.stopped:
            raise Refused("stopped")
        numbers = self._check(start, members) if known is None else self._numbers(members)
        seeds = self.seeds_of(numbers, start)
        ciphertexts = self._ciphertexts(pairs)
        new = request if known is None else None
        self._pending[start] = _Pending(peer, message.counter, new, seeds, ciphertexts)
        # Nothing was spent so far; once the charge is entered the period is closed for good.
        return [self.releases.debit(start, request) if new else Again(("open", start))]

    def _numbers(self, members: bytes) -> list[int]:
        numbers = decode_members(members, len(self.config.roster))
        if numbers is None:
            raise Refused("bad_set")
        return numbers

    def _check(self, start: int, members: bytes) -> list[int]:
        self.check_period(start)
        numbers = self.check_members(start, members)
        if self.releases.closed.overlaps(start, self.record.period_s):
            raise Refused("overlap")
        return numbers

    def _ciphertexts(self, pairs: Sequence[bytes]) -> list[mpz]:
        try:
            return [from_pair(pair, self.config.key.public) for pair in pairs]
        except NotACiphertext:
            raise Refused("not_a_ciphertext") from None

    def resume(self, event: tuple[str, int]) -> list[Effect]:
        """Decrypt a request that is in the ledger, or refuse one that went over a limit."""
        what, start = event
        pending = self._pending.pop(start)
        if what != "open":
            self.refusals.note(what)
            log.warning("period %d is not released: %s; see wattveil ledger show", start, what)
            code = error_code(what if what in CODES else "over_limit")
            return [self.send(pending.peer, pending.reply, start, ERROR, code)]
        if pending.request is not None:
            self.releases.debited(start, pending.request)
        record, size = self.record, len(pending.seeds)
        total = self.suite.total(
            record, self.config.key, pending.ciphertexts, pending.seeds, start
        )
        epsilon = Fraction(record.epsilon_num, record.epsilon_den)
        low, high = sum_bounds(
            size, record.lo, record.hi, record.a, epsilon, bool(record.own_noise)
        )
        # A value outside is random or an attack's: it goes nowhere, not even into a log.
        answer = Answer(total if low <= total <= high else None)
        effects = self.releases.settle(start, answer)
        if answer.total is None:
            self.refusals.note(SUM_INVALID)
        if self.releases.stopped:
            streak = self.releases.streak
            log.error("%d sums in a row were invalid: the fleet is stopped", streak)
        whole = len(self.config.roster)
        if answer.total is not None:
            log.info("period %d: %d Wh over %d of %d", start, answer.total, size, whole)
        return [*effects, self._reply(pending.peer, pending.reply, start, answer)]

    def _reply(self, peer: str, reply: int, start: int, answer: Answer) -> Effect:
        if answer.total is None:
            return self.send(peer, reply, start, ERROR, error_code(SUM_INVALID))
        return self.send(peer, reply, start, RELEASED)

    def newest(self) -> int | None:
        """See `Answering`."""
        return max(self.releases.requests, default=None)

    def status(self) -> dict[str, Any]:
        """See `common.Role`."""
        return {
            **super().status(),
            "releases": self.releases.shown(),
            "epsilon_spent": str(self.releases.spent),
            "epsilon_limits": self.releases.limits.text(),
            "stopped": self.releases.stopped,
        }
