"""Checks what ciphertexts are made of: prf, ratchet, group, table, noise and drbg.json."""

from __future__ import annotations

import io
from typing import Any

from gmpy2 import invert, jacobi, mpz, powmod

from wattveil.paillier.group import group_element, group_nonresidue, stream
from wattveil.paillier.keys import PublicKey
from wattveil.paillier.tables import FORM_UNIT_PAIR, build_table
from wattveil.paillier.tables import power as table_power
from wattveil.roles.seeds import Seed, Seeds
from wattveil.vectors.reader import Vector, Wrong
from wattveil_meter import masks
from wattveil_meter.cipher import Comb, power, table_digest
from wattveil_meter.drbg import Drbg
from wattveil_meter.kernels.montgomery import Montgomery
from wattveil_meter.kernels.portable import Portable
from wattveil_meter.noise import make_sampler


def check_prf(vector: Vector) -> None:
    """The masks of one period, and the bytes that u is made of."""
    record, seed, start = vector.record(), vector.data("seed"), vector.integer("start")
    vector.expect("bytes_u", masks.prf(seed, b"u", record, start, record.nb + 10))
    vector.expect_number("u", masks.mask_u(record, seed, start))
    vector.expect_number("k", masks.mask_k(record, seed, start))
    vector.expect_number("v", masks.mask_v(record, seed, start))


def check_ratchet(vector: Vector) -> None:
    """A day's seed, and the masks it gives for periods of that day and of others."""
    record = vector.record()
    seeds = Seeds([Seed(vector.integer("day"), vector.data("seed"))])
    for operation in vector.operations():
        operation.expect("do", "masks")
        start = operation.integer("start")
        found = operation.attempt(seeds.of, [1], start)
        if found is None:
            continue
        operation.expect("day_seed", found[0])
        operation.expect_number("u", masks.mask_u(record, found[0], start))
        operation.expect_number("k", masks.mask_k(record, found[0], start))
        operation.expect_number("v", masks.mask_v(record, found[0], start))


def check_group(vector: Vector) -> None:
    """h and h_s with the counters at which they were found, and that x keeps rule 10."""
    n, fleet, epoch = mpz(vector.number("n")), vector.data("fleet"), vector.integer("key_epoch")
    vector.expect_number("h", group_element(n, fleet, epoch))
    vector.expect_number("h_s", group_nonresidue(n, fleet, epoch))
    ctr, size = vector.integer("h_counter"), -(-(2 * n.bit_length() + 128) // 8)
    h = int.from_bytes(stream(n, fleet, epoch, b"h", ctr, size), "little") % (n * n)
    vector.expect_number("h", h)
    ctr, size = vector.integer("h_s_counter"), -(-(n.bit_length() + 128) // 8)
    x = int.from_bytes(stream(n, fleet, epoch, b"hs", ctr, size), "little") % n
    vector.expect_number("x", x)
    if jacobi(mpz(x), n) != -1 or not PublicKey(n).is_ciphertext(vector.number("h_s")):
        raise Wrong("x or h_s breaks rule 10")


def check_table(vector: Vector) -> None:
    """A table built again, and its powers; or a damaged one that is refused."""
    if "base" not in vector:
        data, modulus = vector.tables.get(vector.data("sha256")), mpz(vector.number("n"))
        if data is None:
            raise Wrong("its table is not in the file")
        for operation in vector.operations():
            operation.expect("do", "open")
            at, patch = operation.integer("at"), operation.data("bytes")
            bad = data[:at] + patch + data[at + len(patch) :]
            operation.attempt(Comb, io.BytesIO(bad), Portable(modulus), b"h")
        return
    n, base = mpz(vector.number("n")), mpz(vector.number("base"))
    name = vector.text("name")[:1].encode()
    bits, teeth, blocks = (vector.integer(key) for key in ("bits", "teeth", "blocks"))
    form = vector.integer("form")
    constant = powmod(base, n, n * n) if name == b"h" else mpz(1)
    file = build_table(name, base, n, bits, teeth, blocks, constant, form)
    vector.expect("sha256", table_digest(io.BytesIO(file)))
    if "entries" in vector:
        size = 2 * (n.bit_length() // 8)
        for entry in vector.operations("entries"):
            at = 64 + size * entry.integer("index")
            entry.expect("bytes", file[at : at + size])
        return
    vector.expect("file", file)
    vector.expect_number("constant", constant)
    ring = Portable(n) if form == FORM_UNIT_PAIR else montgomery(n)
    comb = Comb(io.BytesIO(file), ring, name)
    for operation in vector.operations():
        operation.expect("do", "power")
        e = operation.number("exponent")
        value = operation.attempt(_comb_power, ring, comb, e)
        if value is not None:
            operation.expect_number("value", value)
            if form == FORM_UNIT_PAIR:  # the only one the reference evaluator reads
                operation.expect_number("value", table_power(file, n, e))


def montgomery(n: mpz) -> Any:
    """A kernel that reads tables of form 2, its machine code played by plain integers."""
    n2, nb = n * n, n.bit_length() // 8
    inverse = invert(mpz(1) << 8 * nb, n2)

    def value(pair: bytes) -> mpz:
        return mpz.from_bytes(pair[:nb], "little") + n * mpz.from_bytes(pair[nb:], "little")

    def multiply(out: bytearray, x: bytes, y: bytes, ctx: bytes) -> None:
        high, low = divmod(value(bytes(x)) * value(bytes(y)) * inverse % n2, n)
        out[:] = low.to_bytes(nb, "little") + high.to_bytes(nb, "little")

    return Montgomery(n, "plain", multiply)


def _comb_power(ring: Any, comb: Any, exponent: int) -> int:
    return value_of(ring, returned(power(ring, [], comb, exponent)))


def value_of(ring: Any, element: Any) -> int:
    """A kernel's element as an integer modulo n^2."""
    pair, nb = ring.finish(element, 0), ring.nb
    low, high = (int.from_bytes(half, "little") for half in (pair[:nb], pair[nb:]))
    return low + high * int(ring.n)


def returned(steps: Any) -> Any:
    """The value a generator returns."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def check_noise(vector: Vector) -> None:
    """Shares of noise, and the bits that the generator gives after them."""
    kind = vector.text("noise")
    if kind == "gamma":
        vector.expect("float_bits", 64)
    epsilon = (vector.integer("epsilon_num"), vector.integer("epsilon_den"))
    sampler = make_sampler(kind, vector.integer("a"), *epsilon, vector.integer("delta"))
    drbg = Drbg(vector.data("entropy"))
    count = len(vector.integers("shares"))
    vector.expect("shares", [sampler.share(drbg) for _ in range(count)])
    vector.expect("next_16_bits", drbg.bits(16))


def check_drbg(vector: Vector) -> None:
    """The generator's answers to a list of calls."""
    if "entropy" not in vector:
        for operation in vector.operations():
            operation.expect("do", "instantiate")
            entropy = operation.data("entropy")
            operation.attempt(Drbg, entropy)
        return
    seeds = [vector.data(key) for key in ("entropy", "nonce", "personalization")]
    drbg = Drbg(*seeds)
    for operation in vector.operations():
        do = operation.text("do")
        if do == "bytes":
            size = operation.integer("size")
            operation.expect("result", operation.attempt(drbg.bytes, size))
        elif do == "bits":
            count = operation.integer("count")
            got = operation.attempt(drbg.bits, count)
            operation.expect_number("result", got)
        elif do == "below":
            limit = operation.number("limit")
            got = operation.attempt(drbg.below, limit)
            operation.expect_number("result", got)
        elif do == "reseed":
            entropy = operation.data("entropy")
            operation.attempt(drbg.reseed, entropy)
        else:
            raise Wrong(f"unknown operation {do}")
