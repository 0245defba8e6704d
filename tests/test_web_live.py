"""The live demo behind the page: periods without end, faults and recoveries, and what is shown."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from soak.scale import SOAK
from wattveil.cli import main
from wattveil.demo.live import Command, Live
from wattveil.demo.plan import DemoOptions
from wattveil.fleet.provision import Fleet
from wattveil.paillier.keys import PrivateKey
from wattveil.privacy.law import noise_tail
from wattveil.web.attach import Attached
from wattveil.web.coalition import Seen
from wattveil.web.events import Board
from wattveil.web.views import EDGES, Bands, Show, kind_of

MEMORY = DemoOptions(
    link="memory", bits=512, insecure_test_key=True, gamma=2, meters=4, deadline=1.0, quorum="0.5"
)
SERIAL = replace(MEMORY, link="serial", runtime="cpython", meters=3, deadline=2.0)
MQTT = replace(SERIAL, link="mqtt")
FAULTY = [MEMORY, SERIAL, *([MQTT] if SOAK else [])]


class Watching(Show):
    """A Show that keeps all rows, asks for something after given periods, and ends after `periods`.

    Not before a period that all meters are in: where deadlines are real seconds, one may be too late.
    """

    def __init__(self, periods: int, wishes: dict[int, list[Command]] | None = None) -> None:
        super().__init__(Board())
        self.rows: list[dict[str, Any]] = []
        self.texts: list[str] = []
        self.seen: list[Seen] = []
        self.live: Live | None = None
        self._last, self._wishes = periods, wishes or {}

    def period(self, row: dict[str, Any], center: dict[str, Any], watched: Any) -> None:
        super().period(row, center, watched)
        self.rows.append(row)
        if watched:
            self.seen.append(Seen.parse(watched))
        whole = row["reported"] == row["roster"] or len(self.rows) >= self._last + 10
        if len(self.rows) >= self._last and whole:
            raise KeyboardInterrupt
        assert self.live is not None
        for wish in self._wishes.get(len(self.rows), ()):
            self.live.post(wish)

    def event(self, text: str) -> None:
        super().event(text)
        self.texts.append(text)


def watch(options: DemoOptions, show: Watching, root: Path, budget: str = "") -> Watching:
    show.live = Live(options, show, root, budget, 0.0)
    with pytest.raises(KeyboardInterrupt):
        show.live.run()
    assert not list(root.iterdir())  # keys and stores are gone
    return show


def test_periods_go_on_past_the_data_and_past_midnight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wattveil.demo.live.LOOK_S", 0.0)
    show = watch(replace(MEMORY, meters=3, epsilon="1000000"), Watching(60), tmp_path)
    assert all(row["released_wh"] == row["true_wh"] for row in show.rows)
    starts = [row["start"] for row in show.rows]
    assert len(set(starts)) == 60 and starts == sorted(starts)
    # a day's data, again a day later; not noise, the same readings
    assert show.rows[0]["true_wh"] == show.rows[48]["true_wh"]
    assert show.board.get("epsilon")["today"] == 12 * 10**6 + 36 * 10**6


@pytest.mark.parametrize("suite", ["yan2024", "compact"])
def test_the_thief_sees_a_number_modulo_n_and_all_three_see_the_reading(
    tmp_path: Path, suite: str
) -> None:
    """Without noise, so that what all three compute must be the reading itself."""
    show = Watching(6)
    watch(replace(MEMORY, suite=suite, epsilon="1000000"), show, tmp_path)
    cipher = show.board.get("cipher")
    assert cipher["all_wh"] == cipher["reading_wh"]
    eyes = show._eyes
    readings, places = [], []
    for seen in show.seen:
        value = eyes.thief(seen)
        places.append(eyes.share_of_n(value))
        readings.append(eyes.all_three(seen))
        assert abs(value - eyes.cloud_and_center(seen)) % eyes._key.public.n > 0
    assert readings == [show._plan.clamped(1, seen.start) for seen in show.seen]
    assert min(places) > 1e-10 and len(set(places)) == 6  # a reading would lie at 0


@pytest.mark.parametrize("options", FAULTY, ids=lambda options: options.link)
def test_faults_are_refused_or_recovered_from(
    tmp_path: Path, options: DemoOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wattveil.demo.live.DOWN_S", 0.5)
    wishes = {
        1: [Command("forge", number=1, name=kind) for kind in ("forged", "replayed", "garbage")],
        2: [Command("unplug", number=2)],
        4: [Command("plug", number=2), Command("watch", number=3)],
        6: [Command("kill", name="dealer")],
        8: [Command("kill", name="center")],
        10: [Command("kill", name="cloud")],
        12: [Command("kill", name="nobody"), Command("unplug", number=99)],
    }
    show = watch(options, Watching(14, wishes), tmp_path)
    texts = " | ".join(show.texts)
    for words in ("refused (forged)", "refused (replayed)", "refused (malformed)", "meter 2 unplugged",
                  "dealer is back", "center is back", "cloud is back", "kill nobody: cannot be done now",
                  "unplug 99: cannot"):  # fmt: skip
        assert words in texts, texts
    size = options.meters
    assert size is not None
    counts = [row["reported"] for row in show.rows]
    assert size in counts[:2] and size - 1 in counts[2:5] and counts[-1] == size, counts
    assert show.rows[-1]["refused"] is None
    assert show.board.get("cipher")["meter"] == 3


class UntilWhole(Watching):
    """Ends once the broker is back and all meters with it."""

    def period(self, row: dict[str, Any], center: dict[str, Any], watched: Any) -> None:
        super().period(row, center, watched)
        if "broker is back" in self.texts and row["reported"] == row["roster"]:
            raise KeyboardInterrupt


def test_a_broker_passes_on_what_is_forged_and_may_die(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner writes on a meter's topic, and is refused by the cloud; without it nobody reports."""
    monkeypatch.setattr("wattveil.demo.live.DOWN_S", 0.2)
    kinds = ("forged", "replayed", "garbage")
    kill = [Command("kill", name="broker"), Command("forge", number=1, name="forged")]
    wishes = {1: [Command("forge", number=1, name=kind) for kind in kinds], 2: kill}
    show = watch(replace(MQTT, meters=2, quorum="1"), UntilWhole(200, wishes), tmp_path)
    texts = " | ".join(show.texts)
    for words in ("refused (forged)", "refused (replayed)", "refused (malformed)",
                  "broker killed", "forge: the broker is down"):  # fmt: skip
        assert words in texts, texts
    assert show.rows[-1]["reported"] == 2


def test_the_budget_ends_the_totals_of_a_day(tmp_path: Path) -> None:
    show = watch(MEMORY, Watching(15), tmp_path, budget="3")
    assert [row["refused"] is None for row in show.rows] == [True] * 3 + [False] * 9 + [True] * 3
    assert show.board.get("epsilon")["today"] == 3 == show.board.get("epsilon")["day_limit"]
    assert "no total, over_limit, 9 times in a row" in " ".join(show.texts)


def test_other_settings_make_another_fleet_with_the_same_key(tmp_path: Path) -> None:
    other = replace(MEMORY, suite="compact", meters=6)
    keys: list[int] = []

    class Keys(Watching):
        def fleet(self, plan: Any, fleet: Fleet, key: PrivateKey, budget: str) -> None:
            super().fleet(plan, fleet, key, budget)
            keys.append(int(key.public.n))

    show = watch(MEMORY, Keys(5, {2: [Command("settings", options=other)]}), tmp_path)
    assert [row["roster"] for row in show.rows] == [4, 4, 6, 6, 6]
    assert len(keys) == 2 and len(set(keys)) == 1
    assert len([name for name in show.board._items if name.startswith("p:")]) >= 3
    assert show.board.get("fleet")["suite"] == "compact"
    assert sum(show.board.get("noise")["counts"]) == 3  # of the new fleet's law alone


def test_the_histograms_law_is_the_noises_law() -> None:
    epsilon = Fraction(1)
    for size in (9, 12, 30):
        bands = Bands(9, epsilon, 11500, False)
        bins = bands.bins(size)
        assert len(bins) == len(EDGES) - 1 and sum(bins) == pytest.approx(1, abs=1e-9)
        inside = bands.band(size)
        assert noise_tail(size, 9, epsilon, 11500, False, inside) == pytest.approx(0.1, rel=1e-6)
        assert bins == pytest.approx(bins[::-1])


@pytest.mark.parametrize(
    ("runtime", "kind"),
    [("micropython 1.25.0 rp2 armv6m", "real"), ("micropython 1.25.0 linux x64", "emulated"),
     ("micropython-arm 1.25.0 linux armv7m", "emulated"), ("cpython 3.11.7 linux", "simulated"),
     ("", "unknown"), ("x", "emulated")],
)  # fmt: skip
def test_kinds_of_meters(runtime: str, kind: str) -> None:
    assert kind_of(runtime) == kind
    assert kind_of(runtime, port=True) == "real"


# --- a fleet that runs elsewhere -----------------------------------------------------------------


@contextlib.contextmanager
def role(name: str, root: Path, sockets: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, "-m", "wattveil", name, "--state-dir", str(root / name)]
    words += ["--status", f"unix:{sockets}/{name}.status", *more]
    with (root / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(words, stderr=log, stdout=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(120)


def test_a_running_fleet_is_shown_and_a_dead_role_is_down(tmp_path: Path) -> None:
    root = tmp_path / "fleet"
    options = "--meters 3 --bits 256 --insecure-test-key --gamma 2 --tables 128"
    assert main(["keygen", "--out", str(root), *options.split()]) == 0
    with contextlib.ExitStack() as stack:
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp")))
        center, dealer = (f"unix:{sockets}/{name}.sock" for name in ("center", "dealer"))
        stack.enter_context(role("dealer", root, sockets, "--listen", dealer))
        process = stack.enter_context(role("center", root, sockets, "--listen", center))
        peers = ("--peer", f"center={center}", "--peer", f"dealer={dealer}", "--row-workers", "0")
        stack.enter_context(role("cloud", root, sockets, *peers))
        names = ("cloud", "center", "dealer")
        board = Board()
        attached = Attached(board, {name: f"unix:{sockets}/{name}.status" for name in names})

        def up() -> list[str]:
            attached.look()
            return [entry["name"] for entry in board.get("roles") if entry["up"]]

        _until(lambda: len(up()) == 3)
        assert board.get("fleet")["mode"] == "attached" and board.get("fleet")["quorum"] == 3
        assert board.get("m:3")["state"] == "silent" and board.get("m:3")["kind"] == "unknown"
        assert board.get("clock")["total"] == 3 and board.get("epsilon")["today"] == 0
        assert (sockets / "center.status").stat().st_mode & 0o777 == 0o600
        process.kill()
        _until(lambda: up() == ["cloud", "dealer"])


def _until(done: Any) -> None:
    import time

    limit = time.monotonic() + 60
    while not done():
        assert time.monotonic() < limit
        time.sleep(0.1)
