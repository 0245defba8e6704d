"""Rule 10: quadratic characters. Decryption does not see them, so they must not carry xi.

e_ij = B^(xi + O) g^x h_s^r: its Jacobi symbol is J(B)^(xi + O) J(h_s)^r, computed without any key. A cloud
that sends B of symbol -1 reads the parity of xi when h_s is a square, or when r is always odd. The key
holder sees both characters chi_p, chi_q; h_s moves one of them only, so without the random sign the
other one gives the parity. Seeds are fixed; frequencies are held to 6 standard deviations.
"""

from __future__ import annotations

import io
from typing import Any

import pytest
from gmpy2 import jacobi, legendre, powmod

import support
from attacks.kit import Bench, Shares, drbg
from wattveil_meter.fields import Malformed

TRIES = 300


def row_of_symbol(bench: Bench, symbol: int) -> list[Any]:
    """An honest-looking row (1 at the first slot) whose second pair has the Jacobi symbol given."""
    row = bench.one_hot("row")
    x = 2
    while jacobi(x, bench.n) != symbol:
        x += 1
    row[1] = powmod(x, bench.n, bench.n2)
    return row


def upload(bench: Bench, row: list[Any], i: int, xi: int) -> Any:
    """e_i2 of a meter whose second share is xi."""
    play = bench.meter(("symbol", i), Shares([0, xi, 0]))
    return play.answer(row)[1]


def agreement(read: list[int], parity: list[int]) -> int:
    return sum(a == b for a, b in zip(read, parity, strict=True))


def parities(bench: Bench) -> tuple[list[int], list[int]]:
    """Shares, and the parity of xi + O, both known to the test only."""
    source = drbg("shares")
    shares = [source.below(2001) - 1000 for _ in range(TRIES)]
    return shares, [(xi + bench.record.offset) & 1 for xi in shares]


def test_a_base_of_symbol_one_gives_the_parity() -> None:
    square = powmod(3, 2 * support.N, support.N2)
    bench = Bench(h_s=square)
    shares, parity = parities(bench)
    row = row_of_symbol(bench, -1)
    read = [
        int(jacobi(upload(bench, row, i, xi) % bench.n, bench.n) == -1)
        for i, xi in enumerate(shares)
    ]
    assert read == parity  # 300 of 300


def test_an_odd_r_gives_the_parity(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    real = type(drbg(0)).bits

    def bits(self: Any, count: int) -> int:
        drawn = int(real(self, count))
        return drawn | 1 if count == bench.record.randomiser_bits else drawn

    shares, parity = parities(bench)
    monkeypatch.setattr(type(drbg(0)), "bits", bits)
    row = row_of_symbol(bench, -1)
    read = [
        int(jacobi(upload(bench, row, i, xi) % bench.n, bench.n) == 1)
        for i, xi in enumerate(shares)
    ]
    assert read == parity


@pytest.mark.parametrize("symbol", [1, -1])
def test_the_symbol_says_nothing(symbol: int) -> None:
    bench = Bench()
    shares, parity = parities(bench)
    row = row_of_symbol(bench, symbol)
    read = [
        int(jacobi(upload(bench, row, i, xi) % bench.n, bench.n) == -1)
        for i, xi in enumerate(shares)
    ]
    assert abs(agreement(read, parity) - TRIES / 2) < 6 * (TRIES / 4) ** 0.5
    assert abs(sum(read) - TRIES / 2) < 6 * (TRIES / 4) ** 0.5


@pytest.mark.parametrize("rule", [False, True])
def test_the_characters_of_the_key_holder(rule: bool) -> None:
    """Cloud + centre: the prime for which h_s is a square shows the parity, but for the sign."""
    bench = Bench()
    if not rule:
        finish = bench.ring.finish
        bench.ring.finish = lambda x, exponent, negative=False: finish(x, exponent)
    p, q = bench.key.p, bench.key.q
    blind = p if legendre(bench.h_s % p, p) == 1 else q  # h_s^r is always a square there
    other = q if blind == p else p
    assert legendre(bench.h_s % other, other) == -1
    row = bench.one_hot("row")
    x = 2
    while legendre(x, blind) != -1:
        x += 1
    row[1] = powmod(x, bench.n, bench.n2)
    shares, parity = parities(bench)
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
    args = (support.MemoryStorage(), support.Sensor({}), support.ManualClock(), bytes(64))
    with pytest.raises(Malformed, match="not one the record allows"):
        support.Meter(package, files, *args, ("t", "0", ""), bench.ring)
