"""The rules: what they permit, that they cite, and that anything wrong is a no."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction

import pytest

from privacyworld import World
from wattveil.cli import main
from wattveil.privacy import approvals, consent
from wattveil.privacy.config import Purposes
from wattveil.privacy.people import Person
from wattveil.privacy.policy import Policy
from wattveil.privacy.policy.command import decide, load
from wattveil.privacy.policy.engine import RULES, PolicyError
from wattveil.privacy.refusals import Refused

CITED = '@id("A") @says("s.") @source("s") @original("o")'
PURPOSES = Purposes()
POLICY = Policy(PURPOSES)
ASK = {"as": "researcher:rob", "purpose": "research", "epsilon": "0.5", "members": 600,
       "resolution_s": 1800}  # fmt: skip


def said(**changes):
    return decide(POLICY, ASK | changes, 15)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, "CPUC-SECONDARY-DEIDENTIFIED"),
        ({"as": "vendor:v"}, "CPUC-SECONDARY-DEIDENTIFIED"),
        ({"as": "analyst:a", "purpose": "operations", "epsilon": "4"}, "CPUC-PRIMARY-GROUPS"),
        ({"technique": "aggregate", "resolution_s": 3600}, "CPUC-SECONDARY-AGGREGATED"),
        ({"as": "regulator:r", "purpose": "primary"}, "CPUC-REGULATOR"),
        ({"as": "billing:b", "action": "export", "purpose": "billing"}, "CPUC-PRIMARY-BILLING"),
        ({"as": "vendor:v", "action": "export", "consent": True}, "CPUC-SECONDARY-CONSENT"),
        ({"as": "vendor:v", "technique": "aggregate", "consent": True, "resolution_s": 3600},
         "CPUC-SECONDARY-CONSENT"),
        ({"as": "customer:c", "action": "export", "purpose": "primary",
          "resource": {"subject": "own"}}, "CPUC-OWN-DATA"),
        ({"as": "privacy-officer:p", "action": "budget-set"}, "HOUSE-OFFICER"),
    ],
)  # fmt: skip
def test_permitted_and_by_which_rule(changes, rule):
    decision = said(**changes)
    assert decision.allowed, decision
    assert decision.rule_id == rule and decision.reason == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"members": 14}, "group_too_small"),
        ({"epsilon": "1.00001"}, "epsilon_too_large"),
        ({"as": "analyst:a", "purpose": "primary", "epsilon": "4.1"}, "epsilon_too_large"),
        ({"delta": "0.000002"}, "delta_too_large"),
        ({"purpose": "billing"}, "purpose_not_permitted"),
        ({"as": "billing:b"}, "purpose_not_permitted"),
        ({"purpose": "curiosity"}, "purpose_unknown"),
        ({"purpose": ""}, "purpose_unknown"),
        ({"technique": "aggregate"}, "resolution_too_fine"),
        ({"as": "vendor:v", "technique": "aggregate", "resolution_s": 3600}, "not_permitted"),
        ({"as": "privacy-officer:p"}, "not_permitted"),
        ({"as": "customer:c"}, "not_permitted"),
        ({"as": "vendor:v", "action": "export"}, "consent_missing"),
        ({"as": "analyst:a", "action": "export"}, "consent_missing"),
        ({"as": "analyst:a", "action": "export", "purpose": "primary"}, "not_permitted"),
        ({"as": "customer:c", "action": "export", "purpose": "primary",
          "resource": {"subject": "another"}}, "own_data_only"),
        ({"action": "relink"}, "not_permitted"),
        ({"action": "no such action"}, "not_permitted"),
        ({"as": "privacy-officer:p", "action": "relink", "carry_out": True}, "approval_needed"),
    ],
)  # fmt: skip
def test_refused_and_why(changes, reason):
    decision = said(**changes)
    assert not decision.allowed
    assert decision.reason == reason


def test_every_rule_cites_and_says_whether_the_original_was_read():
    rules = list(POLICY.rules.values())
    assert len(rules) >= 20
    for rule in rules:
        assert rule.says.endswith((".", ")")) and rule.source and rule.original
        if rule.id.startswith(("CPUC", "FIPP")):
            assert rule.original == "not read" and "Westrich" in POLICY.text
        if rule.id.startswith("INDUSTRY"):
            assert "industry rule" in rule.original and "D.11" not in rule.source


def test_epsilon_is_rounded_up_to_what_cedar_can_compare():
    assert not said(epsilon=str(Fraction(100001, 100000))).allowed
    assert said(epsilon="1").allowed


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "permit(principal, action, resource",
        "permit(principal, action, resource);",  # no citation
        f'{CITED} @reason("because")\nforbid(principal, action, resource);',
        f"{CITED}\npermit(principal, action, resource) when {{ context.nothing }};",
        f"{CITED}\npermit(principal, action, resource);\n"
        + CITED.replace("A", "B")
        + ' @reason("not_permitted") forbid(principal, action, resource)'
        " when { context.nothing > 1 };",
    ],
)
def test_rules_that_cannot_be_used_permit_nothing(tmp_path, damage):
    (tmp_path / "rules.cedar").write_text(damage)
    decision = decide(Policy(PURPOSES, tmp_path), ASK, 15)
    assert not decision.allowed and decision.reason == "policy_unusable"
    assert decide(Policy(PURPOSES, tmp_path / "none"), ASK, 15).reason == "policy_unusable"


def test_a_fact_that_a_rule_needs_and_the_request_lacks_is_a_no():
    """A forbid that cannot be evaluated would be skipped by Cedar, leaving the permit."""
    person = Person("researcher", "rob")
    context = {"purpose": "research", "technique": "dp", "epsilon": Fraction(1, 2)}
    decision = POLICY.decide(person, "query", {}, context)
    assert decision.reason == "policy_unusable" and "members" in decision.why
    assert POLICY.decide(person, "query", {}, {"purpose": object()}).reason == "policy_unusable"


def test_a_changed_rule_decides(tmp_path):
    for file in RULES.glob("*.cedar"):
        shutil.copy(file, tmp_path)
    file = tmp_path / "20-industry.cedar"
    file.write_text(file.read_text().replace("context.members < 15", "context.members < 100"))
    policy = Policy(PURPOSES, tmp_path)
    assert decide(policy, ASK | {"members": 99}, 15).reason == "group_too_small"
    file.write_text(file.read_text().replace('@source("Westrich, table 1', '@sauce("'))
    with pytest.raises(PolicyError, match="INDUSTRY-HOURLY lacks @source"):
        _ = Policy(PURPOSES, tmp_path).rules


def test_check_and_explain_as_commands(tmp_path, capsys):
    world = World(tmp_path / "gateway")
    request = tmp_path / "request.json"
    request.write_text(json.dumps(ASK | {"members": 14}))
    assert main(["policy", "check", str(request), "--state-dir", str(world.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "allowed": False, "rule": "INDUSTRY-15-15", "refused": "group_too_small"}  # fmt: skip
    assert main(["policy", "explain", str(request), "--state-dir", str(world.path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rule"] == "INDUSTRY-15-15" and told["effect"] == "forbid"
    assert "industry" in told["source"] and "at least 15" in told["says"]
    assert main(["policy", "list", "--state-dir", str(world.path)]) == 0
    assert "original: not read" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"as": 1}', '{"as": "boss:x"}', '{"as": "analyst:a", "more": 1}',
     '{"as": "analyst:a", "epsilon": -1}', '{"as": "analyst:a", "epsilon": true}',
     '{"as": "analyst:a", "members": "many"}', '{"as": "analyst:a", "resource": {"a": 1}}',
     '{"as": "analyst:a", "epsilon": 1e999}', "[" * 90_000],
)  # fmt: skip
def test_bad_requests_exit_2(tmp_path, capsys, text):
    world = World(tmp_path / "gateway")
    request = tmp_path / "request.json"
    request.write_text(text)
    assert main(["policy", "check", str(request), "--state-dir", str(world.path)]) == 2
    assert "Traceback" not in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"."):
        decide(POLICY, load(request), 15)


def test_consent_newest_entry_decides(tmp_path):
    world = World(tmp_path / "gateway")
    carl = world.person("customer:carl", "meter-1")

    def holds(who="vendor:v"):
        return consent.holds(world.state, carl.subject, "research", who)

    assert not holds()
    for recipient, granted, vendor, other in (
        ("*", True, True, True),
        ("vendor:v", False, False, True),
        ("vendor", True, True, True),
        ("*", False, False, False),
        ("vendor:v", True, True, False),
    ):
        consent.record(world.state, carl.subject, "research", recipient, granted, carl)
        assert (holds(), holds("researcher:r")) == (vendor, other), recipient
    assert [row["granted"] for row in consent.history(world.state, carl.subject)] == [
        True, False, True, False, True]  # fmt: skip
    for statement in ("DELETE FROM consents", "UPDATE consents SET granted=1"):
        with pytest.raises(Exception, match="never"):
            world.state.gateway().execute(statement)
    with pytest.raises(ValueError, match="secondary purposes are"):
        consent.record(world.state, carl.subject, "billing", "*", True, carl)


def test_a_larger_budget_takes_two_persons(tmp_path):
    world = World(tmp_path / "gateway")
    pat, quinn = world.person("privacy-officer:pat"), world.person("privacy-officer:quinn")
    twin, ann = world.person("regulator:pat"), world.person("analyst:ann")
    books = world.gateway.accountant
    assert approvals.set_budget(world.gateway, pat, "public", "1/2")["set"]
    asked = approvals.set_budget(world.gateway, pat, "public", "3")
    assert not asked["set"] and books.limit("public") == Fraction(1, 2)
    for person, reason in ((pat, "same_person"), (twin, "same_person"), (ann, "not_permitted")):
        with pytest.raises(Refused) as no:
            approvals.approve(world.gateway, person, asked["approval"])
        assert no.value.reason == reason
    assert books.limit("public") == Fraction(1, 2)
    assert approvals.approve(world.gateway, quinn, asked["approval"])["approved"]
    assert books.limit("public") == 3
    approvals.set_budget(world.gateway, quinn, "public", "1")
    with pytest.raises(Refused, match="approval_unknown"):
        approvals.approve(world.gateway, quinn, asked["approval"])
    assert books.limit("public") == 1
    with pytest.raises(Refused, match="not_permitted"):
        approvals.set_budget(world.gateway, ann, "analyst:ann", "100")


def test_relinking_takes_two_roles_and_happens_once(tmp_path):
    world = World(tmp_path / "gateway")
    bill, bob = world.person("billing:bill"), world.person("billing:bob")
    pat = world.person("privacy-officer:pat")
    number = approvals.request(world.gateway, bill, "relink", {"pseudonym": "00"})
    with pytest.raises(Refused, match="approval_needed"):
        approvals.use(world.gateway, number, "relink", {"pseudonym": "00"})
    with pytest.raises(Refused, match="same_role"):
        approvals.approve(world.gateway, bob, number)
    approvals.approve(world.gateway, pat, number)
    with pytest.raises(Refused, match="approval_needed"):
        approvals.use(world.gateway, number, "relink", {"pseudonym": "01"})
    approvals.use(world.gateway, number, "relink", {"pseudonym": "00"})
    with pytest.raises(Refused, match="approval_needed"):
        approvals.use(world.gateway, number, "relink", {"pseudonym": "00"})
