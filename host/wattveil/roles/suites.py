"""What differs between ciphertext suites, behind one seam; everything else is the same for all.

A suite says how many slots a meter uploads, how the dealer closes a set, how the cloud combines
what came in, and how the centre opens the result. The centre decrypts nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from gmpy2 import mpz, powmod

from wattveil.paillier.ciphertext import from_pair, to_pair
from wattveil.paillier.keys import PrivateKey, PublicKey
from wattveil.roles.common import ConfigError, Record
from wattveil_meter.fields import Malformed, read_uint, uint
from wattveil_meter.masks import mask_k, mask_u, mask_v


class Suite(Protocol):
    """One suite. Seeds, reports and slots are those of the closed set S, in any order."""

    share_fields: int  # fields of the dealer's share, before the certificate
    ciphertexts: int  # what the centre opens: 2 for yan2024

    def slots(self, record: Record) -> int:
        """Slot uploads (SLOT) that belong to one report."""

    def share(self, record: Record, seeds: Sequence[bytes], start: int) -> list[bytes]:
        """The dealer's closing over the meters with these seeds."""

    def combine(
        self,
        record: Record,
        public: PublicKey,
        reports: Iterable[bytes],
        slots: Iterable[bytes],
        share: Sequence[bytes],
    ) -> list[bytes]:
        """The pairs the centre opens, from checked pairs; Malformed for a share that is none."""

    def total(
        self,
        record: Record,
        key: PrivateKey,
        ciphertexts: Sequence[mpz],
        seeds: Sequence[bytes],
        start: int,
    ) -> int:
        """Wh with noise over the meters with these centre seeds, signed, in (-n/2, n/2]."""


def blinds(record: Record, seeds: Sequence[bytes], start: int) -> bytes:
    """U = -sum u_i mod n over the meters with these dealer seeds, nb bytes."""
    u = -sum(int(mask_u(record, seed, start)) for seed in seeds) % record.n
    return u.to_bytes(record.nb, "little")


def unblind(record: Record, public: PublicKey, share: bytes) -> mpz:
    """g^U for a dealer's U; Malformed."""
    u = int.from_bytes(share, "little")
    if len(share) != record.nb or u >= public.n:
        raise Malformed("not a dealer's share")
    return 1 + u * public.n


def product(public: PublicKey, pairs: Iterable[bytes], first: mpz) -> mpz:
    """first times all these pairs, modulo n^2."""
    for pair in pairs:
        first = first * from_pair(pair, public) % public.n2
    return first


class _Opening:
    """How both suites end: D(C1) + D(C2) (Eq. 26-28), or D(T), less sum v_i and O |S|."""

    def total(
        self,
        record: Record,
        key: PrivateKey,
        ciphertexts: Sequence[mpz],
        seeds: Sequence[bytes],
        start: int,
    ) -> int:
        """The sum of what the ciphertexts decrypt to, unmasked: mod n, signed."""
        n = key.public.n
        total = sum((key.decrypt(c) for c in ciphertexts), mpz(0))
        total -= sum(int(mask_v(record, seed, start)) for seed in seeds)
        total = (total - record.offset * len(seeds)) % n
        return int(total if 2 * total <= n else total - n)


class Yan2024(_Opening):
    """The paper's suite, corrected: e_ij for each slot, C_i as the report (Eq. 18-28)."""

    share_fields = 2
    ciphertexts = 2

    def slots(self, record: Record) -> int:
        """gamma: one e_ij for each slot of the row."""
        return record.gamma

    def share(self, record: Record, seeds: Sequence[bytes], start: int) -> list[bytes]:
        """-K = sum k_i over the integers, and U."""
        k = sum(int(mask_k(record, seed, start)) for seed in seeds)
        return [uint(k), blinds(record, seeds, start)]

    def combine(
        self,
        record: Record,
        public: PublicKey,
        reports: Iterable[bytes],
        slots: Iterable[bytes],
        share: Sequence[bytes],
    ) -> list[bytes]:
        """C1 = prod of all e_ij (Eq. 23, 25); C2 = prod of all C_i, times h^K g^U (Eq. 20)."""
        minus_k = read_uint(share[0])
        # A k_i has 256 bits: more than the roster's sum could only cost us time.
        if minus_k.bit_length() > 256 + record.roster_size.bit_length():
            raise Malformed("not a dealer's share")
        closing = unblind(record, public, share[1])
        closing = powmod(mpz(record.h), -minus_k, public.n2) * closing % public.n2
        c1, c2 = product(public, slots, mpz(1)), product(public, reports, closing)
        return [to_pair(c1, public), to_pair(c2, public)]


class Compact(_Opening):
    """The same released value from one ciphertext a meter, T_i; no slots, no h."""

    share_fields = 1
    ciphertexts = 1

    def slots(self, record: Record) -> int:
        """None: T_i carries the noise."""
        return 0

    def share(self, record: Record, seeds: Sequence[bytes], start: int) -> list[bytes]:
        """U alone."""
        return [blinds(record, seeds, start)]

    def combine(
        self,
        record: Record,
        public: PublicKey,
        reports: Iterable[bytes],
        slots: Iterable[bytes],
        share: Sequence[bytes],
    ) -> list[bytes]:
        """T = prod of all T_i, times g^U."""
        t = product(public, reports, unblind(record, public, share[0]))
        return [to_pair(t, public)]


SUITES: dict[str, Suite] = {"yan2024": Yan2024(), "compact": Compact()}


def suite_of(record: Record) -> Suite:
    """The suite a record names; ConfigError when this wattveil has none of that name."""
    try:
        return SUITES[record.suite]
    except KeyError:
        raise ConfigError(f"suite {record.suite} is not known to this wattveil") from None
