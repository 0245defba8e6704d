"""`wattveil audit privacy` passes on the product and says so in a report (see test_audit_plants.py too)."""

from __future__ import annotations

import json
import math
import re
from contextlib import nullcontext
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattveil.audit import command, report, stats
from wattveil.audit.bench import audit_key, dice, drbg, laboratory
from wattveil.audit.checks import coalitions, inference
from wattveil.audit.finding import BLIND, HOLDS, Finding, Study
from wattveil.audit.registry import CHECKS
from wattveil.cli import main, parser

FOLDER = "shared/data"  # beside the project, where the data sets are at hand


def test_the_product_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What CI runs: every claim holds. The page needs nothing from outside, the list says how to run each
    claim again."""
    assert (
        main(["audit", "privacy", "--quick", "--seed", "1", "--json", "--out", str(tmp_path)]) == 0
    )
    rows = json.loads(capsys.readouterr().out)
    assert {row["claim"]: row["verdict"] for row in rows if row["verdict"] != HOLDS} == {}
    keys = {"claim", "method", "claimed", "measured", "verdict", "command"}
    assert all(set(row) == keys and all(row.values()) for row in rows)
    again = [parser().parse_args(row["command"].split()[1:]).what for row in rows]
    assert {name for names in again for name in names} == set(CHECKS)
    page = (tmp_path / command.PAGE).read_text()
    assert page.count("<tr>") == len(rows) + len(CHECKS)  # and their heads
    assert page.count("<svg") == 7
    assert re.findall(r"(?:https?:)?//[^ <]|src=|@import|url\(", page) == []
    tags = Balanced()
    tags.feed(page)
    assert tags.open == []


def test_every_row_of_the_protocols_table_is_played(pytestconfig: pytest.Config) -> None:
    text = (pytestconfig.rootpath / "docs/PROTOCOL.md").read_text()
    table = text.partition("### Coalitions")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| ((?:[^|\\]|\\.)+?) \|", table, re.M)[1:]
    rows = [row.replace("\\|", "|") for row in rows if row != "---"]
    played = {coalition.row for coalition in coalitions.PASSIVE} | coalitions.ACTIVE.keys()
    assert set(rows) == played and len(rows) == len(played) == 12


def test_a_seed_gives_the_same_draws_again() -> None:
    def drawn(*seed: int) -> list[int]:
        with laboratory(*seed) if seed else nullcontext():
            return [drbg("x").below(1 << 60), dice("x").getrandbits(60)]

    assert drawn(1) == drawn(1) != drawn(2) != drawn() == drawn()


def test_another_key_size_is_attacked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["audit", "privacy", "--what", "printed", "--bits", "320", "--seed", "1", "--json"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert all("320-bit key" in row["method"] and "--bits 320" in row["command"] for row in rows)
    assert audit_key().public.bits == 512


VOID = {"meta"}


class Balanced(HTMLParser):
    """Tags that are open at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_claim_that_was_not_seen_to_break_is_no_pass() -> None:
    seen = {"x": [Finding("a", "b", "c", "d", HOLDS), Finding("a", "b", "c", "d", BLIND)]}
    assert not report.all_hold(seen)
    assert report.summary(seen).startswith("Of 2 claims 0 are broken, and 1")
    assert '<tr class="bad">' in report.page(
        CHECKS, {"floor": seen["x"]}, {"floor": "c"}, report.About("c", "m", 1, None, 512)
    )


@pytest.mark.parametrize("wrong", [["--what", "none"], ["--plant", "none"], ["--data", "/none"]])
def test_what_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: list[str]
) -> None:
    assert main(["audit", "privacy", "--out", str(tmp_path), *wrong]) == 2
    assert wrong[0] in capsys.readouterr().err


@given(st.integers(1, 400), st.data())
def test_bounds_of_a_chance(tries: int, data: st.DataObject) -> None:
    """Clopper and Pearson's own definition: at the bound, so many hits have chance alpha."""
    hits = data.draw(st.integers(0, tries))
    low, high = stats.lower(hits, tries, 0.01), stats.upper(hits, tries, 0.01)
    assert 0 <= low <= hits / tries <= high <= 1
    if hits:
        tail = sum(
            math.comb(tries, k) * low**k * (1 - low) ** (tries - k) for k in range(hits, tries + 1)
        )
        assert tail == pytest.approx(0.01, rel=1e-6)


@given(st.lists(st.integers(-9, 9), min_size=1), st.lists(st.integers(-9, 9), min_size=1))
def test_the_best_threshold(low: list[int], high: list[int]) -> None:
    best = stats.accuracy(low, high, stats.best_threshold(low, high))[0]
    assert best == max(stats.accuracy(low, high, at)[0] for at in range(-10, 10))


REFIT_LINES = [
    "house,timestamp_local,aggregate_w,kettle_w",
    *(f"H,2014-05-01T{t // 60:02}:{t % 60:02}:00,{600 if t < 33 else 60},{540 if 30 <= t < 33 else 0}"
      for t in range(90)),
]  # fmt: skip


def test_appliance_truth_is_read(tmp_path: Path) -> None:
    """W of minutes become Wh of half hours; a kettle is never more than the whole."""
    path = tmp_path / "refit_1min.csv"
    path.write_text("\n".join(REFIT_LINES))
    home = inference._refit(path)
    assert list(home.wh) == [300, 57, 30]
    assert home.kettle is not None and list(home.kettle) == [0, 27, 0]


def test_real_data_where_they_are(pytestconfig: pytest.Config) -> None:
    folder = pytestconfig.rootpath.parent / FOLDER
    if not any(folder.glob(inference.REFIT)):
        pytest.skip("no data sets here")
    findings = CHECKS["inference"].run(Study(data=folder))
    assert all("refit" in f.method for f in findings)
    assert {f.verdict for f in findings} == {HOLDS}
