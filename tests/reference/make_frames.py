"""Makes the vectors of frames and serial lines: frames.json, stuffing.json."""

from __future__ import annotations

from functools import partial
from typing import Any

from reference import basics, wire
from reference.basics import le
from reference.inputs import FLEET, START, Json, done, guarded, hx, refused, rnd

LINK = rnd("link key", 32)
HINT = rnd("fingerprint", 32)[:8]


def make_frames() -> list[Json]:
    sealed: list[Json] = []
    frames: dict[str, list[bytes]] = {}
    for name, direction, sender, boot, sends in (
        (
            "a meter asks",
            "up",
            7,
            5,
            [
                (0x02, 0, 0, rnd("nonce", 16)),
                (0x04, START, 0, b"\x01\0"),
                (0x04, START, 0, b"\x01\0"),
                (0x05, START, 0, rnd("slot", 40)),
            ],
        ),
        (
            "the cloud answers",
            "down",
            0,
            1,
            [
                (0x42, 0, 5 << 32 | 1, rnd("time", 16)),
                (0x44, START, 5 << 32 | 3, rnd("row", 33)),
                (0x46, START, 5 << 32 | 4, b""),
                (0x7F, START + 1800, 5 << 32 | 5, b"\x03"),
            ],
        ),
        (
            "the cloud asks the dealer, last boot",
            "up",
            0,
            (1 << 32) - 1,
            [(0x20, (1 << 32) - 1800, 0, b"\x0f")],
        ),
    ):
        operations = []
        frames[name] = []
        for i, (type, start, reply, payload) in enumerate(sends, 1):
            counter = boot << 32 | i
            args = (LINK, FLEET, direction.encode(), sender, HINT, type, counter, reply)
            frame = wire.seal(*args, start, payload)
            frames[name].append(frame)
            operation: Json = {"do": "seal", "type": type, "payload": payload.hex()}
            operation |= {"start": start, "reply": hx(reply)}
            operations.append(done(operation, counter=hx(counter), frame=frame.hex()))
        ends = {"link_key": LINK.hex(), "fleet": FLEET.hex(), "hint": HINT.hex()}
        ends |= {"direction": direction, "sender": sender}
        sealed.append({"name": name, **ends, "boot": boot, "operations": operations})

    def forge(**changes: Any) -> bytes:
        """A frame with a right tag whatever its header says."""
        base = {"link": LINK, "fleet": FLEET, "direction": b"up", "sender": 7, "hint": HINT}
        base |= {"type": 0x05, "counter": 9 << 32 | 1, "reply": 0, "start": START}
        return wire.seal(**{**base, "payload": rnd("payload", 40), **changes})

    def edit(frame: bytes, at: int, data: bytes, key: bytes | None = LINK) -> bytes:
        """Change bytes; with `key`, and put a right tag on it again."""
        body = frame[:at] + data + frame[at + len(data) : -16]
        if key is None:
            return body + frame[-16:]
        return body + basics.mac(wire.link_keys(key, FLEET, b"up")[1], body)[:16]

    def receive(name: str, sender: int, direction: str, steps: list[tuple[bytes, str]]) -> Json:
        receiver = wire.Receiver(LINK, FLEET, direction.encode(), sender, HINT, 40)
        operations = []
        for frame, reason in steps:
            operation: Json = {"do": "open", "frame": frame.hex()}
            if reason:
                attempt = partial(receiver.open, frame)
                operations.append(refused(operation, reason, attempt))
                continue
            got = receiver.open(frame)
            got |= {k: hx(got[k]) for k in ("counter", "reply")}
            operations.append(done(operation, **{**got, "payload": got["payload"].hex()}))
        ends = {"link_key": LINK.hex(), "fleet": FLEET.hex(), "hint": HINT.hex()}
        ends |= {"direction": direction, "sender": sender, "limit": 40}
        return {**guarded({"name": name, **ends}), "operations": operations}

    up, down = frames["a meter asks"], frames["the cloud answers"]
    good = forge()
    at_cloud: list[tuple[bytes, str]] = [
        (up[0], ""),
        (up[1], ""),
        (up[1], "replayed"),
        (up[0], "replayed"),
        (up[3], ""),
        (up[2], "replayed"),
        (b"", "truncated"),
        (good[:71], "truncated"),
        (good[:-1], "truncated"),
        (good + b"\0", "trailing"),
        (edit(good, 0, b"WX"), "malformed"),
        (edit(good, 2, b"\x02"), "malformed"),
        (edit(good, 3, b"\x3e"), "malformed"),
        (forge(payload=bytes(41)), "oversized"),
        (edit(good, 52, b"\xff\xff\xff\xff"), "oversized"),
        (forge(fleet=b"vectors2"), "wrong_fleet"),
        (forge(sender=8), "unknown_sender"),
        (down[0], "unknown_sender"),
        (forge(sender=0), "unknown_sender"),
        (forge(link=bytes(32)), "forged"),
        (forge(direction=b"down"), "forged"),
        (edit(good, 36, b"\x01", None), "forged"),
        (edit(good, 60, b"\xaa", None), "forged"),
        (good[:-1] + bytes([good[-1] ^ 0x80]), "forged"),
        (forge(hint=bytes(8)), "wrong_record"),
        (forge(counter=5 << 32 | 4), "replayed"),
        (edit(good, 16, le(START // 86400 + 1, 4)), "malformed"),
        (good, ""),
        (good, "replayed"),
    ]
    at_meter: list[tuple[bytes, str]] = [
        (up[0], "unknown_sender"),
        (down[1], ""),
        (down[0], "replayed"),
        (down[3], ""),
    ]
    return [
        *sealed,
        receive("what a cloud accepts and refuses", 7, "up", at_cloud),
        receive("what a meter accepts and refuses", 0, "down", at_meter),
    ]


def make_stuffing() -> list[Json]:
    operations = []
    texts = [b"", b"A", bytes(range(256)), b"\x7e\x7d\x5e\x5d", rnd("stuffed", 72)]
    for i in range(40):  # a checksum with bytes that are escaped
        frame = b"crc %d" % i
        if len(wire.stuff(frame)) > len(frame) + 6:
            texts.append(frame)
            break
    for frame in texts:
        operations.append(
            done({"do": "stuff", "frame": frame.hex()}, line=wire.stuff(frame).hex())
        )
    a, b, longest = b"first frame", rnd("b", 90), rnd("longest", 100)
    damaged = bytearray(wire.stuff(b))
    damaged[20] ^= 0x40
    streams = {
        "two frames": wire.stuff(a) + wire.stuff(b),
        "one flag between two": wire.stuff(a) + wire.stuff(b)[1:],
        "noise before the first flag": b"MicroPython v1.25\r\n>>> " + wire.stuff(a),
        "text between frames": wire.stuff(a) + b"Traceback\r\n" + wire.stuff(b),
        "a damaged one": wire.stuff(a) + bytes(damaged) + wire.stuff(a),
        "flags only": b"\x7e\x7e\x7e\x7e",
        "an escape before a flag": b"\x7e" + a + b"\x7d\x7e" + wire.stuff(a),
        "only an escape": b"\x7e\x7d\x7e" + wire.stuff(a),
        "a checksum and nothing else": wire.stuff(b"") + wire.stuff(a),
        "a needless escape": wire.stuff(a).replace(b"first", b"\x7d\x46irst"),
        "the longest": wire.stuff(longest),
        "one byte longer": wire.stuff(longest + b"x") + wire.stuff(a),
        "far longer": b"\x7e" + bytes(range(32, 96)) * 5 + b"\x7e" + wire.stuff(a),
    }
    reads = []
    for what, stream in streams.items():
        got, broken, over = wire.unstuff(stream, 100)
        reads.append(
            guarded(
                {
                    "do": "read",
                    "what": what,
                    "stream": stream.hex(),
                    "success": True,
                    "frames": [frame.hex() for frame in got],
                    "damaged": broken,
                    "oversized": over,
                }
            )
        )
    return [
        {"name": "stuffing", "operations": operations},
        {"name": "streams", "limit": 100, "operations": reads},
    ]
