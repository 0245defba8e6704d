"""Encryptions of row bits on one core: ours at each level, plain g^b r^n, and other libraries'."""

from __future__ import annotations

import importlib
import importlib.util
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from gmpy2 import mpz

from wattveil.bench.host.record import HostPlan, HostRecord, Progress, Way, opens_to, race, record
from wattveil.paillier.ciphertext import from_pair
from wattveil.paillier.group import group_nonresidue
from wattveil.paillier.keys import PrivateKey
from wattveil.paillier.rows import Row, RowRecipe
from wattveil.paillier.textbook import encrypt_textbook

FLEET = b"wv bench"
ROWS = 5  # of ours each turn
PLAIN = 10  # encryptions of a baseline each turn
PEER_BITS = 2048  # what pypaillier and sf-heu ask for


@dataclass
class _Peer:
    """Another way to encrypt a list of bits; `opens` decrypts what `encrypt` made."""

    name: str
    encrypt: Callable[[list[int]], Any]
    opens: Callable[[Any, list[int]], bool]


def run_rows(key: PrivateKey, plan: HostPlan, progress: Progress) -> list[HostRecord]:
    """One encrypted bit, from random bytes to the pair on the wire."""
    public, gamma = key.public, plan.gamma
    bits = [secrets.randbelow(2) for _ in range(PLAIN)]
    peers = [(peer, Way(partial(peer.encrypt, bits), PLAIN)) for peer in _peers(key, progress)]
    ours = {}
    for level, exponent in exponents(public.bits).items():
        recipe = RowRecipe(public, group_nonresidue(public.n, FLEET, 1), gamma, exponent)
        factory = recipe.factory()
        factory.draw(gamma)
        ours[level] = Way(partial(_rows, factory.draw, gamma), gamma * ROWS)
    race(plan.repeats, *ours.values(), *(way for _, way in peers))
    right = {peer.name: all(peer.opens(made, bits) for made in way.results) for peer, way in peers}
    records = []
    for level, way in ours.items():
        opened = all(rows_open(key, rows) for rows in way.results)
        records += [
            record("rows", "one encryption", public.bits, way.us, "us", opened and right[peer.name],
                   gamma=gamma, level=level, baseline=peer.name, baseline_value=other.us)
            for peer, other in peers
        ]  # fmt: skip
    return records


def exponents(bits: int) -> dict[str, int]:
    """Bits of the randomisers' exponents at each level."""
    return {"short": 256, "half": bits // 2, "full": bits + 80}


def rows_open(key: PrivateKey, rows: list[Row]) -> bool:
    """Whether each row is one-hot where it says."""
    size = 2 * key.public.bytes
    pairs = [row.data[at : at + size] for row in rows for at in range(0, len(row.data), size)]
    plain = [int(at == row.hot) for row in rows for at in range(len(row.data) // size)]
    return opens_to(key, [from_pair(pair, key.public) for pair in pairs], plain)


def _rows(draw: Callable[[int], Row], gamma: int) -> list[Row]:
    return [draw(gamma) for _ in range(ROWS)]


def _peers(key: PrivateKey, progress: Progress) -> list[_Peer]:
    public = key.public

    def opens(made: list[mpz], bits: list[int]) -> bool:
        return [key.decrypt(c) for c in made] == bits

    found = [
        _Peer("g^b r^n by gmpy2", lambda bits: [encrypt_textbook(public, b) for b in bits], opens)
    ]
    if importlib.util.find_spec("phe"):
        phe = importlib.import_module("phe")
        phe_key = phe.PaillierPublicKey(int(public.n))
        version = phe.__version__
        found.append(
            _Peer(
                f"phe {version}", lambda bits: [mpz(phe_key.raw_encrypt(b)) for b in bits], opens
            )
        )
    if public.bits >= PEER_BITS:  # these two make their own keys
        found += [peer for peer in (_heu(public.bits, progress), _pypaillier(public.bits)) if peer]
    return found


def _heu(bits: int, progress: Progress) -> _Peer | None:
    if not importlib.util.find_spec("heu"):
        return None
    progress(f"{bits} bits: rows: a key of sf-heu")
    phe = importlib.import_module("heu.phe")
    kit = phe.setup(phe.SchemaType.ZPaillier, bits)
    encryptor, decryptor = kit.encryptor(), kit.decryptor()
    return _Peer(
        "sf-heu ZPaillier, r of |n|/2 bits",
        lambda plain: [encryptor.encrypt_raw(b) for b in plain],
        lambda made, plain: [decryptor.decrypt_raw(c) for c in made] == plain,
    )


def _pypaillier(bits: int) -> _Peer | None:
    if not importlib.util.find_spec("paillier"):
        return None
    paillier = importlib.import_module("paillier")
    public, secret = paillier.generate_keypair(bits)
    return _Peer(
        "pypaillier, r of |n|/2 bits",
        lambda plain: paillier.encrypt_integers(public, plain),
        lambda made, plain: [int(m) for m in paillier.decrypt_many(secret, made)] == plain,
    )
