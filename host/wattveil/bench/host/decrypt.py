"""Decryption, as the centre does it twice a period or once: by CRT, in constant time."""

from __future__ import annotations

import importlib
import importlib.util
import secrets

from gmpy2 import invert, mpz, powmod

from wattveil.bench.host.record import HostPlan, HostRecord, Progress, Way, race, record
from wattveil.paillier.keys import PrivateKey
from wattveil.paillier.textbook import encrypt_textbook


def run_decrypt(key: PrivateKey, plan: HostPlan, progress: Progress) -> list[HostRecord]:
    """One decryption."""
    n, n2 = key.public.n, key.public.n2
    secret = mpz(secrets.randbelow(int(n)))
    c = encrypt_textbook(key.public, secret)
    order = (key.p - 1) * (key.q - 1)
    inverse = invert(order, n)
    ours = Way(lambda: key.decrypt(c))
    ways = {"c^lambda mod n^2": Way(lambda: (powmod(c, order, n2) - 1) // n * inverse % n)}
    if importlib.util.find_spec("phe"):
        phe = importlib.import_module("phe")
        phe_key = phe.PaillierPrivateKey(phe.PaillierPublicKey(int(n)), int(key.p), int(key.q))
        ways[f"phe {phe.__version__}"] = Way(lambda: phe_key.raw_decrypt(int(c)))
    race(3 * plan.repeats, ours, *ways.values())
    checked = {m for way in (ours, *ways.values()) for m in map(int, way.results)} == {int(secret)}
    return [
        record("decrypt", "by CRT", key.public.bits, ours.us, "us", checked, baseline=name,
               baseline_value=way.us)
        for name, way in ways.items()
    ]  # fmt: skip
