"""One period's rows, made ahead by the row factory: what is left to do when the meters ask."""

from __future__ import annotations

import secrets
import time
from functools import partial
from hashlib import sha256

from gmpy2 import mpz

from wattveil.bench.host.record import HostPlan, HostRecord, Progress, Way, opens_to, race, record
from wattveil.bench.host.rows import FLEET, exponents
from wattveil.bench.rig import START
from wattveil.paillier.ciphertext import from_pair
from wattveil.paillier.factory import RowPool
from wattveil.paillier.group import group_nonresidue
from wattveil.paillier.keys import PrivateKey
from wattveil.paillier.rows import Row, RowRecipe
from wattveil.paillier.textbook import encrypt_textbook
from wattveil_meter import wire
from wattveil_meter.wire import Channel

METERS = 500
PAPER_MS = (
    4000.0  # the paper's figure for m = 500, gamma = 20; its machine and key size are not told
)
LEVEL = "short"
FILL_S = 600.0
SOME = 5  # plain encryptions each turn

Answers = list[list[bytes]]  # of each meter, by slot


def run_period(key: PrivateKey, plan: HostPlan, progress: Progress) -> list[HostRecord]:
    """From a full pool to ROW_IS payloads, and on to sealed frames; all meters of one period."""
    public, gamma, meters = key.public, plan.gamma, plan.meters or METERS
    base = group_nonresidue(public.n, FLEET, 1)
    recipe = RowRecipe(public, base, gamma, exponents(public.bits)[LEVEL])
    channels = [
        Channel(secrets.token_bytes(32), FLEET, wire.CLOUD, number, False, bytes(32), 1)
        for number in range(1, meters + 1)
    ]
    plain = Way(lambda: [encrypt_textbook(public, 1) for _ in range(SOME)], SOME)
    pack, seal = Way(lambda: None), Way(lambda: None)
    checked = True
    with RowPool(recipe, plan.processes, meters) as pool:
        fill = Way(partial(_fill, pool))
        for _ in range(plan.repeats):
            _fill(pool)
            taken: list[Row] = []
            pack.run = partial(_pack, pool, meters, 2 * public.bytes, taken)
            race(1, pack)
            race(1, fill, clock=time.perf_counter)
            race(1, plain)
            seal.run = partial(_seal, channels, pack.results[-1])
            race(1, seal)
            checked &= _right(key, taken, pack.results.pop(), seal.results.pop())
    checked &= all(key.decrypt(c) == 1 for made in plain.results for c in made)
    checked &= pool.made_inline == 0
    count = meters * gamma
    by_hand = "g^b r^n, computed from some encryptions", plain.us * count / 1000
    paper = ("the paper's 4 s", PAPER_MS) if (meters, gamma) == (METERS, 20) else None
    both = pack.us + seal.us
    stages = [("pool to payloads", pack.us), ("pool to sealed frames", both)]
    records = [
        record("period", stage, public.bits, us / 1000, "ms", checked, gamma=gamma, meters=meters,
               level=LEVEL, baseline=name, baseline_value=value)
        for stage, us in stages
        for name, value in filter(None, (paper, by_hand))
    ]  # fmt: skip
    return [
        *records,
        record("period", "made ahead", public.bits, fill.us / 1000, "ms", checked, gamma=gamma,
               meters=meters, processes=plan.processes, level=LEVEL),
    ]  # fmt: skip


def _fill(pool: RowPool) -> None:
    end = time.monotonic() + FILL_S
    while len(pool) < pool.capacity:
        if time.monotonic() > end:
            raise RuntimeError("the row factory does not fill its pool")
        time.sleep(0.001)


def _pack(pool: RowPool, meters: int, size: int, taken: list[Row]) -> Answers:
    """Every payload of ROW_IS: u16 slot, the row's hash, one pair."""
    answers: Answers = []
    for _ in range(meters):
        row = pool.take()
        digest = sha256(row.data).digest()
        answers.append([
            slot.to_bytes(2, "little") + digest + row.data[at : at + size]
            for slot, at in enumerate(range(0, len(row.data), size), 1)
        ])  # fmt: skip
        taken.append(row)
    return answers


def _seal(channels: list[Channel], answers: Answers) -> list[list[bytes]]:
    """The frames, as the cloud gives them to its links."""
    return [
        [channel.seal(wire.ROW_IS, payload, START, 1) for payload in payloads]
        for channel, payloads in zip(channels, answers, strict=True)
    ]


def _right(key: PrivateKey, rows: list[Row], answers: Answers, frames: list[list[bytes]]) -> bool:
    """Whether all payloads open to one-hot rows, and every frame carries its payload's bytes."""
    ciphertexts: list[mpz] = []
    plain: list[int] = []
    for row, payloads in zip(rows, answers, strict=True):
        for slot, payload in enumerate(payloads):
            ciphertexts.append(from_pair(payload[2 + 32 :], key.public))
            plain.append(int(slot == row.hot))
    unique = len({int(c) for c in ciphertexts}) == len(ciphertexts)
    sizes = {len(frame) for sealed in frames for frame in sealed}
    whole = sizes == {wire.HEADER_BYTES + len(answers[0][0]) + wire.TAG_BYTES}
    return unique and whole and opens_to(key, ciphertexts, plain)
