"""Paillier keys: decryption, homomorphism, the conditions on the primes, sizes, fingerprints."""

import hashlib
import struct

import pytest
from gmpy2 import gcd, is_prime, jacobi, mpz, next_prime
from hypothesis import given, settings
from hypothesis import strategies as st

from wattveil.paillier.keys import (
    InvalidKey,
    NotACiphertext,
    PrivateKey,
    PublicKey,
    check_bits,
    generate,
)
from wattveil.paillier.primes import _survivors, is_safe_prime, safe_prime
from wattveil.paillier.textbook import encrypt_textbook

KEY = generate(512, insecure_test_key=True)
PUBLIC = KEY.public
N = int(PUBLIC.n)
plaintexts = st.integers(0, N - 1) | st.integers(0, 3) | st.integers(N - 3, N - 1)
few = settings(max_examples=40, deadline=None)


@pytest.fixture(scope="module")
def real_key() -> PrivateKey:
    return generate(2048)


@few
@given(plaintexts)
def test_decryption_inverts_encryption(m: int) -> None:
    assert KEY.decrypt(encrypt_textbook(PUBLIC, m)) == m


@few
@given(plaintexts, plaintexts, st.integers(0, N))
def test_products_add_and_powers_multiply(a: int, b: int, k: int) -> None:
    c = encrypt_textbook(PUBLIC, a) * encrypt_textbook(PUBLIC, b) % PUBLIC.n2
    assert KEY.decrypt(c) == (a + b) % N
    scaled = pow(int(encrypt_textbook(PUBLIC, a)), k, int(PUBLIC.n2))
    assert KEY.decrypt(scaled) == a * k % N


@few
@given(st.integers(-(N // 2), N // 2))
def test_signed_residues(m: int) -> None:
    assert KEY.decrypt_signed(encrypt_textbook(PUBLIC, m)) == m


def test_signed_residues_wrap_at_half_of_n() -> None:
    half = N // 2
    assert KEY.decrypt_signed(encrypt_textbook(PUBLIC, half)) == half
    assert KEY.decrypt_signed(encrypt_textbook(PUBLIC, half + 1)) == -half


def test_decryption_agrees_with_the_definition() -> None:
    """m = L(c^lambda) / L(g^lambda), without CRT and in plain Python integers."""
    p, q, n = int(KEY.p), int(KEY.q), N
    lam = (p - 1) * (q - 1) // 2
    c = int(encrypt_textbook(PUBLIC, 123456789))
    m = (pow(c, lam, n * n) - 1) // n * pow((pow(1 + n, lam, n * n) - 1) // n, -1, n) % n
    assert m == 123456789 == KEY.decrypt(c)


@pytest.mark.parametrize(
    "c",
    [0, -1, N, N * N, N * N + 1, int(KEY.p), 5 * int(KEY.q), N * (N - 1), -N * N + 1],
    ids=["0", "-1", "n", "n2", "n2+1", "p", "5q", "n(n-1)", "1-n2"],
)
def test_what_is_no_ciphertext_is_refused(c: int) -> None:
    assert not PUBLIC.is_ciphertext(c)
    with pytest.raises(NotACiphertext):
        KEY.decrypt(c)
    with pytest.raises(NotACiphertext):
        KEY.decrypt_signed(mpz(c))


def test_the_ends_of_the_group_are_ciphertexts() -> None:
    assert KEY.decrypt(1) == 0
    assert KEY.decrypt(PUBLIC.n2 - 1) == 0
    assert KEY.decrypt(1 + PUBLIC.n) == 1


def test_textbook_refuses_plaintexts_out_of_range() -> None:
    for m in (N, -(N // 2) - 1):
        with pytest.raises(ValueError, match="plaintext"):
            encrypt_textbook(PUBLIC, m)


def check_djn(key: PrivateKey, bits: int) -> None:
    p, q = key.p, key.q
    assert key.public.n == p * q
    assert key.public.bits == bits
    assert key.public.bytes * 8 == bits
    for prime in (p, q):
        assert prime.bit_length() == bits // 2
        assert prime % 4 == 3
        assert is_prime(prime)
        assert is_prime((prime - 1) // 2)
    assert gcd(p - 1, q - 1) == 2
    assert abs(p - q).bit_length() > bits // 2 - 100
    assert jacobi(-1, key.public.n) == 1
    assert jacobi(-1, p) == -1


@pytest.mark.parametrize("bits", [256, 320, 384, 448, 512])
def test_djn_conditions(bits: int) -> None:
    for _ in range(3):
        key = generate(bits, insecure_test_key=True)
        check_djn(key, bits)
        key.verify()


def test_a_real_key(real_key: PrivateKey) -> None:
    check_djn(real_key, 2048)
    c = encrypt_textbook(real_key.public, -1234)
    assert real_key.decrypt_signed(c) == -1234


def test_generation_reports_progress_and_is_random() -> None:
    counts: list[int] = []
    key = generate(256, counts.append, insecure_test_key=True)
    assert counts == list(range(1, len(counts) + 1))
    assert counts
    assert key != generate(256, insecure_test_key=True)


def test_safe_primes_of_odd_sizes() -> None:
    for bits in (64, 65, 101):
        p = safe_prime(bits)
        assert p.bit_length() == bits
        assert p * p >= 1 << (2 * bits - 1)
        assert is_prime(p)
        assert is_prime(p >> 1)
    with pytest.raises(ValueError, match="at least 64"):
        safe_prime(63)


def test_the_sieve_strikes_out_exactly_what_has_a_small_factor() -> None:
    limit, steps = 60, 500
    s0 = mpz(10**30 // 6 * 6 + 5)
    small = [r for r in range(5, limit) if is_prime(r)]
    for shift in range(0, 6000, 600):
        alive = _survivors(s0 + shift, steps, limit)
        candidates = [s0 + shift + 6 * i for i in range(steps)]
        assert list(alive) == [
            int(all(s % r and (2 * s + 1) % r for r in small)) for s in candidates
        ]
        assert 0 < sum(alive) < steps


def test_small_safe_primes_are_told_apart() -> None:
    safe = [p for p in range(6, 400) if is_safe_prime(mpz(p))]
    assert safe == [7, 11, 23, 47, 59, 83, 107, 167, 179, 227, 263, 347, 359, 383]


def prime_3_mod_4(start: mpz) -> mpz:
    p = next_prime(start)
    while p % 4 != 3 or is_prime(p >> 1):
        p = next_prime(p)
    return p


def test_primes_that_break_the_conditions_are_refused() -> None:
    p, q = KEY.p, KEY.q
    one_mod_4 = next_prime(q)
    while one_mod_4 % 4 != 1:
        one_mod_4 = next_prime(one_mod_4)
    short = generate(384, insecure_test_key=True).q
    cases = [(p, p, "equal"), (p, short, "length"), (-p, -q, "short"), (p, one_mod_4, "3 mod 4")]
    cases += [(p, prime_3_mod_4(p), "close")]
    for a, b, reason in cases:
        with pytest.raises(InvalidKey, match=reason) as caught:
            PrivateKey(a, b)
        assert str(a) not in str(caught.value)
        assert f"{a:x}" not in str(caught.value)


def test_a_common_factor_of_p_minus_1_and_q_minus_1_is_refused() -> None:
    r = next_prime(mpz(1) << 64)

    def prime_with_factor(start: mpz) -> mpz:
        """The first prime 2*r*k + 1, k odd, from `start`: r divides it less one."""
        p = start // (4 * r) * 4 * r + 2 * r + 1
        while not is_prime(p):
            p += 4 * r
        return p

    with pytest.raises(InvalidKey, match=r"gcd\(p - 1, q - 1\)"):
        PrivateKey(prime_with_factor(mpz(13) << 252), prime_with_factor(mpz(15) << 252))


def test_verify_finds_primes_that_are_not_safe() -> None:
    start = mpz(3) << 254
    while True:
        try:
            key = PrivateKey(KEY.p, prime_3_mod_4(start))
        except InvalidKey:
            start += 1 << 200
            continue
        break
    with pytest.raises(InvalidKey, match="q is not a safe prime"):
        key.verify()


def test_public_keys_of_odd_shapes_are_refused() -> None:
    for n in (0, -N, N - 1, N >> 1, (1 << 192) - 1, (1 << 257) - 1):
        with pytest.raises(InvalidKey):
            PublicKey(mpz(n))


def test_fingerprint() -> None:
    label, n_le = b"wattveil public key", N.to_bytes(64, "little")
    fields = struct.pack("<I", len(label)) + label + struct.pack("<I", 64) + n_le
    assert PUBLIC.fingerprint == hashlib.sha256(fields).digest()
    assert PublicKey(mpz(N)) == PUBLIC
    assert hash(PublicKey(mpz(N))) == hash(PUBLIC)


def test_repr_hides_the_primes() -> None:
    for text in (repr(KEY), str(KEY), f"{KEY}", repr([KEY])):
        for secret in (KEY.p, KEY.q):
            assert str(secret) not in text
            assert f"{secret:x}" not in text
    assert PUBLIC.fingerprint.hex() in repr(PUBLIC)


def test_sizes() -> None:
    for bits in (2048, 3072, 4096):
        assert check_bits(bits) is None
    warning = check_bits(1024)
    assert warning is not None
    assert "demonstrations only" in warning
    for bits in range(256, 1024, 64):
        assert check_bits(bits, insecure_test_key=True) is None
        with pytest.raises(ValueError, match="insecure_test_key"):
            check_bits(bits)
    for bits in (-2048, 0, 192, 255, 500, 1025, 1088, 1536, 2047, 8192):
        for flag in (False, True):
            with pytest.raises(ValueError, match="use 2048"):
                check_bits(bits, flag)
    with pytest.raises(ValueError, match="insecure_test_key"):
        generate(512)
