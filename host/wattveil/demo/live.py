"""A demo that goes on until it is stopped: period after period in demo time, with faults on request.

The load data are gone through again and again, each time later by their own length. Settings change
by a new fleet: every total of a fleet has one law.
"""

from __future__ import annotations

import json
import queue
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from wattveil.demo.forging import attack
from wattveil.demo.live_memory import LiveMemory, lap
from wattveil.demo.live_mqtt import BROKER, LiveMqtt
from wattveil.demo.live_serial import LiveSerial
from wattveil.demo.plan import DemoOptions, Plan, make_plan
from wattveil.demo.processes import RoleFailed
from wattveil.demo.report import period_row
from wattveil.demo.run import preflight
from wattveil.demo.screen import Quiet
from wattveil.demo.serial import STUCK_S
from wattveil.fleet.provision import Fleet, provision
from wattveil.paillier.keys import PrivateKey, generate

PERIODS = 48  # of made-up homes: one day, again and again
TURN_S = 0.1
LOOK_S = 0.25  # between two looks at the cloud
DOWN_S = 4.0  # how long a killed role stays away
FORGE_S = 20.0  # for the cloud to say what it did with a frame
ROLES = ("cloud", "center", "dealer")
Driver = LiveMemory | LiveSerial
DRIVERS: dict[str, type[Driver]] = {"memory": LiveMemory, "serial": LiveSerial, "mqtt": LiveMqtt}


def parts(link: str) -> tuple[str, ...]:
    """What can be killed: the roles, and the broker where there is one."""
    return (*ROLES, BROKER) if link == "mqtt" else ROLES


@dataclass(frozen=True)
class Command:
    """A wish of the audience. do: settings, watch, unplug, plug, forge, kill."""

    do: str
    number: int = 0  # of a meter
    name: str = ""  # of a part or an attack
    options: DemoOptions | None = None
    budget: str = ""


@dataclass
class State:
    """What there is to see now. phase: preparing, reporting. cloud: its status, if it is up."""

    phase: str
    start: int
    period: int  # from 1, over all laps
    cloud: dict[str, Any] | None
    refused: dict[str, Mapping[str, int]]
    down: set[str] = field(default_factory=set)
    unplugged: set[int] = field(default_factory=set)


class Audience(Protocol):
    """Who watches; all of it is called from the demo's own thread."""

    def step(self, text: str, done: int, total: int | None) -> None:
        """What a new fleet is waiting for."""

    def fleet(self, plan: Plan, fleet: Fleet, key: PrivateKey, budget: str) -> None:
        """A new fleet begins; the one before is gone."""

    def state(self, state: State) -> None:
        """Several times a second."""

    def period(self, row: dict[str, Any], center: dict[str, Any], watched: Any) -> None:
        """A period has ended; center: its status, watched: the cloud's (Period.shown)."""

    def event(self, text: str) -> None:
        """Something was done to the system, or the system has answered."""


class _Anew(Exception):
    """Another fleet is wanted."""


class _Screen(Quiet):
    """Progress of drivers goes to the audience, and a new wish ends a long start."""

    def __init__(self, live: Live) -> None:
        super().__init__()
        self._live = live

    def step(self, text: str, done: int = 0, total: int | None = None) -> None:
        self._live.audience.step(text, done, total)
        self._live.obey()


class Live:
    """Runs fleets until KeyboardInterrupt. `post` is for other threads, the rest is not."""

    def __init__(
        self, options: DemoOptions, audience: Audience, root: Path, budget: str, pace_s: float
    ) -> None:
        self.audience = audience
        self._options, self._budget = options, budget
        self._root, self._pace_s = root, pace_s
        self._wishes: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._key: PrivateKey | None = None
        self._driver: Driver | None = None
        self._watched = 1

    def post(self, command: Command) -> None:
        """Ask for something; it is done at the next turn."""
        self._wishes.put(command)

    def run(self) -> None:
        """Fleet after fleet."""
        for number in count(1):
            folder = self._root / f"fleet-{number}"
            try:
                self._fleet(make_plan(self._options, PERIODS), folder)
            except _Anew:
                pass
            finally:
                driver, self._driver = self._driver, None
                if driver is not None:
                    driver.close()
                shutil.rmtree(folder, ignore_errors=True)

    def _fleet(self, plan: Plan, folder: Path) -> None:
        self._down: dict[str, float] = {}  # role: when it comes back
        self._unplugged: set[int] = set()
        self._refused: dict[str, Mapping[str, int]] = {}
        self._cloud: dict[str, Any] | None = None
        self._looked = 0.0
        preflight(plan)
        screen = _Screen(self)
        key, bits = self._key, plan.options.bits
        if key is None or key.public.bits != bits:
            what = f"making a {bits}-bit key from safe primes (candidates)"
            test = plan.options.insecure_test_key
            key = generate(bits, lambda n: screen.step(what, n), insecure_test_key=test)
        self._key = key
        screen.step("provisioning the fleet")
        memory, day = plan.options.link == "memory", plan.starts[0] // 86_400
        fleet = provision(folder, key, plan.roster, plan.settings, emulated=memory, day=day)
        if self._budget:
            limits = json.dumps({"day": self._budget})
            (fleet.role_folder("center") / "limits.json").write_text(limits)
        self._plan, self._made = plan, fleet
        self._watched = min(self._watched, len(plan.roster))
        self.audience.fleet(plan, fleet, key, self._budget)
        driver = self._driver = DRIVERS[plan.options.link](plan, fleet, screen)
        driver.start()
        driver.watch(self._watched)
        period = count(1)
        for number in count():
            shift = number * len(plan.starts) * plan.settings.period_s
            now, after = lap(plan, number), lap(plan, number + 1)
            driver.take({name: now[name] | after[name] for name in now})
            shown = replace(plan, readings=now)
            for start in plan.starts:
                self._period(driver, shown, start + shift, next(period))

    # --- one period -----------------------------------------------------------------------------

    def _period(self, driver: Driver, plan: Plan, start: int, number: int) -> None:
        began = time.monotonic()
        self._until(driver, "preparing", start, number, lambda: self._prepared(driver, start))
        while time.monotonic() - began < self._pace_s:
            self._turn(driver, "preparing", start, number)
        driver.end(start)
        self._until(driver, "reporting", start, number, lambda: self._outcome(start) is not None)
        while {"cloud", "center"} & set(self._down):
            self._turn(driver, "reporting", start, number)
        assert self._cloud is not None
        center = driver.look("center", start - 86_400)  # the ledger's day is in it
        row = period_row(
            plan, start, self._cloud["periods"][str(start)], center["releases"].get(str(start))
        )
        self.audience.period(row, center, self._cloud["watched"])

    def _outcome(self, start: int) -> str | None:
        periods = self._cloud["periods"] if self._cloud else {}
        outcome: str | None = periods.get(str(start), {}).get("outcome")
        return outcome

    def _prepared(self, driver: Driver, start: int) -> bool:
        if self._cloud is None:
            return False
        period = self._cloud["periods"].get(str(start), {"prepared": (), "absent": ()})
        done = {*period["prepared"], *period["absent"], *self._unplugged}
        left = {int(number) for number in self._cloud["meters"]} - done
        return all(driver.dead(number) for number in left)

    def _until(
        self, driver: Driver, phase: str, start: int, number: int, done: Callable[[], bool]
    ) -> None:
        """Turns until it is done, or nothing has moved for STUCK_S."""
        progress, since = -1, time.monotonic()
        self._look(driver, start, True)
        while not done():
            self._turn(driver, phase, start, number)
            steps = self._cloud["steps"] if self._cloud else -1
            if steps != progress or self._down:
                progress, since = steps, time.monotonic()
            if time.monotonic() - since > STUCK_S:
                if phase == "preparing":
                    return
                raise RoleFailed("the cloud never closed the period")

    def _turn(self, driver: Driver, phase: str, start: int, number: int) -> None:
        self.obey(start)
        for role in [r for r, at in self._down.items() if time.monotonic() >= at]:
            driver.revive(role)
            del self._down[role]
            if role == "cloud":
                driver.watch(self._watched)
            self.audience.event(f"{role} is back" + (", from its store" if role in ROLES else ""))
        driver.work(TURN_S)
        self._look(driver, start, False)
        refused, down = dict(self._refused), set(self._down)
        state = State(phase, start, number, self._cloud, refused, down, set(self._unplugged))
        self.audience.state(state)

    def _look(self, driver: Driver, start: int, now: bool) -> None:
        if "cloud" in self._down:
            self._cloud = None
            return
        if not now and time.monotonic() - self._looked < LOOK_S:
            return
        self._looked = time.monotonic()
        for role in ROLES:
            if role not in self._down:
                status = driver.look(role, start)
                if role == "cloud":
                    self._cloud = status
                self._refused[role] = status["refused"]

    # --- wishes ---------------------------------------------------------------------------------

    def obey(self, start: int | None = None) -> None:
        """Do what was asked for; while a fleet is being made, only another fleet can be."""
        while not self._wishes.empty():
            wish = self._wishes.get()
            if wish.do == "settings":
                assert wish.options is not None
                self._options, self._budget = wish.options, wish.budget
                raise _Anew
            if start is None or self._driver is None:
                self.audience.event(f"{wish.do}: not while a fleet is being made")
            else:
                self._carry_out(self._driver, wish, start)

    def _carry_out(self, driver: Driver, wish: Command, start: int) -> None:
        number = wish.number
        boards = len(self._plan.options.ports)
        mine = 1 <= number <= len(self._plan.roster) - boards
        killable = set(parts(self._plan.options.link)) - set(self._down)
        if wish.do == "kill" and wish.name in killable:
            driver.kill(wish.name)
            self._down[wish.name] = time.monotonic() + DOWN_S
            self.audience.event(f"{wish.name} killed; it comes back in {DOWN_S:g} s")
        elif wish.do in ("forge", "watch", "unplug", "plug") and "cloud" in self._down:
            self.audience.event(f"{wish.do}: the cloud is down")
        elif wish.do == "forge" and BROKER in self._down:
            self.audience.event("forge: the broker is down")
        elif wish.do == "unplug" and mine and number not in self._unplugged:
            driver.unplug(number)
            self._unplugged.add(number)
            self.audience.event(f"meter {number} unplugged")
        elif wish.do == "plug" and number in self._unplugged:
            driver.plug(number)
            self._unplugged.discard(number)
            self.audience.event(f"meter {number} plugged in")
        elif wish.do == "forge" and 1 <= number <= len(self._plan.roster):
            self._forge(driver, wish, start)
        elif wish.do == "watch" and 1 <= number <= len(self._plan.roster):
            self._watched = number
            driver.watch(number)
            self.audience.event(f"showing the ciphertexts of meter {number}")
        else:
            self.audience.event(f"{wish.do} {wish.name or number}: cannot be done now")

    def _forge(self, driver: Driver, wish: Command, start: int) -> None:
        before = driver.look("cloud", start)["refused"]
        driver.forge(wish.number, attack(wish.name, self._made, wish.number, start))
        limit = time.monotonic() + FORGE_S
        while (after := driver.look("cloud", start)["refused"]) == before:
            if time.monotonic() > limit:
                self.audience.event(f"{wish.name} frame sent, and nothing came of it")
                return
            driver.work(0.02)
        reasons = [name for name in after if after[name] != before.get(name, 0)]
        self.audience.event(
            f"{wish.name} frame in the name of meter {wish.number}: refused ({', '.join(reasons)})"
        )
