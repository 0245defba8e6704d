"""`wattveil audit privacy` finds every weakness that is planted in the product."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest

from wattveil.audit import command
from wattveil.audit.checks.rules import RULES, Rule
from wattveil.audit.finding import BROKEN, HOLDS, Study
from wattveil.audit.registry import CHECKS
from wattveil.audit.weak import WEAKNESSES
from wattveil.cli import main

PART = 0.4  # of the quick version: none of these faults is subtle
BY_COMMAND = [
    ("release", "no-noise", 1), ("books", "missing-spend", 4), ("books", "log-gap", 3),
    ("books", "plain-names", 1),
]  # fmt: skip
PLANTS = [
    (check.name, name) for check in CHECKS.values() if check.name != "rules" for name in check.weak
]


@pytest.mark.parametrize(("check", "plant"), [one for one in PLANTS if one[0] != "books"])
def test_a_planted_weakness_is_found(check: str, plant: str) -> None:
    with WEAKNESSES[plant].planted():
        findings = CHECKS[check].run(Study(part=PART))
    assert BROKEN in {finding.verdict for finding in findings}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_taken_out_is_found(rule: Rule) -> None:
    """By its own attack, in every suite; and once it is back, nothing is left of that."""
    with WEAKNESSES[rule.weakness].planted():
        assert {finding.verdict for finding in rule.run(Study())} == {BROKEN}
    assert {finding.verdict for finding in rule.run(Study())} == {HOLDS}


def test_every_weakness_is_planted_somewhere() -> None:
    names = {name for _, name in PLANTS} | {rule.weakness for rule in RULES}
    assert names == set(WEAKNESSES)
    assert set(CHECKS["rules"].weak) == {rule.weakness for rule in RULES}


@pytest.mark.parametrize(("check", "plant", "broken"), BY_COMMAND)
def test_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], check: str, plant: str, broken: int
) -> None:
    """Exit code 1, verdicts that say so, and a page that says what was planted."""
    arguments = ["audit", "privacy", "--what", check, "--plant", plant, "--json"]
    assert main([*arguments, "--out", str(tmp_path)]) == 1
    rows = json.loads(capsys.readouterr().out)
    verdicts = [row["verdict"] for row in rows]
    assert verdicts.count(BROKEN) >= broken, rows
    page = html.unescape((tmp_path / command.PAGE).read_text())
    assert f"planted: {plant}, {WEAKNESSES[plant].what}" in page
    assert page.count('class="bad"') == sum(verdict != HOLDS for verdict in verdicts)
