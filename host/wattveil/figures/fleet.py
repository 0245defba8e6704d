"""Whole periods of the product in this process, with a stopwatch on every part.

All three roles and every meter are the real ones (`demo --link memory`): frames sealed and opened,
rows checked, reports stored. A meter computes with gmpy2's integers here, which no board has. Times
are processor time of the one thread that does it all: what else the machine does is left out.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wattveil.demo.memory import MemoryDemo, memory_demo
from wattveil.demo.plan import DemoOptions, Plan, make_plan
from wattveil.demo.screen import Quiet
from wattveil.fleet.provision import provision
from wattveil.paillier.keys import DEMO_SIZE, PrivateKey
from wattveil.privacy.law import noise_bound
from wattveil_meter import wire

TYPE = 3  # index of the message type in a frame: the header is not encrypted


@dataclass(frozen=True)
class FleetTimes:
    """Of one fleet. Milliseconds of one period, over all meters but for `meter`.

    meter: one entry a meter and period, all that it computes (prepare and report, links too). rows: the
    cloud's encrypting of the bits and serving of rows; uploads: its checking of what comes in; total: its
    products over all meters; dealer, center: closing and opening; stores: writing of all roles.
    checked: each period was released, within the noise's bound of the true total.
    """

    suite: str
    bits: int
    users: int
    gamma: int
    periods: int
    meter: tuple[float, ...]
    rows: float
    uploads: float
    total: float
    dealer: float
    center: float
    stores: float
    checked: bool


def time_fleet(
    key: PrivateKey,
    suite: str,
    users: int,
    gamma: int,
    periods: int,
    progress: Callable[[int, int], None],
) -> FleetTimes:
    """Run `periods` whole periods, after one that only prepares. progress(done, of) in periods."""
    bits = key.public.bits
    options = DemoOptions(
        meters=users, periods=periods + 1, suite=suite, gamma=gamma, bits=bits, quorum="0.7",
        link="memory", insecure_test_key=bits < DEMO_SIZE,
    )  # fmt: skip
    plan = make_plan(options)
    with tempfile.TemporaryDirectory(prefix="wattveil-figures-") as folder:
        day = plan.starts[0] // 86_400
        fleet = provision(
            Path(folder, "fleet"), key, plan.roster, plan.settings, emulated=True, day=day
        )
        with memory_demo(plan, fleet, Quiet()) as demo:
            watch = _Stopwatch(demo)
            demo.start()
            watch.reset()
            for done, start in enumerate(plan.starts[:-1]):
                progress(done, periods)
                demo.finish(start)
            checked = all(_right(plan, demo, start) for start in plan.starts[:-1])
    progress(periods, periods)
    parts = {name: s * 1000 / periods for name, s in watch.parts.items()}
    meter = tuple(s * 1000 / periods for s in watch.meters)
    names = ("rows", "uploads", "total", "dealer", "center", "stores")
    times = {name: parts[name] for name in names}
    return FleetTimes(suite, bits, users, gamma, periods, meter, **times, checked=checked)


def _right(plan: Plan, demo: MemoryDemo, start: int) -> bool:
    """A total that was not opened from what the meters sent is uniform modulo n: far outside."""
    release = demo.center_status()["releases"].get(str(start))
    if not release or release["total_wh"] is None or len(release["members"]) != len(plan.roster):
        return False
    true = sum(plan.clamped(number, start) or 0 for number in release["members"])
    settings = plan.settings
    law = (plan.quorum_count, plan.epsilon, settings.delta, settings.own_noise)
    return bool(abs(release["total_wh"] - true) <= noise_bound(len(plan.roster), *law))


class _Stopwatch:
    """Seconds by part, and by meter."""

    def __init__(self, demo: MemoryDemo) -> None:
        self.parts: dict[str, float] = defaultdict(float)
        self.meters = [0.0] * len(demo.meters)
        for name, role in demo.roles.items():
            self._wrap(role, "receive", _part(name))
        for store in demo.net.stores.values():
            self._wrap(store, "apply", lambda _: "stores")
        for index, meter in enumerate(demo.meters):
            for method in ("poll", "receive"):
                self._wrap_meter(meter, method, index)

    def reset(self) -> None:
        """Forget what was measured."""
        self.parts.clear()
        self.meters = [0.0] * len(self.meters)

    def _wrap(self, owner: Any, method: str, part: Callable[[tuple[Any, ...]], str]) -> None:
        plain = getattr(owner, method)

        def timed(*args: Any) -> Any:
            begun = time.thread_time()
            result = plain(*args)
            self.parts[part(args)] += time.thread_time() - begun
            return result

        setattr(owner, method, timed)

    def _wrap_meter(self, meter: Any, method: str, index: int) -> None:
        plain = getattr(meter, method)

        def timed(*args: Any) -> Any:
            begun = time.thread_time()
            result = plain(*args)
            self.meters[index] += time.thread_time() - begun
            return result

        setattr(meter, method, timed)


def _part(role: str) -> Callable[[tuple[Any, ...]], str]:
    """What a role does with a frame; times and registrations that it relays are not counted."""

    def part(args: tuple[Any, ...]) -> str:
        kind = args[1][TYPE]
        if role == "cloud":
            cloud = {wire.ROW: "rows", wire.SLOT: "uploads", wire.REPORT: "uploads"}
            return cloud.get(kind, "total" if kind == wire.SHARE else "relayed")
        return role if kind in (wire.OPEN, wire.CLOSE) else "relayed"

    return part
