"""The commands as the documents print them: without --as it is the console's operator, by its key."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vaultkit import readings, write_csv
from wattveil.cli import main
from wattveil.privacy import people
from wattveil.privacy.state import State

Run = Callable[..., Any]
KEY = "operator-console.key"
PAT = ("--as", "privacy-officer:pat")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "gateway"


@pytest.fixture
def run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Run:
    """A command line; its JSON."""
    monkeypatch.setenv("WATTVEIL_KEYS", str(tmp_path / "keys"))

    def run(*line: object, code: int = 0) -> Any:
        assert main([*map(str, line), "--state-dir", str(folder), "--json"]) == code
        out = capsys.readouterr()
        assert "Traceback" not in out.err
        return json.loads(out.out) if out.out else out.err

    run("vault", "init")
    run("vault", "ingest", write_csv(tmp_path / "a.csv", readings(20, 0, 96)))
    return run


def entries(folder: Path, kind: str) -> list[Any]:
    state = State.open(folder)
    found = [entry["body"] for entry in state.log().entries() if entry["kind"] == kind]
    state.close()
    return found


def test_the_printed_forms_work_and_name_who_did_it(run: Run, folder: Path) -> None:
    key = folder / "keys" / KEY
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert run("vault", "stats")["meters"] == 20
    assert run("vault", "rotate-pseudonyms")["epoch"] == 2
    assert run("vault", "rotate-keys")["key_encryption_key"] == 2
    assert run("vault", "expire", "--older-than", "2013-01-15")["readings"] == 960
    assert run("role", "add", "customer:carl", "--meter", "canary-001")["key_file"]
    assert run("role", "add", "privacy-officer:pat")["person"] == "privacy-officer:pat"
    assert run("budget", "set", "public", "1/2")["set"] is True
    assert run("budget", "set", "public", "9")["set"] is False
    assert run("budget", "show")["accounts"]["public"]["limit"] == "0.5"
    assert run("budget", "alarms")["alarms"] == []
    granted = run("consent", "grant", "canary-001", "--purpose", "research")
    assert granted["granted"] is True
    assert run("consent", "revoke", "canary-001", "--purpose", "research")["granted"] is False
    assert len(run("consent", "history", "canary-001")["consents"]) == 2
    done = {(d["person"], d["action"], d["allowed"]) for d in entries(folder, "decision")}
    wanted = "ingest rotate-pseudonyms rotate-keys expire role budget-set budget-raise consent"
    assert {("operator:console", action, True) for action in wanted.split()} <= done
    assert [r["by"] for r in entries(folder, "role")] == ["operator:console"] * 2


def test_the_operator_sees_no_data_and_approves_nothing(run: Run, folder: Path) -> None:
    console, day = ("--as", "operator:console"), ("--from", "2013-01-14", "--to", "2013-01-15")
    asked = ("query", "sum", *day, "--epsilon", "1", *console)
    assert run(*asked, "--purpose", "research")["refused"] == "not_permitted"
    assert run(*asked, "--purpose", "operations")["refused"] == "not_permitted"
    out = folder.parent / "x.csv"
    own = ("vault", "export-greenbutton", "canary-001", *console, "--purpose", "billing")
    assert run(*own)["refused"] == "not_permitted"
    assert run("anonymise", out, *day, *console, "--purpose", "planning")["refused"]
    assert not out.exists()
    assert run("vault", "relink", "00" * 16, "--epoch", "1")["refused"] == "not_permitted"
    run("budget", "set", "public", "9")
    assert run("approve", "1")["refused"] == "same_person"
    assert run("role", "add", "privacy-officer:pat")
    assert run("approve", "1", *PAT)["approved"] is True
    assert run("budget", "set", "dataset:meters", "99", *PAT)["approval"] == 2
    assert run("approve", "2")["refused"] == "not_permitted"


def test_without_the_key_nobody_is_the_operator(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("role", "add", "analyst:ann")
    line = ("vault", "rotate-pseudonyms")
    assert run(*line, "--as", "analyst:ann")["refused"] == "not_permitted"
    assert run(*line, "--as", "operator:olga")["refused"] == "not_authenticated"
    key = folder / "keys" / KEY
    token = key.read_text()
    key.write_text("wattveil-guessed\n")
    assert run(*line)["refused"] == "not_authenticated"
    key.write_text(token)
    key.chmod(0o644)
    assert run(*line)["refused"] == "key_file_readable_by_others"
    key.chmod(0o600)
    monkeypatch.setenv("WATTVEIL_TOKEN", "wattveil-somebody-elses")  # is no proof of the console's
    assert run(*line)["epoch"] == 2
    monkeypatch.delenv("WATTVEIL_TOKEN")
    # A house that wants a name on everything: named operators, and no console.
    run("role", "add", "operator:olga")
    run("role", "revoke", "operator:console", "--as", "operator:olga")
    assert run(*line)["refused"] == "revoked_person"
    assert run("vault", "init")["state_dir"] == str(folder)  # brings nobody back
    assert run(*line)["refused"] == "revoked_person"
    assert run(*line, "--as", "operator:olga")["epoch"] == 3
    assert run(*line, "--key-file", str(key), code=2).startswith("wattveil: --key-file")


def test_an_alarm_is_seen_once_and_by_the_officer(run: Run, folder: Path) -> None:
    for who in ("privacy-officer:pat", "privacy-officer:quinn", "researcher:rob", "analyst:ann"):
        run("role", "add", who)
    for _ in range(2):
        run("query", "sum", "--from", "2013-01-14", "--to", "2013-01-15", "--epsilon", "0.1",
            "--as", "researcher:rob", "--purpose", "research")  # fmt: skip
    (alarm,) = run("budget", "alarms")["alarms"]
    assert alarm["kind"] == "repeated" and alarm["seen_by"] is None
    number = str(alarm["id"])
    for who in ((), ("--as", "analyst:ann"), ("--as", "researcher:rob")):
        assert run("budget", "alarms", "--seen", number, *who)["refused"] == "not_permitted"
    run("budget", "alarms", "--seen", "99", *PAT, code=2)
    (seen,) = run("budget", "alarms", "--seen", number, *PAT)["alarms"]
    assert seen["seen_by"] == "privacy-officer:pat" and seen["seen_at"] >= seen["at"]
    again = run("budget", "alarms", "--seen", number, "--as", "privacy-officer:quinn")
    assert again["alarms"] == [seen]
    assert entries(folder, "alarm-seen") == [{"id": alarm["id"], "person": "privacy-officer:pat"}]


def test_no_other_role_takes_the_operators_part(run: Run, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "b.csv", readings(1, 96, 48))
    for role in people.ROLES:
        if role in ("operator", "customer"):
            continue
        run("role", "add", f"{role}:x")
        answer = run("vault", "ingest", file, "--as", f"{role}:x")
        assert ("refused" in answer) == (role != "billing"), role
        answer = run("role", "list", "--as", f"{role}:x")
        assert ("refused" in answer) == (role != "privacy-officer"), role
