"""What a person sees of a demo run: progress, a live table, and one plain sentence at the end."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from wattveil.demo.plan import Plan
from wattveil.privacy.law import epsilon_received, noise_band

MANY_HOMES = 1000  # what the noise is compared with: it does not grow with the number of homes
LEVEL = 0.9  # of the noise bands shown


class Quiet:
    """The screen of `--json`: nothing but warnings, on standard error."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)

    def __enter__(self) -> Quiet:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def plan(self, plan: Plan) -> None:
        """The run is about to start."""
        if plan.warning:
            self.console.print(f"warning: {plan.warning}", style="yellow", markup=False)

    def step(self, text: str, done: int = 0, total: int | None = None) -> None:
        """What is going on, and how far it is."""

    def row(self, row: dict[str, Any]) -> None:
        """A period has ended."""

    def end(self, plan: Plan, summary: dict[str, Any]) -> None:
        """The run is over."""


class Screen(Quiet):
    """A live table with a progress bar under it."""

    def __init__(self) -> None:
        super().__init__(Console())
        self._table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=self.console,
        )
        self._task = self._progress.add_task("starting", total=None)
        self._live = Live(self._progress, console=self.console, refresh_per_second=8)
        self._band: dict[int, float] = {}
        self._sentence = ""

    def __enter__(self) -> Screen:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # the progress bar has had its time; a pipe or file has the rows already
        self._live.update(self._table if self.console.is_terminal else self._table.caption or "")
        self._live.__exit__(kind, error, trace)
        if self._sentence:
            self.console.print()
            self.console.print(self._sentence, markup=False, highlight=False)

    def plan(self, plan: Plan) -> None:
        """The run is about to start."""
        super().plan(plan)
        self._plan = plan
        settings = plan.settings
        self._live.console.print(
            f"{len(plan.roster)} meters ({plan.runtime}), {len(plan.starts)} periods of "
            f"{settings.period_s / 60:g} min from {plan.data.source}; suite {settings.suite}, "
            f"{plan.options.bits}-bit key, gamma {settings.gamma}, {settings.noise} noise, "
            f"epsilon {settings.epsilon} per period, quorum {plan.quorum_count} of "
            f"{len(plan.roster)}, {settings.colluding} assumed colluding",
            markup=False,
            highlight=False,
        )
        skipped = sum(plan.data.skipped.values())
        if skipped or plan.data.duplicates:
            reasons = ", ".join(f"{n} {reason}" for reason, n in plan.data.skipped.items())
            self._live.console.print(
                f"load data: {skipped} readings count as absent ({reasons or 'none'}); "
                f"{plan.data.duplicates} identical duplicates ignored",
                markup=False,
                highlight=False,
            )
        for title in ("period (UTC)", "meters", "released", "± noise", "true", "1,000 homes", "ε"):
            left = title.startswith("period")
            self._table.add_column(title, justify="left" if left else "right", no_wrap=True)
        if plan.settings.gamma == 1:
            self.console.print("warning: with --gamma 1 a meter knows which noise was chosen")
        self._table.caption_justify = "left"
        self._table.caption = (
            "released: total with noise, Wh    ± noise: where 90 % of it lies, Wh\n"
            "true: known to the demo only, Wh  1,000 homes: ± noise against their load\n"
        )

    def step(self, text: str, done: int = 0, total: int | None = None) -> None:
        """What is going on, and how far it is."""
        self._progress.update(self._task, description=text, completed=done, total=total)

    def _noise_band(self, size: int) -> float:
        if size not in self._band:
            plan, settings = self._plan, self._plan.settings
            a = plan.quorum_count - settings.colluding
            args = (size, a, plan.epsilon, settings.delta, settings.own_noise, LEVEL)
            self._band[size] = noise_band(*args)
        return self._band[size]

    def row(self, row: dict[str, Any]) -> None:
        """A period has ended."""
        reported = f"{row['reported']}/{row['roster']}"
        when = f"{row['start'][:10]} {row['start'][11:16]}"
        if row["refused"]:
            cells = ["refused", row["refused"], f"{row['true_wh']:,}", ""]
        else:
            band = self._noise_band(row["reported"])
            homes = row["true_wh"] / max(row["reported"], 1) * MANY_HOMES
            part = f"{band / homes:.0%}" if homes else "n/a"
            cells = [f"{row['released_wh']:,}", f"± {band:,.0f}", f"{row['true_wh']:,}", part]
        if not self.console.is_terminal:  # a pipe or file gets each row as it comes
            words = (when, reported, *cells[:3], f"epsilon {row['epsilon']:g}")
            self.console.print("  ".join(filter(None, words)), markup=False, highlight=False)
        if not self._table.row_count:
            self._live.update(Group(self._table, self._progress))
        self._table.add_row(when, reported, *cells, f"{row['epsilon']:g}")

    def end(self, plan: Plan, summary: dict[str, Any]) -> None:
        """The run is over: one plain sentence, and what dishonest meters would change."""
        rows = summary["periods"]
        released = [row for row in rows if row["refused"] is None]
        refused = sorted({row["refused"] for row in rows if row["refused"]})
        ran = ", ".join(f"{e['meters']} on {e['name']} {e['version']}" for e in summary["runtime"])
        text = f"{len(released)} of {len(rows)} totals were released"
        if refused:
            text += f", {len(rows) - len(released)} refused ({', '.join(refused)})"
        spent = summary["epsilon_spent"]
        text += f" ({ran}); it cost a household epsilon {spent:g}."
        clamped = sum(row["clamped"] for row in rows)
        if clamped:
            text += f" {clamped} readings were above --delta and cut to it."
        if released:
            size = released[-1]["reported"]
            band, load = self._noise_band(size), max(released[-1]["true_wh"], 1)
            text += (
                f" The noise of the last total (90 %: ± {band:,.0f} Wh) is {band / load:.1f} times "
                f"the load of these {size} homes, but it does not grow with the fleet: of "
                f"{MANY_HOMES:,} such homes it would be {band / load * size / MANY_HOMES:.0%}."
            )
            text += f" {self._dishonest(size)}"
        self._sentence = text

    def _dishonest(self, size: int) -> str:
        plan, settings = self._plan, self._plan.settings
        a = plan.quorum_count - settings.colluding
        full = -(-a // (2 if settings.own_noise else 1))  # honest meters that make one full noise
        worse = []
        for missing in sorted({-(-full // 10), -(-full // 4), full // 2} - {0}):
            args = (settings.noise, a, full - missing, plan.epsilon, settings.delta)
            epsilon = epsilon_received(*args, settings.own_noise)
            words = f"{epsilon:.3g}" if epsilon < math.inf else "no bound"
            worse.append(f"{size - full + missing}: {words}")
        text = f"If {size - full} of the {size} meters added no noise, epsilon would still hold"
        return f"{text}; of more, it would be ({', '.join(worse)})." if worse else f"{text}."
