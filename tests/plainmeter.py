"""A second implementation of the meter's side and of the frames, from the contract, for tests.

Plain formulas with gmpy2 integers modulo n^2, AES-CTR from `cryptography`, HMAC from the standard
library: nothing here comes from wattveil_meter, so that the roles are checked against something.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from gmpy2 import mpz, powmod

FLEET = b"fleet-08"
PERIOD = 900
START = 1_700_000_100  # a multiple of 900
FIRST_DAY = START // 86400 - 1  # of all seeds
CENTER, DEALER = 0xFFFFFFFE, 0xFFFFFFFD
ERROR, UNAVAILABLE = 0x7F, b"\x06"

Life = Generator[tuple[int, int, bytes], tuple[int, bytes], None]


class Fault(Exception):
    """The meter got an ERROR; args[0] is its code."""


def pack(*parts: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def mac(key: bytes, *parts: bytes) -> bytes:
    return hmac.new(key, pack(*parts), hashlib.sha256).digest()


def ctr(key: bytes, counter: int, data: bytes) -> bytes:
    block = counter.to_bytes(8, "big") + bytes(8)
    return Cipher(algorithms.AES(key), modes.CTR(block)).encryptor().update(data)


def seed_of(seed: bytes, start: int) -> bytes:
    """The seed for a period, from that of FIRST_DAY."""
    assert start // 86400 >= FIRST_DAY
    for day in range(FIRST_DAY, start // 86400):
        seed = mac(seed, b"wattveil next", struct.pack("<I", day))
    return seed


def prf(seed: bytes, label: bytes, print_: bytes, start: int, size: int) -> int:
    """seed: that of FIRST_DAY."""
    seed, out = seed_of(seed, start), b""
    for i in range(-(-size // 32)):
        words = struct.pack("<I", PERIOD), struct.pack("<I", start // 86400), struct.pack("<I", i)
        out += mac(seed, b"wattveil prf", label, print_, u64(start), *words)
    return int.from_bytes(out[:size], "little")


def certificate(key: bytes, record: Any, start: int, members: bytes) -> bytes:
    length, day = struct.pack("<I", PERIOD), struct.pack("<I", start // 86400)
    parts = (record.fleet, record.fingerprint, u64(start), length, day, members)
    return mac(key, b"wattveil closing", *parts)


def bitmap(numbers: Iterable[int], size: int) -> bytes:
    return sum(1 << (n - 1) for n in set(numbers)).to_bytes((size + 7) // 8, "little")


class PlainLink:
    """The asking end of any link, frames made by hand."""

    def __init__(self, key: bytes, me: int, record: Any, boot: int = 1) -> None:
        def derive(direction: bytes, use: bytes) -> bytes:
            return mac(key, b"wattveil link", record.fleet, direction, use)

        self.up = derive(b"up", b"enc"), derive(b"up", b"mac")
        self.down = derive(b"down", b"enc"), derive(b"down", b"mac")
        self.me, self.fleet, self.hint = me, record.fleet, record.fingerprint[:8]
        self.counter = boot << 32

    def seal(self, type: int, payload: bytes = b"", start: int = 0) -> bytes:
        self.counter += 1
        head = struct.pack(
            "<2sBB8sIIQQQ8sI",
            *(b"WV", 1, type, self.fleet, self.me, start // 86400, start),
            *(self.counter, 0, self.hint, len(payload)),
        )
        frame = head + ctr(self.up[0], self.counter, payload)
        return frame + hmac.new(self.up[1], frame, hashlib.sha256).digest()[:16]

    def open(self, frame: bytes) -> tuple[int, bytes]:
        tag = hmac.new(self.down[1], frame[:-16], hashlib.sha256).digest()[:16]
        assert tag == frame[-16:]
        counter, reply = struct.unpack_from("<QQ", frame, 28)
        assert reply == self.counter
        return frame[3], ctr(self.down[0], counter, frame[56:-16])


@dataclass
class Secrets:
    """All keys of one meter."""

    id: str
    number: int
    link: bytes
    registration: bytes
    dealer_seed: bytes
    center_seed: bytes


class PlainMeter:
    """An honest meter; what it does next is queued by the test. `noise` is its share, a slot."""

    def __init__(self, secrets: Secrets, record: Any, boot: int = 1) -> None:
        self.secrets, self.record = secrets, record
        self.link = PlainLink(secrets.link, secrets.number, record, boot)
        self.errors: list[int] = []
        self.noise: Callable[[], int] = lambda: 0
        self._todo: deque[Life] = deque()
        self._life: Life | None = None
        self._ask: tuple[int, int, bytes] | None = None
        self.unanswered = 0
        self.patient = False  # asks again what was "unavailable", as a real meter does
        self.tau = 0
        self._c: dict[int, mpz] = {}  # C_i or T_i but for g^d, by start
        self._made: dict[int, bytes] = {}

    # --- what a test asks of it

    def register(self) -> PlainMeter:
        self._todo.append(self._register())
        return self

    def prepare(self, start: int) -> PlainMeter:
        self._todo.append(self._prepare(start))
        return self

    def report(
        self, start: int, wh: int, acknowledged: set[tuple[int, int]] | None = None
    ) -> PlainMeter:
        """`acknowledged` gets (start, number) once the cloud has said REPORTED."""
        self._todo.append(self._report(start, wh, acknowledged))
        return self

    def restart(self) -> None:
        """A power cut: reports that were made are kept, all else is gone."""
        self._todo.clear()
        self._life, self._ask, self.unanswered = None, None, 0
        self._c.clear()
        boot = (self.link.counter >> 32) + 1
        self.link = PlainLink(self.secrets.link, self.secrets.number, self.record, boot)

    def made(self, start: int) -> bool:
        """A report for this period was made: it is the one that is sent, whatever comes."""
        return start in self._made

    def prepared(self, start: int) -> bool:
        """All but the reading is done."""
        return start in self._c

    def say(self, type: int, payload: bytes = b"", start: int = 0) -> PlainMeter:
        self._todo.append(self._say(type, payload, start))
        return self

    # --- the link

    def poll(self) -> bytes | None:
        if self._ask is None:
            self._advance(None)
        if self._ask is None or self.unanswered >= 3:
            return None
        self.unanswered += 1  # the same question in a fresh frame, should the answer get lost
        type, start, payload = self._ask
        return self.link.seal(type, payload, start)

    def receive(self, frame: bytes) -> bool:
        """Go on with the answer; False when it was "ask again later"."""
        answer = self.link.open(frame)
        self.unanswered = 0
        if self.patient and answer == (ERROR, UNAVAILABLE):
            return False
        self._ask = None
        self._advance(answer)
        return True

    def _advance(self, answer: tuple[int, bytes] | None) -> None:
        while True:
            try:
                if self._life is None:
                    if not self._todo:
                        return
                    self._life = self._todo.popleft()
                    self._ask = next(self._life)
                elif answer is not None and answer[0] == ERROR:
                    self._ask = self._life.throw(Fault(answer[1][0]))
                elif answer is not None:
                    self._ask = self._life.send(answer)
                return
            except StopIteration:
                pass
            except Fault as fault:
                self.errors.append(fault.args[0])
            self._life = self._ask = answer = None

    # --- what it says

    def _say(self, type: int, payload: bytes, start: int) -> Life:
        yield type, start, payload

    def _register(self) -> Life:
        for _ in range(10):  # a nonce is single-use: an answer that got lost means starting over
            try:
                return (yield from self._registration())
            except Fault as fault:
                last = fault
        raise last

    def _registration(self) -> Life:
        me, key, fleet = self.secrets.id.encode(), self.secrets.registration, self.record.fleet
        yield 0x01, 0, pack(me, b"plain", b"0", b"gmpy2", b"")
        nonce = os.urandom(16)
        type, told = yield 0x02, 0, nonce
        now, fresh = told[:8], told[9:25]
        assert type == 0x42
        if told[25:] != mac(key, b"wattveil time", fleet, me, nonce, fresh, now, told[8:9]):
            raise Fault(1)  # section 11: a meter begins again
        self.tau = max(self.tau + 1, int.from_bytes(now, "little"))
        digest = hashlib.sha256(pack(me, u64(self.tau))).digest()
        common = (fleet, self.record.fingerprint, me, u64(self.tau))
        word = mac(key, b"wattveil register", *common, digest, fresh)
        _, proof = yield 0x03, 0, u64(self.tau) + digest + word
        assert proof == mac(key, b"wattveil registered", *common, fresh)

    def _prepare(self, start: int) -> Life:
        record, n = self.record, mpz(self.record.n)
        n2, print_ = n * n, record.fingerprint
        row, blobs, told_hash = [], [], None
        for slot in range(1, record.gamma + 1):
            _, told = yield 0x04, start, struct.pack("<H", slot)
            assert told_hash in (None, told[2:34])
            told_hash = told[2:34]
            blobs.append(told[34:])
            row.append(self.unpair(told[34:]))
        assert hashlib.sha256(b"".join(blobs)).digest() == told_hash
        s = int.from_bytes(os.urandom(5), "little")
        plain = (
            prf(self.secrets.dealer_seed, b"u", print_, start, record.nb + 10)
            + prf(self.secrets.center_seed, b"v", print_, start, 16)
            - s
        )
        check = mpz(1)
        for b in row:
            check = check * b % n2
        if record.suite == "compact":
            t = (1 + plain % n * n) * powmod(check, s, n2) % n2
            for b in row:
                t = t * powmod(b, self.noise() + record.offset, n2) % n2
            r = int.from_bytes(os.urandom(32), "little")
            t = t * powmod(mpz(record.h_s), r, n2) % n2
            self._c[start] = n2 - t if os.urandom(1)[0] & 1 else t
            return
        slots = []
        for b in row:
            x = int.from_bytes(os.urandom(record.nb + 8), "little") % int(n)
            plain -= x
            r = int.from_bytes(os.urandom(32), "little")
            e = powmod(b, self.noise() + record.offset, n2) * (1 + x * n) % n2
            slots.append(e * powmod(mpz(record.h_s), r, n2) % n2)
            if os.urandom(1)[0] & 1:
                slots[-1] = n2 - slots[-1]
        slots[0] = slots[0] * powmod(check, s, n2) % n2
        k = prf(self.secrets.dealer_seed, b"k", print_, start, 32)
        self._c[start] = (1 + plain % n * n) * powmod(mpz(record.h), n + k, n2) % n2
        for slot in [*range(2, record.gamma + 1), 1]:
            yield 0x05, start, struct.pack("<H", slot) + self.pair(slots[slot - 1])

    def _report(
        self, start: int, wh: int, acknowledged: set[tuple[int, int]] | None = None
    ) -> Life:
        if not self.made(start) and not self.prepared(start):
            return  # what it was preparing was refused
        n = mpz(self.record.n)
        if start in self._c:  # made once; a retry sends the same bytes
            self._made[start] = self.pair(self._c.pop(start) * (1 + wh * n) % (n * n))
        yield 0x06, start, self._made[start]
        if acknowledged is not None:
            acknowledged.add((start, self.secrets.number))

    def pair(self, c: mpz) -> bytes:
        return to_pair(c, self.record)

    def unpair(self, data: bytes) -> mpz:
        nb = self.record.nb
        low, high = (int.from_bytes(d, "little") for d in (data[:nb], data[nb:]))
        return mpz(low + high * self.record.n)


def to_pair(c: mpz, record: Any) -> bytes:
    high, low = divmod(int(c), record.n)
    return low.to_bytes(record.nb, "little") + high.to_bytes(record.nb, "little")


def encrypt(record: Any, message: int) -> mpz:
    """Textbook Paillier."""
    n = mpz(record.n)
    r = int.from_bytes(os.urandom(record.nb), "little")
    return (1 + message % n * n) * powmod(r, n, n * n) % (n * n)


Material = tuple[list[mpz], mpz]  # the e_ij and C_i of one meter, or none and T_i


def material(meter: PlainMeter, start: int, wh: int) -> Material:
    """What the meter would upload for a period, without any cloud."""
    record = meter.record
    life, answer = meter._prepare(start), None
    row = [meter.pair(encrypt(record, int(j == 0))) for j in range(record.gamma)]
    told = hashlib.sha256(b"".join(row)).digest()
    slots = []
    try:
        while True:
            type, _, payload = next(life) if answer is None else life.send(answer)
            if type == 0x04:
                answer = (0x44, payload + told + row[payload[0] - 1])
            else:
                slots.append(meter.unpair(payload[2:]))
                answer = (0x45, payload[:2])
    except StopIteration:
        pass
    return slots, meter.unpair(next(meter._report(start, wh))[2])
