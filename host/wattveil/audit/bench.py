"""One meter's suite on a small key, rows of any kind, and what opens: the laboratory of the attacks.

The ciphertexts come from the firmware's own suites; only the attackers' arithmetic is written here, with
plain integers modulo n^2.
"""

from __future__ import annotations

import io
import random
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from hashlib import sha256
from typing import Any, BinaryIO

from gmpy2 import invert, mpz, powmod

from wattveil.paillier import group
from wattveil.paillier.keys import DEMO_SIZE, PrivateKey, generate
from wattveil.paillier.tables import build_table
from wattveil.privacy.law import sum_bounds
from wattveil_meter import masks
from wattveil_meter.cipher import Comb
from wattveil_meter.drbg import Drbg
from wattveil_meter.kernels.portable import Portable
from wattveil_meter.meter import SUITES
from wattveil_meter.noise import make_sampler, offset
from wattveil_meter.record import Record

START = 1_358_121_600  # 2013-01-14T00:00:00Z
SEEDS = (sha256(b"dealer").digest(), sha256(b"center").digest())
SUITE_NAMES = ("yan2024", "compact")

BITS = 512  # of the key unless another is asked for
# Two safe primes of 256 bits, drawn for this file: the key is worth nothing.
P = 0xC66D4BA805D91A1555B812D65F375BCCAB498540F4805A2BFA4F479DA445E567
Q = 0xEFC3A87F26CEE68E67F3F1B3389B0558D83C0CB8D3A06326C880FFC6B84DB6DB

FIELDS: dict[str, Any] = {
    "suite": "yan2024",
    "noise": "discrete",
    "key_epoch": 1,
    "fleet": b"auditing",
    "roster_epoch": 1,
    "roster_size": 4,
    "roster_digest": bytes(32),
    "gamma": 3,
    "quorum_count": 3,
    "colluding": 0,
    "lo": 0,
    "hi": 1000,
    "epsilon_num": 1,
    "epsilon_den": 1,
    "unit": "Wh",
    "period_s": 1800,
    "phase_s": 0,
    "level": "short",
    "row_check": 1,
    "own_noise": 0,
}


_prefix = ""  # part of every seed
_key = PrivateKey(mpz(P), mpz(Q))


@contextmanager
def laboratory(run: int, bits: int = BITS) -> Iterator[None]:
    """Let all that is drawn follow from `run`, too (without, it is always the same), and attack a key of
    `bits` bits: a new one, but for that of this file."""
    global _prefix, _key
    kept = _prefix, _key
    _prefix = f"{run} "
    if bits != BITS:
        _key = generate(bits, insecure_test_key=bits < DEMO_SIZE)
    try:
        yield
    finally:
        _prefix, _key = kept


def audit_key() -> PrivateKey:
    """The key of the fleets that are attacked."""
    return _key


def drbg(seed: object) -> Any:
    """A generator for the meters and parties of an attack."""
    return Drbg(sha256((_prefix + repr(seed)).encode()).digest())


def dice(name: str) -> random.Random:
    """A faster one, for what is no part of the protocol."""
    return random.Random(_prefix + name)


class Shares:
    """A sampler of given shares, or one that remembers what the real one draws."""

    def __init__(self, given: Iterable[int] = (), record: Any = None) -> None:
        self.drawn: list[int] = []
        self._given = list(given)
        if record is not None:
            epsilon = (record.epsilon_num, record.epsilon_den)
            self._real = make_sampler(record.noise, record.a, *epsilon, record.delta)

    def share(self, source: Any) -> int:
        """The next one, Wh."""
        self.drawn.append(self._given.pop(0) if self._given else self._real.share(source))
        return self.drawn[-1]


class Bench:
    """A key, a record and its tables.

    p, q: primes of the key; default `audit_key`. h_s: default as provisioning computes it. h_bits: of the
    comb of h. changes: fields of the record, else those of FIELDS.
    """

    def __init__(
        self, p: int = 0, q: int = 0, h_s: Any = None, h_bits: int = 256, **changes: Any
    ) -> None:
        key = PrivateKey(mpz(p), mpz(q)) if p else audit_key()
        self.n, self.n2 = key.public.n, key.public.n2
        fields = FIELDS | changes
        self.h = group.group_element(self.n, fields["fleet"], fields["key_epoch"])
        self.h_s = h_s
        if h_s is None:
            self.h_s = group.group_nonresidue(self.n, fields["fleet"], fields["key_epoch"])
        constant = powmod(self.h, self.n, self.n2)
        r_bits = {"short": 256, "full": self.n.bit_length() + 80}[fields["level"]]
        tables = {
            "h": build_table(b"h", self.h, self.n, h_bits, 4, 2, constant),
            "s": build_table(b"s", self.h_s, self.n, r_bits, 4, 2, 1),
        }
        fields["tables"] = b"".join(sha256(table).digest() for table in tables.values())
        ratio = fields["epsilon_num"], fields["epsilon_den"]
        fields.setdefault("offset", offset(*ratio, fields["hi"] - fields["lo"]))
        fields |= {"n": int(self.n), "h": int(self.h), "h_s": int(self.h_s)}
        files = {name: io.BytesIO(table) for name, table in tables.items()}
        self._take(key, Record.make(**(fields | changes)), files)

    @classmethod
    def of(cls, key: PrivateKey, record: Any, tables: Mapping[str, BinaryIO]) -> Bench:
        """That of a provisioned fleet."""
        bench = cls.__new__(cls)
        bench.h, bench.h_s = mpz(record.h), mpz(record.h_s)
        bench._take(key, record, tables)
        return bench

    def _take(self, key: PrivateKey, record: Any, tables: Mapping[str, BinaryIO]) -> None:
        self.key, self.record = key, record
        self.n, self.n2 = key.public.n, key.public.n2
        self.ring = Portable(self.n)
        self.combs = {n: Comb(file, self.ring, n.encode()) for n, file in tables.items()}

    def meter(
        self,
        seed: object,
        shares: Any = None,
        start: int = START,
        seeds: tuple[bytes, bytes] = SEEDS,
    ) -> Play:
        """The suite of one meter for one period; everything it draws follows from `seed`."""
        shares = shares or Shares(record=self.record)
        source = seed if hasattr(seed, "bits") else drbg(seed)
        return Play(self, source, shares, start, seeds)

    def encrypt(self, message: int, seed: object, bits: int = 256) -> mpz:
        """g^message h_s^r, as a cloud makes it."""
        r = drbg(("row", seed)).bits(bits)
        return (1 + message % self.n * self.n) * powmod(self.h_s, r, self.n2) % self.n2

    def rows(self, messages: Sequence[int], seed: object) -> list[mpz]:
        """Encryptions of anything: a dishonest cloud's row."""
        return [self.encrypt(m, (seed, j)) for j, m in enumerate(messages)]

    def one_hot(self, seed: object, hot: int = 0) -> list[mpz]:
        """An honest row."""
        return self.rows([int(j == hot) for j in range(self.record.gamma)], seed)

    def element(self, c: mpz) -> Any:
        """A ciphertext as the meter's kernel holds it."""
        nb = self.ring.nb
        high, low = divmod(c, self.n)
        return self.ring.decode(int(low).to_bytes(nb, "little") + int(high).to_bytes(nb, "little"))

    def product(self, ciphertexts: Iterable[mpz]) -> mpz:
        """What the cloud adds up."""
        result = mpz(1)
        for c in ciphertexts:
            result = result * c % self.n2
        return result

    def signed(self, value: mpz | int) -> int:
        """A residue mod n, signed."""
        rest = mpz(value) % self.n
        return int(rest if 2 * rest <= self.n else rest - self.n)

    def exponent(self, c: mpz) -> int | None:
        """a of g^a, which anyone can read, None when c is no power of g."""
        return int(c // self.n) if c % self.n == 1 else None

    def strip(self, c: mpz, k: int) -> mpz:
        """C_i / h^(n + k); T_i as it is."""
        if self.record.suite == "compact":
            return c
        return c * powmod(invert(self.h, self.n2), self.n + k, self.n2) % self.n2

    def masks(
        self, start: int = START, seeds: tuple[bytes, bytes] = SEEDS
    ) -> tuple[int, int, int]:
        """k, u, v of the meter."""
        dealer, center = seeds
        record = self.record
        k, u = masks.mask_k(record, dealer, start), masks.mask_u(record, dealer, start)
        return int(k), int(u), int(masks.mask_v(record, center, start))

    def total(self, slots: Sequence[mpz], report: mpz, start: int = START) -> int:
        """What the centre releases when everybody does their part, for a single meter."""
        k, u, v = self.masks(start)
        opened = self.key.decrypt(self.product(slots)) + self.key.decrypt(self.strip(report, k))
        return self.signed(opened - u - v - self.record.offset)

    def plausible(self, total: int) -> bool:
        """Whether a total is inside the centre's bounds (at |S| = Q)."""
        r = self.record
        own, epsilon = bool(r.own_noise), Fraction(r.epsilon_num, r.epsilon_den)
        low, high = sum_bounds(r.quorum_count, r.lo, r.hi, r.a, epsilon, own)
        return low <= total <= high


class Play:
    """One meter, one period: `answer` the rows, then `report`; the suite is the record's."""

    def __init__(
        self, bench: Bench, source: Any, shares: Any, start: int, seeds: tuple[bytes, bytes]
    ) -> None:
        self.bench, self.shares, self.start = bench, shares, start
        args = (bench.record, bench.ring, bench.combs, source, shares, seeds, start)
        suite: Any = SUITES[bench.record.suite]
        self.suite = suite(*args)

    def answer(self, row: Sequence[mpz]) -> list[mpz]:
        """e_i1 .. e_i gamma for a row; none in suite compact."""
        sent = []
        for slot, c in enumerate(row, 1):
            sent.append(_run(self.suite.row(slot, self.bench.element(c))))
        sent[0] = _run(self.suite.finish())
        return [self._number(data) for data in sent if data is not None]

    def report(self, wh: int) -> mpz:
        """C_i or T_i."""
        return self._number(self.suite.report(wh))

    def report_only(self, row: Sequence[mpz], wh: int = 0) -> mpz:
        """C_i or T_i after the whole period."""
        self.answer(row)
        return self.report(wh)

    def _number(self, data: bytes) -> mpz:
        nb = self.bench.ring.nb
        low, high = (int.from_bytes(half, "little") for half in (data[:nb], data[nb:]))
        return mpz(low) + high * self.bench.n


def _run(life: Generator[int, None, Any]) -> Any:
    """The result of one of the firmware's generators."""
    while True:
        try:
            next(life)
        except StopIteration as stop:
            return stop.value
