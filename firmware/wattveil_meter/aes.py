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
        stream = bytearray(16 * blocks)
        for i in range(blocks):
            stream[16 * i : 16 * i + 8] = nonce
            stream[16 * i + 12 : 16 * i + 16] = i.to_bytes(4, "big")
        stream = _aes(key, _ECB).encrypt(stream)
        return bytes(a ^ b for a, b in zip(data, stream))

except ImportError:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    def ctr(key, nonce, data):
        """Encrypt or decrypt `data`; `nonce` is 8 bytes, the block counter starts at zero."""
        return Cipher(algorithms.AES(key), modes.CTR(nonce + bytes(8))).encryptor().update(data)
