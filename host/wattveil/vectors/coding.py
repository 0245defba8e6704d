"""Checks what is written and read: fields.json, record.json, frames.json, stuffing.json."""

from __future__ import annotations

from typing import Any

from wattveil.vectors.reader import Vector, Wrong
from wattveil_meter import wire
from wattveil_meter.fields import pack, read_uint, uint, unpack
from wattveil_meter.record import FIELDS, Record


def check_fields(vector: Vector) -> None:
    """Field lists and integers, packed and read again."""
    for operation in vector.operations():
        do = operation.text("do")
        if do == "pack":
            parts = operation.datas("parts")
            operation.expect("bytes", operation.attempt(pack, *parts))
            if unpack(operation.data("bytes"), len(parts)) != parts:
                raise Wrong("unpacks to something else")
        elif do == "unpack":
            data, count = operation.data("bytes"), operation.integer("count")
            operation.attempt(unpack, data, count)
        elif do == "integer":
            value = operation.number("value")
            operation.expect("bytes", operation.attempt(uint, value))
            if read_uint(operation.data("bytes")) != value:
                raise Wrong("reads as something else")
        elif do == "read_integer":
            data = operation.data("bytes")
            operation.attempt(read_uint, data)
        else:
            raise Wrong(f"unknown operation {do}")


def check_record(vector: Vector) -> None:
    """Records: every value, what follows from it, the same bytes made again; and bad ones."""
    if "raw" not in vector:
        for operation in vector.operations():
            operation.expect("do", "parse")
            data = operation.data("raw")
            operation.attempt(Record.parse, data)
        return
    record: Any = Record.parse(vector.data("raw"))
    vector.expect("fingerprint", record.fingerprint)
    vector.expect("randomiser_bits", record.randomiser_bits)
    if "values" not in vector:
        return
    values = Vector(vector.raw("values"))
    for name, kind in FIELDS:
        value = getattr(record, name)
        if name in ("n", "h", "h_s"):
            values.expect_number(name, value)
        else:
            values.expect(name, bytes(value) if kind == "b" else value)
    values.finish()
    made = Record.make(**{name: getattr(record, name) for name, _ in FIELDS})
    if made.raw != record.raw:
        raise Wrong("made again, it has other bytes")
    for name in ("nb", "a", "exponent_bits", "check_bits"):
        vector.expect(name, getattr(record, name))
    for case in vector.operations("starts"):
        case.expect("start", record.start_of(case.integer("now")))


def _channel(vector: Vector, opens: bool, boot: int, limit: int) -> Any:
    """A channel that seals as `sender`, or opens what `sender` sealed."""
    direction, sender = vector.text("direction"), vector.integer("sender")
    if direction not in ("up", "down"):
        raise Wrong("a direction is up or down")
    ends = (0, sender) if opens else (sender, 0)
    asks = (direction == "up") is not opens
    keys = (vector.data("link_key"), vector.data("fleet"))
    return wire.Channel(*keys, *ends, asks, vector.data("hint") + bytes(24), boot, limit)


def check_frames(vector: Vector) -> None:
    """Frames as a sender seals them, or as a receiver opens and refuses them."""
    if "limit" not in vector:
        channel = _channel(vector, False, vector.integer("boot"), wire.METER_LIMIT)
        for operation in vector.operations():
            operation.expect("do", "seal")
            message = (operation.integer("type"), operation.data("payload"))
            times = (operation.integer("start"), operation.number("reply"))
            operation.expect("frame", operation.attempt(channel.seal, *message, *times))
            operation.expect_number("counter", channel.counter)
        return
    channel = _channel(vector, True, 1, vector.integer("limit"))
    for operation in vector.operations():
        operation.expect("do", "open")
        frame = operation.data("frame")
        message = operation.attempt(channel.open, frame)
        if message is not None:
            operation.expect("type", message.type)
            operation.expect("start", message.start)
            operation.expect("payload", message.payload)
            operation.expect_number("counter", message.counter)
            operation.expect_number("reply", message.reply)


def check_stuffing(vector: Vector) -> None:
    """Frames as serial lines, and streams read in pieces of several sizes."""
    limit = vector.integer("limit") if "limit" in vector else wire.SERIAL_LIMIT
    for operation in vector.operations():
        do = operation.text("do")
        if do == "stuff":
            frame = operation.data("frame")
            operation.expect("line", operation.attempt(wire.stuff, frame))
        elif do == "read":
            stream_ = operation.data("stream")
            for step in (1, 7, len(stream_)):
                deframer = wire.Deframer(limit)
                frames: list[bytes] = []
                for at in range(0, len(stream_), step):
                    frames += deframer.feed(stream_[at : at + step])
                operation.expect("frames", [frame.hex() for frame in frames])
                operation.expect("damaged", deframer.refused["damaged"])
                operation.expect("oversized", deframer.refused["oversized"])
            operation.attempt(bool)
        else:
            raise Wrong(f"unknown operation {do}")
