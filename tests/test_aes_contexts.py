"""AES contexts are kept by key on the host: shared by threads, given up by the thousand, never mixed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from wattveil_meter import aes


def fresh(key: bytes, nonce: bytes, data: bytes) -> bytes:
    """The same by a context of its own."""
    return Cipher(algorithms.AES(key), modes.CTR(nonce + bytes(8))).encryptor().update(data)


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_with_one_key(hasty: None) -> None:
    key = bytes(range(32))

    def work(seed: int) -> int:
        random = Random(seed)
        wrong = 0
        for _ in range(2000):
            nonce, data = random.randbytes(8), random.randbytes(random.randrange(100))
            wrong += aes.ctr(key, nonce, data) != fresh(key, nonce, data)
        return wrong

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [0] * 4


def test_more_keys_than_are_kept() -> None:
    most = aes._context.cache_info().maxsize
    assert most is not None
    random = Random(1)
    keys = [random.randbytes(32) for _ in range(most + 50)]
    nonce, data = random.randbytes(8), random.randbytes(40)
    for key in [*keys, *keys[:100]]:
        assert aes.ctr(key, nonce, data) == fresh(key, nonce, data)
    assert aes._context.cache_info().currsize == most
