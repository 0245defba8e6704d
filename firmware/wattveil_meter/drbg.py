"""Randomness and keyed hashing: HMAC-SHA-256 and the HMAC_DRBG of NIST SP 800-90A Rev. 1 (10.1.2).

This generator is the only source of randomness behind the project's noise, blinding and masks:
what seeds it decides everything, so tests are repeatable and a meter mixes several sources
(PROTOCOL.md). One byte stream, the same on every runtime; bits are taken from it lowest first.
"""

import hashlib

from wattveil_meter.fields import bit_length

try:
    from hmac import digest as _digest
except ImportError:  # MicroPython has no hmac
    _digest = None

_BLOCK = 64  # bytes in a block of SHA-256
_INNER = int.from_bytes(b"\x36" * _BLOCK, "little")
_OUTER = int.from_bytes(b"\x5c" * _BLOCK, "little")


class ReseedNeeded(Exception):
    """The generator has answered as many requests as one seed may serve."""


def _padded(key, mask):
    """A block of SHA-256; XOR on one integer is far faster than a loop over bytes."""
    return (int.from_bytes(key, "little") ^ mask).to_bytes(_BLOCK, "little")


def _portable_digest(key, parts):
    """HMAC-SHA-256 from SHA-256 alone."""
    if len(key) > _BLOCK:
        key = hashlib.sha256(key).digest()
    inner = hashlib.sha256(_padded(key, _INNER))
    for part in parts:
        inner.update(part)
    return hashlib.sha256(_padded(key, _OUTER) + inner.digest()).digest()


def hmac_sha256(key, *parts):
    """HMAC-SHA-256 (RFC 2104) of the parts joined end to end, 32 bytes.

    Parts carry no lengths: a caller with parts of variable length joins them with `fields.pack`
    first.
    """
    if _digest:
        return _digest(key, b"".join(parts), "sha256")
    return _portable_digest(key, parts)


def same(a, b):
    """Whether two byte strings are equal, in a time that depends on their lengths only."""
    if len(a) != len(b):
        return False
    differences = 0
    for i in range(len(a)):
        differences |= a[i] ^ b[i]
    return differences == 0


class Drbg:
    """HMAC_DRBG with SHA-256: strength 256, no additional input, no prediction resistance.

    `generate`, `reseed` and the constructor are the standard's functions. The rest of wattveil
    calls `bytes`, `bits`, `below` and `chance`. `bits` keeps a buffer of one 32-byte block, so that single
    coin flips are cheap; what it has handed out is overwritten there, and the generator's own
    state is one-way: who reads the memory later learns no past output from it (copies the
    interpreter's heap may still hold are out of reach).
    """

    RESEED_INTERVAL = 1 << 28  # requests per seed; the standard allows 2^48
    MAX_REQUEST = 1 << 16  # bytes in one request: the standard's 2^19 bits
    ENTROPY = 32  # bytes of entropy input, at least: the security strength

    def __init__(self, entropy, nonce=b"", personalization=b""):
        """Instantiate; the nonce is 16 random bytes, or never the same twice (a boot counter)."""
        self._check(entropy)
        self._key = bytes(32)
        self._value = b"\x01" * 32
        self._block = bytearray(32)
        self._mix(entropy, nonce, personalization)
        self._restart()

    def reseed(self, entropy):
        """Mix in fresh entropy; bits still buffered from before are dropped."""
        self._check(entropy)
        self._mix(entropy)
        self._restart()

    def generate(self, size):
        """`size` bytes in one request; ReseedNeeded once the seed is used up."""
        if size > self.MAX_REQUEST:
            raise ValueError("request too long")
        if self._requests > self.RESEED_INTERVAL:
            raise ReseedNeeded("the generator must be reseeded")
        out = b""
        while len(out) < size:
            self._value = hmac_sha256(self._key, self._value)
            out += self._value
        self._mix()
        self._requests += 1
        return out[:size]

    def bytes(self, size):
        """`size` bytes, of any length."""
        if size <= self.MAX_REQUEST:
            return self.generate(size)
        out = bytearray()
        while len(out) < size:
            out += self.generate(min(size - len(out), self.MAX_REQUEST))
        return bytes(out)

    def bits(self, count):
        """An integer uniform in [0, 2^count)."""
        left = self._left - count
        if left >= 0:
            value = self._word
            self._left = left
            self._word = value >> count
            return value & ((1 << count) - 1)
        if count > 128:
            data = bytearray(self.bytes((count + 7) >> 3))
            data[-1] >>= -count & 7
            return int.from_bytes(data, "little")
        return self._gather(count)

    def _gather(self, count):
        """More bits than are left of the word, a word at a time."""
        value = self._word
        have = self._left
        self._next_word()
        while count - have > 16:
            value |= self._word << have
            have += 16
            self._next_word()
        need = count - have
        value |= (self._word & ((1 << need) - 1)) << have
        self._word >>= need
        self._left = 16 - need
        return value

    def below(self, limit):
        """An integer uniform in [0, limit), by rejection."""
        if limit < 1:
            raise ValueError("empty range")
        count = bit_length(limit - 1)
        while True:
            value = self.bits(count)
            if value < limit:
                return value

    def chance(self, num, den):
        """True with chance num / den: the ratio's binary digits against coin flips, 2 on average."""
        if num >= den:
            return True
        word = self._word  # bits(1) for each flip would take three times as long
        left = self._left
        below = False
        while num:
            if not left:
                self._next_word()
                word = self._word
                left = 16
            flip = word & 1
            word >>= 1
            left -= 1
            num += num
            if num < den:
                if flip:
                    break
            elif flip:
                num -= den
            else:
                below = True
                break
        self._word = word
        self._left = left
        return below

    def _check(self, entropy):
        if len(entropy) < self.ENTROPY:
            raise ValueError("entropy input shorter than 32 bytes")

    def _mix(self, *provided):
        """HMAC_DRBG_Update (10.1.2.2)."""
        self._key = hmac_sha256(self._key, self._value, b"\x00", *provided)
        self._value = hmac_sha256(self._key, self._value)
        if provided:
            self._key = hmac_sha256(self._key, self._value, b"\x01", *provided)
            self._value = hmac_sha256(self._key, self._value)

    def _restart(self):
        """Reseed counter to 1, buffer empty."""
        self._requests = 1
        for i in range(32):
            self._block[i] = 0
        self._at = 32
        self._word = 0
        self._left = 0  # bits of it

    def _next_word(self):
        """Move two bytes out of the buffer, refilling it when it is empty."""
        at = self._at
        if at == 32:
            self._block[:] = self.generate(32)
            at = 0
        block = self._block
        self._word = block[at] | block[at + 1] << 8
        block[at] = block[at + 1] = 0
        self._at = at + 2
