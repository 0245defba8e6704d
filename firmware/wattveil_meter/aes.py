"""AES-256-CTR on every runtime: `cryptolib` on boards, the `cryptography` package on the host.

MicroPython's default builds leave CTR out of `cryptolib`, so it is made from ECB blocks: one call
encrypts a buffer of counter blocks (NIST SP 800-38A, section 6.5).
"""

try:
    from cryptolib import aes as _aes

    _ECB = 1

    def ctr(key, nonce, data):
        """Encrypt or decrypt `data`; `nonce` is 8 bytes, the block counter starts at zero."""
        blocks = (len(data) + 15) // 16
        stream = bytearray((nonce + bytes(8)) * blocks)
        for i in range(blocks):
            stream[16 * i + 15] = i & 255
            stream[16 * i + 14] = i >> 8
        stream = _aes(key, _ECB).encrypt(stream)
        size = len(data)  # one XOR of integers: a loop over bytes takes most of a frame's time
        whole = int.from_bytes(data, "little") ^ int.from_bytes(stream[:size], "little")
        return whole.to_bytes(size, "little")

except ImportError:
    from functools import lru_cache
    from threading import Lock

    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    @lru_cache(maxsize=8192)  # of 1.1 kB each: setting one up takes four times as long as using it
    def _context(key):
        return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor(), Lock()

    def ctr(key, nonce, data):
        """Encrypt or decrypt `data`; `nonce` is 8 bytes, the block counter starts at zero."""
        context, lock = _context(key)
        with lock:  # between setting the nonce and using it
            context.reset_nonce(nonce + bytes(8))
            return context.update(data)
