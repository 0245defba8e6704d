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


class Yan2024:
    """The paper's suite, corrected: e_ij for each slot, C_i as the report (Eq. 18-28)."""

    share_fields = 2
    ciphertexts = 2

    def slots(self, record: Record) -> int:
        """gamma: one e_ij for each slot of the row."""
        return record.gamma

    def share(self, record: Record, seeds: Sequence[bytes], start: int) -> list[bytes]:
        """-K = sum k_i over the integers, and U = -sum u_i mod n (nb bytes)."""
        k = sum(int(mask_k(record, seed, start)) for seed in seeds)
        u = -sum(int(mask_u(record, seed, start)) for seed in seeds) % record.n
        return [uint(k), u.to_bytes(record.nb, "little")]

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
        u = int.from_bytes(share[1], "little")
        # A k_i has 256 bits: more than the roster's sum could only cost us time.
        bits = 256 + record.roster_size.bit_length()
        if minus_k.bit_length() > bits or len(share[1]) != record.nb or u >= public.n:
            raise Malformed("not a dealer's share")
        n2 = public.n2
        c1 = mpz(1)
        for pair in slots:
            c1 = c1 * from_pair(pair, public) % n2
        c2 = powmod(mpz(record.h), -minus_k, n2) * (1 + u * public.n) % n2
        for pair in reports:
            c2 = c2 * from_pair(pair, public) % n2
        return [to_pair(c1, public), to_pair(c2, public)]

    def total(
        self,
        record: Record,
        key: PrivateKey,
        ciphertexts: Sequence[mpz],
        seeds: Sequence[bytes],
        start: int,
    ) -> int:
        """D(C1) + D(C2) - sum v_i - O |S| mod n, signed (Eq. 26-28)."""
        n = key.public.n
        total = sum((key.decrypt(c) for c in ciphertexts), mpz(0))
        total -= sum(int(mask_v(record, seed, start)) for seed in seeds)
        total = (total - record.offset * len(seeds)) % n
        return int(total if 2 * total <= n else total - n)


SUITES: dict[str, Suite] = {"yan2024": Yan2024()}


def suite_of(record: Record) -> Suite:
    """The suite a record names; ConfigError when this wattveil has none of that name."""
    try:
        return SUITES[record.suite]
    except KeyError:
        raise ConfigError(f"suite {record.suite} is not known to this wattveil") from None
