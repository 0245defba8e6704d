"""HashToGroup against a plain-Python reading of the specification, and Jacobi symbol facts."""

import hashlib
import math
import struct

import pytest
from gmpy2 import is_prime, jacobi, mpz

from wattveil.paillier.group import group_element, group_nonresidue, stream
from wattveil.paillier.keys import generate

KEY = generate(512, insecure_test_key=True)
N = KEY.public.n
FLEET = b"fleet-01"

# A product of two safe primes, fixed so that the answers below never change unnoticed.
FIXED_N = mpz("ae5df795c839faec95603a267b16ec836de966baf5aa2d8e5589e7e5d36d5b91", 16)


def plain_stream(n: int, epoch: int, label: bytes, ctr: int, nbytes: int) -> bytes:
    out = b""
    i = 0
    while len(out) < nbytes:
        fields = [b"wattveil group", n.to_bytes((n.bit_length() + 7) // 8, "little"), FLEET]
        fields += [struct.pack("<I", epoch), label, struct.pack("<I", ctr), struct.pack("<I", i)]
        data = b"".join(struct.pack("<I", len(field)) + field for field in fields)
        out += hashlib.sha256(data).digest()
        i += 1
    return out[:nbytes]


def test_stream() -> None:
    for nbytes in (0, 1, 31, 32, 33, 144, 1040):
        expected = plain_stream(int(N), 7, b"h", 3, nbytes)
        assert stream(N, FLEET, 7, b"h", 3, nbytes) == expected


@pytest.mark.parametrize("epoch", [0, 1, 2, 2**32 - 1])
def test_group_element(epoch: int) -> None:
    n = int(N)
    expected = int.from_bytes(plain_stream(n, epoch, b"h", 0, (2 * 512 + 128) // 8), "little")
    h = group_element(N, FLEET, epoch)
    assert h == expected % (n * n)
    assert KEY.public.is_ciphertext(h)


def test_group_element_skips_multiples_of_a_factor() -> None:
    n = 3 * 5 * 7 * 11 * 13  # small factors: many counters fail
    skipped = 0
    for epoch in range(20):
        h = group_element(mpz(n), FLEET, epoch)
        ctr = 0
        while True:
            nbytes = (2 * n.bit_length() + 128 + 7) // 8
            x = int.from_bytes(plain_stream(n, epoch, b"h", ctr, nbytes), "little") % (n * n)
            if math.gcd(x, n) == 1:
                break
            ctr += 1
        skipped += ctr
        assert h == x
    assert skipped


def test_group_nonresidue() -> None:
    n = int(N)
    counters = set()
    for epoch in range(8):
        ctr = 0
        while True:
            data = plain_stream(n, epoch, b"hs", ctr, (512 + 128) // 8)
            x = int.from_bytes(data, "little") % n
            if jacobi(x, n) == -1:
                break
            assert jacobi(x, n) == 1
            ctr += 1
        counters.add(ctr)
        h_s = group_nonresidue(N, FLEET, epoch)
        assert h_s == pow(x, n, n * n)
        assert jacobi(h_s, N) == -1
        assert KEY.decrypt(h_s) == 0
    assert len(counters) > 1 or counters == {0}


def test_the_sign_keeps_plaintext_and_symbol_but_flips_both_characters() -> None:
    h_s = group_nonresidue(N, FLEET, 1)
    for c in (h_s, h_s * h_s % KEY.public.n2):
        minus = KEY.public.n2 - c
        assert KEY.decrypt(minus) == KEY.decrypt(c) == 0
        assert jacobi(minus, N) == jacobi(c, N)
        assert jacobi(minus, KEY.p) == -jacobi(c, KEY.p)
        assert jacobi(minus, KEY.q) == -jacobi(c, KEY.q)


def test_every_input_separates() -> None:
    other = generate(512, insecure_test_key=True).public.n
    seen = {
        group_element(N, FLEET, 1),
        group_element(N, FLEET, 2),
        group_element(N, b"fleet-02", 1),
        group_element(N, FLEET, 1, b"h2"),
        group_element(other, FLEET, 1),
    }
    assert len(seen) == 5


def test_fixed_answers() -> None:
    n = FIXED_N
    assert n.bit_length() == 256
    answers = {
        group_element: "9d095a872da7b5efd16142917dc0c5c2fd4175fe421e4299b04926b565aed047",
        group_nonresidue: "c454903ceac6637e3e9b03b275de01fcd41d03141249d9936bbf2c3271f9761e",
    }
    for make, digest in answers.items():
        element = make(n, FLEET, 20260101).to_bytes(64, "little")
        assert hashlib.sha256(element).hexdigest() == digest


def test_arguments_out_of_range_are_refused() -> None:
    for fleet in (b"", b"1234567", b"123456789"):
        with pytest.raises(ValueError, match="8 bytes"):
            group_element(N, fleet, 1)
    for epoch in (-1, 1 << 32):
        with pytest.raises(ValueError, match="32-bit"):
            group_nonresidue(N, FLEET, epoch)
    for n in (mpz(0), -N, N + 1):
        with pytest.raises(ValueError, match="odd"):
            group_element(n, FLEET, 1)


def test_a_square_modulus_does_not_hang() -> None:
    assert is_prime(KEY.p)
    with pytest.raises(ValueError, match="Jacobi"):
        group_nonresidue(KEY.p * KEY.p, FLEET, 1)
