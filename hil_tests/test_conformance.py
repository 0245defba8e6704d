"""A meter on a console against a cloud and a centre made from PROTOCOL.md's formulas alone.

The peers are tests/core/support.py: plain `pow` and `%`, no code of the meter's. So are the vectors'
values; the core's vector tests run on the runtimes (tests/test_core_on_micropython.py).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import support
from support import PERIOD, START, Peers
from wattveil.links.serial import open_serial
from wattveil_meter import noise, wire
from wattveil_meter.store import FRESH, checked

READING = 777
QUIET = {  # a scale of 1/1000 Wh: a share that is not 0 comes once in e^1000
    "epsilon_num": 1_000_000,
    "offset": noise.offset(1_000_000, 1, 1000),
    "noise": "discrete",
}  # a share that is not 0: once in 10^300


class Bench:
    """One meter, and everybody it talks to."""

    def __init__(
        self, folder: Path, emulate: Callable[..., object], runtime: str, **changes: object
    ):
        self.record = support.record(**{**QUIET, **changes})
        files = {
            "record.bin": self.record.raw,
            "meter.bin": support.secrets(),
            "h.tab": support.TABLE_H,
            "s.tab": support.TABLE_S,
            "readings.csv": f"{START},{READING}\n{START + PERIOD},{READING}\n".encode(),
            "config.json": json.dumps(
                {"sensor": {"kind": "replay", "file": "readings.csv"}, "poll_ms": 50}
            ).encode(),
            **{name: checked(value) for name, value in FRESH.items()},
        }
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        self.folder = folder
        self.peers = Peers(self.record)
        main = Path(__file__).parent.parent / "firmware" / "main.py"
        self.meter = emulate(runtime, main, folder=folder)
        self.link = open_serial(self.meter.port)  # type: ignore[attr-defined]
        self.seen: list[int] = []
        self.before = lambda frame: None  # called with each frame of the meter
        self.alter = lambda frame: [frame]  # answers on their way down

    def until(self, condition: Callable[[], object], limit_s: float = 40) -> float:
        """Play cloud and centre until then; seconds."""
        begun = time.monotonic()
        while not condition():
            assert time.monotonic() - begun < limit_s, (self.seen[-8:], self.meter)
            for frame in self.link.read():
                self.seen.append(frame[3])
                self.before(frame)
                for answer in self.alter(self.peers.answer(frame)):
                    self.link.write(answer)
            time.sleep(0.001)
        return time.monotonic() - begun

    def prepared(self) -> bool:
        slots = self.peers.slots.get(START, {})
        return len(slots) == self.record.gamma

    def period(self) -> None:
        """One whole period, opened with every key there is: the reading, exactly."""
        self.until(self.prepared)
        assert self.peers.order[START][-1] == 1  # e_i1 goes last
        self.peers.now = START + PERIOD
        self.until(lambda: self.peers.reports)
        assert self.peers.reports[0][0] == START
        assert self.peers.total(START) == READING


@pytest.fixture
def bench(tier: str, emulate, tmp_path: Path) -> Callable[..., Bench]:
    return lambda **changes: Bench(tmp_path / "meter", emulate, tier, **changes)


@pytest.mark.parametrize("gamma", [1, 3])
def test_a_period_opens_to_the_reading(bench, gamma: int) -> None:
    made = bench(gamma=gamma)
    if gamma == 1:
        made.peers.hot = 1
    made.period()
    order = [t for i, t in enumerate(made.seen) if t not in made.seen[:i]]
    assert order == [wire.HELLO, wire.TIME, wire.REGISTER, wire.ROW, wire.SLOT, wire.REPORT]


def test_replays_and_forgeries_change_nothing(bench) -> None:
    """Each answer comes after forged ones of every part, a copy of the last, and one nobody asked for."""
    made = bench()
    last: list[bytes] = []
    sent = {"forged": 0, "other": 0}

    def hostile(answer: bytes) -> list[bytes]:
        bad = []
        for at in (0, 3, 5, 13, 21, 37, 45, len(answer) - 1):
            flipped = bytearray(answer)
            flipped[at] ^= 1
            bad.append(bytes(flipped))
        bad += [answer[:-1], answer + b"\0", b"", b"text", *last[-1:]]
        last.append(answer)
        sent["forged"] += 1
        sent["other"] += len(bad) - 1
        return [*bad, answer, answer]

    made.alter = hostile
    made.period()
    assert sent["forged"] > 8
    counted = (made.folder / "log.txt").read_text()
    made.until(lambda: "forged=" in (made.folder / "log.txt").read_text())
    assert "crash" not in counted


def test_answers_that_are_none_are_waited_out(bench) -> None:
    """An answer is lost: the same payload comes again in a fresh frame."""
    made = bench(gamma=1)
    made.peers.hot = 1
    counters: set[bytes] = set()
    dropped = {"count": 0}

    def fresh(frame: bytes) -> None:
        assert frame[28:36] not in counters
        counters.add(frame[28:36])

    def lose(answer: bytes) -> list[bytes]:
        if answer[3] in (wire.WELCOME, wire.ROW_IS) and dropped["count"] < 1:
            dropped["count"] += 1
            return []
        return [answer]

    made.before, made.alter = fresh, lose
    made.period()
    assert dropped["count"] == 1


def test_the_time_to_prepare_grows_with_gamma_and_the_report_does_not(
    bench, emulate, tier: str, tmp_path: Path, record_property
) -> None:
    """Sanity, not a benchmark (docs/BENCH.md): 12 slots take clearly longer than 2, and not 50 times."""
    times = {}
    for gamma in (2, 12):
        made = Bench(tmp_path / f"gamma{gamma}", emulate, tier, gamma=gamma)
        made.until(lambda made=made: wire.ROW in made.seen)
        prepare = made.until(made.prepared)
        made.peers.now = START + PERIOD
        report = made.until(lambda made=made: made.peers.reports)
        assert made.peers.total(START) == READING
        times[gamma] = prepare, report
        record_property(f"gamma {gamma}", f"prepare {prepare:.3f} s, report {report:.3f} s")
    assert 1.5 < times[12][0] / times[2][0] < 50
