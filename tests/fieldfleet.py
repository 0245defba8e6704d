"""A fleet on bad days: real role processes, real meters on MicroPython, and hands on all of them.

The centre's clock stands until a test moves it (PROTOCOL.md, 9), so an hour of outage takes a second;
with `running` it goes on by itself. Every released total is checked against the readings and the noise
that were in it, to the Wh.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from exactness import noise_of
from fieldfiles import counters, log_lines, package
from fieldlines import Cable, Gate
from tiers import PATIENCE_S, Process
from wattveil.demo.processes import RoleFailed, RoleProcess
from wattveil.fleet.broker import ADDRESS, HOST, Access, Broker
from wattveil.fleet.packages import LIVING
from wattveil.fleet.provision import provision
from wattveil.fleet.renew import Renewed
from wattveil.fleet.replay import write_readings
from wattveil.fleet.settings import FleetSettings
from wattveil.fleet.tables import table_set
from wattveil.paillier.keys import generate

HIL = Path(__file__).parent.parent / "hil_tests"
MAIN = HIL / "recording_main.py"
BOARD_MAINS = (HIL / "board_main.py", HIL / "main_recorder.py")
SUBJECT = 2
START = 1_767_636_000  # 2026-01-05T18:00:00Z
# What a meter counts where an answer takes longer than it waits; a registration asked twice is refused.
SLOW = ("late", "replayed", "unanswered", "refused")
ROLES = ("dealer", "center", "cloud")


class TooSlow(AssertionError):
    """What was waited for has not come."""


class Field:
    """Roles by name and meters by number, each with its power; a context manager: closes all.

    link: "serial", or "mqtt" through a broker of our own and a Gate in front of it. cables: meters whose
    serial line is a Cable. deadline: seconds; long, for tests close a period themselves (`end`).
    tier: what plays meter `subject`, behind a Cable (hil_tests/tiers.py); None: a process like the
    others, and subject is 0. Such a meter's files are only seen while it is stopped, so a total
    with it in is checked at the end (`released_once`).
    """

    def __init__(
        self,
        root: Path,
        *,
        meters: int = 4,
        link: str = "serial",
        period_s: int = 1800,
        cables: Sequence[int] = (),
        runtimes: Sequence[str] = ("micropython",),
        main: Path = MAIN,
        deadline: float = 120.0,
        start: int = START,
        tier: Any = None,
    ) -> None:
        self.root, self.link, self.main, self.deadline = root, link, main, deadline
        self.tier, self.subject = tier, SUBJECT if tier else 0
        self.patience_s = PATIENCE_S * (tier.slow if tier else 1)
        settings = FleetSettings(
            delta=1000, gamma=2, quorum="0.5", bits=256, period_s=period_s, poll_ms=100, tables=128
        )
        self.settings = settings
        self.now, self.running = start - start % period_s, False
        self.start = self.now - period_s  # of the newest period that `begin` gave out
        key = generate(256, insecure_test_key=True)
        ids = [f"m{number}" for number in range(1, meters + 1)]
        self.fleet = provision(root / "fleet", key, ids, settings, day=start // 86_400)
        self.runtimes = {n: runtimes[n % len(runtimes)] for n in range(1, meters + 1)}
        self.roles: dict[str, RoleProcess] = {}
        self.meters: dict[int, Any] = {}
        self._plugged: dict[int, str] = {}  # the cloud's ports, by meter
        self._board: Any = None  # the subject, over renewals
        self._all_checked = False  # whether the subject's shares are here too
        self.cables = {number: Cable() for number in ([self.subject] if tier else cables)}
        self._sockets = Path(tempfile.mkdtemp(prefix="wattveil-", dir="/tmp"))
        self.broker: Broker | None = None
        if link == "mqtt":
            self._access = Access.create(self.fleet.record.fleet, meters)
            self.broker = Broker(self._access, root / "broker.log")
            place = tier.bench.broker if tier else None  # as a board's Wi-Fi reaches this machine
            self._address = place.address if place else ADDRESS
            self.gate = Gate(self.broker.port, self._address, place.port if place else 0)
        self._cloud_options: tuple[str, ...] | None = None

    # --- who is there ---------------------------------------------------------------------------

    def up(self) -> Field:
        """Start everything and wait until all meters have registered."""
        if self.broker:
            self.broker.start()
        for name in ROLES:
            self.start_role(name)
        for number in self.runtimes:
            self.start_meter(number)
        self.wait("registration", lambda: set(self.states()) == {"registered"})
        return self

    def start_role(self, name: str) -> None:
        """Start it, also again after `roles[name].kill()`; its clock is ours."""
        if name in self.roles:
            self.roles[name].start()
        else:
            self.roles[name] = RoleProcess(name, self.fleet.role_folder(name), *self._words(name))
        self.roles[name].ask(clock=self.now, running=self.running)
        if name == "cloud":
            for number in self.meters:
                self.attach(number)

    def _words(self, name: str) -> list[str]:
        if name != "cloud":
            return ["--listen", f"unix:{self._sockets}/{name}.sock"]
        peers = [f"--peer={peer}=unix:{self._sockets}/{peer}.sock" for peer in ROLES[:2]]
        if self.broker and self._cloud_options is None:
            folder = self.fleet.role_folder("cloud")
            self._cloud_options = self._access.write_cloud(folder, HOST, self.broker.port)
        return [*peers, "--deadline", str(self.deadline), *(self._cloud_options or ())]

    def folder(self, number: int) -> Path:
        """Where the files of a meter are, log.txt among them."""
        return self.fleet.meter_folder(self.fleet.roster[number - 1])

    def prepare_folder(self, number: int) -> Path:
        """Readings of 100 Wh and the meter's number, for two days; the link's settings."""
        folder = self.folder(number)
        if not (folder / "readings.csv").exists():
            step = self.settings.period_s
            count = min(2 * 86_400 // step, 2000)
            write_readings(folder, [(self.now + i * step, 100 + number) for i in range(-4, count)])
            if self.broker:
                self._access.write_meter(folder, number, HOST, self.gate.port, self._address)
        return folder

    def start_meter(self, number: int, main: Path | None = None, heap: str | None = None) -> Any:
        """Power on, for the first time."""
        folder = self.prepare_folder(number)
        if number == self.subject:
            if not self._board:
                self._board = self.tier.meter(self.root / "board", *BOARD_MAINS)
            self.meters[number] = self._board
            self.become(self, number)
            return self._board
        more = {"heap": heap, "console": self.link == "serial"}
        meter = Process(folder, self.runtimes[number], main=main or self.main, **more)
        meter.start()
        self.meters[number] = meter
        if "cloud" in self.roles:
            self.attach(number)
        return meter

    def become(self, fleet: Field, number: int) -> None:
        """Make the meter under test this one of a fleet: its counters move to it, once. Plug it in."""
        folder = fleet.folder(number)
        files = package(folder)
        if self.broker:
            config, more = self.tier.on_network(json.loads(files["config.json"]))
            files |= more | {"config.json": json.dumps(config).encode()}
        new = set(LIVING) <= set(files)
        if not new:
            files = {name: data for name, data in files.items() if name not in LIVING}
        self.unplug(self.subject)
        self._board.put(files, table_set(fleet.fleet.record)[1], new=new)
        for name in LIVING:
            (folder / name).unlink(missing_ok=True)
        if "cloud" in self.roles:
            self.attach(self.subject)

    @contextlib.contextmanager
    def stopped(self, number: int) -> Iterator[Any]:
        """A meter's files, once Ctrl-C has stopped it; it starts again afterwards.

        It sits out the period it was in: `begin` gives the next one.
        """
        if number == self.subject:
            self.unplug(number)
        with self.meters[number].stopped() as files:
            yield files
        self.start = self.now - self.now % self.settings.period_s
        if number == self.subject and "cloud" in self.roles:
            self.attach(number)

    def power(self, number: int) -> None:
        """Give it back after `meters[number].kill()`."""
        self.meters[number].start()
        if number == self.subject and self.tier.place:  # its port went with the power
            self.attach(number)

    def counts_at_stop(self, number: int) -> dict[str, int]:
        """A meter's counters since its last start, by stopping it; it starts again."""
        with self.stopped(number):
            assert self.log_lines(number)[-1].split()[2] == "stop", self.log_lines(number)
            return self.counts(number)

    def target(self, number: int) -> int:
        """Who has to suffer: this one, unless there is a meter under test."""
        return self.subject or number

    def attach(self, number: int) -> None:
        """Plug a meter's cable into the cloud's machine; nothing to do for one on a network."""
        self.unplug(number)
        if self.link != "serial":
            return
        port = self.meters[number].port
        if number in self.cables:
            port = self.cables[number].plug(port)
        self.roles["cloud"].ask(attach=[{"port": port}])
        self._plugged[number] = port

    def unplug(self, number: int) -> None:
        """For good: a pseudo-terminal's name may be somebody else's next."""
        if port := self._plugged.pop(number, None):
            self.roles["cloud"].ask(detach=[{"port": port}])
        if number in self.cables:
            self.cables[number].unplug()

    # --- what is known ----------------------------------------------------------------------------

    def cloud(self) -> dict[str, Any]:
        """The cloud's own words."""
        return self.roles["cloud"].ask(status=True)

    def states(self) -> list[str]:
        """Of the meters, by number."""
        return [meter["state"] for meter in self.cloud()["meters"].values()]

    def refused(self, reason: str) -> int:
        """The cloud's counter."""
        return int(self.cloud()["refused"].get(reason, 0))

    def period(self, start: int) -> dict[str, Any]:
        """The cloud's account of a period: prepared, reported, absent, outcome."""
        empty: dict[str, Any] = {"prepared": [], "reported": [], "absent": [], "outcome": None}
        return dict(self.cloud()["periods"].get(str(start), empty))

    def counts(self, number: int) -> dict[str, int]:
        """A meter's counters since its last start, as far as its log tells them."""
        return counters(self.log_lines(number))

    def log_lines(self, number: int) -> list[str]:
        """Of log.txt; of a meter under test, as it was when it was last stopped."""
        if number == self.subject:
            return log_lines(Path(self._board.folder) / "board-log.txt")
        return log_lines(self.folder(number) / "log.txt")

    def logs(self) -> list[Path]:
        """All that might say why a test failed."""
        paths = [role.log for role in self.roles.values()]
        for number, meter in self.meters.items():
            if number == self.subject:
                self.cables[number].unplug()
            paths += meter.logs()
        return [path for path in paths if path.exists()]

    def wait(self, what: str, condition: Callable[[], Any], limit_s: float | None = None) -> float:
        """Wait for an event; how long it took, in seconds. TooSlow."""
        begun, limit_s = time.monotonic(), limit_s or self.patience_s
        while not condition():
            if time.monotonic() - begun > limit_s:
                raise TooSlow(f"{what}: not within {limit_s:.0f} s")
            time.sleep(0.03)
        return time.monotonic() - begun

    # --- periods ----------------------------------------------------------------------------------

    def clock(self, now: int, running: bool = False) -> None:
        """Set all roles' clocks, the centre's last: meters learn the time from it."""
        self.now, self.running = now, running
        for name in ("dealer", "cloud", "center"):
            if name in self.roles:
                self.roles[name].ask(clock=now, running=running)

    def begin(self, skip: int = 0) -> int:
        """The clock to the start of the next period (or one later): its start."""
        self.start += (1 + skip) * self.settings.period_s
        if self.now < self.start:
            self.clock(self.start)
        return self.start

    def prepared(self, start: int, members: Sequence[int]) -> float:
        """Wait until these meters have their slots stored: seconds."""

        def ready() -> bool:
            return set(members) <= set(self.period(start)["prepared"])

        return self.wait(f"{members} prepared", ready)

    def end(self, start: int, members: Sequence[int]) -> float:
        """Let it end, close it when these have reported, check it: seconds until they had."""
        if self.now < start + self.settings.period_s:
            self.clock(start + self.settings.period_s)

        def reported() -> bool:
            state = self.period(start)
            return bool(state["outcome"]) or set(members) <= set(state["reported"])

        took = self.wait(f"reports of {members}", reported)
        self.close_period(start)
        self.check(start, members)
        return took

    def close_period(self, start: int) -> None:
        """Do not wait for the deadline; then for the outcome."""
        with contextlib.suppress(RoleFailed):  # `late`: it has just closed by itself
            self.roles["cloud"].ask(close=start)
        self.wait("the outcome", lambda: self.period(start)["outcome"])

    def whole(self) -> float:
        """A period with everybody: all is well again. Seconds until all were prepared."""
        start, everybody = self.begin(), list(self.runtimes)
        took = self.prepared(start, everybody)
        self.end(start, everybody)
        return took

    def check(self, start: int, members: Sequence[int]) -> None:
        """These and no others are in the total, once, and it is their readings and their noise."""
        state = self.period(start)
        assert state["outcome"] == "released", state
        assert state["reported"] == list(members), state
        release = self.roles["center"].ask(status=True)["releases"][str(start)]
        assert release["members"] == list(members)
        if self.subject in members and not self._all_checked:
            return
        plan: Any = SimpleNamespace(roster=self.fleet.roster, settings=self.settings)
        noise = noise_of(plan, self.root, start, list(members), self.fleet.root)
        true = sum(100 + number for number in members)
        assert release["total_wh"] == true + noise

    def lost(self, start: int) -> None:
        """Nobody's reading of this period is in any total."""
        releases = self.roles["center"].ask(status=True)["releases"]
        assert str(start) not in releases or releases[str(start)]["total_wh"] is None

    def released_once(self) -> None:
        """Every total that was ever released is exact, and epsilon was spent once for each."""
        if self.subject:
            with self.stopped(self.subject) as files:
                shares = files.read("shares.csv")
            (self.folder(self.subject) / "shares.csv").write_bytes(shares)
            self._all_checked = True
        center = self.roles["center"].ask(status=True)
        for start, release in center["releases"].items():
            self.check(int(start), release["members"])
        self._all_checked = False
        times = [n for release in center["releases"].values() for n in release["members"]]
        most = max(times.count(number) for number in self.runtimes)
        assert center["epsilon_spent"] == str(most)  # of the household that was in most totals

    def move(self, renewed: Renewed) -> None:
        """Go on in the folders of a renewed fleet; everything is stopped."""
        fleet = renewed.fleet
        for name in renewed.stayed:
            for file in ("shares.csv", "readings.csv", "log.txt"):
                path = self.fleet.root / "meters" / name / file
                if path.exists():
                    shutil.copy(path, fleet.meter_folder(name))
        self.fleet, self.roles, self.meters, self._cloud_options = fleet, {}, {}, None

    def down(self) -> None:
        """Stop roles and meters; folders stay."""
        for role in self.roles.values():
            role.stop()
        self._plugged = {}
        for number, meter in self.meters.items():
            if number != self.subject:  # it keeps its port until `close`
                meter.close()

    def close(self) -> None:
        """Stop all that was started here."""
        self.down()
        if self._board:
            self._board.close()
        for cable in self.cables.values():
            cable.close()
        if self.broker:
            self.gate.close()
            self.broker.close()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def __enter__(self) -> Field:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
