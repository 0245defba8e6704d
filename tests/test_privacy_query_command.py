"""`wattveil query`: its answer, its refusals, and what it does not take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from privacyworld import DAY, START, T0, World
from wattveil.cli import main
from wattveil.privacy import people
from wattveil.privacy.state import State

KEYS = {"query", "technique", "unit", "epsilon", "delta", "mechanism", "scale", "clip_wh",
        "group_min", "values", "spent", "remaining", "log_index", "refused"}  # fmt: skip


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys):
    """`wattveil query` over a vault in memory."""
    world = World(tmp_path / "gateway")
    monkeypatch.setenv("WATTVEIL_KEYS", str(tmp_path / "keys"))
    monkeypatch.setattr(State, "vault", lambda state: world.vault)
    assert main(["role", "add", "researcher:rob", "--state-dir", str(world.path), "--json"]) == 0
    assert Path(json.loads(capsys.readouterr().out)["key_file"]).exists()

    def run(*arguments, who="researcher:rob", purpose="research", code=0):
        line = [*arguments, "--as", who, "--purpose", purpose, "--state-dir", str(world.path)]
        assert main(["query", *line]) == code
        out = capsys.readouterr()
        assert "Traceback" not in out.err
        return json.loads(out.out) if "--json" in arguments and code == 0 else out.out + out.err

    run.world = world
    return run


RANGE = ("--from", START, "--to", DAY)


def test_the_answer_of_the_command(shell):
    answer = shell("curve", *RANGE, "--epsilon", "0.5", "--clip", "2000", "--json")
    assert answer.keys() >= KEYS and answer["refused"] is None
    assert len(answer["values"]) == 48
    assert answer["values"][0].keys() >= {"start", "end", "value", "low", "high"}
    assert answer["unit"] == "one meter over [2013-01-14T00:00:00Z, 2013-01-15T00:00:00Z)"
    assert answer["norm"] == {"kind": "L1", "bound": 96_000, "unit": "Wh"}
    assert (answer["epsilon"], answer["scale"], answer["group_min"]) == (0.5, 192_000, 15)
    assert (answer["spent"], answer["remaining"]) == ("0.5", "3.5")
    assert shell("sum", *RANGE, "--epsilon", "0.5", "--json")["clip_wh"] == 11_500
    text = shell("mean", *RANGE, "--epsilon", "0.5")
    assert "one meter over" in text and "95 %" not in text and "left 2.5" in text
    preview = shell("sum", *RANGE, "--epsilon", "0.5", "--preview")
    assert "nothing was spent" in preview


def test_a_refusal_of_the_command_is_an_answer(shell):
    refused = shell("sum", *RANGE, "--epsilon", "3", "--json")
    assert refused.keys() >= KEYS
    assert refused["refused"] == "epsilon_too_large" and refused["values"] == []
    for large in ("100", "1e6"):
        refused = shell("curve", *RANGE, "--epsilon", large, "--dp-delta", "1e-6", "--json")
        assert refused["refused"] == "epsilon_too_large"
    stranger = shell("sum", *RANGE, "--epsilon", "1", "--json", who="analyst:eve")
    assert stranger["refused"] == "not_authenticated" and stranger["values"] == []
    assert "refused: purpose_unknown" in shell("sum", *RANGE, "--epsilon", "1", purpose="fun")
    other = shell("sum", *RANGE, "--technique", "magic", "--json")
    assert other["refused"] == "unknown_technique"
    assert shell("sum", "--from", "2031-01-01", "--to", "2031-01-02", "--epsilon", "1", "--json")[
        "refused"] == "no_data"  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        ("sum", "--from", START, "--to", START, "--epsilon", "1"),
        ("sum", "--from", "2013-01-14T00:10:00Z", "--to", DAY, "--epsilon", "1"),
        ("sum", "--from", "2013-01-14T00:00:00", "--to", DAY, "--epsilon", "1"),
        ("sum", *RANGE),
        ("sum", *RANGE, "--epsilon", "0"),
        ("sum", *RANGE, "--epsilon", "-1"),
        ("sum", *RANGE, "--epsilon", "many"),
        ("sum", *RANGE, "--epsilon", "nan"),
        ("sum", *RANGE, "--epsilon", "1", "--dp-delta", "1"),
        ("sum", *RANGE, "--epsilon", "1", "--clip", "0"),
        ("sum", *RANGE, "--epsilon", "1", "--segment", "tariff"),
        ("curve", *RANGE, "--epsilon", "1", "--resolution", "1000"),
        ("sum", *RANGE, "--epsilon", "1e-20"),
        ("sum", *RANGE, "--epsilon", "1e7"),
        ("sum", *RANGE, "--epsilon", "1", "--dp-delta", "1e-16"),
        ("sum", "--from", START, "--to", "2023-01-14", "--epsilon", "1e-6", "--clip", "1000000"),
        ("quantile", *RANGE, "--epsilon", "1", "--quantile", "1"),
        ("quantile", *RANGE, "--epsilon", "1", "--quantile", "0.3333333333333333333333"),
        ("quantile", *RANGE, "--epsilon", "1", "--dp-delta", "1e-6"),
        ("histogram", *RANGE, "--epsilon", "1", "--bins", "0,5,5"),
        ("histogram", *RANGE, "--epsilon", "1", "--bins", "0,5"),
        ("count", *RANGE, "--technique", "aggregate"),
        ("sum", *RANGE, "--technique", "aggregate", "--clip", "500"),
    ],
)
def test_bad_input_exits_2_and_costs_nothing(shell, wrong):
    message = shell(*wrong, code=2)
    assert message.startswith("wattveil: ")
    assert shell.world.gateway.accountant.table()["dataset:meters"]["spent"] == "0"


def test_the_key_comes_from_a_file_or_the_environment(shell, tmp_path, monkeypatch):
    token = people.add(shell.world.state, "analyst:ann")
    line = ("sum", *RANGE, "--epsilon", "1", "--json")
    asked = {"who": "analyst:ann", "purpose": "operations"}
    assert shell(*line, **asked)["refused"] == "not_authenticated"
    people.write_key_file(tmp_path / "ann.key", token)
    assert shell(*line, "--key-file", str(tmp_path / "ann.key"), **asked)["refused"] is None
    monkeypatch.setenv("WATTVEIL_TOKEN", token)
    assert shell(*line, **asked)["refused"] is None
    assert T0 % 86_400 == 0
