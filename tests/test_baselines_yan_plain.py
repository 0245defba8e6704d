"""The paper's formulas by plain powers open to readings plus chosen shares, and need Eq. 20's dealer."""

from __future__ import annotations

import random

import pytest

from wattveil.baselines.yan_plain import YanPlain, random_k
from wattveil.bench.rig import make_key

GAMMA, OFFSET = 3, 600


@pytest.mark.parametrize("meters", [1, 5])
def test_totals_are_exact(meters: int) -> None:
    chance, key = random.Random(meters), make_key(256)
    scheme = YanPlain(key.public, GAMMA, OFFSET)
    k = [random_k() for _ in range(meters)]
    uploads, expected = [], 0
    for i in range(meters):
        hot = chance.randrange(GAMMA)
        shares = [chance.randint(-OFFSET, OFFSET) for _ in range(GAMMA)]
        reading = chance.randrange(11_501)
        uploads.append(scheme.upload(scheme.row(hot), reading, shares, k[i]))
        expected += reading + shares[hot]
    both = scheme.aggregate(uploads, sum(k))
    assert scheme.open(key, both, meters) == expected
    unclosed = scheme.aggregate(uploads, sum(k) + 1)  # h^(n + k) closes with the sum of k alone
    assert scheme.open(key, unclosed, meters) != expected


def test_bits_decrypt() -> None:
    key = make_key(256)
    scheme = YanPlain(key.public, GAMMA, OFFSET)
    assert [key.decrypt(c) for c in scheme.row(1)] == [0, 1, 0]
