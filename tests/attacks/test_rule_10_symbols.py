"""Rule 10: quadratic characters. Decryption does not see them, so they must not carry xi.

The attackers' programs, and how they work, are in wattveil.audit.attacks.symbols. Seeds are fixed;
frequencies are held to 6 standard deviations.
"""

from __future__ import annotations

import io
from typing import Any

import pytest
from gmpy2 import jacobi, legendre, powmod

import support
from attacks.kit import Bench, drbg
from wattveil.audit.attacks.symbols import (
    parities,
    read_by_symbol,
    row_for_key_holder,
    row_of_symbol,
    upload,
)

TRIES = 300
BOTH = [("yan2024", 1), ("compact", 1), ("compact", 0)]  # suite, row check
both = pytest.mark.parametrize(("suite", "check"), BOTH)


def agreement(read: list[int], parity: list[int]) -> int:
    return sum(a == b for a, b in zip(read, parity, strict=True))


@both
def test_a_base_of_symbol_one_gives_the_parity(suite: str, check: int) -> None:
    square = powmod(3, 2 * support.N, support.N2)
    bench = Bench(h_s=square, suite=suite, row_check=check)
    shares, parity = parities(bench, TRIES)
    row = row_of_symbol(bench, -1)
    read = read_by_symbol(bench, row, shares)
    assert read == parity  # 300 of 300


@both
def test_an_odd_r_gives_the_parity(
    monkeypatch: pytest.MonkeyPatch, suite: str, check: int
) -> None:
    bench = Bench(suite=suite, row_check=check)
    real = type(drbg(0)).bits

    def bits(self: Any, count: int) -> int:
        drawn = int(real(self, count))
        return drawn | 1 if count == bench.record.randomiser_bits else drawn

    shares, parity = parities(bench, TRIES)
    monkeypatch.setattr(type(drbg(0)), "bits", bits)
    row = row_of_symbol(bench, -1)
    read = [1 - bit for bit in read_by_symbol(bench, row, shares)]
    assert read == parity


@pytest.mark.parametrize("symbol", [1, -1])
@both
def test_the_symbol_says_nothing(suite: str, check: int, symbol: int) -> None:
    bench = Bench(suite=suite, row_check=check)
    shares, parity = parities(bench, TRIES)
    row = row_of_symbol(bench, symbol)
    read = read_by_symbol(bench, row, shares)
    assert abs(agreement(read, parity) - TRIES / 2) < 6 * (TRIES / 4) ** 0.5
    assert abs(sum(read) - TRIES / 2) < 6 * (TRIES / 4) ** 0.5


@pytest.mark.parametrize("rule", [False, True])
@both
def test_the_characters_of_the_key_holder(suite: str, check: int, rule: bool) -> None:
    """Cloud + centre: the prime for which h_s is a square shows the parity, but for the sign."""
    bench = Bench(suite=suite, row_check=check)
    if not rule:
        finish = bench.ring.finish
        bench.ring.finish = lambda x, exponent, negative=False: finish(x, exponent)
    p, q = bench.key.p, bench.key.q
    row, blind = row_for_key_holder(bench)  # h_s^r is always a square there
    other = q if blind == p else p
    assert legendre(bench.h_s % other, other) == -1
    shares, parity = parities(bench, TRIES)
    uploads = [upload(bench, row, i, xi) for i, xi in enumerate(shares)]
    read = [int(legendre(e % blind, blind) == -1) for e in uploads]
    if not rule:
        assert read == parity
        return
    # no pair of characters is commoner for one parity than for the other
    cells = [0] * 8
    for e, bit in zip(uploads, parity, strict=True):
        chi = [int(legendre(e % prime, prime) == -1) for prime in (p, q)]
        cells[4 * bit + 2 * chi[0] + chi[1]] += 1
    for bit in (0, 1):
        size = sum(cells[4 * bit : 4 * bit + 4])
        for count in cells[4 * bit : 4 * bit + 4]:
            assert abs(count - size / 4) < 6 * (size * 3 / 16) ** 0.5


def test_the_clouds_own_rows_have_no_fixed_symbol() -> None:
    """The real RowFactory: were only the 1 of symbol -1, the position b would be public."""
    from wattveil.paillier.rows import RowFactory

    bench = Bench()
    source = drbg("cloud")
    rows = RowFactory(bench.key.public, bench.h_s, 256, 8, lambda size: bytes(source.bytes(size)))
    minus = [0, 0]
    for _ in range(TRIES):
        for j, c in enumerate(rows.row(2, 0)):
            minus[j] += jacobi(c % bench.n, bench.n) == -1
    assert all(abs(count - TRIES / 2) < 6 * (TRIES / 4) ** 0.5 for count in minus)


def test_a_base_of_symbol_one_never_reaches_a_meter_or_a_cloud() -> None:
    """Tables are pinned by the record; a cloud refuses to draw rows with such an h_s."""
    from wattveil.paillier.rows import RowFactory

    bench = Bench()
    square = powmod(bench.h_s, 2, bench.n2)
    with pytest.raises(ValueError, match="symbol"):
        RowFactory(bench.key.public, square)
    record = support.record()
    table = support.table(b"s", pow(support.H_S, 2, support.N2), 1)
    files = {"h": io.BytesIO(support.TABLE_H), "s": io.BytesIO(table)}
    package = support.Package(record.raw, support.secrets())
    args = (
        support.MemoryStorage(support.seeds()),
        support.Sensor({}),
        support.ManualClock(),
        bytes(64),
    )
    meter = support.Meter(package, files, *args, ("t", "0", ""), bench.ring)
    assert "not one the record allows" in meter._about[2]  # it says so and takes no part
    assert not meter._combs.get("s")
