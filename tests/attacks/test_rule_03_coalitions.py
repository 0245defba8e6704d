"""Rules 3 and 4: coalitions that hold one meter's ciphertexts and want its reading, no period closed.

Cloud + centre hold e_i1 .. e_i gamma, C_i, the private key and v_i: they decrypt one meter alone. Only
k_i (an honest key) and u_i (any key) stand in the way. Dealer + cloud hold k_i, u_i and the ciphertexts:
C_i / h^(n + k_i) is a power of g, which needs no key to read. There x_ij, encrypted in e_ij, and v_i
stand in the way. Without these masks each coalition reads d_i (+ xi_i) of a meter of its choice.

In suite `compact` there is one ciphertext: u_i alone stands in cloud + centre's way, h_s^(r_i) and v_i in
dealer + cloud's, since T_i without h_s^(r_i) is a power of g too, for rows without randomisers.
"""

from __future__ import annotations

from typing import Any

import pytest
from gmpy2 import mpz

import wattveil_meter.yan2024 as core
from attacks.kit import CORE, START, Bench, Shares
from wattveil.audit.attacks import masks as attack
from wattveil.audit.weak import WEAKNESSES

READING, NOISE = 321, -44
FAR = 1 << 200  # of 256 bits: nowhere near a reading


def cloud_and_center(bench: Bench, k: int = 0, u: int = 0) -> int:
    """Their candidate for d + xi, with the share of the dealer's masks they know."""
    play = bench.meter("meter", Shares([9, NOISE, 9]))
    slots = play.answer(bench.one_hot("row", hot=1))
    return attack.cloud_and_center(bench, slots, play.report(READING), k=k, u=u)


@pytest.mark.parametrize("suite", CORE)
@pytest.mark.parametrize("rule", [False, True])
def test_any_key_holder_opens_one_meter(suite: str, rule: bool) -> None:
    """k_i alone hides nothing from a key holder, sound primes or not: it has 256 bits, n has 512 here and
    2048 in the field, and D(C_i) = d + xi + k D(h) mod n is a small lattice."""
    if rule:
        assert attack.open_one_meter(suite, 6).hits == 0
    else:
        with WEAKNESSES["no-u"].planted():
            assert attack.open_one_meter(suite, 6).hits == 6


@pytest.mark.parametrize("rule", [False, True])
def test_the_centre_and_the_cloud_open_one_meter(
    monkeypatch: pytest.MonkeyPatch, rule: bool
) -> None:
    bench = Bench()
    if not rule:
        monkeypatch.setattr(core, "mask_u", lambda *a: 0)
        monkeypatch.setattr(core, "mask_k", lambda *a: 0)
        assert cloud_and_center(bench) == READING + NOISE
    else:
        k, u, _ = bench.masks()
        assert abs(cloud_and_center(bench)) > FAR
        assert abs(cloud_and_center(bench, k=k)) > FAR  # a key that yields k: u still stands
        assert (
            abs(cloud_and_center(bench, u=u)) > FAR
        )  # k is another 256 bits, of the tiny n's 256
        assert cloud_and_center(bench, k, u) == READING + NOISE  # with the dealer: all three


@pytest.mark.parametrize("rule", [False, True])
def test_the_centre_and_the_cloud_open_one_meter_of_compact(
    monkeypatch: pytest.MonkeyPatch, rule: bool
) -> None:
    if not rule:
        monkeypatch.setattr(CORE["compact"], "mask_u", lambda *a: 0)
    bench = Bench(suite="compact")
    if not rule:
        assert cloud_and_center(bench) == READING + NOISE
    else:
        k, u, _ = bench.masks()
        assert abs(cloud_and_center(bench, k=k)) > FAR
        assert cloud_and_center(bench, u=u) == READING + NOISE  # with the dealer: all three


@pytest.mark.parametrize("masked", ["", "v", "r", "rv"])
def test_the_dealer_and_the_cloud_without_the_centre_in_compact(
    monkeypatch: pytest.MonkeyPatch, masked: str
) -> None:
    """A row g, 1, 1 without randomisers: T_i = g^(d + xi_1 + O + u + v) h_s^r, and s_i cancels."""
    if "v" not in masked:
        monkeypatch.setattr(CORE["compact"], "mask_v", lambda *a: 0)
    bench = Bench(suite="compact")
    play = bench.meter("meter", Shares([NOISE, 5, 6]))
    if "r" not in masked:
        real = type(play.suite._comb).digits
        monkeypatch.setattr(type(play.suite._comb), "digits", lambda self, e: real(self, 0))
    t = play.report_only([1 + bench.n, mpz(1), mpz(1)], READING)
    read = next((e for e in map(bench.exponent, (t, bench.n2 - t)) if e is not None), None)
    if "r" in masked:
        assert read is None
        return
    assert read is not None
    _, u, v = bench.masks()
    opened = bench.signed(read - u - bench.record.offset)
    assert opened == READING + NOISE + (v if masked else 0)


@pytest.mark.parametrize("masked", ["", "x", "v", "xvs"])
def test_the_dealer_and_the_cloud_without_the_centre(
    monkeypatch: pytest.MonkeyPatch, masked: str
) -> None:
    """They read the exponent of C_i / (h^(n + k) g^u) by a division."""
    if "v" not in masked:
        monkeypatch.setattr(core, "mask_v", lambda *a: 0)
    bench = Bench(row_check=int("s" in masked))
    play = bench.meter("meter", Shares([0, 0, 0]))
    if "x" not in masked:
        real = type(play.suite._drbg).below

        def below(self: Any, limit: int) -> int:
            return 0 if limit == bench.record.n else int(real(self, limit))

        monkeypatch.setattr(type(play.suite._drbg), "below", below)
    play.answer(bench.one_hot("row"))
    report = play.report(READING)
    k, u, v = bench.masks()
    read = bench.exponent(bench.strip(report, k))
    assert read is not None
    read = bench.signed(read - u)
    if masked == "":
        assert read == READING
    elif masked == "v":
        assert read == READING + v and read > 1 << 100
    else:
        assert abs(read) > FAR


def test_the_passive_cloud_reads_nothing_even_with_the_other_meters_masks() -> None:
    """5.2.3: what it has of one meter is d - x - s + u + v under h^k, all of them unknown."""
    bench = Bench()
    play = bench.meter("meter", Shares([0, 0, 0]))
    play.answer(bench.one_hot("row"))
    report = play.report(READING)
    assert bench.exponent(report) is None
    assert bench.exponent(bench.strip(report, bench.masks(START + 1800)[0])) is None
    compact = Bench(suite="compact").meter("meter", Shares([0, 0, 0]))
    report = compact.report_only(bench.one_hot("row"), READING)
    assert bench.exponent(report) is None is bench.exponent(bench.n2 - report)
