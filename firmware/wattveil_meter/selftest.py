"""Known answers checked at every boot; the result travels in the hello message.

Big-integer code has given wrong answers on some MicroPython releases: a meter that cannot multiply
must say so instead of sending ciphertexts that spoil a total.
"""

from hashlib import sha256

from wattveil_meter.aes import ctr
from wattveil_meter.drbg import Drbg, hmac_sha256

# HMAC-SHA-256: RFC 4231, test case 2. AES-256-CTR: blocks 0 and 1 under the key of NIST SP 800-38A, F.5.5.
# DRBG: first 64 bytes from 32 zero bytes and the nonce "self-test", hashed; checked against NIST's vectors
# in tests/core/test_drbg.py.
_HMAC = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
_AES_KEY = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"
_AES = "e568f68194cf76d6174d4cc04310a85491151e5d0b7a1f1bc0d7acd0ae3e51e4"
_DRBG = "9965715511a907bf"


def _stream(label, size):
    out = b""
    while len(out) < size:
        out += sha256(label + bytes((len(out) & 255, len(out) >> 8))).digest()
    return int.from_bytes(out[:size], "little")


def _plain(ring, x, y):
    """x^2 y g^7 of two wire forms by plain integers, as a wire form."""
    n, nb = ring.n, ring.nb
    a, b = [
        int.from_bytes(pair[:nb], "little") + int.from_bytes(pair[nb:], "little") * int(n)
        for pair in (x, y)
    ]
    square = int(n) * int(n)
    c = a * a % square * b % square * (1 + 7 * int(n)) % square
    return (c % int(n)).to_bytes(nb, "little") + (c // int(n)).to_bytes(nb, "little")


def right(ring):
    """Whether a kernel multiplies like plain integers, for operands from edges to random."""
    n, nb = int(ring.n), ring.nb
    parts = [0, n - 1] + [_stream(b"x%d" % i, nb) % n for i in range(2)]
    pairs = []
    for i in range(len(parts)):
        for part in (parts[i], parts[i - 1]):
            pairs.append(parts[i].to_bytes(nb, "little") + part.to_bytes(nb, "little"))
    pairs = [pair for pair in pairs if pair != bytes(2 * nb)]
    for i in range(len(pairs)):
        x, y = pairs[i], pairs[i - 1]
        product = ring.times(ring.square(ring.decode(x)), ring.decode(y))
        if ring.finish(ring.times(product, ring.one()), 7) != _plain(ring, x, y):
            return False
    return True


def run(ring):
    """Empty text when every answer is right, else the name of the first that is not."""
    if hmac_sha256(b"Jefe", b"what do ya want ", b"for nothing?") != bytes.fromhex(_HMAC):
        return "hmac"
    if ctr(bytes.fromhex(_AES_KEY), bytes(8), bytes(32)) != bytes.fromhex(_AES):
        return "aes"
    drbg = Drbg(bytes(32), b"self-test")
    if sha256(drbg.bytes(64)).digest()[:8] != bytes.fromhex(_DRBG):
        return "drbg"
    return "" if right(ring) else "arithmetic"
