"""Comb tables: every entry, header field and power against plain exponentiation."""

import hashlib

import pytest
from gmpy2 import mpz, powmod
from hypothesis import given, settings
from hypothesis import strategies as st

from wattveil.paillier.group import group_element
from wattveil.paillier.keys import generate
from wattveil.paillier.tables import InvalidTable, build_table, parse, power

KEY = generate(256, insecure_test_key=True)
N, N2 = KEY.public.n, KEY.public.n2
H = group_element(N, b"fleet-01", 1)
H_N = powmod(H, N, N2)
SHAPES = [(256, 8, 2), (256, 8, 4), (255, 7, 3), (257, 4, 1), (40, 1, 1), (40, 1, 40)]
SHAPES += [(13, 5, 2), (13, 5, 3), (5, 8, 2), (1, 1, 1), (30, 3, 4), (17, 3, 5), (336, 8, 2)]


@pytest.mark.parametrize(("bits", "teeth", "blocks"), SHAPES)
def test_powers(bits: int, teeth: int, blocks: int) -> None:
    data = build_table(b"h", H, N, bits, teeth, blocks, H_N)
    top = (1 << bits) - 1
    exponents = {0, 1, top, top >> 1, top - (top >> 1), top // 3, 0x5DEECE66D % (top + 1)}
    exponents |= {1 << i for i in range(0, bits, 7)}
    for e in exponents:
        assert power(data, N, e) == powmod(H, e, N2), e
    for e in (-1, top + 1):
        with pytest.raises(ValueError, match="exponent"):
            power(data, N, e)


TABLE = parse(build_table(b"s", H, N, 200, 6, 3, 1), N)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, (1 << 200) - 1))
def test_powers_of_any_exponent(e: int) -> None:
    assert TABLE.power(e) == powmod(H, e, N2)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 6), st.integers(1, 5), st.data())
def test_any_shape(bits: int, teeth: int, blocks: int, data: st.DataObject) -> None:
    e = data.draw(st.integers(0, (1 << bits) - 1))
    assert power(build_table(b"s", H, N, bits, teeth, blocks, 1), N, e) == powmod(H, e, N2)


def test_every_byte_of_a_file() -> None:
    """The file, read with plain Python integers only, is what the format says."""
    bits, teeth, blocks, n, h = 50, 4, 3, int(N), int(H)
    data = build_table(b"h", H, N, bits, teeth, blocks, H_N)
    nb = 32
    assert data[:6] == b"WVT1h\x01"
    assert data[6:12] == bytes([teeth, blocks, bits, 0, nb, 0])
    assert data[12:32] == bytes(20)
    assert data[32:64] == hashlib.sha256(n.to_bytes(nb, "little")).digest()
    assert len(data) == 64 + 2 * nb * (1 + blocks * 2**teeth)
    a, b = 13, 5
    expected = [int(H_N)]
    for j in range(blocks):
        for u in range(2**teeth):
            e = sum(2 ** (i * a + j * b) for i in range(teeth) if u >> i & 1)
            expected.append(pow(h, e, n * n))
    for index, element in enumerate(expected):
        entry = data[64 + 2 * nb * index :][: 2 * nb]
        t0, factor = int.from_bytes(entry[:nb], "little"), int.from_bytes(entry[nb:], "little")
        assert t0 < n
        assert factor < n
        assert t0 == element % n
        assert t0 * (1 + n * factor) % (n * n) == element


def test_parsed_fields() -> None:
    table = parse(build_table(b"h", H, N, 50, 4, 3, H_N), N)
    assert (table.name, table.teeth, table.blocks, table.exponent_bits) == (b"h", 4, 3, 50)
    assert (table.columns, table.columns_per_block) == (13, 5)
    assert table.constant == H_N
    assert TABLE.constant == 1
    assert table.entry(0, 0) == table.entry(2, 0) == 1
    assert table.entry(0, 1) == H
    for j, u in ((3, 0), (-1, 0), (0, 16), (0, -1)):
        with pytest.raises(IndexError):
            table.entry(j, u)


def test_files_are_reproducible() -> None:
    again = build_table(b"s", H, N, 200, 6, 3, 1)
    assert again == TABLE.data


def test_damaged_files_are_refused() -> None:
    data = build_table(b"s", H, N, 20, 3, 2, 1)
    other = generate(256, insecure_test_key=True).public.n
    wrong = [(data[:63], N), (data[:-1], N), (data + b"\0", N), (data, other), (data, N * other)]
    for at in [*range(8), *range(10, 32), 40, 63]:
        wrong.append((data[:at] + bytes([data[at] ^ 0x80]) + data[at + 1 :], N))
    wrong.append((data[:8] + bytes(2) + data[10:], N))
    for damaged, n in wrong:
        with pytest.raises(InvalidTable):
            parse(damaged, n)


def test_arguments_out_of_range_are_refused() -> None:
    good: dict[str, object] = {"name": b"h", "base": H, "n": N, "constant": 1}
    good |= {"exponent_bits": 20, "teeth": 3, "blocks": 2}
    bad: list[dict[str, object]] = [
        {"name": b"x"},
        {"name": b"hs"},
        {"teeth": 0},
        {"teeth": 13},
        {"blocks": 0},
        {"blocks": 256},
        {"exponent_bits": 0},
        {"exponent_bits": 65536},
        {"base": mpz(0)},
        {"base": N2 + 1},
        {"base": KEY.p},
        {"constant": N},
        {"n": N >> 3},
    ]
    assert build_table(**good)  # type: ignore[arg-type]
    for change in bad:
        with pytest.raises(ValueError, match=r"."):
            build_table(**{**good, **change})  # type: ignore[arg-type]
