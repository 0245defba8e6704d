"""Weaknesses: protections of the product that can be taken away, each at one seam.

Every attack is played against the product and against the product without the protection it answers: an
attack that cannot win there would prove nothing. `wattveil audit privacy --plant NAME` audits such a product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from gmpy2 import powmod

from wattveil.paillier import group
from wattveil.privacy.ledger import Row
from wattveil.privacy.subjects import Subjects
from wattveil.roles import seeds as role_seeds
from wattveil.roles import suites
from wattveil.roles.answering import Answering
from wattveil.roles.center import Center
from wattveil.roles.common import decode_members
from wattveil.roles.dealer import Dealer
from wattveil.roles.intervals import Intervals
from wattveil.runners import host
from wattveil_meter import compact, drbg, masks, noise, seeds, yan2024
from wattveil_meter.drbg import hmac_sha256
from wattveil_meter.kernels.portable import Portable
from wattveil_meter.store import MemoryStorage

Change = tuple[Any, str, Any]  # owner, name, what it is instead
CORES = (yan2024, compact)
RANDOMISER_BITS = 256  # of level short


@dataclass(frozen=True)
class Weakness:
    """what: the product with it, in a few words. changes(): what is different then."""

    name: str
    what: str
    changes: Callable[[], list[Change]]

    @contextmanager
    def planted(self) -> Iterator[None]:
        """The product of this process has it meanwhile."""
        kept: list[Change] = []
        try:
            for owner, name, value in self.changes():
                kept.append((owner, name, getattr(owner, name)))
                setattr(owner, name, value)
            yield
        finally:
            for owner, name, value in reversed(kept):
                setattr(owner, name, value)


def _everywhere(name: str, value: Any) -> list[Change]:
    """A mask, for meters, dealer and centre alike: totals stay right."""
    owners = [module for module in (*CORES, suites, masks) if hasattr(module, name)]
    return [(module, name, value) for module in owners]


def _no_mask(name: str) -> Callable[[], list[Change]]:
    return lambda: _everywhere(name, lambda *args: 0)


def _no_row_check() -> list[Change]:
    def without(real: Any) -> Any:
        def init(self: Any, *args: Any) -> None:
            real(self, *args)
            self._plain, self._s = self._plain + self._s, 0

        return init

    return [(c, "__init__", without(c.__init__)) for c in (yan2024.Yan2024, compact.Compact)]


def _square_h_s() -> list[Change]:
    real = group.group_nonresidue
    return [
        (
            group,
            "group_nonresidue",
            lambda n, fleet, epoch: powmod(real(n, fleet, epoch), 2, n * n),
        )
    ]


def _odd_r() -> list[Change]:
    real: Any = drbg.Drbg.bits
    odd = lambda self, count: real(self, count) | (count == RANDOMISER_BITS)  # noqa: E731
    return [(drbg.Drbg, "bits", odd)]


def _no_sign() -> list[Change]:
    real: Any = Portable.finish
    plain = lambda self, x, exponent, negative=False: real(self, x, exponent)  # noqa: E731
    return [(Portable, "finish", plain)]


def _forgetful_meter() -> list[Change]:
    return [(MemoryStorage, "write", lambda self, name, value: None)]


def _dealer_closes_twice() -> list[Change]:
    real = Dealer.answer

    def answer(self: Any, peer: str, message: Any) -> Any:
        self._closings, self._closed = {}, Intervals()
        return real(self, peer, message)

    return [(Dealer, "answer", answer)]


def _center_opens_twice() -> list[Change]:
    real = Center._open

    def opened(self: Any, peer: str, message: Any) -> Any:
        self.releases.requests, self.releases.answers = {}, {}
        self.releases.closed = Intervals()
        return real(self, peer, message)

    def uncharged(rows: Any, charge: Any, limits: Any) -> list[Row]:
        return []  # the ledger refuses a second charge of a period by itself

    return [(Center, "_open", opened), (host, "enter", uncharged)]


def _no_quorum() -> list[Change]:
    def members(self: Any, start: int, given: bytes) -> list[int]:
        return decode_members(given, self.record.roster_size) or []

    return [(Answering, "check_members", members)]


def _masks_without_record() -> list[Change]:
    def prf(seed: bytes, label: bytes, record: Any, start: int, size: int) -> bytes:
        out = b""
        while len(out) < size:
            block = label + masks.u64(start) + bytes((len(out) // 32,))
            out += hmac_sha256(seed, block)
        return out[:size]

    return [(masks, "prf", prf)]


def _no_ratchet() -> list[Change]:
    same = lambda seed, day: seed  # noqa: E731
    return [(module, "next_seed", same) for module in (masks, role_seeds, seeds)]


def _scaled(number: int, divisor: int) -> Callable[[], list[Change]]:
    """Samplers of a scale that is `number / divisor` of the right one."""

    def changes() -> list[Change]:
        found: list[Change] = []
        for sampler in (noise.GammaSampler, noise.DiscreteSampler):
            found.append((sampler, "__init__", _with_epsilon(sampler.__init__, number, divisor)))
        return found

    return changes


def _with_epsilon(real: Any, number: int, divisor: int) -> Any:
    def init(self: Any, a: int, epsilon_num: int, epsilon_den: int, delta: int) -> None:
        real(self, a, epsilon_num * divisor, epsilon_den * number, delta)

    return init


def _short_shares() -> list[Change]:
    def with_shape(real: Any) -> Any:
        def init(self: Any, a: int, *args: int) -> None:
            real(self, 2 * a, *args)

        return init

    samplers = (noise.GammaSampler, noise.DiscreteSampler)
    return [(sampler, "__init__", with_shape(sampler.__init__)) for sampler in samplers]


def _no_noise() -> list[Change]:
    return [(core, "clamp", lambda xi, limit: 0) for core in CORES]


def under_calibrated(by: int = 2) -> list[Change]:
    """The gateway's mechanisms, calibrated for a part of the sensitivity."""
    from wattveil.privacy.query import dp, noise

    real: Any = noise.calibrate

    def less(*args: Any) -> Any:
        made = real(*args)
        return replace(made, scale=made.scale / by)

    return [(dp, "calibrate", less)]


def _no_guard() -> list[Change]:
    from wattveil.privacy.query import dp

    return [(dp, "guard", lambda *args: None)]


def less_noise(by: int) -> Callable[[], list[Change]]:
    """The gateway's mechanisms with a part of their noise, past the guard; of a quantile's, its square."""

    def changes() -> list[Change]:
        from wattveil.privacy.query import dp

        real: Any = dp._choose
        eager = lambda ranked, sensitivity, epsilon: real(ranked, sensitivity, by**2 * epsilon)  # noqa: E731
        return [*under_calibrated(by), *_no_guard(), (dp, "_choose", eager)]

    return changes


def _missing_spend() -> list[Change]:
    from wattveil.privacy.gateway import Gateway

    def spend(self: Any, charge: str, person: Any, query: Any, *rest: Any) -> Any:
        return self.accountant.balance(person, query.purpose)

    return [(Gateway, "_spend", spend)]


def _log_gap() -> list[Change]:
    from wattveil.privacy.log import Log

    real: Any = Log.append

    def append(self: Any, kind: str, body: Any) -> int:
        return self.size if kind == "spend" else int(real(self, kind, body))

    return [(Log, "append", append)]


def _plain_names() -> list[Change]:
    return [(Subjects, "name", lambda self, meter_id: meter_id)]


WEAKNESSES = {
    weakness.name: weakness
    for weakness in (
        Weakness("no-u", "no mask u on a reading: only k", _no_mask("mask_u")),
        Weakness("no-v", "no mask v of the centre's", _no_mask("mask_v")),
        Weakness("no-row-check", "rows are not checked: s = 0", _no_row_check),
        Weakness("square-h_s", "h_s of Jacobi symbol 1", _square_h_s),
        Weakness("odd-r", "randomiser exponents always odd", _odd_r),
        Weakness("no-sign", "no random sign on a ciphertext", _no_sign),
        Weakness("forgetful-meter", "a meter that stores nothing", _forgetful_meter),
        Weakness(
            "dealer-closes-twice", "a dealer that closes a period again", _dealer_closes_twice
        ),
        Weakness("center-opens-twice", "a centre that opens a period again", _center_opens_twice),
        Weakness("no-quorum", "dealer and centre accept any set", _no_quorum),
        Weakness("masks-without-record", "masks of label and start only", _masks_without_record),
        Weakness("no-ratchet", "seeds that stay the same from day to day", _no_ratchet),
        Weakness("half-scale", "samplers of half the scale: Δ/2 for Δ", _scaled(1, 2)),
        Weakness("kwh-scale", "samplers that take Wh for kWh", _scaled(1, 1000)),
        Weakness("short-shares", "shares of shape 1/2a: half the noise", _short_shares),
        Weakness("no-noise", "shares are drawn and not added", _no_noise),
        Weakness(
            "half-noise", "gateway: noise for half the sensitivity, unguarded", less_noise(2)
        ),
        Weakness("missing-spend", "gateway: answers that nobody pays for", _missing_spend),
        Weakness("log-gap", "gateway: a log without the spends", _log_gap),
        Weakness("plain-names", "a ledger that names households by meter id", _plain_names),
        Weakness("no-guard", "gateway: nobody works the sensitivity out again", _no_guard),
    )
}
