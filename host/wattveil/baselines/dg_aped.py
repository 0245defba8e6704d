"""DG-APED-like: sums of groups, binary noise, and diverse groupings that find a faulty meter.

After Shi, Sun, Lu, Chen, Chen and Shen, "Diverse grouping-based aggregation protocol with error
detection for smart grid communications", IEEE Trans. Smart Grid 6(6), 2015 (the paper's [27]), of
which abstract, index terms and the head of the nomenclature could be read: private stream
aggregation (Shi, Chan, Rieffel, Chow, Song, NDSS 2011) over groups; noise r_i with an unbiased
binary distribution; one key a meter, private keys sk_u0^(v,l) of the control centre; malfunctioning
meters are detected. Chosen here, consistent with all of that:

- `Setup`: V partitions of the users into groups of about w; for each group the centre holds minus the
  sum of its members' keys. A meter has one key and sends one ciphertext a slot, whatever V is.
- `report`: c = g^(x + r + s) H(t)^sk, r = +-s by a fair coin; the public s keeps exponents above 0.
- `Center.open`: the sum of each group, by a small discrete logarithm. A group fails when a ciphertext
  is missing or the logarithm is out of range; who fails in every partition is a suspect
  (non-adaptive group testing); the total is that of disjoint healthy groups, with its coverage.

Two groups of different partitions have at most one user in common. A meter
that sends wrong but plausible values is not found.
"""

from __future__ import annotations

import itertools
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gmpy2 import mpz

from wattveil.baselines.group import Group, SmallLog

GROUP_SIZE, PARTITIONS = 16, 2

Partition = list[tuple[int, ...]]


def groupings(users: int, size: int = GROUP_SIZE) -> list[Partition]:
    """Two partitions of 0..users-1: neighbours together, then every G-th together.

    Groups have `size` users or a few more, about sqrt(users) where size^2 > users. A group of one
    partition and one of the other have at most one user in common, and none has a single user.
    ValueError for fewer than 6 users or a size below 2.
    """
    if users < 6 or size < 2:
        raise ValueError("groups of two need at least 6 users and a size of 2")
    count = max(users // size, math.isqrt(users - 1) + 1)
    cuts = [users * at // count for at in range(count + 1)]
    rows = [tuple(range(a, b)) for a, b in itertools.pairwise(cuts)]
    columns = [tuple(range(at, users, count)) for at in range(count)]
    return [rows, columns]


@dataclass(frozen=True)
class Setup:
    """What the dealer hands out. s: Wh, the size of the binary noise. x_max: largest reading, Wh."""

    group: Group
    partitions: Sequence[Partition]
    user_keys: Sequence[int]
    center_keys: Sequence[Sequence[int]]  # [v][l]
    s: int
    x_max: int

    @classmethod
    def draw(cls, group: Group, users: int, x_max: int, s: int | None = None) -> Setup:
        """Fresh keys. s: default x_max / 2, which makes 2 s the largest change of one household."""
        partitions = groupings(users)
        keys = [group.random_key() for _ in range(users)]
        center = [[-sum(keys[i] for i in members) for members in p] for p in partitions]
        return cls(group, partitions, keys, center, -(-x_max // 2) if s is None else s, x_max)


def coin(s: int) -> int:
    """+s or -s, each with chance 1/2."""
    return s if secrets.randbits(1) else -s


def report(setup: Setup, slot: bytes, user: int, reading: int, noise: int) -> mpz:
    """A meter's ciphertext. ValueError for a reading or noise out of range."""
    if not 0 <= reading <= setup.x_max or abs(noise) > setup.s:
        raise ValueError("reading or noise out of range")
    group = setup.group
    masked = group.power(group.hash(slot), setup.user_keys[user])
    return group.power(group.g, reading + noise + setup.s) * masked % group.p


@dataclass(frozen=True)
class Opened:
    """total: Wh with noise over `covered` users; groups: sums by partition, None where one failed."""

    total: int
    covered: frozenset[int]
    suspects: frozenset[int]
    groups: Sequence[Sequence[int | None]]


class Center:
    """The control centre; the table of small logarithms is made once."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        largest = max(len(members) for p in setup.partitions for members in p)
        self._log = SmallLog(setup.group, largest * (setup.x_max + 2 * setup.s))

    def open(self, slot: bytes, sent: Mapping[int, mpz], *, detect: bool = True) -> Opened:
        """detect: open all partitions; without it the first, and more only when a group fails."""
        partitions = self.setup.partitions
        sums = [[self._sum(slot, sent, 0, at) for at in range(len(partitions[0]))]]
        if detect or None in sums[0]:
            for v in range(1, len(partitions)):
                sums.append([self._sum(slot, sent, v, at) for at in range(len(partitions[v]))])
        suspects = frozenset.intersection(*(self._failing(v, row) for v, row in enumerate(sums)))
        total, covered = max((self._cover(sums, v) for v in range(len(sums))), key=_coverage)
        return Opened(total, covered, suspects, sums)

    def _sum(self, slot: bytes, sent: Mapping[int, mpz], v: int, at: int) -> int | None:
        """The sum of readings and noise of one group; None when it fails."""
        setup, group = self.setup, self.setup.group
        members = setup.partitions[v][at]
        if any(i not in sent for i in members):
            return None
        value = group.power(group.hash(slot), setup.center_keys[v][at])
        for i in members:
            value = value * sent[i] % group.p
        shifted = self._log.find(value)
        if shifted is None or shifted > len(members) * (setup.x_max + 2 * setup.s):
            return None
        return shifted - len(members) * setup.s

    def _failing(self, v: int, sums: Sequence[int | None]) -> frozenset[int]:
        pairs = zip(self.setup.partitions[v], sums, strict=True)
        return frozenset(i for members, value in pairs if value is None for i in members)

    def _cover(
        self, sums: Sequence[Sequence[int | None]], first: int
    ) -> tuple[int, frozenset[int]]:
        """The healthy groups of partition `first`, then those of others that overlap with none."""
        total, covered = 0, set[int]()
        for v in [first, *(v for v in range(len(sums)) if v != first)]:
            for members, value in zip(self.setup.partitions[v], sums[v], strict=True):
                if value is not None and covered.isdisjoint(members):
                    total += value
                    covered.update(members)
        return total, frozenset(covered)


def _coverage(opened: tuple[int, frozenset[int]]) -> int:
    return len(opened[1])


def noise_sd(users: int, s: float) -> float:
    """Standard deviation of the sum of N fair coins of +-s: s sqrt(N), Wh."""
    return s * math.sqrt(users)


def delta_of(users: int, s: int, change: int, epsilon: float) -> float:
    """The least delta for which coins of +-s hide a change of this many Wh at this epsilon.

    The sum lies on a lattice of step 2 s. Any change that is no multiple of it is seen with
    certainty, so over all readings delta is 1 unless 2 s is the unit; on the lattice it is
    sum over j of max(0, P(j) - e^epsilon P(j - change / 2 s)), P binomial.
    """
    if change % (2 * s):
        return 1.0
    shift = change // (2 * s)
    log_p = [
        math.lgamma(users + 1) - math.lgamma(j + 1) - math.lgamma(users - j + 1)
        - users * math.log(2)
        for j in range(users + 1)
    ]  # fmt: skip
    return math.fsum(
        max(0.0, math.exp(p) - (math.exp(epsilon + log_p[j - shift]) if j >= shift else 0.0))
        for j, p in enumerate(log_p)
    )
