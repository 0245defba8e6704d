"""What a coalition of roles learns of one meter, said and, in the demo, computed.

The table is PROTOCOL.md's and the paper's 5.2; the numbers come from one meter's real ciphertexts
and exactly what the coalition holds, by the roles' own code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gmpy2 import mpz

from wattveil.fleet.packages import SEEDS_BIN, MeterSeeds
from wattveil.fleet.provision import Fleet
from wattveil.paillier.ciphertext import from_pair
from wattveil.paillier.keys import PrivateKey
from wattveil.roles.seeds import day_of
from wattveil.roles.suites import suite_of

CLOUD, CENTER, DEALER = "cloud", "center", "dealer"


@dataclass(frozen=True)
class Row:
    """What a set of roles holds, learns, and must not learn."""

    holds: str
    learns: str
    never: str


_CLOUD = "every ciphertext, the public key, the chosen slots b, who reported when"
_CENTER = (
    "the private key, the centre masks v, the two (compact: one) ciphertexts of the whole set"
)
_DEALER = "the dealer masks u (and k), the set that reported"
TABLE: dict[frozenset[str], Row] = {
    frozenset(): Row(
        "the private key, and a meter's ciphertexts as the cloud got them",
        "one number modulo n, uniform because of the mask u",
        "the reading, the noise",
    ),
    frozenset({CLOUD}): Row(
        _CLOUD,
        "who reports and when, and which slot counts; if it cheats with its rows, no more than the "
        "odds of the row check",
        "any reading, any noise share, the parity of a share, the total",
    ),
    frozenset({CENTER}): Row(
        _CENTER,
        "the noisy total of at least a quorum, and which meters are in it",
        "one honest reading, beyond ε",
    ),
    frozenset({DEALER}): Row(_DEALER, "which meters reported, period by period", "any number"),
    frozenset({CLOUD, CENTER}): Row(
        f"{_CLOUD}; {_CENTER}",
        "for a set of at least the quorum: the total, and, if the cloud's rows cheat, the total "
        "without the meters' noise (own noise, --own-noise, stays)",
        "any one reading: the mask u is missing",
    ),
    frozenset({CLOUD, DEALER}): Row(
        f"{_CLOUD}; {_DEALER}",
        "nothing new: they can take the masks u off, under an encryption they cannot open",
        "any reading: the key and the mask v are missing",
    ),
    frozenset({CENTER, DEALER}): Row(
        f"{_CENTER}; {_DEALER}",
        "the noisy totals; with a tap that also breaks the link's encryption they are all three",
        "any one reading, while the meters' links are encrypted: no ciphertext of one meter",
    ),
    frozenset({CLOUD, CENTER, DEALER}): Row(
        "everything but what stays in the meter",
        "every reading, each with that meter's own noise share, mostly close to zero: this is the "
        "boundary of trust, so the three belong to three owners",
        "",
    ),
}


def of(roles: frozenset[str]) -> Row:
    """What these roles together hold and learn; KeyError for a role there is not."""
    return TABLE[roles]


@dataclass(frozen=True)
class Seen:
    """One meter's ciphertexts in one period, from the cloud's status (Period.shown)."""

    start: int
    meter: int
    slots: list[bytes]
    report: bytes

    @classmethod
    def parse(cls, shown: dict[str, Any]) -> Seen:
        """From its JSON."""
        slots = [bytes.fromhex(slot) for slot in shown["slots"]]
        return cls(shown["start"], shown["meter"], slots, bytes.fromhex(shown["report"]))


class Eyes:
    """What is computed with the demo's keys, one method for each holder."""

    def __init__(self, fleet: Fleet, key: PrivateKey) -> None:
        self._record, self._key = fleet.record, key
        self._suite = suite_of(fleet.record)
        files = [fleet.meters[name].files[SEEDS_BIN] for name in fleet.roster]
        self._seeds = [MeterSeeds.read(file) for file in files]  # as they were provisioned

    def thief(self, seen: Seen) -> int:
        """With the private key, all of one meter's ciphertexts multiplied and opened: 0 <= x < n."""
        n2, product = self._key.public.n2, mpz(1)
        for pair in (*seen.slots, seen.report):
            product = product * from_pair(pair, self._key.public) % n2
        return int(self._key.decrypt(product))

    def cloud_and_center(self, seen: Seen) -> int:
        """The thief's number without the centre mask v and the offset: 0 <= x < n."""
        share = [bytes(self._record.nb)] * self._suite.share_fields  # the dealer's would be K, U
        if self._suite.share_fields > 1:
            share[0] = b""
        return self._open(seen, share) % int(self._key.public.n)

    def all_three(self, seen: Seen) -> int:
        """d + ξ of this one meter, Wh: dealer, cloud and centre close a set of one."""
        dealer, _ = self._seeds[seen.meter - 1].at(day_of(seen.start))
        return self._open(seen, self._suite.share(self._record, [dealer], seen.start))

    def _open(self, seen: Seen, share: list[bytes]) -> int:
        record, public = self._record, self._key.public
        pairs = self._suite.combine(record, public, [seen.report], seen.slots, share)
        opened = [from_pair(pair, public) for pair in pairs]
        _, center = self._seeds[seen.meter - 1].at(day_of(seen.start))
        return self._suite.total(record, self._key, opened, [center], seen.start)

    def share_of_n(self, value: int) -> float:
        """Where a number modulo n lies between 0 and 1."""
        return float(mpz(value) * 10**9 // self._key.public.n) / 1e9
