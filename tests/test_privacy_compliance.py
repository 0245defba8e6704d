"""Reports from the log, and `wattveil log` by command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import verify_log
from doorsworld import CANARY, END, START, Folder, meter
from wattveil import cli
from wattveil.privacy import compliance, ledger
from wattveil.privacy.fipps import PRINCIPLES
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.policy import Policy
from wattveil.privacy.query import ask
from wattveil.privacy.refusals import Refused
from wattveil.privacy.techniques import Cost
from wattveil.privacy.vault.exports import export_greenbutton


class World(Folder):
    """With a gateway, two answers to two groups, one refusal and one export."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.gateway = Gateway(self.state, vault=self.vault)
        ann, vic = self.person("analyst:ann"), self.person("vendor:vic")
        self.all = self.gateway.query(ann, self.query())
        self.odd = self.gateway.query(ann, self.query(segment=["tariff=flat"], epsilon="0.25"))
        self.refused = self.gateway.query(vic, self.query(purpose="billing"))
        export_greenbutton(self.gateway, self.person("customer:house-3"), meter(3), "own-data")

    def person(self, who: str) -> Any:
        return self.gateway.authenticate(who, self.tokens[who])

    def query(self, **changes: Any) -> ask.Query:
        rest = {"kind": "sum", "start": START, "end": END, "purpose": "research", "epsilon": "0.5"}
        return ask.make(self.state.config, **rest | changes)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("compliance"))


@pytest.fixture
def command(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Run `wattveil log ...`: exit code and output."""

    def run(*arguments: str, as_: str | None = None) -> tuple[int, str]:
        if as_ is not None:
            monkeypatch.setenv("WATTVEIL_TOKEN", world.tokens[as_])
            arguments = (*arguments, "--as", as_)
        code = cli.main(["log", *arguments, "--state-dir", str(world.state.path)])
        return code, capsys.readouterr().out

    return run


def test_compliance_report_counts_what_the_log_holds(world: World) -> None:
    report = compliance.compliance(world.gateway, world.person("regulator:reg"))
    assert report["log"]["consistent"] and report["findings"] == []
    assert [row["name"] for row in report["fipps"]] == [p.name for p in PRINCIPLES]
    assert len(report["fipps"]) == 8
    assert [rule["id"] for rule in report["rules"]] == [
        rule.id for rule in Policy(world.state.config.purposes).rules.values()
    ]
    assert all(rule["source"] and rule["original"] for rule in report["rules"])
    released = {(row["purpose"], row["technique"]): row for row in report["releases"]}
    assert released["research", "dp"] == {
        "purpose": "research", "technique": "dp", "answers": 2, "epsilon": "0.75",
    }  # fmt: skip
    assert released["own-data", "raw"]["answers"] == 1
    assert report["refusals"]["purpose_not_permitted"] == 1
    decided = {rule["id"]: rule["decided"] for rule in report["rules"]}
    assert decided["FIPP-PURPOSE-OF-ROLE"] == 1 and decided["CPUC-SECONDARY-DEIDENTIFIED"] == 2
    assert CANARY not in json.dumps(report)
    with pytest.raises(Refused):
        compliance.compliance(world.gateway, world.person("vendor:vic"))


def test_customer_report_names_every_output_and_no_other(world: World) -> None:
    reports = {}
    for number in (3, 4):  # an odd number has the tariff `flat`
        person = world.person(f"customer:house-{number}")
        reports[number] = compliance.customer(world.gateway, person, person.subject, "own-data")
    three, four = reports[3], reports[4]
    assert [row["log_index"] for row in three["outputs"]] == [
        world.all["log_index"], world.odd["log_index"],
    ]  # fmt: skip
    assert [row["log_index"] for row in four["outputs"]] == [world.all["log_index"]]
    assert (three["spent"], four["spent"]) == ("0.75", "0.5")
    assert three["remaining"] == "9.25" and len(three["charges"]) == 2
    assert {row["to"] for row in three["outputs"]} == {"analyst"}
    exports = [row for row in three["accesses"] if row["details"].get("action") == "export"]
    assert len(exports) == 1 and exports[0]["to"] == "customer"
    assert CANARY not in json.dumps(reports)
    person = world.person("customer:house-3")
    with pytest.raises(Refused) as no:
        compliance.customer(world.gateway, person, four["subject"], "own-data")
    assert no.value.reason == "own_data_only"


PLANTED = {
    "a release without its spend": (
        "release", {"charge": "gateway:none", "person": "analyst:ann", "epsilon": "1", "delta": "0",
                    "query": {"purpose": "research", "technique": "dp"}},
        ("without a permission", "without its spend")),
    "a release to somebody never permitted": (
        "release", {"charge": "gateway:x", "person": "analyst:eve", "epsilon": "0", "delta": "0",
                    "query": {"purpose": "research", "technique": "aggregate"}},
        ("without a permission",)),
    "a spend that the ledger does not have": (
        "spend", {"charge": "gateway:lost", "person": "analyst:ann", "epsilon": "1", "delta": "0"},
        ("the ledger has not",)),
}  # fmt: skip


@pytest.mark.parametrize("planted", PLANTED)
def test_what_is_wrong_becomes_a_finding(planted: str, tmp_path: Path) -> None:
    world = World(tmp_path)
    kind, body, words = PLANTED[planted]
    world.gateway.note(kind, body)
    report = compliance.compliance(world.gateway)
    assert report["finding_count"] == len(words), report["findings"]
    assert all(word in text for word, text in zip(words, report["findings"], strict=True))


def test_a_spend_that_the_log_has_smaller_is_a_finding(tmp_path: Path) -> None:
    """And a charge the log knows nothing of, as a crash between the two leaves it, is counted."""
    world = World(tmp_path)
    assert compliance.compliance(world.gateway)["charges_without_entry"] == 0
    accountant, cost = world.gateway.accountant, Cost(Fraction(1, 2))
    accountant.spend("gateway:more", world.person("analyst:ann"), "research", cost, ("a",), 0)
    assert compliance.compliance(world.gateway)["charges_without_entry"] == 1
    world.gateway.note("spend", {"charge": "gateway:more", "person": "analyst:ann",
                                 "epsilon": "1/4", "delta": "0"})  # fmt: skip
    report = compliance.compliance(world.gateway)
    assert report["findings"] == ["gateway:more: epsilon 1/4 in the log, 1/2 in the ledger"]
    assert report["charges_without_entry"] == 0


def test_the_log_names_customers_apart_from_the_ledger(world: World) -> None:
    """Neither a ledger's name nor the start of one is in the log, whatever a customer did."""
    person = world.person("customer:house-3")
    compliance.compliance(world.gateway)
    log = "".join(leaf for _, leaf in world.state.log().leaves())
    assert person.logged in log and person.subject not in person.logged
    for number in range(40):
        (name,) = world.gateway.accountant.subjects([meter(number)])
        # 8 digits as a word: somewhere inside other hex they stand by chance
        assert not re.search(rf"\b{name[:8]}\b", log)
        assert name[:12] not in log and meter(number) not in log
    assert person.subject in ledger.spending(world.state.ledger().load)
    assert person.alias not in ledger.spending(world.state.ledger().load)


class Tags(HTMLParser):
    """Whether all that was opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "link", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_reports_by_command_line(command: Any, world: World, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    code, out = command("report", "compliance", "--json", "--html", str(page))
    report = json.loads(out)
    assert code == 0 and report["report"] == "compliance" and report["finding_count"] == 0
    tags = Tags()
    tags.feed(page.read_text())
    assert tags.open == [] and "Accountability and Auditing" in tags.text
    assert not re.search(r"(src|href)=", page.read_text())  # one file, nothing from elsewhere
    code, out = command("report", "compliance")
    assert code == 0 and "CPUC-OWN-DATA" in out and "original: not read" in out
    code, out = command("report", "compliance", "--json", as_="vendor:vic")
    assert code == 0 and json.loads(out)["refused"] == "not_permitted"
    own = ("report", "customer", meter(3), "--purpose", "own-data")
    code, out = command(*own, "--json", "--html", str(page), as_="customer:house-3")
    assert code == 0 and len(json.loads(out)["outputs"]) == 2
    assert "technique dp" in page.read_text()
    code, out = command(*own, as_="customer:house-3")
    assert code == 0 and "outputs with data of this customer: 2" in out
    code, out = command(*own, "--json", as_="customer:house-4")
    assert code == 0 and json.loads(out)["refused"] == "own_data_only"
    code, out = command(*own, as_="privacy-officer:pam")
    assert code == 0 and "by the role customer" in out


def test_log_by_command_line_and_the_checker(command: Any, world: World, tmp_path: Path) -> None:
    code, out = command("verify", "--json")
    verdict = json.loads(out)
    assert code == 0 and verdict["consistent"]
    assert verdict["entries"] == world.state.log().size
    file, proof = tmp_path / "log", tmp_path / "proof"
    assert command("export", str(file))[0] == 0
    code, out = command("prove", str(world.all["log_index"]), "--since", "1")
    proof.write_text(out)
    witness = world.state.path / "witness"
    done = subprocess.run(
        [sys.executable, "-I", verify_log.__file__, file, proof, "--witness", witness],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(json.loads(proof.read_text())["leaf"])["kind"] == "release"
    assert CANARY not in file.read_text()
    assert command("prove", "999999")[0] == 2
    moved = witness.rename(tmp_path / "witness")
    try:
        code, out = command("verify")
        assert code == 1 and "INCONSISTENT" in out
        assert command("verify", "--witness", str(moved))[0] == 0
    finally:
        moved.rename(witness)
