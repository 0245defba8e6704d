"""Quadratic characters: decryption does not see them, so they must not carry xi.

e_ij = B^(xi + O) g^x h_s^r: its Jacobi symbol is J(B)^(xi + O) J(h_s)^r, computed without any key. A cloud
that sends B of symbol -1 reads the parity of xi when h_s is a square, or when r is always odd. The key
holder sees both characters chi_p, chi_q; h_s moves one of them only, so without the random sign the
other one gives the parity.

T_i of suite compact carries every slot at once: a cloud sends one B of symbol -1 among pairs of symbol 1
and reads the parity of its xi, plus that of s_i, which it takes out by two such B: parity of the sum.
"""

from __future__ import annotations

from typing import Any

from gmpy2 import jacobi, mpz, powmod

from wattveil.audit.attacks.score import Score
from wattveil.audit.bench import Bench, Shares, drbg


def row_of(bench: Bench, x: int) -> list[Any]:
    """A row that encrypts 1, 0, 0, with x^n where its symbol would tell a parity."""
    row = bench.one_hot("row")
    if bench.record.suite == "compact":
        row = [1 + bench.n, mpz(1), mpz(1)]
        if bench.record.row_check:
            row[2] = powmod(x, bench.n, bench.n2)
    row[1] = powmod(x, bench.n, bench.n2)
    return row


def row_of_symbol(bench: Bench, symbol: int) -> list[Any]:
    """The same with an x of the Jacobi symbol given."""
    x = 2
    while jacobi(x, bench.n) != symbol:
        x += 1
    return row_of(bench, x)


def row_for_key_holder(bench: Bench) -> tuple[list[Any], mpz]:
    """A row for the prime modulo which h_s^r is always a square, and that prime."""
    p, q = bench.key.p, bench.key.q
    blind = p if jacobi(bench.h_s % p, p) == 1 else q
    x = 2
    while jacobi(x, blind) != -1:
        x += 1
    return row_of(bench, x), blind


def upload(bench: Bench, row: list[Any], i: int, xi: int) -> Any:
    """e_i2, or T_i, of a meter whose second share is xi."""
    play = bench.meter(("symbol", i), Shares([0, xi, 0]))
    slots = play.answer(row)
    return slots[1] if slots else play.report(5)


def parities(bench: Bench, tries: int) -> tuple[list[int], list[int]]:
    """Shares, and the parity of xi + O, which the attackers do not have."""
    source = drbg("shares")
    shares = [source.below(2001) - 1000 for _ in range(tries)]
    return shares, [(xi + bench.record.offset) & 1 for xi in shares]


def read_by_symbol(bench: Bench, row: list[Any], shares: list[int]) -> list[int]:
    """1 where the symbol of the upload is -1."""
    return [
        int(jacobi(upload(bench, row, i, xi) % bench.n, bench.n) == -1)
        for i, xi in enumerate(shares)
    ]


def parity_by_symbol(suite: str, tries: int, odd: bool = False) -> Score:
    """The cloud reads the parity of xi; odd: it expects r to be odd, so that h_s^r has symbol -1."""
    bench = Bench(suite=suite)
    shares, parity = parities(bench, tries)
    read = read_by_symbol(bench, row_of_symbol(bench, -1), shares)
    return Score.of((bit ^ odd) == true for bit, true in zip(read, parity, strict=True))


def parity_by_characters(suite: str, tries: int) -> Score:
    """Cloud + centre read it from chi at the prime for which h_s is a square."""
    bench = Bench(suite=suite)
    shares, parity = parities(bench, tries)
    row, blind = row_for_key_holder(bench)
    uploads = [upload(bench, row, i, xi) for i, xi in enumerate(shares)]
    read = [int(jacobi(e % blind, blind) == -1) for e in uploads]
    return Score.of(bit == true for bit, true in zip(read, parity, strict=True))
