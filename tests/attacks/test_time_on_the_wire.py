"""Time on the wire: what the meter takes for now, and what its frames say by when they come.

A cloud relays the centre's word about the time and could hold it back; a new nonce for every try stops
that. It also sees when each frame comes. How long sampling takes depends on the shares (most are 0, and
are drawn at once), so a meter that sampled between an answer and its next request would say which were not;
it draws while it waits, and the wait ends at the same millisecond. Multiplications: test_rule_07_offset.py.
"""

from __future__ import annotations

from typing import Any

import pytest

import support
import wattveil_meter.meter as core
from support import PERIOD, START, Peers, make_meter
from wattveil_meter import masks, wire


class Slow(Peers):
    """A cloud that keeps the centre's first answer to each question about the time."""

    def __init__(self, record: Any) -> None:
        super().__init__(record)
        self.kept: dict[bytes, bytes] = {}

    def _seal(self, type: int, payload: bytes, message: Any) -> bytes:
        if type == wire.TIME_IS:
            payload = self.kept.setdefault(message.payload, payload)
        return super()._seal(type, payload, message)


@pytest.mark.parametrize("rule", [False, True])
def test_an_old_answer_about_the_time_is_not_now(rule: bool) -> None:
    """Were one nonce asked again and again, a cloud could answer the tenth try with the centre's word
    from before the first, and hold a meter, and what it measures as period t, hours behind."""
    record = support.record()
    peers = Slow(record)
    meter, _, clock = make_meter(record)
    if not rule:
        meter.drbg.bytes = lambda size: bytes(size)
    lost = 0
    for _ in range(400):
        out = meter.poll()
        if isinstance(out, bytes):
            answer = peers.answer(out)
            if out[3] == wire.TIME and lost < 10:
                lost += 1
                continue
            meter.receive(answer)
            if meter._answer is not None and out[3] == wire.TIME:
                break
        else:
            clock.value += out
            peers.now += out // 1000
    assert clock.value > 120_000
    for _ in range(3):
        meter.poll()
    assert (abs(meter.utc() - peers.now) < 60) is rule


class Running(Peers):
    """A centre whose clock runs with the meter's."""

    clock: Any

    def _seal(self, type: int, payload: bytes, message: Any) -> bytes:
        if type == wire.TIME_IS:
            self.now = START + self.clock.value // 1000
            args = (support.METER_ID, message.payload, self.center_nonce, self.now, 1)
            mac = masks.time_mac(support.KEYS["reg"], self.record, *args)
            payload = masks.u64(self.now) + b"\1" + self.center_nonce + mac
        return super()._seal(type, payload, message)


def moments(sampling_ms: int, bad_rows: bool, suite: str = "yan2024") -> list[tuple[int, int]]:
    """Type and time (ms) of what a meter sends in two periods; each share takes `sampling_ms`."""
    record = support.record(suite=suite)
    peers = Running(record)
    meter, _, peers.clock = make_meter(record, readings={START: 1, START + PERIOD: 2})
    sampler = meter._sampler

    class Timed:
        def share(self, source: Any) -> int:
            peers.clock.value += sampling_ms
            return int(sampler.share(source))

    meter._sampler = Timed()
    sent: list[tuple[int, int]] = []
    while len(sent) < 24:
        out = meter.poll()
        if not isinstance(out, bytes):
            peers.clock.value += out
            continue
        sent.append((out[3], peers.clock.value))
        if bad_rows and out[3] == wire.ROW:
            peers.make_rows(START)
        meter.receive(peers.answer(out))
    # the first draws are before the first frame, which is when the clock begins for the cloud
    return [(type, at - sent[0][1]) for type, at in sent]


class Late:
    """Shares drawn when they are asked for: the rule taken away."""

    def __init__(self, sampler: Any, source: Any, count: int) -> None:
        self._sampler = sampler

    def share(self, source: Any) -> int:
        return int(self._sampler.share(source))


@pytest.mark.parametrize("suite", ["yan2024", "compact"])
@pytest.mark.parametrize("rule", [False, True])
def test_no_frame_waits_for_the_sampler(
    monkeypatch: pytest.MonkeyPatch, rule: bool, suite: str
) -> None:
    if not rule:
        monkeypatch.setattr(core, "Drawn", Late)
    assert (moments(0, False, suite) == moments(7, False, suite)) is rule


def test_no_frame_after_a_bad_row_waits_for_the_sampler() -> None:
    """A cloud gets a meter to sit a period out at will, by a bad row: the draws for the next one must
    lie in a wait that ends on a fixed millisecond, not between NOTED and the next request."""
    assert moments(0, True) == moments(7, True)


def test_a_refused_question_about_the_time_is_not_asked_again_at_once() -> None:
    """A resync that is due and refused must not make the meter ask as fast as the line allows."""
    record = support.record()
    peers = Running(record)
    meter, _, peers.clock = make_meter(record)
    asked: list[int] = []
    for _ in range(20_000):
        out = meter.poll()
        if not isinstance(out, bytes):
            peers.clock.value += out
            continue
        if meter.state == "prepared" and out[3] == wire.TIME:
            asked.append(peers.clock.value)
            peers.deny[wire.TIME] = "refused"
        meter.receive(peers.answer(out))
        if len(asked) == 20:
            break
    assert asked[-1] - asked[0] >= 19 * 200
