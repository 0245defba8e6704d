"""Frames, channels and stuffing: what is accepted, and by which name everything else is refused."""

from wattveil_meter import wire
from wattveil_meter.drbg import Drbg

KEY = b"k" * 32
FLEET = b"fleet---"
PRINT = bytes(range(32))


def ends(boot=1, **changes):
    args = dict(link_key=KEY, fleet=FLEET, fingerprint=PRINT, limit=wire.METER_LIMIT)
    args.update(changes)
    meter = wire.Channel(KEY, FLEET, 7, wire.CLOUD, True, PRINT, boot, wire.METER_LIMIT)
    cloud = wire.Channel(
        args["link_key"],
        args["fleet"],
        wire.CLOUD,
        7,
        False,
        args["fingerprint"],
        boot,
        args["limit"],
    )
    return meter, cloud


def reason(function, *args):
    try:
        function(*args)
    except wire.Refused as refusal:
        return refusal.reason
    return None


def test_a_message_and_its_answer():
    meter, cloud = ends(boot=5)
    frame = meter.seal(wire.ROW, b"\x01\x00", 1358121600)
    got = cloud.open(frame)
    assert (got.type, got.sender, got.start, got.day) == (wire.ROW, 7, 1358121600, 15719)
    assert got.payload == b"\x01\x00" and got.counter == (5 << 32) + 1
    answer = meter.open(cloud.seal(wire.ROW_IS, b"x" * 100, got.start, got.counter))
    assert answer.payload == b"x" * 100 and answer.reply == got.counter
    assert wire.peek(frame) == (FLEET, 7)


def test_every_refusal_has_its_name():
    meter, cloud = ends()
    frame = meter.seal(wire.TIME, b"n" * 16)
    assert reason(cloud.open, frame[:20]) == "truncated"
    assert reason(cloud.open, frame[:-1]) == "truncated"
    assert reason(cloud.open, frame + b"\0") == "trailing"
    assert reason(cloud.open, b"XX" + frame[2:]) == "malformed"
    assert reason(cloud.open, frame[:2] + b"\x02" + frame[3:]) == "malformed"
    assert reason(cloud.open, frame[:3] + b"\x3e" + frame[4:]) == "malformed"
    assert reason(ends(limit=8)[1].open, frame) == "oversized"
    assert reason(ends(fleet=b"another-")[1].open, frame) == "wrong_fleet"
    assert reason(ends(link_key=b"q" * 32)[1].open, frame) == "forged"
    assert reason(ends(fingerprint=bytes(32))[1].open, frame) == "wrong_record"
    other = wire.Channel(KEY, FLEET, 8, wire.CLOUD, True, PRINT, 1)
    assert reason(cloud.open, other.seal(wire.TIME)) == "unknown_sender"
    assert reason(meter.open, frame) == "unknown_sender"  # reflected
    assert reason(wire.peek, b"WV") == "truncated"
    cloud.open(frame)
    assert reason(cloud.open, frame) == "replayed"


def test_every_flipped_bit_is_refused():
    meter, cloud = ends()
    frame = meter.seal(wire.SLOT, bytes(40), 1358121600)
    for i in range(len(frame)):
        bad = bytearray(frame)
        bad[i] ^= 1 << (i % 8)
        assert reason(cloud.open, bytes(bad)) is not None
    cloud.open(frame)


def test_counters_never_repeat_across_boots():
    first = ends(boot=1)[0]
    second, cloud = ends(boot=2)
    old = [first.seal(wire.TIME, bytes(16)) for _ in range(3)]
    cloud.open(second.seal(wire.TIME, bytes(16)))
    for frame in old:
        assert reason(cloud.open, frame) == "replayed"
    assert len({frame[28:36] for frame in old}) == 3


def test_equal_payloads_look_unrelated():
    meter, _ = ends()
    a, b = meter.seal(wire.TIME, bytes(64)), meter.seal(wire.TIME, bytes(64))
    assert a[56:120] != b[56:120] and a[56:120] != bytes(64)


def test_stuffing_keeps_control_bytes_out():
    frame = bytes(range(256)) * 2
    line = wire.stuff(frame)
    for byte in (1, 2, 3, 4, 10, 13, 17, 19):
        assert byte not in line
    assert line[0] == line[-1] == 0x7E and 0x7E not in line[1:-1]
    assert wire.Deframer().feed(line) == [frame]


def test_deframer_drops_noise_and_goes_on():
    drbg = Drbg(bytes(32))
    frames = [drbg.bytes(drbg.below(300) + 72) for _ in range(10)]
    deframer = wire.Deframer()
    got = []
    stream = b"MicroPython v1.25\r\n>>> "
    for i, frame in enumerate(frames):
        line = bytearray(wire.stuff(frame))
        if i % 3 == 1:
            line[20] ^= 0x40
        stream += bytes(line)
    for i in range(0, len(stream), 7):
        got += deframer.feed(stream[i : i + 7])
    assert got == [f for i, f in enumerate(frames) if i % 3 != 1]
    assert deframer.refused["damaged"] == 3


def test_deframer_starts_in_the_middle():
    frame = b"A" * 100
    line = wire.stuff(frame)
    deframer = wire.Deframer()
    assert deframer.feed(line[50:] + line + line) == [frame, frame]


def test_deframer_bounds_its_memory():
    deframer = wire.Deframer(limit=100)
    assert deframer.feed(b"\x7e" + b"A" * 5000 + b"\x7e") == []
    assert deframer.refused["oversized"] == 1
    assert deframer.feed(wire.stuff(b"B" * 100)) == [b"B" * 100]
