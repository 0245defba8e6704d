"""Corrected readings; what stays after retention; and what either says about a few homes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

import vaultkit
from vaultkit import DAY, DAY0, HALF, T0, Readings, held, merge, readings, take, total, write_csv
from wattveil.importers.readings import parse_timestamp
from wattveil.privacy import compliance, history, people
from wattveil.privacy.anonymise.export import export_kept, export_records, export_sums
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.query import ask
from wattveil.privacy.refusals import Refused
from wattveil.privacy.vault import ingest as ingesting
from wattveil.privacy.vault.identities import Meter
from wattveil.privacy.vault.ingest import ingest
from wattveil.privacy.vault.meters import learn_meters
from wattveil.privacy.vault.retention import expire, kept
from wattveil.privacy.vault.vault import Vault

vault, impatient = vaultkit.vault, vaultkit.impatient
RIK, ANN = people.Person("researcher", "rik"), people.Person("analyst", "ann")
HOUR: dict[str, Any] = {"segment": {}, "start": T0, "end": T0 + 2 * DAY, "every_s": 3600, "by": []}


def sums(vault: Vault, **rest: Any) -> list[int]:
    text, _ = export_sums(Gateway(vault.state), RIK, "research", **HOUR | rest)
    return [int(row["wh"]) for row in csv.DictReader(io.StringIO(text))]


def exact(vault: Vault, **rest: Any) -> Any:
    """An exact sum, by `query`."""
    asked = ask.make(vault.state.config, "sum", "2013-01-14", "2013-01-16", "operations",
                     technique="aggregate", **rest)  # fmt: skip
    return Gateway(vault.state).query(ANN, asked)


def test_another_value_is_a_conflict_unless_it_is_a_correction(vault: Vault) -> None:
    first = readings(3, 0, 100)
    take(vault, "a.csv", first)
    new = {"canary-001": {T0 + i * HALF: 31_000 + i for i in range(10, 60)}}
    report = take(vault, "b.csv", new)
    assert (report.added, report.rejected, report.corrected) == (0, 50, 0)
    assert report.reasons == {"conflict: another value is held": 50} and held(vault) == first
    report = take(vault, "b.csv", new, correct=True)  # the same file: read again, for another end
    assert (report.added, report.rejected, report.corrected) == (0, 0, 50)
    assert held(vault) == merge(first, new) and vault.stats()["readings"] == 300
    assert take(vault, "b.csv", new, correct=True).known
    assert take(vault, "a.csv", first).known and held(vault) == merge(first, new)
    *_, last = vault.state.log().entries()
    logged = [e["body"]["corrected"] for e in vault.state.log().entries() if e["kind"] == "ingest"]
    assert logged == [0, 0, 50] and last["body"]["corrected"] == 50
    rows = vault.usage.read(
        [bytes.fromhex(p) for p in vault.members({}, T0, T0 + DAY)], 0, 1 << 20
    )
    assert len(list(rows)) == 9  # a day has one row: what was corrected is not kept


@pytest.mark.parametrize("lines", [2, 3, 400_000])
def test_of_several_corrections_the_last_line_counts(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, lines: int
) -> None:
    """However many lines are read at once."""
    monkeypatch.setattr(ingesting, "LINES", lines)
    take(vault, "a.csv", {"h": {T0 + i * HALF: 1 for i in range(4)}})
    rows = [(0, 5), (1, 1), (0, 6), (9, 4), (2, 1), (2, 8), (0, 7), (9, 4)]
    file = vault.state.path / "b.csv"
    stamps = [f"h,{vaultkit.stamp(T0 + slot * HALF)},{wh}" for slot, wh in rows]
    file.write_text("\n".join(["meter_id,timestamp,wh", *stamps]) + "\n")
    (report,) = ingest(vault, [file], vault.state.path / "r.csv", correct=True)
    assert {(t - T0) // HALF: wh for t, wh in held(vault)["h"].items()} == {
        0: 7, 1: 1, 2: 8, 3: 1, 9: 4
    }  # fmt: skip
    assert (report.added, report.held, report.corrected, report.rows) == (1, 3, 4, 8)


def test_exact_sums_before_and_after_do_not_give_a_few_homes(vault: Vault) -> None:
    """The same group twice, and between them the late or corrected readings of one home."""
    take(vault, "a.csv", readings(20, 0, 90))
    before = exact(vault)
    assert before["refused"] is None and exact(vault)["values"] == before["values"]
    take(vault, "late.csv", {"canary-003": {T0 + i * HALF: 50 + i for i in range(90, 96)}})
    answer = exact(vault)
    assert answer["refused"] == "differencing" and answer["values"] == []
    with pytest.raises(Refused, match="differencing"):
        sums(vault)
    rest = {m: dict.fromkeys(range(T0 + 90 * HALF, T0 + 96 * HALF, HALF), 77)
            for m in readings(20, 0, 1) if m != "canary-003"}  # fmt: skip
    take(vault, "rest.csv", rest)  # now they all differ from then
    assert exact(vault)["refused"] is None
    take(vault, "c.csv", {"canary-007": {T0: 9, T0 + HALF: 9}}, correct=True)
    assert exact(vault)["refused"] == "differencing"


def test_with_noise_it_is_an_alarm(vault: Vault) -> None:
    take(vault, "a.csv", readings(20, 0, 96))
    gateway = Gateway(vault.state)

    def alarms() -> list[object]:
        return [alarm["kind"] for alarm in history.alarms(vault.state.gateway())][::-1]

    assert exact(vault)["refused"] is None
    take(vault, "c.csv", {"canary-007": {T0: 9, T0 + HALF: 9}}, correct=True)
    noisy = ask.make(vault.state.config, "sum", "2013-01-14", "2013-01-15", "research",
                     epsilon="0.1")  # fmt: skip
    assert gateway.query(RIK, noisy)["refused"] is None
    assert alarms() == ["differencing"]


def test_exports_are_remembered_with_the_answers(vault: Vault) -> None:
    """Query, sums and records about groups that differ in two homes: whichever comes first."""
    take(vault, "a.csv", readings(40, 0, 96, scale=3))
    facts = [Meter(m, tariff="A" if i < 38 else "B") for i, m in enumerate(readings(40, 0, 1))]
    learn_meters(vault, facts)
    gateway = Gateway(vault.state)
    options: dict[str, Any] = {"segment": {"tariff": "A"}, "start": T0, "end": T0 + 2 * DAY, "k": 5,
                               "l_diverse": 1, "window_s": DAY, "most_suppressed": 0.5}  # fmt: skip
    text, made = export_records(gateway, ANN, "planning", **options)
    assert text.count("\n") > 1
    entry = list(vault.state.log().entries())[made["log_index"]]
    assert entry["kind"] == "release" and entry["body"]["query"]["technique"] == "k-anonymity"
    (cohort,) = vault.state.gateway().execute("SELECT digest FROM cohorts").fetchone()
    assert entry["body"]["cohort"] == cohort.hex()
    assert exact(vault)["refused"] == "differencing"  # all 40, after records of 38
    with pytest.raises(Refused, match="differencing"):
        sums(vault)
    with pytest.raises(Refused, match="differencing"):
        export_records(gateway, ANN, "planning", **options | {"segment": {}})
    assert exact(vault, segment=["tariff=A"])["refused"] is None
    noisy = ask.make(vault.state.config, "sum", "2013-01-14", "2013-01-15", "research",
                     epsilon="0.1")  # fmt: skip
    assert gateway.query(RIK, noisy)["refused"] is None
    assert history.alarms(vault.state.gateway())[0]["kind"] == "differencing"
    export_records(gateway, ANN, "planning", **options | {"k": 6})
    assert history.alarms(vault.state.gateway())[0]["kind"] == "repeated"


def two_tariffs(vault: Vault) -> Readings:
    data = readings(40, 0, 144)
    take(vault, "a.csv", data)
    learn_meters(vault, [Meter(m, tariff="AB"[i % 2]) for i, m in enumerate(data)])
    return data


def test_kept_sums_can_be_had(vault: Vault) -> None:
    data = two_tariffs(vault)
    expire(vault, DAY0 + 2)
    gateway = Gateway(vault.state)
    with pytest.raises(Refused, match="--method kept"):
        sums(vault)
    options = {"start": T0, "end": T0 + 2 * DAY, "every_s": 3600}
    text, made = export_kept(gateway, RIK, "research", **options)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert made["groups"] == 2 and len(rows) == 96 == made["values"]
    for row in rows:
        at, tariff = parse_timestamp(row["start"]), row["group"].partition(",")[0]
        who = [m for i, m in enumerate(data) if f"tariff={'AB'[i % 2]}" == tariff]
        assert int(row["wh"]) == sum(data[m][at] + data[m][at + HALF] for m in who)
    entry = list(vault.state.log().entries())[made["log_index"]]
    assert entry["kind"] == "release" and entry["body"]["method"] == "kept"
    (subject,) = gateway.accountant.subjects(["canary-005"])
    own = compliance.customer(gateway, people.Person.of(vault.state, "customer", "c", subject),
                              subject, "own-data")  # fmt: skip
    assert [row["log_index"] for row in own["outputs"]] == [made["log_index"]]
    with pytest.raises(Refused, match="resolution_too_fine"):
        export_kept(gateway, RIK, "research", **options | {"every_s": HALF})
    with pytest.raises(Refused, match="no_data"):
        export_kept(gateway, RIK, "research", start=T0 + 5 * DAY, end=T0 + 6 * DAY, every_s=3600)
    for who in ("vendor:v", "billing:b", "customer:c", "operator:console", "privacy-officer:p"):
        role, name = people.parse(who)
        with pytest.raises(Refused):
            export_kept(gateway, people.Person(role, name), "research", **options)


def test_sums_that_would_reveal_a_few_homes_are_not_kept(vault: Vault) -> None:
    """37 of tariff A, 3 of B, pooled with nobody: everybody is one group. An exact answer about the 37
    was given for the first day, so the sums of all 40 go with the readings."""
    data = readings(40, 0, 144)
    take(vault, "a.csv", data)
    learn_meters(vault, [Meter(m, tariff="B" if i < 3 else "A") for i, m in enumerate(data)])
    asked = ask.make(vault.state.config, "sum", "2013-01-14", "2013-01-15", "operations",
                     technique="aggregate", segment=["tariff=A"])  # fmt: skip
    assert Gateway(vault.state).query(ANN, asked)["refused"] is None
    done = expire(vault, DAY0 + 1)
    assert done["aggregates_kept"] == 0 and not list(kept(vault, 0, DAY0 + 1))
    done = expire(vault, DAY0 + 2)  # nobody asked about the second day
    assert done["aggregates_kept"] == 1
    (one,) = kept(vault, 0, DAY0 + 2)
    assert int(one.wh.sum()) == sum(
        wh for row in data.values() for t, wh in row.items() if t // DAY == DAY0 + 1
    )
    assert total(vault, T0 + 2 * DAY, T0 + 3 * DAY) > 0


def test_by_the_command(vault: Vault, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from wattveil.cli import main

    two_tariffs(vault)
    where = ("--state-dir", str(vault.state.path), "--json")
    file = write_csv(tmp_path / "b.csv", {"canary-001": {T0: 5, T0 + HALF: 6}})
    for line, corrected in ((["ingest", str(file)], 0), (["ingest", str(file), "--correct"], 2)):
        assert main(["vault", *line, *where]) == 0
        assert json.loads(capsys.readouterr().out)["corrected"] == corrected
    actions = [e["body"]["action"] for e in vault.state.log().entries() if e["kind"] == "decision"]
    assert actions == ["ingest", "correct"]
    assert main(["vault", "expire", "--older-than", "2013-01-15", *where]) == 0
    key = tmp_path / "rik.key"
    people.write_key_file(key, people.add(vault.state, str(RIK)))
    capsys.readouterr()
    out = tmp_path / "kept.csv"
    line = ["anonymise", str(out), "--method", "kept", "--from", "2013-01-14", "--to", "2013-01-15",
            "--as", str(RIK), "--purpose", "research", "--key-file", str(key)]  # fmt: skip
    assert main([*line, *where]) == 0
    assert json.loads(capsys.readouterr().out)["values"] == 48
    assert out.read_text().startswith("group,start,wh\n")
    assert main([*line, "--by", "tariff", *where]) == 2
    bad = [*line[:-4], "--purpose", "research", "--key-file", str(key), "--as", str(RIK)]
    bad[bad.index("2013-01-15")] = "2014-01-15"
    bad[bad.index("2013-01-14")] = "2014-01-14"
    assert main([*bad, *where]) == 0
    assert json.loads(capsys.readouterr().out)["refused"] == "no_data"
    *_, refusal = [e["body"] for e in vault.state.log().entries() if e["kind"] == "refusal"]
    assert refusal == {"person": str(RIK), "action": "anonymise", "reason": "no_data"}
