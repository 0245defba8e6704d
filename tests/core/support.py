"""A tiny fleet for the core's own tests: a 256-bit key, plain integers, one meter and its peers.

Everything here is written from the formulas in PROTOCOL.md with plain `pow` and `%`, not with the
core's pairs and combs, and runs wherever the core runs. The key is a test key and is worth nothing.
"""

import io
import struct
from hashlib import sha256

from wattveil_meter import masks, noise, wire
from wattveil_meter.drbg import Drbg, hmac_sha256
from wattveil_meter.fields import pack, uint
from wattveil_meter.kernels.portable import Portable
from wattveil_meter.meter import SUITES, Meter
from wattveil_meter.package import Package
from wattveil_meter.record import Record
from wattveil_meter.seeds import record_of
from wattveil_meter.store import MemoryStorage

P = 0xC18B5D479084A3F403C64268E2531D1F
Q = 0xD881430BD600978356CAA95227B65CDF
N = P * Q
N2 = N * N
NB = 32
FLEET = b"testflee"
METER_ID = b"MAC000003"
PERIOD = 1800
START = 1358121600
H = pow(3, 2, N2)
H_S = pow(5, N, N2)
KEYS = {
    name: sha256(name.encode()).digest() for name in ("link", "reg", "dealer", "center", "drbg")
}


def inverse(a, n):
    """a^-1 mod n (boards' pow takes no negative exponent)."""
    x, y, r, s = 1, 0, a % n, n
    while s:
        q = r // s
        x, y, r, s = y, x - q * y, s, r - q * s
    return x % n


def table(name, base, constant, teeth=4, blocks=2, bits=256):
    """A comb table file."""
    columns = -(-bits // teeth)
    steps = -(-columns // blocks)
    head = (b"WVT1", name, 1, teeth, blocks, bits, NB, bytes(20))
    out = struct.pack("<4s1sBBBHH20s32s", *head, sha256(N.to_bytes(NB, "little")).digest())
    elements = [constant]
    for j in range(blocks):
        powers = [pow(base, 1 << (i * columns + j * steps), N2) for i in range(teeth)]
        for u in range(1 << teeth):
            x = 1
            for i in range(teeth):
                if u >> i & 1:
                    x = x * powers[i] % N2
            elements.append(x)
    for x in elements:
        t = x % N
        out += t.to_bytes(NB, "little") + (x // N * inverse(t, N) % N).to_bytes(NB, "little")
    return out


TABLE_H = table(b"h", H, pow(H, N, N2))
TABLE_S = table(b"s", H_S, 1)


def record(**changes):
    """A valid record for the tiny fleet."""
    values = dict(
        suite="yan2024",
        noise="discrete",
        n=N,
        key_epoch=1,
        fleet=FLEET,
        roster_epoch=1,
        roster_size=4,
        roster_digest=bytes(32),
        gamma=3,
        quorum_count=3,
        colluding=0,
        lo=0,
        hi=1000,
        epsilon_num=1,
        epsilon_den=1,
        unit="Wh",
        offset=noise.offset(1, 1, 1000),
        period_s=PERIOD,
        phase_s=0,
        level="short",
        row_check=1,
        own_noise=0,
        h=H,
        h_s=H_S,
        tables=sha256(TABLE_H).digest() + sha256(TABLE_S).digest(),
    )
    values.update(changes)
    return Record.make(**values)


def secrets(number=3):
    """meter.bin of the tiny meter."""
    return pack(
        b"wattveil meter 1", METER_ID, uint(number), KEYS["link"], KEYS["reg"], KEYS["drbg"]
    )


def seeds(day=START // 86400):
    """seeds.bin of the tiny meter, by name."""
    return {"seeds.bin": record_of(day, KEYS["dealer"], KEYS["center"])}


def seed_of(name, start):
    """The dealer's or centre's seed for a period, written from PROTOCOL.md."""
    seed = KEYS[name]
    for day in range(START // 86400, start // 86400):
        label = b"wattveil next"
        parts = struct.pack("<I", len(label)) + label + struct.pack("<II", 4, day)
        seed = hmac_sha256(seed, parts)
    return seed


def to_pair(c):
    """Wire form of a ciphertext."""
    return (c % N).to_bytes(NB, "little") + (c // N).to_bytes(NB, "little")


def from_pair(data):
    """Ciphertext from its wire form."""
    return int.from_bytes(data[:NB], "little") + int.from_bytes(data[NB:], "little") * N


def decrypt(c):
    """Textbook Paillier decryption with lambda = (p-1)(q-1)."""
    lam = (P - 1) * (Q - 1)
    return (pow(c, lam, N2) - 1) // N * inverse(lam, N) % N


def signed(x):
    """Residue mod N as a signed integer."""
    return x - N if x > N // 2 else x


class ManualClock:
    """Milliseconds that pass only when told."""

    def __init__(self):
        self.value = 0

    def ms(self):
        return self.value


class Sensor:
    """Readings from a dict: start -> Wh."""

    remote = False
    why = ""

    def __init__(self, readings):
        self.readings = readings

    def energy(self, start, length):
        return self.readings.get(start)


class Peers:
    """Cloud and centre in one for a single meter: answers requests, keeps what it was sent."""

    def __init__(self, record, hot=2, boot=1):
        self.record = record
        self.channel = wire.Channel(
            KEYS["link"], FLEET, wire.CLOUD, 3, False, record.fingerprint, boot
        )
        self.now = START
        self.running = 0  # whether the centre's clock runs
        self.hot = hot
        self.drbg = Drbg(b"peers" + bytes(32))
        self.rows = None
        self.start = None
        self.slots = {}
        self.order = {}
        self.reports = []
        self.absent = []
        self.hello = None
        self.deny = {}  # type -> name of the error to answer once
        self.center_nonce = bytes(16)

    def make_rows(self, start):
        bits = [int(slot == self.hot) for slot in range(1, self.record.gamma + 1)]
        rows = []
        for bit in bits:
            c = (1 + bit * N) * pow(H_S, self.drbg.bits(256), N2) % N2
            rows.append(to_pair(c if self.drbg.bits(1) else N2 - c))
        self.rows = rows
        self.start = start

    def answer(self, frame):
        """The answering frame."""
        message = self.channel.open(frame)
        if message.type in self.deny:
            code = wire.CODES[self.deny.pop(message.type)]
            return self._seal(wire.ERROR, bytes((code,)), message)
        payload = b""
        if message.type == wire.HELLO:
            self.hello = message.payload
        elif message.type == wire.TIME:
            nonce, self.center_nonce = message.payload, self.drbg.bytes(16)
            args = (METER_ID, nonce, self.center_nonce, self.now, self.running)
            mac = masks.time_mac(KEYS["reg"], self.record, *args)
            payload = masks.u64(self.now) + bytes((self.running,)) + self.center_nonce + mac
        elif message.type == wire.REGISTER:
            tau = int.from_bytes(message.payload[:8], "little")
            mac = masks.register_mac(KEYS["reg"], self.record, METER_ID, tau, self.center_nonce)
            assert message.payload[8:] == masks.identity_hash(METER_ID, tau) + mac
            args = (METER_ID, tau, self.center_nonce)
            payload = masks.registered_mac(KEYS["reg"], self.record, *args)
        elif message.type == wire.ROW:
            slot = int.from_bytes(message.payload, "little")
            if self.rows is None or message.start != self.start:
                self.make_rows(message.start)
            payload = message.payload + sha256(b"".join(self.rows)).digest() + self.rows[slot - 1]
        elif message.type == wire.SLOT:
            slot = int.from_bytes(message.payload[:2], "little")
            slots = self.slots.setdefault(message.start, {})
            assert slot not in slots
            slots[slot] = message.payload[2:]
            self.order.setdefault(message.start, []).append(slot)
            payload = message.payload[:2]
        elif message.type == wire.REPORT:
            self.reports.append((message.start, message.payload))
        elif message.type == wire.ABSENT:
            self.absent.append((message.start, message.payload[0]))
        return self._seal(message.type | 0x40, payload, message)

    def _seal(self, type, payload, message):
        return self.channel.seal(type, payload, message.start, message.counter)

    def total(self, start):
        """d + xi of the one meter, opened with every key and seed there is."""
        u = masks.mask_u(self.record, seed_of("dealer", start), start)
        v = masks.mask_v(self.record, seed_of("center", start), start)
        c = from_pair(self.reports[-1][1])
        total = -u - v - self.record.offset
        if self.record.suite == "yan2024":
            for e in self.slots[start].values():
                total += decrypt(from_pair(e))
            k = masks.mask_k(self.record, seed_of("dealer", start), start)
            c = c * pow(inverse(H, N2), k, N2) % N2
        return signed((total + decrypt(c)) % N)


def make_meter(record, storage=None, readings=None, clock=None, seed=b"1"):
    """A meter of the tiny fleet, fresh from its package; returns (meter, storage, clock)."""
    storage = storage or MemoryStorage(seeds())
    tables = {"h": TABLE_H, "s": TABLE_S}
    clock = clock or ManualClock()
    meter = Meter(
        Package(record.raw, secrets()),
        {name: io.BytesIO(tables[name]) for name in SUITES[record.suite].tables},
        storage,
        Sensor({START: 777} if readings is None else readings),
        clock,
        seed * 64,
        ("test 1", "0.1.0", ""),
        Portable(record.n),
    )
    return meter, storage, clock


def drive(meter, peers, until=None, lose=None):
    """Run the meter against its peers until it waits or `until(meter)`; frames it sent, by type."""
    sent = []
    for _ in range(20000):
        if until and until(meter):
            return sent
        out = meter.poll()
        if isinstance(out, bytes):
            sent.append(out[3])
            if lose and lose(out):
                continue
            meter.receive(peers.answer(out))
        elif out > 0:
            return sent
    raise AssertionError("the meter never came to rest")
