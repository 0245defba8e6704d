"""From the demo's states and the roles' words to the items of the board."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

from wattveil.demo.live import State, parts
from wattveil.demo.plan import Plan
from wattveil.demo.report import iso
from wattveil.demo.screen import LEVEL
from wattveil.fleet.provision import Fleet
from wattveil.paillier.keys import PrivateKey
from wattveil.privacy.law import noise_band, noise_tail
from wattveil.web.coalition import Eyes, Seen
from wattveil.web.events import Board

KEPT = 96  # periods in the chart: two days of half hours
EVENTS = 30
EDGES = [x / 2 for x in range(-10, 11)]  # of the noise's histogram, in scales Δ/ε; open ends
HEX = 28  # digits shown of each end of a long number
DAY_S = 86_400


def kind_of(runtime: str, port: bool = False) -> str:
    """real, emulated or simulated, from a meter's own words ("micropython 1.25.0 rp2 armv6m")."""
    name, _, rest = runtime.partition(" ")
    platform = rest.partition(" ")[2].partition(" ")[0]
    if port or (name.startswith("micropython") and platform not in ("linux", "darwin", "")):
        return "real"
    return "simulated" if name == "cpython" else "emulated" if runtime else "unknown"


def meter_item(
    number: int,
    meter: Mapping[str, Any],
    period: Mapping[str, Any],
    *,
    unplugged: bool = False,
    port: bool = False,
) -> dict[str, Any]:
    """One meter, from the cloud's words on it and on the period."""
    state = meter["state"]
    if unplugged:
        state = "unplugged"
    elif state == "registered":
        for name in ("reported", "absent", "prepared"):
            if number in period.get(name, ()):
                state = name
                break
        else:
            state = "preparing"
    report = meter["report"]
    return {
        "n": number,
        "id": meter["id"],
        "kind": kind_of(meter["runtime"], port),
        "runtime": meter["runtime"],
        "state": state,
        "report": report and iso(report)[11:16],
        "kernel": meter["kernel"],
        "prepare": meter["prepare_s"],
        "link": meter["link"],
        "refused": meter["refused"],
    }


class Bands:
    """Half-widths of the noise bands of one fleet, by |S|."""

    def __init__(self, a: int, epsilon: Fraction, delta: int, own_noise: bool) -> None:
        self._rest = (a, epsilon, delta, own_noise)
        self.scale = float(delta / epsilon)
        self._bands: dict[int, float] = {}
        self._bins: dict[int, list[float]] = {}

    def band(self, size: int) -> float:
        """Where LEVEL of the noise lies, Wh."""
        if size not in self._bands:
            self._bands[size] = noise_band(size, *self._rest, LEVEL)
        return self._bands[size]

    def bins(self, size: int) -> list[float]:
        """The law's chance of each bin of EDGES; the outer ones are open."""
        if size not in self._bins:
            half = [edge for edge in EDGES if edge > 0]
            tails = [1.0] + [noise_tail(size, *self._rest, edge * self.scale) for edge in half]
            right = [(a - b) / 2 for a, b in pairwise(tails)]
            right[-1] += tails[-1] / 2
            self._bins[size] = [*reversed(right), *right]
        return self._bins[size]


class Show:
    """The audience of a live demo (demo.live.Audience): writes the board."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self._events: deque[str] = deque(maxlen=EVENTS)
        self._fleets = 0
        self._run = (0, "")  # refused totals in a row, and their line

    def step(self, text: str, done: int, total: int | None) -> None:
        """See `Audience`, as all of these."""
        self.board.put("clock", {"phase": "starting", "text": text, "done": done, "total": total})

    def fleet(self, plan: Plan, fleet: Fleet, key: PrivateKey, budget: str) -> None:
        for prefix in ("m:", "p:", "noise", "cipher", "epsilon", "clock", "roles"):
            self.board.drop(prefix)
        settings, options = plan.settings, plan.options
        a = plan.quorum_count - settings.colluding
        self._bands = Bands(a, plan.epsilon, settings.delta, settings.own_noise)
        self._plan, self._eyes = plan, Eyes(fleet, key)
        self._fleets += 1
        self._periods: deque[int] = deque()
        self._counts = [0] * (len(EDGES) - 1)
        self._expected = [0.0] * (len(EDGES) - 1)
        self._thief: deque[float] = deque(maxlen=KEPT)
        self._thief_of = 0
        self.board.put("fleet", {
            "fleet": self._fleets, "mode": "demo", "suite": settings.suite,
            "gamma": settings.gamma, "epsilon": settings.epsilon, "meters": len(plan.roster),
            "quorum": plan.quorum_count, "bits": options.bits, "noise": settings.noise,
            "link": options.link, "period_s": settings.period_s, "delta": settings.delta,
            "budget": budget, "level": LEVEL, "boards": len(options.ports),
            "data": plan.data.source,
        })  # fmt: skip
        self.event(f"a new fleet: {len(plan.roster)} meters, {settings.suite}, γ {settings.gamma}, "
                   f"ε {settings.epsilon}")  # fmt: skip

    def state(self, state: State) -> None:
        plan, cloud = self._plan, state.cloud
        boards, size = len(plan.options.ports), len(plan.roster)
        if cloud is not None:
            period = cloud["periods"].get(str(state.start), {})
            for text, meter in cloud["meters"].items():
                number = int(text)
                unplugged, port = number in state.unplugged, number > size - boards
                item = meter_item(number, meter, period, unplugged=unplugged, port=port)
                self.board.put(f"m:{number}", item)
            done = len({*period.get("prepared", ()), *period.get("absent", ())})
            if state.phase == "reporting":
                done = len(period.get("reported", ()))
        else:
            done = 0
        end = state.start + plan.settings.period_s
        self.board.put("clock", {
            "phase": state.phase, "period": state.period, "start": iso(state.start),
            "end": iso(end), "done": done, "total": size,
        })  # fmt: skip
        self.board.put("roles", roles_item(parts(plan.options.link), state.refused, state.down))

    def period(self, row: dict[str, Any], center: dict[str, Any], watched: Any) -> None:
        size, total = row["reported"], row["released_wh"]
        band = self._bands.band(size) if total is not None else None
        item = {**row, "band_wh": band and round(band)}
        start = row["start"]
        self.board.put(f"p:{start}", item)
        self._periods.append(start)
        if len(self._periods) > KEPT:
            self.board.put(f"p:{self._periods.popleft()}", None)
        self.board.put("epsilon", epsilon_item(center, start))
        if total is None:
            self._refusal(start[11:16], row["refused"])
        else:
            self._noise(size, row["noise_wh"])
        if watched is not None and iso(watched["start"]) == start:  # or it was not in S
            self._cipher(Seen.parse(watched))

    def event(self, text: str) -> None:
        self._events.append(text)
        self.board.put("events", list(reversed(self._events)))

    def _refusal(self, time: str, reason: str) -> None:
        """One line for a run of periods that nothing else happened in."""
        if self._events and self._events[-1] == self._run[1]:
            self._events.pop()
            self._run = (self._run[0] + 1, "")
        else:
            self._run = (1, "")
        times = f", {self._run[0]} times in a row" if self._run[0] > 1 else ""
        text = f"{time}: no total, {reason}{times}"
        self._run = (self._run[0], text)
        self.event(text)

    def _noise(self, size: int, noise: int) -> None:
        scales = noise / self._bands.scale
        at = sum(edge <= scales for edge in EDGES[1:-1])
        self._counts[at] += 1
        chances = self._bands.bins(size)
        self._expected = [e + c for e, c in zip(self._expected, chances, strict=True)]
        self.board.put("noise", {
            "edges": EDGES, "counts": self._counts, "scale_wh": round(self._bands.scale),
            "expected": [round(e, 4) for e in self._expected],
        })  # fmt: skip

    def _cipher(self, seen: Seen) -> None:
        plan, eyes = self._plan, self._eyes
        if seen.meter != self._thief_of:
            self._thief.clear()
            self._thief_of = seen.meter
        name = plan.roster[seen.meter - 1]
        value = eyes.thief(seen)
        self._thief.append(round(eyes.share_of_n(value), 4))
        both = eyes.cloud_and_center(seen)
        lap = len(plan.starts) * plan.settings.period_s
        first = plan.starts[0]
        reading = plan.clamped(seen.meter, first + (seen.start - first) % lap)
        digits = seen.report.hex()
        self.board.put("cipher", {
            "meter": seen.meter, "id": name, "start": iso(seen.start), "slots": len(seen.slots),
            "cipher": _ends(digits), "bytes": len(seen.report),
            "thief": _ends(f"{value:x}"), "places": list(self._thief),
            "both": _ends(f"{both:x}"), "all_wh": eyes.all_three(seen), "reading_wh": reading,
        })  # fmt: skip


def _ends(digits: str) -> str:
    return digits if len(digits) <= 2 * HEX else f"{digits[:HEX]}…{digits[-HEX:]}"


def roles_item(
    names: Sequence[str], refused: Mapping[str, Mapping[str, int]], down: set[str]
) -> list[dict[str, Any]]:
    """The roles (and a broker): up or down, and what they refused, by reason."""
    return [
        {"name": role, "up": role not in down, "refused": dict(refused.get(role, {}))}
        for role in names
    ]


def epsilon_item(center: Mapping[str, Any], start: str) -> dict[str, Any]:
    """What the household that spent most has spent on the day of `start`, and ever."""
    spent: dict[int, Fraction] = {}
    for key, release in center["releases"].items():
        if iso(int(key))[:10] == start[:10]:
            for number in release["members"]:
                spent[number] = spent.get(number, Fraction(0)) + Fraction(release["epsilon"])
    limits = center["epsilon_limits"]
    return {
        "day": start[:10],
        "today": float(max(spent.values(), default=Fraction(0))),
        "ever": float(Fraction(center["epsilon_spent"])),
        "day_limit": limits["day"] and float(Fraction(limits["day"])),
        "life_limit": limits["lifetime"] and float(Fraction(limits["lifetime"])),
        "stopped": center["stopped"],
    }
