"""Who is at the door: sessions and access tokens, and how often anybody may knock.

All of it is in memory: when the server starts again, everybody proves again who they are.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from wattveil.privacy.people import Person
from wattveil.privacy.refusals import Refused
from wattveil.privacy.state import State

MOST_GRANTS = 10_000
MOST_KEYS = 10_000


@dataclass
class Grant:
    """Access of a person until `ends`, or until it is idle for `idle` s. made: UTC s; the others
    by the monotonic clock."""

    person: Person
    made: float
    ends: float
    idle: float
    seen: float
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    def check(self, state: State) -> None:
        """Refused when access was withdrawn, or a new key was made, since."""
        row = state.gateway().execute(
            "SELECT since, revoked, subject FROM people WHERE role=? AND name=?",
            (self.person.role, self.person.name),
        )
        since, revoked, subject = row.fetchone() or (0, 0, None)
        if revoked is not None or since > self.made or subject != self.person.subject:
            raise Refused("revoked_person", "log in again")


class Grants:
    """Bearer secrets of one kind; what is kept of a secret is its hash."""

    def __init__(
        self, life_s: float, idle_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.life_s, self._idle_s, self._clock = life_s, idle_s, clock
        self._lock = threading.Lock()
        self._grants: dict[bytes, Grant] = {}

    def issue(self, person: Person) -> str:
        """A new secret of this person's."""
        now = self._clock()
        secret = secrets.token_urlsafe(32)
        with self._lock:
            if len(self._grants) >= MOST_GRANTS:
                self._sweep(now)
            self._grants[_hash(secret)] = Grant(
                person, time.time(), now + self.life_s, self._idle_s, now
            )
        return secret

    def find(self, secret: str) -> Grant | None:
        """Whose secret this is, if it is still good."""
        now, name = self._clock(), _hash(secret)
        with self._lock:
            grant = self._grants.get(name)
            if grant is None:
                return None
            if now >= min(grant.ends, grant.seen + grant.idle):
                del self._grants[name]
                return None
            grant.seen = now
            return grant

    def drop(self, secret: str) -> None:
        """Forget a secret."""
        with self._lock:
            self._grants.pop(_hash(secret), None)

    def _sweep(self, now: float) -> None:
        good = {k: g for k, g in self._grants.items() if now < min(g.ends, g.seen + g.idle)}
        while len(good) >= MOST_GRANTS:
            good.pop(min(good, key=lambda k: good[k].seen))
        self._grants = good


class Rate:
    """A token bucket per key: `burst` at once, `per_s` on average."""

    def __init__(
        self, burst: float, per_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst, self._per_s, self._clock = burst, per_s, clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait(self, key: str) -> float:
        """Take one; 0.0, or the seconds until there is one again."""
        now = self._clock()
        with self._lock:
            if len(self._buckets) >= MOST_KEYS:
                self._buckets = {k: b for k, b in self._buckets.items() if self._left(b, now) < 1}
                if len(self._buckets) >= MOST_KEYS:
                    return 1.0
            left = self._left(self._buckets.get(key, (self._burst, now)), now)
            self._buckets[key] = (left - 1 if left >= 1 else left, now)
            return 0.0 if left >= 1 else (1 - left) / self._per_s

    def _left(self, bucket: tuple[float, float], now: float) -> float:
        return min(self._burst, bucket[0] + (now - bucket[1]) * self._per_s)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
