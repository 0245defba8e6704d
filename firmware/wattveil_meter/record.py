"""The provisioning record: the parameters of one fleet, and the fingerprint that names them.

It reaches a meter by cable, never from the cloud: who can set the quorum count or epsilon can switch
the noise off. A record is a field list of FIELDS in order (PROTOCOL.md, "Provisioning record").
"""

from hashlib import sha256

from wattveil_meter.fields import Malformed, bit_length, pack, read_uint, uint, unpack
from wattveil_meter.noise import offset

MAGIC = b"wattveil record 1"

# name and kind: t text, u unsigned, i signed (zigzag), b bytes
FIELDS = (
    ("suite", "t"),
    ("noise", "t"),  # gamma | discrete
    ("n", "u"),  # Paillier modulus
    ("key_epoch", "u"),
    ("fleet", "b"),  # 8 bytes
    ("roster_epoch", "u"),
    ("roster_size", "u"),
    ("roster_digest", "b"),  # SHA-256 of pack(ids in order)
    ("gamma", "u"),  # slots of a row, 1..255
    ("quorum_count", "u"),  # Q: fewest meters whose sum may be released
    ("colluding", "u"),  # c: meters that may collude or add nothing
    ("lo", "i"),  # Wh
    ("hi", "i"),  # Wh
    ("epsilon_num", "u"),
    ("epsilon_den", "u"),
    ("unit", "t"),
    ("offset", "u"),  # O >= 60 (hi - lo) / epsilon, keeps exponents non-negative
    ("period_s", "u"),
    ("phase_s", "u"),  # start of a period mod period_s
    ("level", "t"),  # randomiser exponents: short | half | full
    ("row_check", "u"),
    ("own_noise", "u"),
    ("h", "u"),
    ("h_s", "u"),
    ("tables", "b"),  # SHA-256 of each allowed table file, joined
)


def gcd(a, b):
    """Greatest common divisor (boards have no math.gcd)."""
    while b:
        a, b = b, a % b
    return a


def _isqrt_up(value):
    """Smallest integer whose square is >= value."""
    root = 1 << ((bit_length(value) + 1) // 2)
    while True:  # Newton, from above
        better = (root + value // root) // 2
        if better >= root:
            return root if root * root == value else root + 1
        root = better


class Record:
    """A parsed record: one attribute per name in FIELDS, and what follows from them.

    raw: its bytes; fingerprint: SHA-256 of them; nb: bytes of n; delta = hi - lo (Wh);
    a = Q - c: shares that make one Laplace draw; exponent_bits: of xi + O; check_bits: of the row
    check's s; randomiser_bits: of every r.
    """

    suite: str
    noise: str
    n: int
    key_epoch: int
    fleet: bytes
    roster_epoch: int
    roster_size: int
    roster_digest: bytes
    gamma: int
    quorum_count: int
    colluding: int
    lo: int
    hi: int
    epsilon_num: int
    epsilon_den: int
    unit: str
    offset: int
    period_s: int
    phase_s: int
    level: str
    row_check: int
    own_noise: int
    h: int
    h_s: int
    tables: bytes

    def __init__(self, raw, values):
        self.raw = raw
        self.fingerprint = sha256(raw).digest()
        for (name, _), value in zip(FIELDS, values):
            setattr(self, name, value)
        self._check()
        self.nb = (bit_length(self.n) + 7) // 8
        self.delta = self.hi - self.lo
        self.a = self.quorum_count - self.colluding
        self.exponent_bits = bit_length(2 * self.offset)
        self.check_bits = max(40, 20 + bit_length(self._width()))
        self.randomiser_bits = {"short": 256, "half": 4 * self.nb, "full": 8 * self.nb + 80}[
            self.level
        ]

    @classmethod
    def parse(cls, raw):
        """Record from its bytes; Malformed (with the reason) when they are not exactly one valid record."""
        parts = unpack(raw, 1 + len(FIELDS))
        if parts[0] != MAGIC:
            raise Malformed("not a wattveil record of version 1")
        values = []
        for (_, kind), part in zip(FIELDS, parts[1:]):
            if kind == "t":
                try:
                    part = part.decode()
                except ValueError:
                    raise Malformed("text field is not UTF-8")
            elif kind == "u":
                part = read_uint(part)
            elif kind == "i":
                z = read_uint(part)
                part = -((z + 1) >> 1) if z & 1 else z >> 1
            values.append(part)
        return cls(bytes(raw), values)

    @classmethod
    def make(cls, **values):
        """Record from one keyword argument per name in FIELDS."""
        parts = []
        for name, kind in FIELDS:
            value = values.pop(name)
            if kind == "t":
                value = value.encode()
            elif kind == "u":
                value = uint(value)
            elif kind == "i":
                value = uint(2 * value if value >= 0 else -2 * value - 1)
            parts.append(value)
        if values:
            raise Malformed("unknown fields: " + ", ".join(sorted(values)))
        return cls.parse(pack(MAGIC, *parts))

    def start_of(self, now):
        """Start (UTC s) of the period that contains `now`."""
        return now - (now - self.phase_s) % self.period_s

    def _width(self):
        """W = roster delta + 2 B at |S| = roster: the widest plausible total, Wh (protocol rule 6).

        B = 60 (delta / epsilon) sqrt(max(1, kappa |S| / a)), rounded up, kappa = 2 with own noise.
        """
        a = self.quorum_count - self.colluding
        shares = self.roster_size * (2 if self.own_noise else 1)
        delta = self.hi - self.lo
        above = (60 * delta * self.epsilon_den) ** 2 * max(a, shares)
        bound = _isqrt_up(-(-above // (self.epsilon_num**2 * a)))
        return self.roster_size * delta + 2 * bound

    def _check(self):
        if self.suite not in ("yan2024", "compact") or self.noise not in ("gamma", "discrete"):
            raise Malformed("unknown suite or noise")
        if self.level not in ("short", "half", "full"):
            raise Malformed("unknown randomiser level")
        sizes = (len(self.fleet), len(self.roster_digest), len(self.tables) % 32)
        if sizes != (8, 32, 0) or not self.tables:
            raise Malformed("wrong size of fleet, roster digest or table digests")
        bits = bit_length(self.n)
        if self.n % 2 == 0 or bits % 64 or bits < 256:
            raise Malformed("modulus is even, or not a multiple of 64 bits and at least 256 long")
        for element in (self.h, self.h_s):
            if not 1 < element < self.n * self.n or element % self.n == 0:
                raise Malformed("h or h_s is no element modulo n^2")
        numbers = (self.key_epoch, self.roster_epoch, self.roster_size, self.period_s)
        if max(numbers) >> 31:
            raise Malformed("epoch, roster size or period length out of range")
        if not 1 <= self.gamma <= 255 or not 0 <= self.phase_s < self.period_s:
            raise Malformed("gamma or phase out of range")
        if self.unit != "Wh":
            raise Malformed("unknown unit")
        if not 2 <= self.quorum_count <= self.roster_size or self.colluding >= self.quorum_count:
            raise Malformed("quorum count out of range")
        if self.lo >= self.hi or 0 in (self.epsilon_num, self.epsilon_den):
            raise Malformed("empty range of readings, or epsilon is not positive")
        if gcd(self.epsilon_num, self.epsilon_den) != 1:
            raise Malformed("epsilon is not in lowest terms")
        if self.offset != offset(self.epsilon_num, self.epsilon_den, self.hi - self.lo):
            raise Malformed("offset is not 60 delta / epsilon, rounded up")
        if self.row_check > 1 or self.own_noise > 1:
            raise Malformed("row_check and own_noise are 0 or 1")
