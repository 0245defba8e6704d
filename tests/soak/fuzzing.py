"""A mutator over a kept corpus, and every parser of bytes that come from outside as its target.

The corpus (tests/corpus/frames.jsonl) holds every frame of two periods of a fleet with fixed keys,
one for each suite, so that most of a mutated frame is right. `python -m soak.fuzzing` in tests/
makes it anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

from plainmeter import ERROR, PERIOD, START, PlainLink
from plainworld import SUITES, World
from wattveil.importers.dlms import read_dlms
from wattveil.importers.dsmr import read_dsmr
from wattveil.importers.greenbutton import read_greenbutton
from wattveil.importers.readings import DataError
from wattveil.roles.common import decode_members, encode_members
from wattveil.runners.host import apply
from wattveil.runners.memory import MemoryNet
from wattveil_meter import wire
from wattveil_meter.fields import Malformed, pack, read_uint, uint, unpack
from wattveil_meter.links.mqtt_packets import Client, Lost, publish
from wattveil_meter.package import Package
from wattveil_meter.record import Record
from wattveil_meter.sensors.p1 import Telegrams
from wattveil_meter.sensors.pzem004t import crc16, parse

CORPUS = Path(__file__).parent.parent / "corpus" / "frames.jsonl"
FIXTURES = Path(__file__).parent.parent / "fixtures"
TELEGRAMS = FIXTURES / "dsmr"
# how a session may end
ENDS = {"malformed", "oversized", "clogged", "protocol", "client_id", "unavailable"}
ENDS |= {"credentials", "not_allowed"}
INTERESTING = (0, 1, 2, 0x7E, 0x7D, 0x7F, 0x80, 0xFE, 0xFF)
INTEGERS = (0, 1, 2, 255, 256, 2047, 2048, 2049, 1 << 24, (1 << 24) + 1, 1 << 31, (1 << 32) - 1)


class WronglyAccepted(AssertionError):
    """A parser took something that nobody honest made."""


class Mutator:
    """Changes bytes in the ways that break parsers."""

    def __init__(self, seeds: list[bytes], random: Random) -> None:
        self.seeds = seeds
        self.random = random

    def __call__(self) -> bytes:
        """A seed with one to four changes."""
        random = self.random
        seeds = self.seeds
        data = bytearray(seeds[int(random.random() * len(seeds))])
        for _ in range(1 + (random.getrandbits(4) == 0) * random.getrandbits(2)):
            at = int(random.random() * (len(data) + 1))
            kind = random.getrandbits(3)
            if kind <= 2 and at < len(data):
                data[at] ^= 1 << random.getrandbits(3)
            elif kind == 3 and at < len(data):
                data[at] = INTERESTING[int(random.random() * len(INTERESTING))]
            elif kind == 4:
                value = INTEGERS[int(random.random() * len(INTEGERS))]
                data[at : at + 4] = value.to_bytes(4, "little")
            elif kind == 5:
                del data[at : at + 1 + random.getrandbits(5)]
            elif kind == 6:
                data[at:at] = random.randbytes(1 + random.getrandbits(4))
            else:
                other = seeds[int(random.random() * len(seeds))]
                data[at:] = other[at:]
        return bytes(data)


class _Tapped(MemoryNet):
    """Writes down who sends what to whom."""

    def __init__(self, world: World) -> None:
        self.heard: dict[tuple[str, str, bytes], None] = {}  # in order, once each
        super().__init__(*map(world.role, ("center", "cloud", "dealer")), world.stores)

    def carry_out(self, name: str, effects: Any) -> None:
        super().carry_out(name, effects)
        self._note()

    def quiet(self) -> int:
        self._note()
        return super().quiet()

    def _note(self) -> None:
        for source, target, frame in self._frames:
            ends = ("meter" if end.startswith("meter ") else end for end in (source, target))
            self.heard[(*ends, frame)] = None  # type: ignore[index]


def make_corpus() -> list[dict[str, str]]:
    """All frames of two periods under each suite, as they were on the links."""
    entries = []
    for suite, changes in SUITES.items():
        world = World(Path(), 3, changes, disk=False, fixed=True)
        net = _Tapped(world)
        meters = list(world.meters.values())
        for start in (START, START + PERIOD):
            world.clock.utc = start + 10
            for meter in meters:
                meter.register().prepare(start)
            net.settle(meters)
            world.end(start)
            for meter in meters[: 3 if start == START else 2]:
                meter.report(start, 100)
            net.settle(meters)
            world.clock.seconds += 40
            net.tick()
        for source, target, frame in net.heard:
            entries.append({"suite": suite, "from": source, "to": target, "frame": frame.hex()})
    return entries


def corpus(suite: str, target: str) -> list[bytes]:
    """The kept frames of a suite that go to "cloud", "center", "dealer" or "meter"."""
    lines = CORPUS.read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return [bytes.fromhex(e["frame"]) for e in entries if (e["suite"], e["to"]) == (suite, target)]


Target = Callable[[], None]


def channel_target(suite: str, random: Random) -> Target:
    """The frame codec alone, at the meter: what is not a kept frame, bit for bit, is refused."""
    world = World(Path(), 3, SUITES[suite], disk=False, fixed=True)
    seeds = corpus(suite, "meter")
    mutate = Mutator(seeds, random)
    known = set(seeds)
    channels = {}
    for s in world.secrets:
        args = (s.number, wire.CLOUD, True, world.record.fingerprint, 1)
        channels[s.number] = wire.Channel(s.link, world.record.fleet, *args)
    turn = [channels[1], channels[2], channels[3]]

    def one() -> None:
        frame = mutate()
        channel = turn[random.getrandbits(2) % 3]
        channel.last = 0
        try:
            channel.open(frame)
        except wire.Refused:
            return
        if frame not in known:
            raise WronglyAccepted(frame.hex())

    return one


def role_target(suite: str, name: str, random: Random) -> Target:
    """A whole role: a frame nobody sent gets no answer and changes nothing."""
    world = World(Path(), 3, SUITES[suite], disk=False, fixed=True)
    role = world.role(name)
    seeds = corpus(suite, name)
    known = set(seeds)
    mutate = Mutator(seeds, random)
    peers = ("center", "dealer", "port:1") if name == "cloud" else ("in:1",)

    def one() -> None:
        frame = mutate()
        if frame in known:
            return
        if role.receive(peers[random.getrandbits(4) % len(peers)], frame):
            raise WronglyAccepted(frame.hex())

    return one


def payload_target(suite: str, name: str, random: Random) -> Target:
    """Payloads of authenticated frames: a peer with the right key that sends wrong things.

    Never an exception, always one answer. The dealer closes and the centre opens only what the
    rules allow: no release comes from a mutated request.
    """
    world = World(Path(), 3, SUITES[suite], disk=False, fixed=True)
    role = world.role(name)
    world.end(START + 8 * PERIOD)
    key, me = {
        "center": (world.cloud_center, wire.CLOUD),
        "dealer": (world.cloud_dealer, wire.CLOUD),
        "cloud": (world.secrets[0].link, 1),
    }[name]
    up = PlainLink(key, me, world.record, boot=1 << 20)
    seeds = _payloads(suite, name, world)
    mutate = Mutator([payload for _, payload in seeds], random)
    types = sorted({type for type, _ in seeds})
    if name == "cloud":
        role.meters[1].state = "registered"
    store = world.stores[name]
    allowed = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}

    def one() -> None:
        payload = mutate()
        type = types[int(random.random() * len(types))]
        start = START + (random.getrandbits(4) - 4) * PERIOD + (random.getrandbits(5) == 0)
        if up.counter & 0xFFFFFFFF == 0xFFFFFFFE:
            raise AssertionError("counters are used up")
        answers: list[bytes] = []
        effects = role.receive("in:1", up.seal(type, payload, start))
        apply(role, store, effects, lambda peer, frame: answers.append(frame))
        if len(answers) > 1:
            raise AssertionError("more than one answer")
        for answer in answers:
            kind, body = up.open(answer)
            if kind == ERROR and (len(body) != 1 or body[0] not in allowed):
                raise AssertionError(f"an error of no known code: {body.hex()}")
            if kind == wire.RELEASED:
                raise WronglyAccepted(payload.hex())

    return one


def _payloads(suite: str, name: str, world: World) -> list[tuple[int, bytes]]:
    """Type and payload of the kept requests to a role, decrypted."""
    found = []
    keys = {wire.CLOUD: world.cloud_center if name == "center" else world.cloud_dealer}
    if name == "cloud":
        keys = {s.number: s.link for s in world.secrets}
    for frame in corpus(suite, name):
        sender = int.from_bytes(frame[12:16], "little")
        if sender not in keys:
            continue
        args = (world.record.fleet, wire.CENTER, sender, False, world.record.fingerprint, 1)
        message = wire.Channel(keys[sender], *args, wire.ROLE_LIMIT).open(frame)
        found.append((message.type, message.payload))
    return found


def stuffing_target(suite: str, random: Random) -> Target:
    """The serial line: out of noise come kept frames or none, in pieces of any size."""
    seeds = corpus(suite, "cloud")
    known = set(seeds)
    mutate = Mutator([wire.stuff(frame) for frame in seeds], random)
    deframer = wire.Deframer()

    def one() -> None:
        data = mutate()
        cut = int(random.random() * len(data)) if data else 0
        for frame in deframer.feed(data[:cut]) + deframer.feed(data[cut:]):
            if frame not in known:
                raise WronglyAccepted(frame.hex())

    return one


def fields_target(suite: str, random: Random) -> Target:
    """Records, secrets, field lists, integers, sets: what is read is written back the same."""
    world = World(Path(), 3, SUITES[suite], disk=False, fixed=True)
    record = world.record.raw
    number = uint(3)
    secrets = [b"wattveil meter 1", b"meter-01", number, bytes(32), bytes(32)]
    secrets += [bytes(32)]
    records = Mutator([record], random)
    packages = Mutator([pack(*secrets)], random)
    sets = Mutator([b"\x07", b"\xff\x01", b"\xff" * 8], random)
    integers = Mutator([uint(v) for v in (0, 1, 255, 256, 1 << 64, world.record.n)], random)

    def one() -> None:
        kind = random.getrandbits(2)
        try:
            if kind == 0:
                data = records()
                same = Record.parse(data).raw == data
            elif kind == 1:
                data = packages()
                Package(record, data)
                same = pack(*unpack(data, 6)) == data
            elif kind == 2:
                data = sets()
                size = 1 + random.getrandbits(6)
                numbers = decode_members(data, size)
                same = numbers is None or encode_members(numbers, size) == data
            else:
                data = integers()
                same = uint(read_uint(data)) == data
        except Malformed:
            return
        if not same:
            raise WronglyAccepted(data.hex())

    return one


def mqtt_target(suite: str, random: Random) -> Target:
    """A meter's MQTT client: a broker's bytes end the session by name, and use no more memory."""
    limit = wire.SERIAL_LIMIT
    session = [b"\x20\x02\0\0", b"\x90\x03\0\1\1"]  # CONNACK, SUBACK
    down = [
        publish(b"down/1", frame, number=n % 2) for n, frame in enumerate(corpus(suite, "meter"))
    ]
    mutate = Mutator([b"".join([*session, *down[at : at + 3]]) for at in range(len(down))], random)
    client = Client("meter", ("up/1", "down/1", "status/1"), None, None, 60, limit)

    def one() -> None:
        data = mutate()
        cut = int(random.random() * len(data)) if data else 0
        client.begin(0)
        try:
            frames = client.receive(data[:cut], 0) + client.receive(data[cut:], 0)
        except Lost as lost:
            if lost.args[0] not in ENDS:
                raise
            return
        if max(map(len, frames), default=0) > limit or len(client.out) > 4 * limit:
            raise WronglyAccepted(data.hex())

    return one


def sensors_target(suite: str, random: Random) -> Target:
    """What household meters send: P1 telegrams in pieces, answers of a PZEM-004T.

    Their CRCs have 16 bits, so some mutated ones are right; readings are never below zero.
    """
    telegrams = Mutator([path.read_bytes() for path in sorted(TELEGRAMS.glob("*"))], random)
    body = bytes((1, 4, 20, *range(20)))
    answers = Mutator([body + crc16(body).to_bytes(2, "little")], random)
    reader = Telegrams(lambda reason: None)

    def one() -> None:
        if random.getrandbits(3):
            parse(answers(), 1)
            return
        data = telegrams()
        cut = int(random.random() * len(data)) if data else 0
        for telegram in reader.feed(data[:cut]) + reader.feed(data[cut:]):
            if (telegram.register(b"1.8.") or 0) < 0:
                raise WronglyAccepted(data.hex())

    return one


def files_target(suite: str, random: Random) -> Target:
    """Files of other people's: DSMR, Green Button and, where its library is, DLMS."""
    readers: list[tuple[Any, str]] = [
        (read_dsmr, "dsmr/*.telegram"),
        (read_greenbutton, "*/*.xml"),
    ]
    if find_spec("dlms_cosem"):
        readers.append((read_dlms, "dlms/[pr]*.log"))
    turn = [
        (read, Mutator([path.read_bytes() for path in sorted(FIXTURES.glob(what))], random))
        for read, what in readers
    ]

    def one() -> None:
        read, mutate = turn[random.getrandbits(4) % len(turn)]
        data = mutate()
        try:
            found = read("x", data, [])
        except DataError:
            return
        for value in found:
            if min(getattr(value, name, 0) for name in ("imported", "exported", "wh")) < 0:
                raise WronglyAccepted(data.hex())

    return one


TARGETS: dict[str, tuple[Callable[[str, Random], Target], int]] = {  # and runs of the long version
    "channel": (channel_target, 3_200_000),
    "stuffing": (stuffing_target, 2_000_000),
    "fields": (fields_target, 2_400_000),
    "cloud": (lambda suite, random: role_target(suite, "cloud", random), 1_200_000),
    "center": (lambda suite, random: role_target(suite, "center", random), 700_000),
    "dealer": (lambda suite, random: role_target(suite, "dealer", random), 500_000),
    "cloud payload": (lambda suite, random: payload_target(suite, "cloud", random), 150_000),
    "center payload": (lambda suite, random: payload_target(suite, "center", random), 150_000),
    "dealer payload": (lambda suite, random: payload_target(suite, "dealer", random), 150_000),
    "mqtt": (mqtt_target, 1_000_000),
    "sensors": (sensors_target, 400_000),
    "files": (files_target, 40_000),
}


if __name__ == "__main__":
    CORPUS.parent.mkdir(exist_ok=True)
    CORPUS.write_text("".join(json.dumps(entry) + "\n" for entry in make_corpus()))
