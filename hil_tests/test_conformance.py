"""A meter on a console against a cloud and a centre made from PROTOCOL.md's formulas alone.

The peers are tests/core/support.py: plain `pow` and `%`, no code of the meter's. So are the vectors'
values; the core's vector tests run on the runtimes (tests/test_core_on_micropython.py).
"""

from __future__ import annotations

import re

import pytest

from onemeter import READING
from support import PERIOD, START
from undisturbed import undisturbed
from wattveil_meter import wire


@pytest.mark.parametrize("gamma", [1, 3])
def test_a_period_opens_to_the_reading(bench, gamma: int) -> None:
    made = bench(gamma=gamma)
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
    log = made.stop()
    forged = re.search(r" stop .*\bforged=(\d+)", log)
    assert forged and int(forged[1]) >= sent["forged"], log  # frames cut short are damaged ones
    assert "crash" not in log


def test_answers_that_are_none_are_waited_out(bench) -> None:
    """An answer is lost: the same payload comes again in a fresh frame."""
    made = bench(gamma=1)
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
    bench, record_property
) -> None:
    """Sanity, not a benchmark (docs/BENCH.md): 12 slots take clearly longer than 2, and not 50 times."""

    def grows() -> bool:
        times = {}
        for gamma in (2, 12):
            made = bench(gamma=gamma)
            made.until(lambda made=made: wire.ROW in made.seen)
            times[gamma] = prepare = made.until(made.prepared)
            made.peers.now = START + PERIOD
            report = made.until(lambda made=made: made.peers.reports)
            assert made.peers.total(START) == READING
            record_property(f"gamma {gamma}", f"prepare {prepare:.3f} s, report {report:.3f} s")
            made.close()
        return 1.5 < times[12] / times[2] < 50

    assert undisturbed(grows)
