"""The plan itself: noise of the totals, epsilon of a day, and what silent meters change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from wattveil.fleet.settings import FleetSettings, exact, share_of
from wattveil.planning.compose import basic, optimal, releases_a_day
from wattveil.planning.load import Profile
from wattveil.privacy.law import epsilon_received, noise_band, noise_mean_abs, noise_sd, shape

LEVEL = 0.9  # of the noise band
DAY_DELTA = 1e-6  # of the composed epsilon
STEPS = 8  # rows of the drop-out table

Json = dict[str, Any]


@dataclass(frozen=True)
class Forecast:
    """Settings, roster size, and the shares that are silent or honest (exact)."""

    settings: FleetSettings
    meters: int
    drop: Fraction
    honest: Fraction
    load: Profile

    @classmethod
    def make(
        cls, settings: FleetSettings, meters: int, drop: str, honest: str, load: Profile
    ) -> Forecast:
        """ValueError names the option that cannot be."""
        settings.check(meters)
        shares = exact(drop, "drop"), exact(honest, "honest")
        for name, share in zip(("drop", "honest"), shares, strict=True):
            if not 0 <= share <= 1:
                raise ValueError(f"{name}: {float(share):g} is not between 0 and 1")
        if load.period_s != settings.period_s:
            raise ValueError(
                f"{load.source} has periods of {load.period_s} s: plan with --period "
                f"{load.period_s}, or give data of {settings.period_s} s"
            )
        return cls(settings, meters, *shares, load)

    @property
    def epsilon(self) -> Fraction:
        """Per period."""
        return exact(self.settings.epsilon, "epsilon")

    @property
    def quorum_count(self) -> int:
        """Q."""
        return self.settings.check(self.meters)

    @property
    def a(self) -> int:
        """Shares that make one full noise, Q - c."""
        return self.quorum_count - self.settings.colluding

    @property
    def reporting(self) -> int:
        """|S|: meters that report when the planned share is silent."""
        return self.meters - share_of(self.drop, self.meters)

    def noise(self, size: int | Fraction) -> Json:
        """The noise of a total to which `size` meters add their shares, Wh."""
        law = (size, self.a, self.epsilon, self.settings.delta, self.settings.own_noise)
        return {
            "mean_abs_wh": noise_mean_abs(*law),
            "sd_wh": noise_sd(*law),
            "band90_wh": noise_band(*law, LEVEL),
        }

    def error(self, reporting: int, shares: int | Fraction) -> Json:
        """`noise`, and the same relative to what these homes use in a period."""
        noise, load = self.noise(shares), reporting * self.load.mean
        quiet = reporting * self.load.quiet
        relative = {f"{name[:-3]}_of_load": wh / load for name, wh in noise.items()}
        averaged = noise["mean_abs_wh"] / quiet if quiet else None
        return noise | relative | {"mean_abs_over_periods": averaged}

    def received(self, reporting: int) -> float:
        """The epsilon of a total of this many meters, the planned share of them honest."""
        settings, shares = self.settings, self.honest * reporting
        law = (settings.noise, self.a, shares, self.epsilon, settings.delta, settings.own_noise)
        return epsilon_received(*law)

    def sizes(self) -> Sequence[int]:
        """From all meters down to the quorum, and one below it."""
        span = self.meters - self.quorum_count
        steps = {self.meters - span * i // STEPS for i in range(STEPS + 1)}
        return sorted(steps | {self.reporting, self.quorum_count - 1}, reverse=True)

    def dropouts(self) -> list[Json]:
        """A row for each number of reporting meters."""
        rows = []
        for size in self.sizes():
            released = size >= self.quorum_count
            row: Json = {"reporting": size, "silent": self.meters - size, "released": released}
            if released:
                kept = self.error(size, self.honest * size)
                names = ("mean_abs_wh", "sd_wh", "mean_abs_of_load", "sd_of_load")
                row |= {name: kept[name] for name in names}
                row |= {"epsilon_received": finite(self.received(size))}
            rows.append(row)
        return rows

    def release_chance(self) -> float:
        """The chance that Q meters report when each is silent by itself with the planned chance."""
        if self.drop in (0, 1):
            return float(self.reporting >= self.quorum_count)
        up, m = float(1 - self.drop), self.meters
        logs = [
            math.lgamma(m + 1) - math.lgamma(k + 1) - math.lgamma(m - k + 1)
            + k * math.log(up) + (m - k) * math.log1p(-up)
            for k in range(self.quorum_count, m + 1)
        ]  # fmt: skip
        return min(1.0, math.fsum(math.exp(value) for value in logs))

    def day(self) -> Json:
        """What a day of releases costs a household that reports in every period."""
        releases = releases_a_day(self.settings.period_s)
        total = basic(self.epsilon, releases)
        received = self.received(self.reporting)
        most = math.ceil(releases)
        composed = optimal(received, most, DAY_DELTA) if math.isfinite(received) else math.inf
        return {
            "releases": float(releases),
            "epsilon_basic": float(total),
            "epsilon_basic_exact": str(total),
            "epsilon_received_basic": finite(received * float(releases)),
            "epsilon_optimal": finite(composed),
            "optimal_delta": DAY_DELTA,
        }

    def summary(self) -> Json:
        """All of it, as `--json` prints it."""
        settings, size = self.settings, self.reporting
        released = size >= self.quorum_count
        load = self.load
        return {
            "meters": self.meters,
            "delta_wh": settings.delta,
            "epsilon": float(self.epsilon),
            "epsilon_exact": str(self.epsilon),
            "period_s": settings.period_s,
            "quorum": float(exact(settings.quorum, "quorum")),
            "quorum_count": self.quorum_count,
            "colluding": settings.colluding,
            "noise": settings.noise,
            "own_noise": settings.own_noise,
            "drop": float(self.drop),
            "honest": float(self.honest),
            "reporting": size,
            "released": released,
            "release_chance": self.release_chance(),
            "shares_honest": float(self.honest * size),
            "shape": float(shape(self.honest * size, self.a, settings.own_noise)),
            "load": {
                "source": load.source,
                "homes": load.homes,
                "readings": load.readings,
                "mean_wh": load.mean,
                "fleet_mean_wh": load.mean * size,
                "above_delta": load.above,
                "cut_wh": load.cut * size,
            },
            "error": self.error(size, self.honest * size) if released else None,
            "error_all_honest": self.error(size, size) if released else None,
            "epsilon_received": finite(self.received(size)) if released else None,
            "day": self.day() if released else None,
            "dropouts": self.dropouts(),
        }


def finite(value: float) -> float | None:
    """None, JSON's null, for "no bound"."""
    return value if math.isfinite(value) else None
