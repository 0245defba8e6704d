"""`wattveil policy`: what the rules would say to a request, and which one decides.

REQUEST.json: {"as": "analyst:ann", "action": "query", "purpose": "research", "technique": "dp",
"epsilon": "0.5", "delta": "0", "members": 600, "resolution_s": 1800, "consent": false,
"resource": {}}. Nobody is authenticated and nothing is done: it is a question about the rules.
"""

from __future__ import annotations

import argparse
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

from wattveil.privacy.command import add_common
from wattveil.privacy.people import Person, parse
from wattveil.privacy.policy.engine import Decision, Policy
from wattveil.privacy.state import State

Json = dict[str, Any]
FACTS: Json = {  # what a request may leave out, and what then counts
    "purpose": "",
    "technique": "dp",
    "epsilon": "0",
    "delta": "0",
    "members": 0,
    "resolution_s": 0,
    "consent": False,
    "carry_out": False,
    "approved": False,
}
EXACT = ("epsilon", "delta")
MAX_BYTES = 100_000


def options(parse: argparse.ArgumentParser) -> None:
    """The sub-commands and their options."""
    commands = parse.add_subparsers(required=True, metavar="ACTION")
    for name, text in (
        ("check", "whether a request would be permitted"),
        ("explain", "the rule that decides, its words and its source"),
        ("list", "all rules"),
    ):
        action = commands.add_parser(name, help=text)
        if name != "list":
            action.add_argument("request", type=Path, metavar="REQUEST.json")
        add_common(action)
        action.set_defaults(action=name)


def run(args: argparse.Namespace) -> int:
    """0 whatever the rules say; ValueError for a request that is none."""
    state = State.open(args.state_dir)
    policy = Policy(state.config.purposes)
    if args.action == "list":
        rules = [vars(rule) for rule in policy.rules.values()]
        print(json.dumps(rules, indent=1) if args.json else "\n\n".join(map(_rule, rules)))
        return 0
    decision = decide(policy, load(args.request), state.config.release.group_min)
    result = explained(decision) if args.action == "explain" else checked(decision)
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        print("permitted" if decision.allowed else f"refused: {decision.reason}")
        if args.action == "explain":
            print(_rule(vars(decision.rule)) if decision.rule else decision.why)
    return 0


def load(path: Path) -> Json:
    """A request file; ValueError."""
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    try:
        request = json.loads(raw) if len(raw) <= MAX_BYTES else None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(request, dict):
        raise ValueError(f"{path}: a request is one JSON object of at most {MAX_BYTES} bytes")
    unknown = request.keys() - {"as", "action", "resource", "group_min", *FACTS}
    if unknown:
        raise ValueError(f"{path}: unknown {', '.join(sorted(unknown))}")
    return request


def decide(policy: Policy, request: Json, group_min: int) -> Decision:
    """What the policy says to a request as `load` reads it; ValueError."""
    who, action = request.get("as"), request.get("action", "query")
    if not isinstance(who, str) or not isinstance(action, str):
        raise ValueError('a request needs "as": "ROLE:NAME", and "action" as text')
    role, name = parse(who)
    resource = request.get("resource", {})
    texts = isinstance(resource, dict) and all(isinstance(v, str) for v in resource.values())
    if not texts:
        raise ValueError('"resource" is an object of texts')
    context: Json = {"group_min": group_min}
    for fact, default in FACTS.items():
        value = request.get(fact, default)
        if fact in EXACT:
            value = _exact(fact, value)
        elif type(value) is not type(default):
            raise ValueError(f'"{fact}" is a {type(default).__name__}')
        context[fact] = value
    subject = "own" if role == "customer" else None  # {"subject": "own"} is the own meter
    return policy.decide(Person(role, name, subject), action, resource, context)


def _exact(name: str, value: object) -> Fraction:
    try:
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            exact = Fraction(str(value))
            if 0 <= exact < 10**9:
                return exact
    except (ValueError, ZeroDivisionError):
        pass
    raise ValueError(f'"{name}" is a number of at least 0, best as text, like "0.5"')


def checked(decision: Decision) -> Json:
    """A decision for `check`."""
    return {
        "allowed": decision.allowed,
        "rule": decision.rule_id,
        "refused": None if decision.allowed else decision.reason,
    }


def explained(decision: Decision) -> Json:
    """A decision for `explain`: with the rule's own words."""
    rule = decision.rule
    words = (
        {"effect": rule.effect, "source": rule.source, "original": rule.original} if rule else {}
    )
    return checked(decision) | {"says": decision.why} | words


def _rule(rule: Json) -> str:
    return (
        f"{rule['id']} ({rule['effect']})\n  {rule['says']}\n  after: {rule['source']}\n"
        f"  original: {rule['original']}"
    )
