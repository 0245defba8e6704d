"""Anonymised exports keep their promise by construction, and the attack finds what it should."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaultkit import DAY, HALF, T0, make, write_csv
from wattveil import cli
from wattveil.importers.households import generate
from wattveil.importers.readings import LoadData, parse_timestamp
from wattveil.privacy import people
from wattveil.privacy.anonymise import kanonymity, linkage
from wattveil.privacy.anonymise.export import export_records, export_sums
from wattveil.privacy.anonymise.kanonymity import Grid, anonymise, classes, coarse
from wattveil.privacy.anonymise.profiles import Profiles, coarsen, of_load
from wattveil.privacy.anonymise.rule import POOL, aggregate, partition
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.refusals import Refused
from wattveil.privacy.vault.ingest import ingest

SHARE = Fraction(15, 100)
LCL = Path(__file__).parents[2] / "shared" / "data" / "lcl_dev_30min_winter4w.csv.gz"


@pytest.fixture(scope="module")
def model() -> LoadData:
    return generate(60, 48 * 4, 7)


@pytest.fixture(scope="module")
def profiles(model: LoadData) -> Profiles:
    facts = {
        meter: {"tariff": ("flat", "tou")[i % 2], "type": "abc"[i % 3]}
        for i, meter in enumerate(model.meters)
    }
    return of_load(model, facts)


# The aggregation rule

GROUPS = st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(1, 30), max_size=8)


@given(GROUPS, st.integers(2, 20))
def test_partition_has_no_small_group_and_loses_few(sizes: dict[str, int], least: int) -> None:
    groups, at = {}, 0
    for name, size in sizes.items():
        groups[name] = list(range(at, at + size))
        at += size
    made = partition(groups, least)
    members = [i for who in made.values() for i in who]
    assert len(members) == len(set(members)) and all(len(who) >= least for who in made.values())
    if at >= least:
        assert len(members) == at  # nobody is lost while a group can be made
    else:
        assert not made


def test_fourteen_homes_or_one_large_give_nothing() -> None:
    wh = np.full((15, 4), 100, np.int64)
    wh[3, 1] = 100_000
    wh[4, 2] = -1
    facts: list[dict[str, str]] = [{}] * 15
    (group,) = aggregate(Profiles(T0, HALF, wh, facts), [], 1, 15, SHARE)
    assert group.wh.tolist() == [1500, -1, -1, 1500]
    assert aggregate(Profiles(T0, HALF, wh[:14], facts[:14]), [], 1, 15, SHARE) == []


def test_exactly_fifteen_percent_is_allowed() -> None:
    wh = np.full((18, 1), 5, np.int64)
    wh[0, 0] = 15  # of 100: 15 %
    (group,) = aggregate(Profiles(T0, HALF, wh, [{}] * 18), [], 1, 15, SHARE)
    assert group.wh.tolist() == [100]


def test_small_groups_are_pooled(profiles: Profiles) -> None:
    groups = aggregate(profiles, ["tariff", "type"], 2, 15, Fraction(1))
    assert [g.name for g in groups] == [POOL]  # six groups of ten
    groups = aggregate(profiles, ["type"], 2, 15, Fraction(1))
    assert sorted(g.name for g in groups) == ["type=a", "type=b", "type=c"]
    total = sum(group.wh for group in groups)
    assert (total == coarsen(profiles.wh, 2).sum(axis=0)).all()


# k-anonymity


def _worst(release: Any, profiles: Profiles) -> tuple[int, int]:
    """Fewest homes and fewest types that share all that is shown, counted without `classes`."""
    homes, kinds = defaultdict(set), defaultdict(set)
    for i in np.flatnonzero(release.shown).tolist():
        seen = (int(release.window[i]), release.facts[i], tuple(release.bands[i].tolist()))
        homes[seen].add(int(release.home[i]))
        kinds[seen].add(profiles.facts[int(release.home[i])].get("type", ""))
    return min(map(len, homes.values())), min(map(len, kinds.values()))


@pytest.mark.parametrize(("k", "l_diverse", "days"), [(5, 2, 1), (10, 3, 2), (5, 1, 4)])
def test_releases_are_k_anonymous_and_l_diverse(
    profiles: Profiles, k: int, l_diverse: int, days: int
) -> None:
    release = anonymise(
        profiles, k=k, l_diverse=l_diverse, window_s=days * DAY, most_suppressed=0.1
    )
    least, kinds = _worst(release, profiles)
    assert least >= k and kinds >= l_diverse and release.suppressed <= 0.1


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_suppression_by_counting(data: st.DataObject) -> None:
    homes = data.draw(st.integers(2, 25))
    wh = np.array(
        data.draw(st.lists(st.lists(st.integers(-1, 3), min_size=4, max_size=4),
                           min_size=homes, max_size=homes)), np.int64
    )  # fmt: skip
    facts = [{"type": data.draw(st.sampled_from("xyz"))} for _ in range(homes)]
    shape = Profiles(0, DAY // 4, wh, facts)
    release = coarse(shape, Grid(2, 2, ()), DAY, ())
    k, kinds = data.draw(st.integers(2, 4)), data.draw(st.integers(1, 2))
    shown = kanonymity.suppress(release, [f["type"] for f in facts], k, kinds).shown
    for i in range(homes):
        same = [
            j for j in range(homes)
            if release.shown[j] and (release.bands[i] == release.bands[j]).all()
        ]  # fmt: skip
        good = len(same) >= k and len({facts[j]["type"] for j in same}) >= kinds
        assert bool(shown[i]) == (bool(release.shown[i]) and good)


def test_a_finer_grid_with_the_same_promise_is_not_left_out(profiles: Profiles) -> None:
    chosen = anonymise(profiles, k=5, l_diverse=1, window_s=DAY, most_suppressed=0.1)
    mine = kanonymity.error(profiles, chosen.grid, DAY)
    for grid in kanonymity.grids(HALF, DAY, ("tariff", "region")):
        if kanonymity.error(profiles, grid, DAY) < mine:
            release = coarse(profiles, grid, DAY, ("tariff", "region"))
            shown = kanonymity.suppress(release, [""] * profiles.homes, 5, 1)
            assert shown.suppressed > 0.1, grid


def test_impossible_promises_are_said(profiles: Profiles) -> None:
    for options in ({"k": 61, "l_diverse": 1}, {"k": 1, "l_diverse": 1}, {"k": 5, "l_diverse": 4}):
        with pytest.raises(ValueError, match=r"k must|no grid"):
            anonymise(profiles, window_s=DAY, most_suppressed=0.1, **options)


# The attack


def _rates(profiles: Profiles, release: Any, known: list[int]) -> dict[tuple[str, int], float]:
    outcomes = linkage.attack(profiles, release, "x", known, 40, 1)
    return {(o.attacker, o.known): o.identified for o in outcomes}


def test_pseudonyms_alone_hide_nobody(profiles: Profiles) -> None:
    whole = profiles.wh.shape[1] * HALF
    release = coarse(profiles, Grid(1, 1, ()), whole, ())
    rates = _rates(profiles, release, [1, 8, 48])
    assert rates["scattered", 8] > 0.95 and rates["in a row", 48] == 1.0
    assert rates["scattered", 1] <= rates["scattered", 8]


def test_the_attack_is_right_by_hand() -> None:
    """Three homes: two alike in every hour but not in every half-hour."""
    wh = np.array([[1, 2, 5, 5], [2, 1, 5, 5], [9, 9, 9, 9]], np.int64)
    shape = Profiles(0, DAY // 4, wh, [{}] * 3)
    whole = coarse(shape, Grid(1, 1, ()), DAY, ())
    at = np.array
    assert linkage._one(shape, whole, 0, at([2])) == (False, 0.0, False)  # homes 0 and 1 fit
    assert linkage._one(shape, whole, 0, at([0])) == (True, 1.0, False)
    half = coarse(shape, Grid(2, 1, ()), DAY, ())
    assert linkage._one(shape, half, 0, at([0, 1])) == (False, 0.0, False)  # 3 and 3
    assert linkage._one(shape, half, 2, at([0])) == (True, 1.0, False)  # above what they have
    none = coarse(shape, Grid(2, 1, ()), DAY, ())
    none.shown[2] = False
    assert linkage._one(shape, none, 2, at([2, 3])) == (False, 0.0, False)
    assert linkage._one(shape, none, 2, at([0])) == (False, 0.0, False)


def test_k_anonymity_leaves_nobody_to_identify(profiles: Profiles) -> None:
    release = anonymise(profiles, k=5, l_diverse=1, window_s=DAY, most_suppressed=0.1)
    assert set(_rates(profiles, release, [1, 8, 48, 96]).values()) == {0.0}
    assert (
        np.bincount(classes(release)[release.shown])[classes(release)[release.shown]] >= 5
    ).all()


def test_study_and_plot(
    tmp_path: Path, model: LoadData, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.csv"
    file.write_text(model.to_csv())
    out, picture = tmp_path / "study.json", tmp_path / "study.svg"
    code = cli.main(["anonymise", str(out), "--method", "linkage", "--data", str(file),
                     "--targets", "10", "--plot", str(picture), "--state-dir", str(tmp_path)])  # fmt: skip
    assert code == 0 and "scattered" in capsys.readouterr().out
    study = json.loads(out.read_text())
    assert picture.read_text().count("pseudonyms only") >= 1 and study["homes"] == 60
    rows = {(o["step"], o["attacker"], o["known"]): o["identified"] for o in study["outcomes"]}
    assert rows["pseudonyms only", "in a row", 48] == 1.0
    assert rows["daily, 2 kWh bands", "scattered", 8] < 0.2


# Through the gateway


@pytest.fixture
def gateway(tmp_path: Path, profiles: Profiles) -> Iterator[Gateway]:
    vault = make(tmp_path / "state")
    data = generate(60, 48 * 4, 7, start=T0)
    file = tmp_path / "x.csv"
    write_csv(file, {f"canary-{m}": dict(data.values[m]) for m in data.meters})
    ingest(vault, [file], tmp_path / "r.csv")
    yield Gateway(vault.state)
    vault.state.close()


def _ask(gateway: Gateway, who: str) -> tuple[Gateway, people.Person, str]:
    role, name = people.parse(who)
    purpose = "planning" if role == "analyst" else "research"
    return gateway, people.Person(role, name), purpose


def test_sums_leave_by_the_rule(gateway: Gateway) -> None:
    options: Any = {"segment": {}, "start": T0, "end": T0 + 2 * DAY, "every_s": 3600, "by": []}
    text, made = export_sums(*_ask(gateway, "researcher:rik"), **options)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == made["values"] and made["values"] + made["left_out"] == 48
    data = generate(60, 96, 7, start=T0)
    for row in rows:
        at = parse_timestamp(row["start"])
        assert int(row["wh"]) == sum(home[at] + home[at + HALF] for home in data.values.values())
    with pytest.raises(Refused, match="group_too_small"):
        export_sums(*_ask(gateway, "researcher:rik"), **options | {"segment": {"tariff": "none"}})
    with pytest.raises(Refused, match="resolution_too_fine"):
        export_sums(*_ask(gateway, "researcher:rik"), **options | {"every_s": HALF})
    with pytest.raises(Refused):
        export_sums(*_ask(gateway, "vendor:vic"), **options)
    late = {f"canary-{m}": {T0: 5, T0 + HALF: 6} for m in ("x", "y")}
    with tempfile.TemporaryDirectory() as folder:  # two more homes: the difference is theirs
        file = write_csv(Path(folder) / "late.csv", late)
        ingest(gateway.state.vault(), [file], Path(folder) / "r.csv")
    with pytest.raises(Refused, match="differencing"):
        export_sums(*_ask(gateway, "researcher:rik"), **options)


def test_the_rule_of_the_settings_stays(gateway: Gateway) -> None:
    options: Any = {"segment": {}, "start": T0, "end": T0 + 2 * DAY, "every_s": 3600, "by": []}
    text, _ = export_sums(*_ask(gateway, "researcher:rik"), **options)
    laxer, _ = export_sums(*_ask(gateway, "researcher:rik"), **options, least=2, share=Fraction(1))
    assert laxer == text  # config.toml's rule stays


def test_records_leave_k_anonymous(gateway: Gateway) -> None:
    options: Any = {"segment": {}, "start": T0, "end": T0 + 4 * DAY, "k": 5, "l_diverse": 1,
                    "window_s": DAY, "most_suppressed": 0.1}  # fmt: skip
    text, made = export_records(*_ask(gateway, "analyst:ann"), **options)
    assert "canary" not in text and made["suppressed"] <= 0.1
    records: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for row in csv.DictReader(io.StringIO(text)):
        records[row["pseudonym"]].append((row["start"], row["low_wh"], row["high_wh"]))
    same: dict[tuple[tuple[str, ...], ...], int] = defaultdict(int)
    for record in records.values():
        same[tuple(record)] += 1
    assert min(same.values()) >= 5 and sum(same.values()) >= 0.9 * 240
    with pytest.raises(ValueError, match="5 at least"):
        export_records(*_ask(gateway, "analyst:ann"), **options | {"k": 2})
