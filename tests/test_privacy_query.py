"""Answers with noise: the right statistic, enough noise, the error that was announced."""

from __future__ import annotations

import gzip
import itertools
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacyworld import DAY, START, MemoryVault, World, homes
from wattveil.privacy.config import Config
from wattveil.privacy.contracts import Block
from wattveil.privacy.query import ask, noise, statistic
from wattveil.privacy.query.dp import DP, scores
from wattveil.privacy.query.noise import Mechanism, Norms, calibrate, guard
from wattveil.privacy.refusals import Refused
from wattveil.privacy.techniques import Group
from wattveil.store import Store

CONFIG, CLIP = Config(), 1000
LCL = Path(__file__).parents[2] / "shared" / "data" / "lcl_dev_30min_winter4w.csv.gz"
GROUP = Group(40, 15, Fraction(3, 20))
HUGE = str(10**6)  # an epsilon at which the noise is gone, to see the statistic


def query(kind, epsilon="1", **rest):
    rest = {"clip": CLIP} | rest
    return ask.make(CONFIG, kind, START, rest.pop("end", DAY), "research", epsilon=epsilon, **rest)


def block(wh):
    return [Block([""] * len(wh), np.maximum(wh, 0), wh >= 0)]


def values(answer):
    return [row["value"] for row in answer["values"]]


def readings():
    wh = homes(40)
    wh[3, 5] = 50_000  # far above the clip
    wh[7, 10:20] = -1  # absent
    wh[9] = -1
    return wh


def by_hand(wh):
    """Clipped and absent as 0, in plain Python."""
    return [[min(v, CLIP) if v >= 0 else 0 for v in row] for row in wh.tolist()]


def test_the_statistics_are_the_clipped_ones():
    wh = readings()
    clean = by_hand(wh)
    totals = [sum(row) for row in clean]

    def answer(kind, **rest):
        return values(DP().run(query(kind, HUGE, **rest), GROUP, block(wh)))

    assert answer("sum") == [sum(totals)]
    assert answer("mean") == [pytest.approx(sum(totals) / 40 / 48)]
    assert answer("curve") == [sum(column) for column in zip(*clean, strict=True)]
    hours = [sum(sum(row[t : t + 2]) for row in clean) for t in range(0, 48, 2)]
    assert answer("curve", resolution=3600) == hours
    assert answer("count") == [39]
    assert answer("count", above=9000) == [sum(total > 9000 for total in totals)]
    edges = [0, 100, 200, 300, 1000]
    expected = [
        sum(low <= total / 48 < high for total in totals)
        for low, high in itertools.pairwise(edges)
    ]
    assert answer("histogram", edges="0,100,200,300,1000") == expected
    assert sum(answer("histogram")) == 40
    (median,) = answer("quantile")
    step = -(-CLIP // 256)
    assert abs(median - sorted(totals)[20] / 48) <= 2 * step


@given(
    st.sampled_from(["sum", "mean", "count", "histogram", "curve"]),
    st.integers(1, 20_000),
    st.sampled_from([1800, 3600, 7200, 86_400]),
    st.sampled_from([None, 0, 1234]),
    st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_no_member_moves_an_answer_further_than_the_norms(kind, clip, resolution, above, seed):
    asked = query(kind, clip=clip, resolution=resolution, above=above if kind == "count" else None)
    norms, hand = statistic.norms(asked), statistic.norms_by_hand(asked)
    dull = (kind == "count" and (above or 0) >= 48 * clip) or (kind == "histogram" and clip == 1)
    assert hand == (Norms(0, 0) if dull else norms)  # nothing to tell apart, or all of it
    rng = np.random.default_rng(seed)
    one, other = rng.integers(-1, 3 * clip, (2, 20, 48))
    a, b = (statistic.contributions(asked, np.maximum(wh, 0), wh >= 0) for wh in (one, other))
    assert np.abs(a - b).sum(axis=1).max() <= norms.l1
    assert ((a - b) ** 2).sum(axis=1).max() <= norms.l2_squared


@pytest.mark.parametrize("delta", ["0", "1e-6"])
@pytest.mark.parametrize("norms", [Norms(1, 1), Norms(2, 2), Norms(96_000, 192_000_000)])
def test_the_guard_takes_what_is_enough_and_nothing_less(norms, delta):
    epsilon, exact = Fraction(1, 2), Fraction(delta)
    made = calibrate(norms, epsilon, exact)
    guard(made, norms, epsilon, exact)
    less = Mechanism(made.name, made.scale * 0.999, norms)
    more = Norms(norms.l1 * 2, norms.l2_squared * 4)
    for mechanism, hand, eps in (
        (less, norms, epsilon),
        (made, more, epsilon),
        (made, norms, epsilon * Fraction(99, 100)),
        (Mechanism(made.name, 1.8e-7, norms), norms, epsilon),
        (Mechanism(made.name, 0.0, norms), norms, epsilon),
    ):
        with pytest.raises(Refused, match="scale_too_small"):
            guard(mechanism, hand, eps, exact)


def test_gaussian_noise_is_what_the_conversion_demands():
    """Sigma by OpenDP against rho by the formula of Canonne, Kamath and Steinke."""
    made = calibrate(Norms(10, 100), Fraction(1), Fraction(1, 10**6))
    rho = 100 / (2 * made.scale**2)
    assert noise._delta_of(rho, 1.0) == pytest.approx(1e-6, rel=1e-3)
    assert made.event["rho"] == pytest.approx(rho)


def test_a_planted_sensitivity_bug_releases_nothing(tmp_path, monkeypatch):
    world = World(tmp_path / "gateway")
    rob = world.person("researcher:rob")
    true = statistic.norms
    monkeypatch.setattr(
        statistic, "norms", lambda q: Norms(true(q).l1 // 48, true(q).l2_squared // 48)
    )
    for delta in (None, "1e-6"):
        answer = world.ask(rob, "curve", delta=delta)
        assert answer["refused"] == "scale_too_small" and answer["values"] == []
    assert world.vault.reads == 0  # the guard comes before the data
    assert world.gateway.accountant.table()["researcher:rob"]["spent"] == "1"  # never refunded


def test_a_library_that_adds_no_noise_is_noticed(tmp_path, monkeypatch):
    world = World(tmp_path / "gateway")
    rob, whole = world.person("researcher:rob"), noise.measurement
    assert world.ask(rob)["refused"] is None
    monkeypatch.setattr(noise, "measurement", lambda name, scale: whole(name, 1.8e-7))
    assert world.ask(rob)["refused"] == "scale_too_small"


@pytest.mark.parametrize(
    "made",
    [Mechanism("discrete Laplace", 0.7, Norms(1, 1)), Mechanism("discrete Laplace", 300.0, Norms(1, 1)),
     Mechanism("discrete Gaussian", 0.8, Norms(1, 1)), Mechanism("discrete Gaussian", 5000.0, Norms(1, 1))],
)  # fmt: skip
def test_the_announced_law_is_the_drawn_one(made):
    drawn = np.array(made.draw([0] * 20_000))
    assert abs(drawn.mean()) < 6.5 * made.sd / math.sqrt(20_000)  # as all of it: once in 1e9 runs
    assert np.abs(drawn).mean() == pytest.approx(made.mean_abs, rel=0.07)
    assert drawn.std() == pytest.approx(made.sd, rel=0.06)
    inside = (np.abs(drawn) <= made.half_width).mean()
    assert inside >= 0.94
    if made.half_width:
        assert (np.abs(drawn) < made.half_width).mean() < 0.96


def test_laplace_noise_is_as_private_as_it_says():
    """Empirical epsilon of a count: log-ratios of frequencies under neighbours stay below 1/2.

    It is 1/2, so a false alarm is a matter of chance: 6 standard deviations, 8e-9 for all of them.
    """
    made = calibrate(Norms(1, 1), Fraction(1, 2), Fraction(0))
    draws = 40_000
    a, b = (np.array(made.draw([x] * draws)) for x in (0, 1))
    for k in range(-3, 5):
        here, there = (a == k).sum(), (b == k).sum()
        spread = 6 * math.sqrt(1 / here + 1 / there)
        assert abs(math.log(here / there)) <= 0.5 + spread


class Rushed(Store):
    """A ledger that does not wait for the disk, which is not what is measured."""

    def transact(self, decide, durable=False):
        super().transact(decide)


def errors(world, person, vault, runs):
    """Of curves over the first day, each with a fresh ledger; and how many bands hold the truth."""
    asked = {"kind": "curve", "clip": 1000, "delta": "0.000001", "epsilon": "1"}
    expected = world.ask(person, preview=True, **asked)["preview"]
    truth = np.clip(vault.wh[:, :48], 0, 1000).sum(axis=0)
    off, inside = [], []
    world.state.close()
    fresh = (world.path / "ledger.db").read_bytes()
    world.state.gateway().execute("PRAGMA synchronous=OFF")
    for run in range(runs):
        path = world.path / f"fresh-{run}.db"
        path.write_bytes(fresh)
        with Rushed(path, "NORMAL") as ledger:
            world.state._local.ledger = ledger
            answer = world.ask(person, **asked)
            assert answer["refused"] is None and answer["spent"] == "1", answer
        off.append([row["value"] - t for row, t in zip(answer["values"], truth, strict=True)])
        inside += [row["low"] <= t <= row["high"]
                   for row, t in zip(answer["values"], truth, strict=True)]  # fmt: skip
    return expected, np.abs(off).mean(), np.std(off), np.mean(inside)


def check_errors(tmp_path, vault):
    world = World(tmp_path / "gateway", vault)
    expected, mean_abs, sd, inside = errors(world, world.person("researcher:rob"), vault, 200)
    assert mean_abs == pytest.approx(expected["mean_abs_error"], rel=0.1)
    assert sd == pytest.approx(expected["standard_error"], rel=0.1)
    assert 0.93 <= inside <= 0.97
    return expected, mean_abs, sd, inside


def test_the_error_of_a_curve_is_what_the_preview_said(tmp_path):
    """600 homes, 200 runs with fresh ledgers, against the clipped truth."""
    print(check_errors(tmp_path, MemoryVault(homes(600))))


@pytest.mark.skipif(not LCL.exists(), reason=f"no {LCL.name}: real households are not in the tree")
def test_the_error_on_real_households(tmp_path):
    day, rows = "2013-01-14T", {}
    with gzip.open(LCL, "rt") as file:
        next(file)
        for line in file:
            meter, at, wh = line.split(",")
            if at.startswith(day):
                slot = int(at[11:13]) * 2 + (at[14:16] == "30")
                rows.setdefault(meter, [-1] * 48)[slot] = int(wh)
    vault = MemoryVault(np.array([rows[meter] for meter in sorted(rows)[:600]]))
    assert len(vault.wh) == 600
    print(check_errors(tmp_path, vault))


def test_a_quantile_pays_for_its_interval_and_holds_it(tmp_path):
    wh = homes(600)
    world = World(tmp_path / "gateway", MemoryVault(wh))
    rob = world.person("researcher:rob")
    preview = world.ask(rob, "quantile", preview=True)
    assert preview["refused"] == "no_preview" and preview["values"] == []
    answer = world.ask(rob, "quantile", at="0.9", epsilon="1", clip=1000)
    assert answer["spent"] == "1" and "interval_paid" in answer
    group = Group(600, 15, Fraction(3, 20))
    for q, epsilon in (("0.5", "1"), ("0.9", "0.5"), ("1/3", "1")):
        asked = query("quantile", epsilon, at=q)
        truth = np.sort(np.clip(wh, 0, CLIP).sum(axis=1) // 48)[int(600 * Fraction(q)) - 1]
        rows = [DP().run(asked, group, block(wh))["values"][0] for _ in range(100)]
        assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
        assert sum(row["low"] <= truth <= row["high"] for row in rows) >= 93
        assert np.median([abs(row["value"] - truth) for row in rows]) < 40
    constant = np.full((600, 48), 77)
    row = DP().run(query("quantile", "1"), group, block(constant))["values"][0]
    assert row["low"] <= 77 <= row["high"]


@given(
    st.lists(st.integers(0, 50), min_size=15, max_size=40),
    st.integers(0, 50),
    st.fractions(0, 1, max_denominator=50),
)
@settings(max_examples=200, deadline=None)
def test_one_member_moves_a_quantiles_score_by_at_most_its_denominator(held, other, wanted):
    candidates = list(range(51))
    one, two = (np.sort(np.array(v)) for v in (held, [other, *held[1:]]))
    pairs = zip(scores(one, candidates, wanted), scores(two, candidates, wanted), strict=True)
    assert max(abs(a - b) for a, b in pairs) <= wanted.denominator


def test_post_processing_is_asked_for_and_labelled():
    wh = homes(40)
    plain = DP().run(query("histogram", "0.1"), GROUP, block(wh))
    assert "post_processing" not in plain or plain["post_processing"] == []
    for kind in ("histogram", "count", "curve", "sum", "mean"):
        answer = DP().run(query(kind, "0.01", consistent=True), GROUP, block(wh))
        assert answer["post_processing"][0] == "non-negative"
        assert all(row["value"] >= 0 and row["low"] >= 0 for row in answer["values"])
        if kind == "histogram":
            assert sum(values(answer)) == pytest.approx(40)


def test_a_preview_uses_no_data_and_costs_nothing(tmp_path):
    few = World(tmp_path / "few", MemoryVault(homes(20)))
    many = World(tmp_path / "many", MemoryVault(homes(500, seed=7)))
    shown = []
    for world in (few, many):
        rob = world.person("researcher:rob")
        for kind in ("sum", "mean", "count", "histogram", "curve"):
            answer = world.ask(rob, kind, preview=True)
            assert answer["values"] == [] and answer["spent"] == "0"
            shown.append((kind, answer["preview"]))
        assert world.vault.reads == 0
        assert world.gateway.accountant.events("researcher:rob") == []
    assert shown[:5] == shown[5:]
