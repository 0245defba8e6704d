"""`wattveil plan`: the law's moments, composition, load, the facts of the data, and simulation.

The simulations draw every meter's share with the product's own sampler, seeded, so a case either
always passes or never does.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from wattveil import cli
from wattveil.fleet.settings import FleetSettings
from wattveil.importers.csv_file import read_csv
from wattveil.importers.households import generate
from wattveil.importers.readings import LoadData
from wattveil.planning.command import sentence
from wattveil.planning.compose import basic, optimal, optimal_delta, releases_a_day
from wattveil.planning.forecast import Forecast
from wattveil.planning.load import from_model, profile
from wattveil.privacy.law import noise_mean_abs, noise_sd
from wattveil_meter.drbg import Drbg
from wattveil_meter.noise import make_sampler

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "docs" / "sample" / "homes.csv"
LCL = ROOT.parent / "shared" / "data" / "lcl_dev_30min_winter4w.csv.gz"
NEAR = 0.05  # what a plan promises

lcl = pytest.mark.skipif(not LCL.exists(), reason="the London data are not here")


def plan(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    assert cli.main(["plan", *args, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


# --- the law and composition -------------------------------------------------------------------


@pytest.mark.parametrize("shape", [0.05, 0.5, 0.9, 1, 10 / 7, 2, 7.5])
def test_mean_absolute_noise(shape: float) -> None:
    """Against E|x| of the normal mixture by quadrature."""

    def at(v: float) -> float:
        return math.sqrt(4 * v / math.pi) * float(stats.gamma.pdf(v, shape))

    expected = sum(integrate.quad(at, a, b)[0] for a, b in ((0, 1), (1, 80)))
    size = Fraction(shape).limit_denominator(1000)
    got = noise_mean_abs(size * 7, 7, Fraction(1), 300, False)
    assert got == pytest.approx(300 * expected, rel=1e-3)
    assert noise_mean_abs(0, 7, Fraction(1), 300, False) == 0


def test_laplace_moments_by_hand() -> None:
    law = (500, 500, Fraction(1), 11_500, False)
    assert noise_mean_abs(*law) == pytest.approx(11_500)
    assert noise_sd(*law) == pytest.approx(11_500 * math.sqrt(2))


def test_basic_composition_is_exact() -> None:
    assert basic(Fraction("0.1"), releases_a_day(1800)) == Fraction("4.8")
    assert basic(Fraction(1, 3), releases_a_day(7000)) == Fraction(86_400, 21_000)
    with pytest.raises(ValueError, match="period"):
        releases_a_day(0)


def test_optimal_composition_by_hand() -> None:
    # two randomised responses at e^epsilon = 3: likelihoods 9/16, 6/16, 1/16 against 1/16, 6/16, 9/16
    epsilon = math.log(3)
    assert optimal_delta(epsilon, 2, 0.0) == pytest.approx(8 / 16)
    assert optimal_delta(epsilon, 2, math.log(5)) == pytest.approx((9 - 5) / 16)
    assert optimal(epsilon, 2, 4 / 16) == pytest.approx(math.log(5))
    assert optimal(epsilon, 2, 0.0) == pytest.approx(2 * epsilon)
    assert optimal(epsilon, 2, 0.6) == 0


@pytest.mark.parametrize(
    ("epsilon", "k"), [(1.0, 1), (0.1, 48), (1.0, 48), (0.01, 1440), (3.0, 5)]
)
def test_optimal_composition_against_all_outcomes(epsilon: float, k: int) -> None:
    """Against the binomial likelihoods as scipy has them, and the closed form's own corners."""
    right = math.exp(epsilon) / (1 + math.exp(epsilon))
    p, q = (stats.binom.pmf(np.arange(k + 1), k, chance) for chance in (1 - right, right))
    for target in (0.0, 0.3 * k * epsilon, 0.9 * k * epsilon):
        expected = np.maximum(0, p - math.exp(target) * q).sum()
        assert optimal_delta(epsilon, k, target) == pytest.approx(expected, rel=1e-6, abs=1e-15)
    total = optimal(epsilon, k, 1e-6)
    assert total <= k * epsilon
    assert optimal_delta(epsilon, k, total) <= 1e-6 < optimal_delta(epsilon, k, 0.999 * total)


def test_laplace_noise_keeps_the_composed_promise() -> None:
    """48 Laplace losses, convolved on a grid: their delta at `optimal` is no larger than promised."""
    epsilon, k, step = 0.5, 48, 0.001
    # loss of one release: epsilon with chance 1/2, -epsilon with e^-epsilon / 2, else between
    grid = np.arange(-round(epsilon / step), round(epsilon / step) + 1) * step
    mass = np.exp((grid - epsilon) / 2) / 4 * step
    mass[-1], mass[0] = 0.5, math.exp(-epsilon) / 2
    mass[1:-1] *= (1 - mass[0] - mass[-1]) / mass[1:-1].sum()
    size = k * (len(grid) - 1) + 1
    losses = np.fft.irfft(np.fft.rfft(mass, 2 * size) ** k, 2 * size)[:size]
    total = (np.arange(size) - k * (len(grid) // 2)) * step
    promised = optimal(epsilon, k, 1e-6)
    above = total > promised
    assert 0 < (losses[above] * -np.expm1(promised - total[above])).sum() < 1e-6


# --- load --------------------------------------------------------------------------------------


def test_profile_by_hand() -> None:
    starts = (0, 43_200, 86_400)
    values = {"a": {0: 10, 43_200: 30, 86_400: 50}, "b": {0: 30, 43_200: 50}}
    got = profile(LoadData(("a", "b"), 43_200, starts, values), hi=40)
    assert (got.homes, got.readings, got.mean) == (2, 5, 34)
    assert got.by_time == {0: (20 + 50) / 2, 43_200: 40}
    assert got.quiet == pytest.approx(3 / (1 / 20 + 1 / 40 + 1 / 50))
    assert (got.above, got.cut) == (2 / 5, (10 + 10) / 5)
    with pytest.raises(ValueError, match="all readings are 0"):
        profile(LoadData(("a",), 43_200, (0, 43_200), {"a": {0: 0, 43_200: 0}}), hi=40)


def test_a_quiet_period_without_any_load() -> None:
    got = profile(LoadData(("a",), 43_200, (0, 43_200), {"a": {0: 0, 43_200: 8}}), hi=40)
    assert (got.mean, got.quiet) == (4, 0)
    settings = FleetSettings(delta=40, period_s=43_200)
    summary = Forecast.make(settings, 10, "0", "1", got).summary()
    assert summary["error"]["mean_abs_over_periods"] is None  # null, not infinity, in JSON


@pytest.mark.parametrize("period_s", [900, 7000])
def test_the_model_has_any_period(period_s: int) -> None:
    usual = from_model(1800, 11_500)
    assert from_model(period_s, 11_500).mean == pytest.approx(
        usual.mean * period_s / 1800, rel=0.01
    )


# --- the command -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def london() -> LoadData:
    return read_csv(LCL)


def winter(data: LoadData, quorum: str, noise: str) -> Any:
    """The plan for 500 homes, 11.5 kWh from the connection limit."""
    settings = FleetSettings(delta=11_500, quorum=quorum, noise=noise, period_s=1800)
    return Forecast.make(settings, 500, "0", "1", profile(data, settings.hi)).summary()


@lcl
def test_facts_of_the_london_winter(capsys: pytest.CaptureFixture[str], london: LoadData) -> None:
    """At quorum 1 a mean error of 9.3 %, a standard deviation of 13.1 %; at quorum 0.7 15.6 %."""
    full = plan(capsys, "--meters", "500", "--quorum", "1", "--data", str(LCL))
    assert full == winter(london, "1", "gamma") | {"load": full["load"]}
    assert round(100 * full["error"]["mean_abs_of_load"], 1) == 9.3
    assert round(100 * full["error"]["sd_of_load"], 1) == 13.1
    assert full["day"]["epsilon_basic_exact"] == "48"
    low = winter(london, "0.7", "gamma")
    assert 100 * low["error"]["sd_of_load"] == pytest.approx(15.6, abs=0.06)


def simulate(
    data: LoadData,
    meters: int,
    a: int,
    honest: int,
    epsilon: Fraction,
    delta: int,
    kind: str,
    rounds: int,
) -> tuple[list[float], float]:
    """(errors of released totals in Wh, the mean true total) over the periods, `rounds` times over."""
    drbg = Drbg(b"wattveil plan against simulation: a fixed seed", f"{meters} {a} {kind}".encode())
    share = make_sampler(kind, a, epsilon.numerator, epsilon.denominator, delta).share
    homes = data.meters
    errors, true = [], []
    for _ in range(rounds):
        for start in data.starts:
            readings = [data.get(homes[i % len(homes)], start) or 0 for i in range(meters)]
            total = sum(min(wh, delta) for wh in readings)
            released = total + sum(share(drbg) for _ in range(honest))
            errors.append(released - sum(readings))
            true.append(sum(readings))
    return errors, fmean(true)


def agrees(summary: Any, errors: list[float], load: float) -> None:
    size = [abs(error) for error in errors]
    assert summary["load"]["fleet_mean_wh"] == pytest.approx(load, rel=NEAR)
    assert summary["error"]["mean_abs_of_load"] == pytest.approx(fmean(size) / load, rel=NEAR)
    assert summary["error"]["sd_of_load"] == pytest.approx(pstdev(errors) / load, rel=NEAR)
    inside = sum(wh <= summary["error"]["band90_wh"] for wh in size) / len(size)
    assert inside == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize(
    ("noise", "quorum", "a", "drop", "honest"),
    [
        ("gamma", "1", 12, 0, "1"),
        ("discrete", "0.7", 9, 0, "1"),
        ("gamma", "0.5", 6, 3, "1"),
        ("discrete", "0.75", 9, 0, "0.5"),
    ],
)
def test_a_plan_agrees_with_simulation(
    capsys: pytest.CaptureFixture[str], noise: str, quorum: str, a: int, drop: int, honest: str
) -> None:
    data = read_csv(SAMPLE)
    args = ("--meters", "12", "--delta", "3000", "--epsilon", "0.5", "--quorum", quorum, "--noise", noise,
            "--drop", str(drop / 12)[:6], "--honest", honest, "--data", str(SAMPLE))  # fmt: skip
    summary = plan(capsys, *args)
    reporting = 12 - drop
    assert (summary["reporting"], summary["quorum_count"]) == (reporting, a)
    shares = int(reporting * Fraction(honest))
    errors, load = simulate(data, reporting, a, shares, Fraction(1, 2), 3000, noise, 80)
    agrees(summary, errors, load)


@lcl
def test_a_plan_agrees_with_simulation_on_real_data(london: LoadData) -> None:
    """The first 500 homes without gaps: elsewhere a gap is a silent meter."""
    whole = [m for m in london.meters if len(london.values[m]) == len(london.starts)][:500]
    homes = replace(london, meters=tuple(whole), values={m: london.values[m] for m in whole})
    errors, load = simulate(homes, 500, 350, 500, Fraction(1), 11_500, "discrete", 2)
    agrees(winter(homes, "0.7", "discrete"), errors, load)


def test_silence_and_dishonesty(capsys: pytest.CaptureFixture[str]) -> None:
    """The figures of docs/LIMITS.md, and what the drop-out table says of them."""
    common = ("--meters", "100", "--quorum", "1", "--noise", "discrete", "--drop", "0")
    assert plan(capsys, *common, "--honest", "0.9")["epsilon_received"] == pytest.approx(
        1.19, abs=0.005
    )
    half = plan(capsys, *common[:-4], "--noise", "gamma", "--honest", "0.5")
    assert half["epsilon_received"] is None and half["day"]["epsilon_optimal"] is None
    assert "no epsilon holds" in sentence(half)
    spare = plan(capsys, "--meters", "100", "--quorum", "0.8", "--drop", "0.1")
    assert (spare["reporting"], spare["quorum_count"], spare["epsilon_received"]) == (90, 80, 1)
    assert [row["released"] for row in spare["dropouts"]] == [True] * 9 + [False]
    by_size = {row["reporting"]: row for row in spare["dropouts"]}
    assert min(by_size) == 79 and by_size[90]["sd_wh"] == spare["error"]["sd_wh"]
    assert by_size[100]["sd_wh"] > by_size[80]["sd_wh"] == pytest.approx(11_500 * math.sqrt(2))
    assert by_size[100]["sd_of_load"] < by_size[80]["sd_of_load"]  # more homes: relatively less
    chance = stats.binom.sf(79, 100, 0.9)
    assert spare["release_chance"] == pytest.approx(chance)


def test_no_quorum_no_total(capsys: pytest.CaptureFixture[str]) -> None:
    summary = plan(capsys, "--meters", "10", "--quorum", "1", "--drop", "0.2")
    assert not summary["released"] and summary["error"] is None
    assert sentence(summary).startswith("No total would be released: 8 of 10")


def test_own_noise_and_colluding_widen(capsys: pytest.CaptureFixture[str]) -> None:
    common = ("--meters", "100", "--quorum", "0.8")
    plain = plan(capsys, *common)["error"]["sd_wh"]
    assert plan(capsys, *common, "--own-noise")["error"]["sd_wh"] == pytest.approx(plain * 2**0.5)
    colluding = plan(capsys, *common, "--colluding", "16")["error"]["sd_wh"]
    assert colluding == pytest.approx(plain * math.sqrt(80 / 64))


def test_what_a_person_reads(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "plan.png"
    args = ["plan", "--meters", "60", "--honest", "0.9", "--drop", "0.2", "--plot", str(picture)]
    assert cli.main(args) == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in ("30-minute total of 48 homes", "epsilon 48", "optimal composition", "not released",
                  "if all add noise", "silent by itself"):  # fmt: skip
        assert words in text
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--meters", "1"], "hides nobody"),
        (["--honest", "1.5"], "honest: 1.5"),
        (["--period", "0"], "period_s"),
        (["--drop", "x"], "drop: 'x'"),
        (["--epsilon", "0"], "epsilon: 0"),
        (["--meters", "10", "--colluding", "9"], "colluding"),
        (["--period", "900", "--data", str(SAMPLE)], "periods of 1800 s"),
        (["--data", "none.csv"], "none.csv"),
        (["--plot", "plan.pdf"], ".png or .svg"),
    ],
)
def test_what_cannot_be_planned(
    capsys: pytest.CaptureFixture[str], args: list[str], words: str
) -> None:
    assert cli.main(["plan", *args]) == 2
    assert words in capsys.readouterr().err


def test_the_sample_is_the_household_model() -> None:
    """The plan's default load and the sample come from one documented model."""
    data = read_csv(SAMPLE)
    assert generate(12, 48, 1).values == data.values
