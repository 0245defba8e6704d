"""WAV-like: load curves in several resolutions, by a Haar transform with a key for each sub-band.

After Engel, "Wavelet-based load profile representation for smart meter privacy", IEEE ISGT 2013
(the paper's [26]), of which no full text was to be had. What is known, from his ISABEL 2011
abstract and later papers: the Haar wavelet, one key for each resolution, access on a need-to-know
basis. It is access control on *one household's* profile: neither aggregation nor differential
privacy. Chosen here:

- Mode A, `Access`, closest to the citation: AES-256-GCM for each sub-band; the key of a coarser band
  is derived from the finer one's by HKDF, so that a finer key opens all coarser bands and never the
  reverse. Exact: it has no error to speak of.
- Mode B, `Aggregation` (after Engel and Eibl, ISGT Europe 2013): each coefficient under Paillier,
  one key pair for each sub-band, multiplied over the meters. Exact.
- Mode C, `noisy_error`, the only way to an error that can be compared: B with noise on every
  coefficient, split among the meters as ours is.

A reading of 0..Delta enters levels + 1 coefficients with weight +-1, so one reading more or less
moves the coefficients by at most Delta (levels + 1) in L1: that is mode C's sensitivity.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from gmpy2 import mpz

from wattveil.paillier.keys import PrivateKey
from wattveil.paillier.textbook import encrypt_textbook
from wattveil_meter.noise import make_sampler

READINGS, LEVELS = 16, 4  # of one transform: eight hours of half-hours
NONCE = 12

Bands = list[list[Any]]  # coarsest first: A_L, D_L, ..., D_1


def forward(values: Sequence[Any], levels: int) -> Bands:
    """The linear Haar transform: s = a + b, d = a - b, again on the sums. Range: 1 bit a level.

    ValueError unless len(values) is a multiple of 2^levels.
    """
    _check(len(values), levels)
    sums, details = list(values), []
    for _ in range(levels):
        pairs = list(zip(sums[::2], sums[1::2], strict=True))
        details.append([a - b for a, b in pairs])
        sums = [a + b for a, b in pairs]
    return [sums, *reversed(details)]


def inverse(bands: Bands) -> list[Any]:
    """Undo `forward`. Without the finest k bands: the sums of every 2^k readings.

    Whole numbers stay whole; coefficients of no whole readings (noisy ones) give halves as floats.
    """
    sums = list(bands[0])
    for details in bands[1:]:
        sums = [
            x for s, d in zip(sums, details, strict=True) for x in (_half(s + d), _half(s - d))
        ]
    return sums


def lift(values: Sequence[int], levels: int) -> Bands:
    """The reversible integer lifting, d = b - a, s = a + floor(d / 2): no growth, but not linear.

    Sums of lifted coefficients are off by some -1/4 Wh a meter and level: for mode A only.
    """
    _check(len(values), levels)
    means, details = list(values), []
    for _ in range(levels):
        pairs = list(zip(means[::2], means[1::2], strict=True))
        details.append([b - a for a, b in pairs])
        means = [a + (b - a) // 2 for a, b in pairs]
    return [means, *reversed(details)]


def unlift(bands: Bands) -> list[int]:
    """Undo `lift`; without the finest bands: rounded means."""
    means = list(bands[0])
    for details in bands[1:]:
        firsts = [s - d // 2 for s, d in zip(means, details, strict=True)]
        pairs = zip(firsts, details, strict=True)
        means = [x for a, d in pairs for x in (a, a + d)]
    return means


def _check(count: int, levels: int) -> None:
    if levels < 1 or count < 1 or count % (1 << levels):
        raise ValueError(f"{count} readings do not split {levels} times into pairs")


def _half(x: Any) -> Any:
    return x // 2 if isinstance(x, int) and x % 2 == 0 else x / 2


class Access:
    """Mode A. `top` is the 32-byte key K_L of the finest resolution."""

    def __init__(self, top: bytes, levels: int = LEVELS) -> None:
        self.levels = levels
        self._keys = [top]
        for _ in range(levels):
            self._keys.insert(0, coarser(self._keys[0]))

    def key(self, resolution: int) -> bytes:
        """K_r, which opens sub-bands 0..r."""
        return self._keys[resolution]

    def seal(self, values: Sequence[int]) -> list[bytes]:
        """A sealed message for each sub-band, coarsest first."""
        sealed = []
        for index, band in enumerate(lift(values, self.levels)):
            nonce = os.urandom(NONCE)
            plain = struct.pack(f"<{len(band)}q", *band)
            sealed.append(nonce + AESGCM(self._keys[index]).encrypt(nonce, plain, bytes([index])))
        return sealed


def coarser(key: bytes) -> bytes:
    """K_(r-1) from K_r; the other way is a preimage of HKDF."""
    return HKDF(hashes.SHA256(), 32, salt=None, info=b"wav-like down").derive(key)


def open_access(sealed: Sequence[bytes], key: bytes, resolution: int) -> list[int]:
    """What a holder of K_r sees: the readings at r = levels, else means of 2^(levels - r) of them.

    cryptography.exceptions.InvalidTag for a key of another resolution or a changed message.
    """
    bands: Bands = []
    for index in range(resolution, -1, -1):
        nonce, body = sealed[index][:NONCE], sealed[index][NONCE:]
        plain = AESGCM(key).decrypt(nonce, body, bytes([index]))
        bands.insert(0, list(struct.unpack(f"<{len(plain) // 8}q", plain)))
        key = coarser(key)
    return unlift(bands)


class Aggregation:
    """Mode B. One private key for each sub-band, coarsest first."""

    def __init__(self, keys: Sequence[PrivateKey]) -> None:
        if len(keys) < 2:
            raise ValueError("a transform has at least two sub-bands")
        self.keys, self.levels = list(keys), len(keys) - 1

    def encrypt(self, values: Sequence[int]) -> Bands:
        """A meter's upload: one ciphertext for each coefficient, by Paillier's own formula."""
        bands = forward(values, self.levels)
        return [
            [encrypt_textbook(key.public, c) for c in band]
            for key, band in zip(self.keys, bands, strict=True)
        ]

    def aggregate(self, uploads: Iterable[Bands]) -> Bands:
        """The aggregator's products, coefficient by coefficient."""
        uploads = iter(uploads)
        total = [list(band) for band in next(uploads)]
        for upload in uploads:
            for key, sums, band in zip(self.keys, total, upload, strict=True):
                n2 = key.public.n2
                for at, c in enumerate(band):
                    sums[at] = sums[at] * c % n2
        return total

    def decrypt(self, aggregate: Bands) -> list[int]:
        """The sum over the meters of each reading, exactly."""
        return inverse(
            [
                [_signed(key.decrypt(c), key.public.n) for c in band]
                for key, band in zip(self.keys, aggregate, strict=True)
            ]
        )


def _signed(value: mpz, n: mpz) -> int:
    return int(value if 2 * value <= n else value - n)


def noisy_error(meters: int, delta: int, epsilon: Fraction, levels: int, drbg: Any) -> float:
    """Mode C: one draw of the error of one released sum, Wh, by the product's own discrete shares.

    Only the levels + 1 coefficients on that reading's path matter to it: all have noise of scale
    Delta (levels + 1) / epsilon.
    """
    scaled = (meters, epsilon.numerator, epsilon.denominator, delta * (levels + 1))
    share = make_sampler("discrete", *scaled).share
    error = float(sum(share(drbg) for _ in range(meters)))
    for _ in range(levels):  # the reading is the left one of each pair: the signs do not matter
        error = (error + sum(share(drbg) for _ in range(meters))) / 2
    return error


def noisy_sd(delta: int, epsilon: Fraction, levels: int) -> float:
    """Standard deviation of `noisy_error`, Wh, before rounding.

    x = A_L / 2^L +- D_L / 2^L +- ... +- D_1 / 2: variance 2 scale^2 (4^-L + sum of 4^-l).
    """
    weights = 4.0**-levels + sum(4.0**-level for level in range(1, levels + 1))
    return math.sqrt(2 * weights) * float(delta * (levels + 1) / epsilon)
