"""Links, at the meter: whatever comes down the line, it neither breaks nor takes it for an answer.

Noise and spoiled answers from anybody; answers of any type and content from a cloud with the true link key;
bytes of any kind on the serial line. A meter that raised an exception would be off until somebody came,
so one frame could silence a household, or a whole fleet down to a quorum of the attacker's choice. All of it
is counted and dropped, or ends in a new registration; a whole frame after noise is found.
"""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import support
from wattveil_meter import wire

FUZZ = settings(
    suppress_health_check=list(HealthCheck),
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
)


@given(data=st.binary(max_size=200), edits=st.lists(st.integers(0, 150), max_size=3))
@FUZZ
def test_noise_at_the_meter(data: bytes, edits: list[int]) -> None:
    """A meter that waits for an answer, given noise and a spoiled answer, waits on."""
    record = support.record()
    peers = support.Peers(record)
    meter, _, _ = support.make_meter(record)
    answer = bytearray(peers.answer(meter.poll()))
    meter.receive(data)
    for at in {at % len(answer) for at in edits}:
        answer[at] ^= 0x55
    if edits:
        meter.receive(bytes(answer))
    assert sum(meter.refused.values()) == (2 if edits else 1)
    assert meter._answer is None
    assert not isinstance(meter.poll(), bytes)


@given(data=st.lists(st.binary(max_size=60), max_size=8))
@FUZZ
def test_noise_on_the_serial_line(data: list[bytes]) -> None:
    """Whatever came before, the frame after a FLAG is found; nothing else is taken for one."""
    deframer = wire.Deframer(limit=100)
    for piece in data:
        for frame in deframer.feed(piece):
            assert len(frame) <= 100
    assert b"the frame" in deframer.feed(b"\x7e" + wire.stuff(b"the frame"))


@given(
    answers=st.lists(
        st.tuples(st.sampled_from(sorted(wire.TYPES)), st.binary(max_size=120)), max_size=12
    ),
    honest=st.integers(0, 12),
)
@FUZZ
def test_an_authenticated_cloud_cannot_crash_a_meter(
    answers: list[tuple[int, bytes]], honest: int
) -> None:
    """A cloud with the true link key that answers anything to anything."""
    record = support.record()
    peers = support.Peers(record)
    meter, _, clock = support.make_meter(record)
    queue = list(answers)
    for _ in range(1500):
        out = meter.poll()
        if not isinstance(out, bytes):
            clock.value += out
            continue
        answer = peers.answer(out)
        peers.slots.clear()
        if honest > 0 or not queue:
            honest -= 1
            meter.receive(answer)
        else:
            type, payload = queue.pop(0)
            request = wire.struct.unpack(wire.HEADER, out[: wire.HEADER_BYTES])
            start, counter = request[6], request[7]
            meter.receive(peers.channel.seal(type, payload, start, counter))
    assert meter.state in ("unregistered", "registered", "rows", "prepared", "reported")
