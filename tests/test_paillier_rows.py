"""The cloud's rows: one-hot, fresh, of either sign and symbol; and the ciphertexts' wire form."""

import os
import pickle
from collections.abc import Callable

import pytest
from gmpy2 import jacobi, mpz, powmod
from hypothesis import given, settings
from hypothesis import strategies as st

from wattveil.paillier.ciphertext import NotACiphertext, from_pair, pair_bytes, to_pair
from wattveil.paillier.group import group_element, group_nonresidue
from wattveil.paillier.keys import generate
from wattveil.paillier.rows import InlineRows, RowFactory, RowRecipe
from wattveil.paillier.textbook import encrypt_textbook

KEY = generate(512, insecure_test_key=True)
PUBLIC = KEY.public
N, N2 = PUBLIC.n, PUBLIC.n2
H_S = group_nonresidue(N, b"fleet-01", 1)
FACTORY = RowFactory(PUBLIC, H_S)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 24), st.data())
def test_rows_are_one_hot_and_multiply_to_an_encryption_of_one(
    gamma: int, data: st.DataObject
) -> None:
    hot = data.draw(st.integers(0, gamma - 1))
    row = FACTORY.row(gamma, hot)
    assert [KEY.decrypt(c) for c in row] == [int(j == hot) for j in range(gamma)]
    product = mpz(1)
    for c in row:
        assert PUBLIC.is_ciphertext(c)
        product = product * c % N2
    assert KEY.decrypt(product) == 1


def test_encryptions_are_fresh() -> None:
    assert len({*FACTORY.row(50, 0), *FACTORY.row(50, 0)}) == 100
    assert KEY.decrypt(FACTORY.zero()) == 0
    assert KEY.decrypt(FACTORY.one()) == 1


def test_both_symbols_and_both_signs_occur() -> None:
    """The symbol over n shows r's parity; the sign hides the characters mod p and mod q."""
    seen = {(jacobi(c, N), jacobi(c, KEY.p)) for c in (FACTORY.zero() for _ in range(200))}
    assert seen == {(1, 1), (1, -1), (-1, 1), (-1, -1)}


def test_the_symbol_says_nothing_about_the_plaintext() -> None:
    for make in (FACTORY.zero, FACTORY.one):
        assert {jacobi(make(), N) for _ in range(100)} == {1, -1}


def scripted(data: bytes) -> Callable[[int], bytes]:
    rest = bytearray(data)

    def randbytes(count: int) -> bytes:
        drawn = bytes(rest[:count])
        del rest[:count]
        return drawn

    return randbytes


@pytest.mark.parametrize(
    ("bits", "window"), [(256, 8), (256, 12), (256, 5), (255, 8), (9, 4), (8, 8), (1, 1), (3, 16)]
)
def test_every_random_bit_counts_once(bits: int, window: int) -> None:
    size = bits // 8 + 1
    for number in range(12):
        data = os.urandom(size) if number > 1 else bytes([255 * number]) * size
        drawn = int.from_bytes(data, "little")
        r, minus = drawn % (1 << bits), drawn >> bits & 1
        factory = RowFactory(PUBLIC, H_S, bits, window, scripted(data))
        expected = powmod(H_S, r, N2)
        assert factory.zero() == (N2 - expected if minus else expected)


def test_each_slot_of_a_row_uses_its_own_bytes() -> None:
    data = os.urandom(33 * 4)
    row = RowFactory(PUBLIC, H_S, randbytes=scripted(data)).row(4, 2)
    again = RowFactory(PUBLIC, H_S, randbytes=scripted(data))
    assert row == [again.zero(), again.zero(), again.one(), again.zero()]


def test_a_short_random_source_is_an_error() -> None:
    with pytest.raises(RuntimeError):
        RowFactory(PUBLIC, H_S, randbytes=scripted(b"12345")).zero()


def test_hot_positions_are_exactly_uniform() -> None:
    for gamma, data, share in (
        (20, bytes(range(256)), 8),
        (1, b"", None),
        (256, bytes(range(256)), 1),
        (300, b"".join(x.to_bytes(2, "little") for x in range(1 << 16)), 128),
    ):
        factory = RowFactory(PUBLIC, H_S, 8, 8, scripted(data))
        if share is None:
            assert factory.draw_hot(gamma) == 0
            continue
        counts = [0] * gamma
        for _ in range(share * gamma):
            counts[factory.draw_hot(gamma)] += 1
        assert counts == [share] * gamma


def test_factory_refusals() -> None:
    for bits, window in ((0, 8), (-1, 8), (256, 0), (256, 17)):
        with pytest.raises(ValueError, match="window"):
            RowFactory(PUBLIC, H_S, bits, window)
    for h_s in (mpz(0), N, H_S * H_S % N2, N2 + H_S):
        with pytest.raises(ValueError, match="Jacobi"):
            RowFactory(PUBLIC, h_s)
    for gamma, hot in ((0, 0), (5, 5), (5, -1)):
        with pytest.raises(ValueError, match="hot"):
            FACTORY.row(gamma, hot)
    with pytest.raises(ValueError, match="slot"):
        FACTORY.draw_hot(0)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 24), st.sampled_from((256, 512, 592)))
def test_drawn_rows_are_one_hot_where_they_say(gamma: int, exponent_bits: int) -> None:
    """At each level: |n|/2 and |n| + 80 bits of the key here, and 256."""
    rows = InlineRows(RowRecipe(PUBLIC, H_S, gamma, exponent_bits))
    taken = [rows.take() for _ in range(2)]
    for row in taken:
        pairs = [row.data[at : at + 128] for at in range(0, len(row.data), 128)]
        opened = [KEY.decrypt(from_pair(pair, PUBLIC)) for pair in pairs]
        assert opened == [int(at == row.hot) for at in range(gamma)]
    assert taken[0].data != taken[1].data
    assert str(taken[0].hot) not in repr(taken[0]) and "data" not in repr(taken[0])


def test_a_row_drawn_is_the_row_made_from_the_same_bytes() -> None:
    data = b"\2" + os.urandom(33 * 4)
    row = RowFactory(PUBLIC, H_S, randbytes=scripted(data)).draw(4)
    again = RowFactory(PUBLIC, H_S, randbytes=scripted(data[1:])).row(4, 2)
    assert row.hot == 2 and row.data == b"".join(to_pair(c, PUBLIC) for c in again)


def test_recipe_refusals() -> None:
    assert pickle.loads(pickle.dumps(RowRecipe(PUBLIC, H_S, 5, 256))).row_bytes == 5 * 128
    for gamma, bits in ((0, 256), (5, 0)):
        with pytest.raises(ValueError, match="at least one"):
            RowRecipe(PUBLIC, H_S, gamma, bits)
    with pytest.raises(ValueError, match="Jacobi"):
        RowRecipe(PUBLIC, H_S * H_S % N2, 5, 256)


ciphertexts = st.integers(1, int(N2) - 1).map(mpz).filter(PUBLIC.is_ciphertext)


@settings(max_examples=60, deadline=None)
@given(ciphertexts)
def test_pairs_round_trip(c: mpz) -> None:
    data = to_pair(c, PUBLIC)
    assert len(data) == pair_bytes(PUBLIC) == 128
    low, high = int.from_bytes(data[:64], "little"), int.from_bytes(data[64:], "little")
    assert low == c % N
    assert high == c // N
    assert from_pair(data, PUBLIC) == from_pair(memoryview(data), PUBLIC) == c


def test_pairs_of_real_ciphertexts() -> None:
    for c in (FACTORY.one(), encrypt_textbook(PUBLIC, 5), group_element(N, b"fleet-01", 1)):
        assert KEY.decrypt(from_pair(to_pair(c, PUBLIC), PUBLIC)) == KEY.decrypt(c)


def pair(low: int, high: int) -> bytes:
    return low.to_bytes(64, "little") + high.to_bytes(64, "little")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "128 bytes"),
        (bytes(127), "128 bytes"),
        (pair(1, 0) + b"\0", "128 bytes"),
        (pair(0, 0), "zero"),
        (pair(0, 5), "zero"),
        (pair(int(N), 0), "below n"),
        (pair(1, int(N)), "below n"),
        (pair(int(N) + 1, 0), "below n"),
        (b"\xff" * 128, "below n"),
        (pair(int(KEY.p), 1), "invertible"),
        (pair(3 * int(KEY.q), 0), "invertible"),
    ],
)
def test_pairs_that_are_no_ciphertext_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(NotACiphertext, match=reason):
        from_pair(data, PUBLIC)


def test_numbers_out_of_range_have_no_pair() -> None:
    for c in (0, -1, N2, N2 + 1):
        with pytest.raises(NotACiphertext):
            to_pair(c, PUBLIC)
