"""What cloud, centre and dealer cost on this machine: one core, one thread, baselines taken in turns."""

from __future__ import annotations

import hmac
import importlib
import importlib.util
import math
import secrets
import struct
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import gmpy2
from gmpy2 import mpz, powmod

from wattveil.bench.figures import Figure, figure
from wattveil.bench.rig import DAY, METERS, SETTINGS, START, make_key
from wattveil.fleet.provision import provision
from wattveil.fleet.settings import FleetSettings
from wattveil.paillier.ciphertext import from_pair, to_pair
from wattveil.paillier.keys import PrivateKey
from wattveil.paillier.rows import RowFactory
from wattveil.paillier.textbook import encrypt_textbook
from wattveil.roles.suites import suite_of
from wattveil_meter.fields import pack

GAMMA = 20
ROWS = 5  # made by a comb each time its turn comes
WINDOWS = {8: "5 MB of table at 2048 bits", 12: "47 MB of table at 2048 bits"}
PRODUCTS = 1000  # ciphertexts multiplied each turn
SEEDS = 100  # meters the dealer closes each turn
HOST = "host"


def run_host(bits: Sequence[int], repeats: int, progress: Callable[[str], None]) -> list[Figure]:
    """All figures of the host's roles."""
    figures: list[Figure] = []
    for size in bits:
        progress(f"{size} bits: key generation")
        key, keygen = _keygen(size, repeats)
        with tempfile.TemporaryDirectory(prefix="wattveil-bench-") as folder:
            ids = [f"meter{number:02}" for number in range(METERS)]
            settings = FleetSettings(gamma=GAMMA, **SETTINGS)
            fleet = provision(Path(folder, "fleet"), key, ids, settings, emulated=True, day=DAY)
        figures.append(keygen)
        for name, run in (
            ("rows", _rows),
            ("decryption", _decrypt),
            ("aggregation", _aggregate),
            ("dealer", _dealer),
        ):
            progress(f"{size} bits: {name}")
            figures += run(key, fleet.record, repeats)
    return figures


@dataclass
class _Way:
    """One way to do a piece of work: `run` does it `count` times over."""

    run: Callable[[], Any]
    count: int = 1
    us: list[float] = field(default_factory=list)  # for one, each turn
    results: list[Any] = field(default_factory=list)

    @property
    def median(self) -> float:
        return median(self.us)


def _race(repeats: int, *ways: _Way) -> None:
    """Let the ways take turns; every result is kept, to be checked."""
    for _ in range(repeats):
        for way in ways:
            begun = time.perf_counter()
            result = way.run()
            way.us.append((time.perf_counter() - begun) * 1e6 / way.count)
            way.results.append(result)


def _keygen(bits: int, repeats: int) -> tuple[PrivateKey, Figure]:
    ours = _Way(lambda: make_key(bits))
    plain = _Way(lambda: _plain_primes(bits))
    _race(repeats, ours, plain)
    key: PrivateKey
    for key in ours.results:
        key.verify()
    sizes = {key.public.bits for key in ours.results} | {
        (p * q).bit_length() for p, q in plain.results
    }
    return key, figure(
        "key generation",
        HOST,
        bits,
        "ms",
        ours.median / 1000,
        sizes == {bits},
        baseline=plain.median / 1000,
        baseline_is="two random primes that are not safe",
        note="the price of safe primes; single keys vary by a factor of ten",
    )


def _plain_primes(bits: int) -> tuple[mpz, mpz]:
    """Two random primes with the two top bits set, as most Paillier libraries take them."""
    top = 3 << (bits // 2 - 2)
    draw = [gmpy2.next_prime(mpz(top + secrets.randbits(bits // 2 - 2))) for _ in range(2)]
    return draw[0], draw[1]


def _rows(key: PrivateKey, record: Any, repeats: int) -> list[Figure]:
    """Cloud rows against plain g^b r^n, and against `phe` where it is installed."""
    public, bits = key.public, key.public.bits
    hot = secrets.randbelow(GAMMA)
    plain = [int(slot == hot) for slot in range(GAMMA)]
    textbook = _Way(lambda: [encrypt_textbook(public, b) for b in plain], GAMMA)
    combs = {}
    for window in WINDOWS:
        factory = RowFactory(public, mpz(record.h_s), window=window)
        combs[window] = _Way(partial(_some_rows, factory, hot), GAMMA * ROWS)
    ways, peer = [textbook, *combs.values()], None
    if importlib.util.find_spec("phe"):
        phe_key = importlib.import_module("phe").PaillierPublicKey(int(public.n))
        peer = _Way(lambda: [mpz(phe_key.raw_encrypt(b)) for b in plain], GAMMA)
        ways.append(peer)
    _race(repeats, *ways)

    def opens(way: _Way) -> bool:
        opened = [[key.decrypt(c) for c in result] for result in way.results]
        return all(row == plain * (len(row) // GAMMA) for row in opened)

    figures = []
    for window, way in combs.items():
        baselines = [(textbook, "g^b r^n by gmpy2's powmod")]
        if peer:
            baselines.append((peer, "phe"))
        for base, what in baselines:
            target = 45 if base is textbook and bits >= 2048 else None
            note = f"window {window}, {WINDOWS[window]}, r of 256 bits"
            figures.append(
                figure("cloud row, one ciphertext", HOST, bits, "us", way.median,
                       opens(way) and opens(base), gamma=GAMMA, baseline=base.median,
                       baseline_is=what, at_least=target, note=note)
            )  # fmt: skip
    return figures


def _some_rows(factory: RowFactory, hot: int) -> list[mpz]:
    return [c for _ in range(ROWS) for c in factory.row(GAMMA, hot)]


def _decrypt(key: PrivateKey, record: Any, repeats: int) -> list[Figure]:
    n, n2 = key.public.n, key.public.n2
    secret = mpz(secrets.randbelow(int(n)))
    c = encrypt_textbook(key.public, secret)
    order = (key.p - 1) * (key.q - 1)
    inverse = gmpy2.invert(order, n)
    ours = _Way(lambda: key.decrypt(c))
    plain = _Way(lambda: (powmod(c, order, n2) - 1) // n * inverse % n)
    _race(3 * repeats, ours, plain)
    checked = set(ours.results) | set(plain.results) == {secret}
    return [
        figure("decryption", HOST, key.public.bits, "us", ours.median, checked,
               baseline=plain.median, baseline_is="c^lambda mod n^2, not by CRT",
               note="by CRT and in constant time")
    ]  # fmt: skip


def _aggregate(key: PrivateKey, record: Any, repeats: int) -> list[Figure]:
    """Product of ciphertexts: from their wire form as the cloud does it, and alone."""
    public, suite = key.public, suite_of(record)
    factory = RowFactory(public, mpz(record.h_s))
    slots = [c for _ in range(PRODUCTS // GAMMA) for c in factory.row(GAMMA, 0)]
    pairs = [to_pair(c, public) for c in slots]
    share, one = [b"", bytes(public.bytes)], to_pair(1, public)
    n, n2, ints = int(public.n), int(public.n2), [int(c) for c in slots]

    def combined() -> mpz:
        return from_pair(suite.combine(record, public, [one], pairs, share)[0], public)

    wire = _Way(combined, PRODUCTS)
    wire_python = _Way(lambda: _python_product(n, n2, pairs), PRODUCTS)
    alone = _Way(lambda: _product(mpz(1), slots, public.n2), PRODUCTS)
    alone_python = _Way(lambda: _product(1, ints, n2), PRODUCTS)
    _race(repeats, wire, wire_python, alone, alone_python)
    results = {int(c) for way in (wire, wire_python, alone, alone_python) for c in way.results}
    checked = len(results) == 1 and key.decrypt(results.pop()) == PRODUCTS // GAMMA
    return [
        figure(name, HOST, public.bits, "us", ours.median, checked, baseline=base.median,
               baseline_is="the same with Python's int", note=note)
        for name, ours, base, note in (
            ("sum, one ciphertext from the wire", wire, wire_python, "with its checks"),
            ("sum, one ciphertext", alone, alone_python, "multiplication only"),
        )
    ]  # fmt: skip


def _product(start: Any, factors: Sequence[Any], modulus: Any) -> Any:
    for factor in factors:
        start = start * factor % modulus
    return start


def _python_product(n: int, n2: int, pairs: Sequence[bytes]) -> int:
    """What `combine` does to slots, without gmpy2."""
    product, size = 1, len(pairs[0]) // 2
    for pair in pairs:
        low, high = (int.from_bytes(half, "little") for half in (pair[:size], pair[size:]))
        if not 0 < low < n or high >= n or math.gcd(low, n) != 1:
            raise ValueError("not a ciphertext")
        product = product * (low + high * n) % n2
    return product


def _dealer(key: PrivateKey, record: Any, repeats: int) -> list[Figure]:
    """The dealer's closing, a meter; beside PROTOCOL.md's masks written a second time."""
    suite = suite_of(record)
    seeds = [secrets.token_bytes(32) for _ in range(SEEDS)]
    ours = _Way(lambda: suite.share(record, seeds, START), SEEDS)
    plain = _Way(lambda: _plain_share(record, seeds), SEEDS)
    _race(repeats, ours, plain)
    checked = all(share == plain.results[0] for share in ours.results)
    return [
        figure("dealer's share, one meter", HOST, key.public.bits, "us", ours.median, checked,
               baseline=plain.median, baseline_is="the same masks by hmac.new")
    ]  # fmt: skip


def _plain_share(record: Any, seeds: Sequence[bytes]) -> list[bytes]:
    times = struct.pack("<Q", START), struct.pack("<I", record.period_s), struct.pack("<I", DAY)

    def mask(seed: bytes, label: bytes, size: int) -> int:
        out = b""
        for i in range(-(-size // 32)):
            fields = (b"wattveil prf", label, record.fingerprint, *times, struct.pack("<I", i))
            out += hmac.new(seed, pack(*fields), "sha256").digest()
        return int.from_bytes(out[:size], "little")

    k = sum(mask(seed, b"k", 32) for seed in seeds)
    u = -sum(mask(seed, b"u", record.nb + 10) for seed in seeds) % record.n
    return [k.to_bytes(-(-k.bit_length() // 8), "little"), u.to_bytes(record.nb, "little")]
