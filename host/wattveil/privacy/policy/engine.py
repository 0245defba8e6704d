"""Cedar decides, and an error is a no.

Rules are the *.cedar files of a folder, in the order of their names. Each rule carries @id, @says
(in words), @source, @original (whether it was read) and, to forbid, @reason: the refusal's name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

from wattveil.privacy.config import Purposes
from wattveil.privacy.people import Person
from wattveil.privacy.refusals import REASONS

RULES = Path(__file__).with_name("rules")
MISSING = "the privacy gateway needs more packages: pip install 'wattveil[privacy]'"
DECIMALS = 10_000  # Cedar's decimals have four places

Json = dict[str, Any]


class PolicyError(ValueError):
    """The rules cannot be used: which and why."""


@dataclass(frozen=True)
class Rule:
    """One rule as its file says it."""

    id: str
    effect: str  # permit or forbid
    says: str
    source: str
    original: str
    reason: str


@dataclass(frozen=True)
class Decision:
    """What the policy said. rule_id: of the rule that decided, None where none permits.

    reason: the refusal's name when not allowed. why: for people.
    """

    allowed: bool
    rule_id: str | None
    why: str
    reason: str = ""
    rule: Rule | None = None


class Policy:
    """The rules of a folder, read once."""

    def __init__(self, purposes: Purposes, folder: Path = RULES) -> None:
        self._purposes, self._folder = purposes, folder

    @cached_property
    def text(self) -> str:
        """All rules, as they are written. PolicyError."""
        files = sorted(self._folder.glob("*.cedar"))
        if not files:
            raise PolicyError(f"{self._folder} holds no rules (*.cedar)")
        return "\n".join(file.read_text() for file in files)

    @cached_property
    def rules(self) -> dict[str, Rule]:
        """Every rule by Cedar's own name for it, in the order they are written. PolicyError."""
        try:
            parsed = json.loads(_cedar().policies_to_json_str(self.text))
        except ValueError as error:
            raise PolicyError(f"{self._folder}: {error}") from None
        found: dict[str, Rule] = {}
        for name, body in parsed["staticPolicies"].items():
            notes: Json = body.get("annotations", {})
            effect, reason = body["effect"], notes.get("reason", "")
            missing = [n for n in ("id", "says", "source", "original") if not notes.get(n)]
            if effect == "forbid" and reason not in REASONS:
                missing.append("reason (one of the documented refusals)")
            if missing:
                raise PolicyError(f"rule {notes.get('id', name)} lacks @{', @'.join(missing)}")
            found[name] = Rule(
                notes["id"], effect, notes["says"], notes["source"], notes["original"], reason
            )
        if not found:
            raise PolicyError(f"{self._folder} holds no rule")
        if len({rule.id for rule in found.values()}) < len(found):
            raise PolicyError("two rules have the same @id")
        return dict(sorted(found.items(), key=lambda item: int(item[0].removeprefix("policy"))))

    def decide(
        self, person: Person, action: str, resource: Mapping[str, Any], context: Mapping[str, Any]
    ) -> Decision:
        """Whether the person may. resource: text attributes; context: text, bool, int, Fraction.

        Anything that goes wrong (a rule that does not parse, an attribute that a rule needs and
        the request lacks) forbids.
        """
        try:
            rules = self.rules
            request, entities = self._request(person, action, resource, context)
            result = _cedar().is_authorized(request, self.text, entities)
        except (PolicyError, OSError, TypeError, ValueError) as error:
            return Decision(False, None, str(error), "policy_unusable")
        if result.diagnostics.errors:
            # A forbid that fails would be skipped by Cedar: an error has to be a no by itself.
            return Decision(False, None, "; ".join(result.diagnostics.errors), "policy_unusable")
        said = set(result.diagnostics.reasons)
        decided = next((rule for name, rule in rules.items() if name in said), None)
        if decided is None:
            why = f"no rule permits {action} to {person.role}"
            return Decision(False, None, why, "not_permitted")
        allowed = bool(result.allowed) and decided.effect == "permit"
        return Decision(allowed, decided.id, decided.says, decided.reason, decided)

    def _request(
        self, person: Person, action: str, resource: Mapping[str, Any], context: Mapping[str, Any]
    ) -> tuple[Json, list[Json]]:
        purpose = context.get("purpose", "")
        facts: Json = {"purpose_kind": self._purposes.kind(purpose) or "unknown"}
        for name, value in context.items():
            if name == "delta":
                facts["delta_per_billion"] = ceil(Fraction(value) * 10**9)
            elif isinstance(value, Fraction):
                facts[name] = {"__extn": {"fn": "decimal", "arg": _decimal(value)}}
            elif isinstance(value, (str, bool, int)):
                facts[name] = value
            else:
                raise TypeError(f"context {name}: {type(value).__name__} is no fact")
        attributes = {"subject": ""} | {name: str(value) for name, value in resource.items()}
        who = {"role": person.role, "name": person.name, "subject": person.subject or ""}
        entities = [
            {"uid": {"type": "Person", "id": str(person)}, "attrs": who, "parents": []},
            {"uid": {"type": "Data", "id": "data"}, "attrs": attributes, "parents": []},
        ]
        request = {
            "principal": {"type": "Person", "id": str(person)},
            "action": {"type": "Action", "id": action},
            "resource": {"type": "Data", "id": "data"},
            "context": facts,
        }
        return request, entities


def _decimal(value: Fraction) -> str:
    """Rounded up to Cedar's four places, so that no ceiling is passed by rounding."""
    whole, part = divmod(ceil(value * DECIMALS), DECIMALS)
    return f"{whole}.{part:04}"


def _cedar() -> Any:
    try:
        import cedarpy
    except ImportError:
        raise PolicyError(MISSING) from None
    return cedarpy
