"""The ways an answer may be protected. A technique registers here; the gateway knows no other.

Next come synthetic data, federated learning, secure computation and encrypted analytics: each is
one more `Technique`, with the same policy before it, the same ledger and the same log.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from wattveil.privacy.refusals import Refused

if TYPE_CHECKING:
    from wattveil.privacy.gateway import Blocks
    from wattveil.privacy.query.ask import Query

Json = dict[str, Any]


@dataclass(frozen=True)
class Cost:
    """What an answer spends of the ledger. An exact answer costs no epsilon but is remembered.

    event: kind and parameters of the mechanism for the tighter accounts shown beside the sum.
    """

    epsilon: Fraction
    delta: Fraction = Fraction(0)
    event: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """Who is asked about: public facts only. members: count, public by the neighbouring relation."""

    members: int
    group_min: int
    dominance: Fraction


class Technique(Protocol):
    """One way to protect an answer."""

    name: str

    def check(self, query: Query, group: Group) -> Cost:
        """What the answer will cost, from public numbers alone; Refused, ValueError."""

    def preview(self, query: Query, group: Group) -> Json:
        """The error to expect, from public numbers alone; Refused("no_preview")."""

    def run(self, query: Query, group: Group, blocks: Blocks) -> Json:
        """The answer's own fields (mechanism, scale, values ...). Called once, after the spend."""


# name -> module:object; imported when first used, so that what is not installed does not matter.
_KNOWN: dict[str, str | Callable[[], Technique]] = {
    "dp": "wattveil.privacy.query.dp:DP",
    "aggregate": "wattveil.privacy.query.aggregate:Aggregate",
}


def register(name: str, make: str | Callable[[], Technique]) -> None:
    """Add a technique: how to make it, or "module:class"."""
    _KNOWN[name] = make


def names() -> list[str]:
    """All that are registered."""
    return sorted(_KNOWN)


def technique(name: str) -> Technique:
    """The one of this name; Refused("unknown_technique")."""
    make = _KNOWN.get(name)
    if make is None:
        raise Refused("unknown_technique", f"{name!r}; there are {', '.join(names())}")
    if isinstance(make, str):
        module, _, attribute = make.partition(":")
        make = getattr(import_module(module), attribute)
    made: Technique = make()
    return made
