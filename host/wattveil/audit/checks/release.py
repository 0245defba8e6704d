"""What is released is the clamped readings and the noise that was drawn, no more and no less.

A whole fleet of the product in this process: roles, frames, stores, meters. Every share is recorded as the
firmware's sampler gives it, and the total held against readings and the shares of the slots that the cloud
chose. Only with this does the law of the sampler say anything about a release.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wattveil.audit.bench import SUITE_NAMES, audit_key
from wattveil.audit.finding import Check, Finding, Study, verdict
from wattveil.demo.memory import MemoryDemo, memory_demo
from wattveil.demo.plan import DemoOptions, Plan, make_plan
from wattveil.demo.screen import Quiet
from wattveil.fleet.provision import provision

METERS, DELTA = 6, 300  # Wh: so little that many readings are clamped


class _Spy:
    """A sampler that keeps what it gives."""

    def __init__(self, real: Any) -> None:
        self.drawn: list[int] = []
        self._real = real

    def share(self, source: Any) -> int:
        self.drawn.append(self._real.share(source))
        return self.drawn[-1]


def released(suite: str, periods: int) -> list[tuple[int | None, int, int]]:
    """By period: the total, the clamped readings, the noise that the cloud's slots choose; Wh."""
    key = audit_key()
    options = DemoOptions(
        meters=METERS, periods=periods + 1, suite=suite, gamma=3, bits=key.public.bits, delta=DELTA,
        quorum="0.7", link="memory", insecure_test_key=True,
    )  # fmt: skip
    plan = make_plan(options)
    with tempfile.TemporaryDirectory(prefix="wattveil-audit-") as folder:
        day = plan.starts[0] // 86_400
        fleet = provision(
            Path(folder, "fleet"), key, plan.roster, plan.settings, emulated=True, day=day
        )
        with memory_demo(plan, fleet, Quiet()) as demo:
            spies: list[_Spy] = []
            for meter in demo.meters:
                spies.append(_Spy(meter.meter._sampler))
                meter.meter._sampler = spies[-1]
            demo.start()
            return [_period(plan, demo, spies, i) for i in range(periods)]


def _period(
    plan: Plan, demo: MemoryDemo, spies: Sequence[_Spy], index: int
) -> tuple[int | None, int, int]:
    start, gamma = plan.starts[index], plan.settings.gamma
    store: Any = demo.net.stores["cloud"]
    hot = [
        int.from_bytes(store.get("bits", f"{start}:{i}"), "little") for i in range(1, METERS + 1)
    ]
    demo.finish(start)
    release = demo.center_status()["releases"][str(start)]
    true = sum(plan.clamped(number, start) or 0 for number in release["members"])
    noise = sum(spies[n - 1].drawn[gamma * index + hot[n - 1]] for n in release["members"])
    return release["total_wh"], true, noise


def run(study: Study) -> Sequence[Finding]:
    """Both suites."""
    return [_finding(suite, study.tries(6, 60)) for suite in SUITE_NAMES]


def _finding(suite: str, periods: int) -> Finding:
    rows = released(suite, periods)
    exact = sum(total == true + noise for total, true, noise in rows)
    return Finding(
        claim=f"a released total is Σ of the clamped readings and of one drawn share a meter ({suite})",
        method=f"{periods} periods of {METERS} meters through all roles, Δ = {DELTA} Wh; shares recorded",
        claimed="exactly, every time",
        measured=f"{exact} of {periods}; noise {min(n for *_, n in rows)} to {max(n for *_, n in rows)} Wh",
        verdict=verdict(exact == periods),
    )


CHECK = Check(
    "release",
    "What is released",
    "Through frames, stores and roles: the noise in a total is the noise that was drawn.",
    run,
    ("no-noise",),
    keyed=True,
)
