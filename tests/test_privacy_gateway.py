"""The one door: its order, its crashes, and the attacks it must stand."""

from __future__ import annotations

import hashlib
import json
import re
from fractions import Fraction

import numpy as np
import pytest

from privacyworld import DAY, START, MemoryVault, World, homes
from wattveil.cli import main
from wattveil.privacy import approvals, consent, history, techniques
from wattveil.privacy.refusals import Refused
from wattveil.privacy.state import State

RICH = {"analyst": '"1000"', "dataset": '"1000"', "subject_lifetime": '"1000"', "public": '"1000"'}


def segments(count, few):
    """All on one tariff but a few, so that a segment and the whole differ by those."""
    return [{"tariff": "B" if i < few else "A", "region": f"r{i % 2}"} for i in range(count)]


def kinds(world):
    return [entry["kind"] for entry in world.logged()]


class Crash(Exception):
    """The process dies here."""


def test_decision_spend_and_release_are_logged_in_this_order(tmp_path):
    world = World(tmp_path / "gateway")
    rob = world.person("researcher:rob")
    answer = world.ask(rob)
    assert kinds(world) == ["decision", "spend", "release"]
    released = world.logged()[answer["log_index"]]
    assert released["kind"] == "release"
    text = json.dumps(answer | {"log_index": None}, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == released["body"]["answer_sha256"]
    (event,) = world.gateway.accountant.events("researcher:rob")
    assert Fraction(event["epsilon"]) == Fraction(1, 2)
    assert world.ask(rob, epsilon="2")["refused"] == "epsilon_too_large"
    assert kinds(world)[3:] == ["decision", "refusal"]


@pytest.mark.parametrize("step", range(12))
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_anywhere_releases_nothing_without_spend_and_entry(
    tmp_path, monkeypatch, step, after
):
    """Die before or after each durable step of an answer, then look at what is on disk."""
    world = World(tmp_path / "gateway")
    rob = world.person("researcher:rob")
    count = 0

    def mortal(function):
        def call(*args, **rest):
            nonlocal count
            count += 1
            if count == step + 1 and not after:
                raise Crash
            result = function(*args, **rest)
            if count == step + 1:
                raise Crash
            return result

        return call

    gateway, books = world.gateway, world.gateway.accountant
    for owner, name in ((gateway, "note"), (books, "spend"), (world.vault, "members"),
                        (world.vault, "blocks"), (history, "remember"), (world.vault, "meter_ids"),
                        (techniques.technique("dp").__class__, "run")):  # fmt: skip
        monkeypatch.setattr(owner, name, mortal(getattr(owner, name)))
    answer = None
    try:
        answer = world.ask(rob)
    except Crash:
        world.state.close()  # what was not committed is gone
    entries = kinds(world)
    spent = Fraction(books.table().get("researcher:rob", {"spent": "0"})["spent"])
    assert (answer is not None) == (count <= step)  # the last steps are never reached
    if answer is not None:
        assert answer["values"] and answer["refused"] is None
    if "release" in entries:
        assert "spend" in entries and "decision" in entries
    if "spend" in entries or answer is not None:
        assert spent == Fraction(1, 2)
    assert entries == ["decision", "spend", "release"][: len(entries)]
    assert books.audit() == []


def test_difference_of_two_cohorts_exact(tmp_path):
    """All homes, and all but the five on another tariff: the second exact answer is refused."""
    world = World(tmp_path / "gateway", MemoryVault(homes(60), segments(60, 5)))
    ann = world.person("analyst:ann")
    asked = {"technique": "aggregate", "purpose": "operations", "clip": None}
    assert world.ask(ann, **asked)["refused"] is None
    bob = world.person("analyst:bob")  # together with somebody else, or over part of the time
    for rest in ({}, {"end": "2013-01-14T12:00:00Z"}, {"kind": "mean"}):
        for who in (ann, bob):
            answer = world.ask(who, rest.get("kind", "sum"), segment=["tariff=A"],
                               **asked | {k: v for k, v in rest.items() if k != "kind"})  # fmt: skip
            assert answer["refused"] == "differencing" and answer["values"] == []
    assert world.ask(ann, segment=["region=r0"], **asked)["refused"] is None


def test_difference_of_two_cohorts_with_noise(tmp_path):
    """It is charged, it stays within the noise, and the privacy officer hears of it."""
    wh = homes(60)
    wh[:5] = 900
    world = World(tmp_path / "gateway", MemoryVault(wh, segments(60, 5)), **RICH)
    rob = world.person("researcher:rob")
    differences = []
    for _ in range(15):
        both = [world.ask(rob, segment=s, epsilon="1") for s in ([], ["tariff=A"])]
        values = [answer["values"][0]["value"] for answer in both]
        differences.append(values[0] - values[1])
    scale = 48 * 2000  # of either answer's noise
    error = np.array(differences) - wh[:5].sum()
    # the mean of two Laplace: 1.5 b; outside of this once in 4e9 runs
    assert 0.2 * scale < np.abs(error).mean() < 5 * scale
    assert "differencing" in {a["kind"] for a in history.alarms(world.state.gateway())}
    assert Fraction(world.gateway.accountant.table()["researcher:rob"]["spent"]) == 30


def test_averaging_a_repeated_query_ends_with_the_budget(tmp_path):
    world = World(tmp_path / "gateway")
    rob = world.person("researcher:rob")
    values = []
    while (answer := world.ask(rob, "sum", epsilon="0.4"))["refused"] is None:
        values.append(answer["values"][0]["value"])
    assert answer["refused"] == "over_analyst_budget" and answer["values"] == []
    assert len(values) == 10 and len(set(values)) > 1
    # Each asker ends there; all together end with the homes' and the data set's budget.
    total, askers = 10, 0
    while total < 100:
        askers += 1
        one = world.person(f"researcher:r{askers}")
        got = 0
        while (answer := world.ask(one, "sum", epsilon="0.4"))["refused"] is None:
            got += 1
        total += got
        if answer["refused"] != "over_analyst_budget":
            break
    assert answer["refused"] in ("over_dataset_budget", "over_lifetime_limit") and total == 25
    alarms = history.alarms(world.state.gateway())
    assert {a["kind"] for a in alarms} == {"repeated"} and len(alarms) >= 24
    logged = [entry["body"] for entry in world.logged() if entry["kind"] == "alarm"]
    assert len(logged) == len(alarms)


def test_nearly_the_same_question_is_an_alarm_and_another_is_not(tmp_path):
    world = World(tmp_path / "gateway", MemoryVault(homes(60, 480), segments(60, 20)), **RICH)
    rob = world.person("researcher:rob")
    week = {"start": START, "end": "2013-01-21"}
    world.ask(rob, **week)
    world.ask(rob, "mean", **week)
    world.ask(rob, start="2013-01-21", end="2013-01-22")
    world.ask(rob, segment=["tariff=A"], **week)
    assert history.alarms(world.state.gateway()) == []
    world.ask(rob, start="2013-01-14T01:00:00Z", end="2013-01-21")
    assert [a["kind"] for a in history.alarms(world.state.gateway())] == ["repeated"]


@pytest.mark.parametrize("technique", ["dp", "aggregate"])
@pytest.mark.parametrize("count", [1, 14])
def test_a_group_of_fourteen_is_refused(tmp_path, technique, count):
    world = World(tmp_path / "gateway", MemoryVault(homes(count)))
    ann = world.person("analyst:ann")
    rest = {"technique": technique, "purpose": "operations"}
    answer = world.ask(ann, **rest | ({"clip": None} if technique == "aggregate" else {}))
    assert answer["refused"] == "group_too_small" and answer["values"] == []
    assert answer["rule"] == "INDUSTRY-15-15" and answer["group_min"] == 15
    assert str(count) not in answer["refused_because"].replace("15", "")
    assert world.vault.reads == 0
    assert world.gateway.accountant.events(str(ann)) == []


def test_a_single_home_by_narrowing_segments(tmp_path):
    """Each condition by itself holds enough homes; together they hold one."""
    marks = [
        {"tariff": "A" if i % 2 else "B", "region": f"r{i % 3}", "type": f"t{i % 5}"}
        for i in range(30)
    ]
    world = World(tmp_path / "gateway", MemoryVault(homes(30), marks), **RICH)
    ann = world.person("analyst:ann")
    asked = {"purpose": "operations", "clip": None, "technique": "aggregate"}
    narrow = ["tariff=A", "region=r1", "type=t2"]
    assert len(world.vault.members(dict(p.split("=") for p in narrow), *bounds(world))) == 1
    outcome = [world.ask(ann, segment=narrow[:n], **asked)["refused"] for n in range(4)]
    assert outcome == [None, None, "group_too_small", "group_too_small"]
    for n in (2, 3):
        answer = world.ask(ann, segment=narrow[:n], purpose="operations")
        assert answer["refused"] == "group_too_small"


def bounds(world):
    query = world.query()
    return query.start, query.end


def test_one_dominant_member(tmp_path):
    """Exact answers are refused for it; with noise it is clipped, and nothing is refused."""
    wh = homes(60)
    wh[0] = 11_000
    world = World(tmp_path / "gateway", MemoryVault(wh), **RICH)
    ann = world.person("analyst:ann")
    exact = world.ask(ann, technique="aggregate", purpose="operations", clip=None)
    assert exact["refused"] == "dominant_member" and exact["values"] == []
    for _ in range(5):
        answer = world.ask(ann, "sum", purpose="operations", epsilon="4", clip=500)
        assert answer["refused"] is None
        value = answer["values"][0]["value"]
        clipped = np.clip(wh, 0, 500).sum()
        assert abs(value - clipped) < 60 * 48 * 500 / 4  # and not 48 x 10,500 higher
    fair = homes(60)
    world.vault.wh = fair
    other = world.person("analyst:bob")
    whole = world.ask(other, technique="aggregate", purpose="operations", clip=None)
    assert whole["values"][0]["value"] == fair.sum()
    curve = world.ask(other, "curve", technique="aggregate", purpose="operations", clip=None)
    shares = fair.max(axis=0) > 0.15 * fair.sum(axis=0)
    assert (curve["refused"] == "dominant_member") == bool(shares.any())


def test_a_role_beyond_its_purpose(tmp_path):
    world = World(tmp_path / "gateway")
    for who, purpose, reason in (
        ("researcher:rob", "billing", "purpose_not_permitted"),
        ("vendor:v", "operations", "purpose_not_permitted"),
        ("billing:b", "marketing", "purpose_not_permitted"),
        ("privacy-officer:p", "research", "not_permitted"),
        ("analyst:a", "curiosity", "purpose_unknown"),
    ):
        answer = world.ask(world.person(who), purpose=purpose)
        assert answer["refused"] == reason and answer["values"] == []
    assert world.vault.reads == 0
    assert world.gateway.accountant.table()["dataset:meters"]["spent"] == "0"


def test_a_revoked_consent(tmp_path):
    """A vendor may have an exact sum while all homes consent; one revocation ends it."""
    world = World(tmp_path / "gateway", MemoryVault(homes(20)))
    vendor = world.person("vendor:v")
    asked = {"technique": "aggregate", "purpose": "marketing", "clip": None}
    subjects = world.gateway.accountant.subjects(f"meter-{i:08d}" for i in range(20))
    owner = world.person("customer:c0", "meter-00000000")
    assert world.ask(vendor, **asked)["refused"] == "not_permitted"
    for subject in subjects:
        consent.record(world.state, subject, "marketing", "vendor:v", True, owner)
    assert world.ask(vendor, **asked)["refused"] is None
    consent.record(world.state, owner.subject, "marketing", "vendor:v", False, owner)
    assert world.ask(vendor, **asked)["refused"] == "not_permitted"
    resource, facts = {"subject": owner.subject}, {"purpose": "marketing", "consent": False}
    with pytest.raises(Refused, match="consent_missing"):
        world.gateway.permit(vendor, "export", resource, facts)


def test_overdrawing_in_one_question(tmp_path):
    world = World(tmp_path / "gateway", public='"0.5"')
    rob = world.person("researcher:rob")
    assert world.ask(rob, purpose="publication", epsilon="0.4")["budget"] == "public"
    answer = world.ask(rob, purpose="publication", epsilon="0.2")
    assert answer["refused"] == "over_public_budget"
    assert (answer["spent"], answer["remaining"]) == ("0.4", "0.1")
    assert world.ask(rob, purpose="research", epsilon="0.2")["refused"] is None
    assert world.ask(rob, purpose="publication", epsilon="0.1")["remaining"] == "0"


def test_log_and_refusals_hold_no_reading_and_no_identity(tmp_path):
    wh = homes(20)
    wh[:] = 777
    world = World(tmp_path / "gateway", MemoryVault(wh), **RICH)
    carl = world.person("customer:canary-name", "canary-meter")
    rob, ann = world.person("researcher:rob"), world.person("analyst:ann")
    for kind in ("sum", "curve", "histogram", "quantile", "count", "mean"):
        world.ask(rob, kind)
    world.ask(ann, technique="aggregate", purpose="operations", clip=None)
    world.ask(carl, purpose="own-data")
    text = json.dumps(world.logged())
    assert "canary" not in text and "meter-0" not in text
    assert not re.search(rf"\b{777 * 48 * 20}\b", text) and '"values"' not in text
    assert history.about(world.state.gateway(), carl.subject) == []
    subject = world.gateway.accountant.subjects(["meter-00000003"])[0]
    assert len(history.about(world.state.gateway(), subject)) == 7


def test_a_technique_can_be_added(tmp_path):
    """The seam for what comes next: the same policy, ledger and log around it."""

    class Constant:
        name = "constant"

        def check(self, query, group):
            return techniques.Cost(Fraction(1, 10), event={"mechanism": "constant"})

        def preview(self, query, group):
            raise Refused("no_preview")

        def run(self, query, group, blocks):
            return {"mechanism": "constant", "values": [{"value": 42}]}

    techniques.register("constant", Constant)
    try:
        world = World(tmp_path / "gateway")
        answer = world.ask(world.person("analyst:ann"), technique="constant", purpose="operations")
        assert answer["values"] == [{"value": 42}] and answer["spent"] == "0.1"
        assert kinds(world) == ["decision", "spend", "release"]
        outside = world.ask(world.person("researcher:r"), technique="constant")
        assert outside["refused"] == "not_permitted"  # no rule knows it for secondary purposes
    finally:
        techniques._KNOWN.pop("constant")


def test_the_desk(tmp_path, monkeypatch, capsys):
    """role, consent, approve and budget as commands."""
    folder = State.create(tmp_path / "gateway").path
    monkeypatch.setenv("WATTVEIL_KEYS", str(tmp_path / "keys"))

    def run(*line, code=0):
        assert main([*line, "--state-dir", str(folder), "--json"]) == code
        out = capsys.readouterr().out
        return json.loads(out) if out else None

    for who in ("privacy-officer:pat", "privacy-officer:quinn", "analyst:ann"):
        assert run("role", "add", who)["person"] == who
    run("role", "add", "customer:carl", "--meter", "meter-1")
    mine = ("--as", "customer:carl")
    granted = run("consent", "grant", "meter-1", "--purpose", "research", *mine)
    assert granted["granted"] and granted["recipient"] == "*"
    run("consent", "revoke", "meter-1", "--purpose", "research", *mine)
    told = run("consent", "history", "meter-1", *mine)["consents"]
    assert [row["granted"] for row in told] == [True, False]
    other = run("consent", "history", "meter-2", *mine)
    assert other["refused"] == "own_data_only" and other["rule"] == "CPUC-OWN-DATA-ONLY"
    assert run("consent", "grant", "m", "--purpose", "x", "--as", "analyst:ann")["refused"]
    pat, quinn = ("--as", "privacy-officer:pat"), ("--as", "privacy-officer:quinn")
    asked = run("budget", "set", "analyst:ann", "9", *pat)
    assert not asked["set"]
    assert run("approve", str(asked["approval"]), *pat)["refused"] == "same_person"
    assert [row["id"] for row in run("approve", *quinn)["waiting"]] == [asked["approval"]]
    assert run("approve", str(asked["approval"]), *quinn)["approved"]
    shown = run("budget", "show", *pat)["accounts"]
    assert shown["analyst:ann"]["limit"] == "9" and shown["public"]["remaining"] == "1"
    own = run("budget", "show", "--as", "analyst:ann")["accounts"]
    assert set(own) == {"analyst:ann", "public", "dataset:meters"}
    assert run("budget", "alarms", *pat)["alarms"] == []
    assert run("budget", "alarms", "--as", "analyst:ann")["refused"] == "not_permitted"
    run("budget", "set", "no-account", "1", *pat, code=2)
    run("budget", "set", "public", "-1", *pat, code=2)
    run("role", "add", "boss:b", code=2)
    run("role", "revoke", "analyst:ann")
    assert run("budget", "show", "--as", "analyst:ann")["refused"] == "revoked_person"
    assert approvals.WAIT_S == 7 * 86_400 and DAY > START
