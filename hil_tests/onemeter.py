"""One meter of any tier, alone with a cloud and a centre made from PROTOCOL.md's formulas.

Every key and seed is here, so that its reading can be opened exactly; its noise is all but never
anything but 0.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import support
from support import PERIOD, START, Peers
from tiers import PATIENCE_S, Files, Tier
from wattveil.links.serial import LinkDown, SerialLink, open_serial
from wattveil_meter import noise
from wattveil_meter.store import FRESH, checked

READING = 777
PERIODS = 40  # that have a reading
QUIET = {  # a scale of 1/1000 Wh: a share that is not 0 comes once in e^1000
    "epsilon_num": 1_000_000,
    "offset": noise.offset(1_000_000, 1, 1000),
    "noise": "discrete",
}  # a share that is not 0: once in 10^300


def opened(port: str) -> SerialLink:
    """The port, once nobody else has it: a modem manager may be looking at a board that came back."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return open_serial(port)
        except LinkDown:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


class Bench:
    """One meter, and everybody it talks to.

    mains: as for Tier.meter. config: more of config.json. files: beside those of a meter.
    """

    def __init__(
        self,
        tier: Tier,
        folder: Path,
        *mains: Path,
        config: Mapping[str, Any] | None = None,
        files: Mapping[str, bytes] | None = None,
        **changes: object,
    ) -> None:
        self.tier = tier
        self.record = support.record(**{**QUIET, **changes})
        self.peers = Peers(self.record, hot=min(2, self.record.gamma))
        self.meter = tier.meter(folder, *mains)
        sensor = {"kind": "replay", "file": "readings.csv"}
        readings = [f"{START + i * PERIOD},{READING}\n" for i in range(PERIODS)]
        self.meter.put(
            {
                "record.bin": self.record.raw,
                "meter.bin": support.secrets(),
                "h.tab": support.TABLE_H,
                "s.tab": support.TABLE_S,
                "readings.csv": "".join(readings).encode(),
                "config.json": json.dumps(
                    {"sensor": sensor, "poll_ms": 50, **(config or {})}
                ).encode(),
                **{name: checked(value) for name, value in {**FRESH, **support.seeds()}.items()},
                **(files or {}),
            }
        )
        self.link = opened(self.meter.port)
        self.seen: list[int] = []
        self.boot = 0  # of the newest frame
        self.before: Callable[[bytes], object] = lambda frame: None  # called with each frame
        self.alter = lambda frame: [frame]  # answers on their way down

    @contextlib.contextmanager
    def stopped(self) -> Iterator[Files]:
        """Its files, once Ctrl-C has stopped it. It runs again afterwards."""
        self.link.close()
        with self.meter.stopped() as files:
            yield files
        self.link = opened(self.meter.port)

    def stop(self) -> str:
        """Its own log, once Ctrl-C has stopped it. It runs again."""
        with self.stopped() as files:
            return files.read("log.txt").decode()

    def cut(self) -> None:
        """Its power goes and comes back."""
        self.link.close()
        self.meter.restart()
        self.link = opened(self.meter.port)

    def logs(self) -> list[Path]:
        self.link.close()
        return self.meter.logs()

    def close(self) -> None:
        self.link.close()
        self.meter.close()

    def until(self, condition: Callable[[], object], limit_s: float = 120) -> float:
        """Play cloud and centre until then; seconds."""
        begun = time.monotonic()
        while not condition():
            waited = time.monotonic() - begun
            assert waited < limit_s * self.tier.slow, (self.seen[-8:], self.meter)
            try:
                self._answer()
            except LinkDown:  # a reset may take a board's USB away for a moment
                self.link = opened(self.meter.port)
            time.sleep(0.001)
        return time.monotonic() - begun

    def _answer(self) -> None:
        for frame in self.link.read():
            self.seen.append(frame[3])
            self.boot = int.from_bytes(frame[32:36], "little")
            self.before(frame)
            for answer in self.alter(self.peers.answer(frame)):
                self.link.write(answer)

    def prepared(self, start: int = START) -> bool:
        return len(self.peers.slots.get(start, {})) == self.record.gamma

    def reported(self, start: int = START) -> bool:
        return start in (at for at, _ in self.peers.reports)

    def period(self, start: int = START) -> None:
        """One whole period, opened with every key there is: the reading, exactly."""
        self.peers.now = start
        self.until(lambda: self.prepared(start))
        assert self.peers.order[start][-1] == 1  # e_i1 goes last
        self.peers.now = start + PERIOD
        self.until(lambda: self.reported(start))
        self.check(start)

    def check(self, start: int) -> None:
        """Its newest report is of this period, and opens to the reading."""
        assert self.peers.reports[-1][0] == start
        assert self.peers.total(start) == READING


class Benches:
    """Makes benches; the newest one's logs are shown when a test fails. A context manager."""

    def __init__(self, tier: Tier, root: Path) -> None:
        self.tier, self.root = tier, root
        self.made: list[Bench] = []

    def __call__(self, *mains: Path, **more: Any) -> Bench:
        folder = self.root / f"meter{len(self.made)}"
        self.made.append(Bench(self.tier, folder, *mains, **more))
        return self.made[-1]

    def logs(self) -> list[Path]:
        return self.made[-1].logs() if self.made else []

    def __enter__(self) -> Benches:
        return self

    def __exit__(self, *exception: object) -> None:
        for made in self.made:
            made.close()
