"""The generator, against NIST's own answers. Runs on CPython and on both MicroPythons."""

from binascii import unhexlify

from wattveil_meter import drbg
from wattveil_meter.drbg import Drbg, ReseedNeeded, hmac_sha256, same
from wattveil_meter.fields import bit_length

# NIST CAVP, CAVS 14.3, HMAC_DRBG.rsp, [SHA-256], no additional input, 1024 bits returned. Each
# row: entropy, nonce, personalization, entropy of the reseed, what the second `generate` returns.
CAVP = (
    (  # no reseed, COUNT = 0
        "ca851911349384bffe89de1cbdc46e6831e44d34a4fb935ee285dd14b71a7488",
        "659ba96c601dc69fc902940805ec0ca8",
        "",
        "",
        (
            "e528e9abf2dece54d47c7e75e5fe302149f817ea9fb4bee6f4199697d04d5b89"
            "d54fbb978a15b5c443c9ec21036d2460b6f73ebad0dc2aba6e624abf07745bc1"
            "07694bb7547bb0995f70de25d6b29e2d3011bb19d27676c07162c8b5ccde0668"
            "961df86803482cb37ed6d5c0bb8d50cf1f50d476aa0458bdaba806f48be9dcb8"
        ),
    ),
    (  # no reseed, personalization, COUNT = 0
        "5cacc68165a2e2ee20812f35ec73a79dbf30fd475476ac0c44fc6174cdac2b55",
        "6f885496c1e63af620becd9e71ecb824",
        "e72dd8590d4ed5295515c35ed6199e9d211b8f069b3058caa6670b96ef1208d0",
        "",
        (
            "f1012cf543f94533df27fedfbf58e5b79a3dc517a9c402bdbfc9a0c0f721f9d5"
            "3faf4aafdc4b8f7a1b580fcaa52338d4bd95f58966a243cdcd3f446ed4bc546d"
            "9f607b190dd69954450d16cd0e2d6437067d8b44d19a6af7a7cfa8794e5fbd72"
            "8e8fb2f2e8db5dd4ff1aa275f35886098e80ff844886060da8b1e7137846b23b"
        ),
    ),
    (  # reseed, COUNT = 0
        "06032cd5eed33f39265f49ecb142c511da9aff2af71203bffaf34a9ca5bd9c0d",
        "0e66f71edc43e42a45ad3c6fc6cdc4df",
        "",
        "01920a4e669ed3a85ae8a33b35a74ad7fb2a6bb4cf395ce00334a9c9a5a5d552",
        (
            "76fc79fe9b50beccc991a11b5635783a83536add03c157fb30645e611c2898bb"
            "2b1bc215000209208cd506cb28da2a51bdb03826aaf2bd2335d576d519160842"
            "e7158ad0949d1a9ec3e66ea1b1a064b005de914eac2e9d4f2d72a8616a802254"
            "22918250ff66a41bd2f864a6a38cc5b6499dc43f7f2bd09e1e0f8f5885935124"
        ),
    ),
    (  # reseed, personalization, COUNT = 0
        "fa0ee1fe39c7c390aa94159d0de97564342b591777f3e5f6a4ba2aea342ec840",
        "dd0820655cb2ffdb0da9e9310a67c9e5",
        "f2e58fe60a3afc59dad37595415ffd318ccf69d67780f6fa0797dc9aa43e144c",
        "e0629b6d7975ddfa96a399648740e60f1f9557dc58b3d7415f9ba9d4dbb501f6",
        (
            "f92d4cf99a535b20222a52a68db04c5af6f5ffc7b66a473a37a256bd8d298f9b"
            "4aa4af7e8d181e02367903f93bdb744c6c2f3f3472626b40ce9bd6a70e7b8f93"
            "992a16a76fab6b5f162568e08ee6c3e804aefd952ddd3acb791c50f2ad69e9a0"
            "4028a06a9c01d3a62aca2aaf6efe69ed97a016213a2dd642b4886764072d9cbe"
        ),
    ),
)

# RFC 4231, cases 1, 2 and 6 (a key longer than a block).
RFC_4231 = (
    (
        b"\x0b" * 20,
        b"Hi There",
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
    ),
    (
        b"Jefe",
        b"what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
)

ENTROPY = b"wattveil core tests, 32 bytes..."


def refused(error, function, *arguments):
    try:
        function(*arguments)
    except error:
        return True
    return False


def test_nist_known_answers():
    for row in CAVP:
        entropy, nonce, personalization, again, answer = (unhexlify(text) for text in row)
        generator = Drbg(entropy, nonce, personalization)
        if again:
            generator.reseed(again)
        generator.generate(128)
        assert generator.generate(128) == answer


def test_hmac_known_answers():
    for key, message, text in RFC_4231:
        answer = unhexlify(text)
        assert hmac_sha256(key, message) == answer
        assert hmac_sha256(key, message[:5], b"", bytearray(message[5:])) == answer
        assert drbg._portable_digest(key, (message[:9], memoryview(message)[9:])) == answer


def test_same():
    assert same(b"", b"")
    assert same(b"abc", bytearray(b"abc"))
    assert not same(b"abc", b"abd")
    assert not same(b"\x80bc", b"\x00bc")
    assert not same(b"abc", b"ab")


def test_bit_length():
    assert [bit_length(n) for n in (0, 1, 2, 255, 256)] == [0, 1, 2, 8, 9]
    for k in (23, 24, 25, 30, 31, 48, 63, 64, 2048):
        assert bit_length((1 << k) - 1) == k
        assert bit_length(1 << k) == k + 1


def test_weak_entropy_is_refused():
    assert refused(ValueError, Drbg, b"x" * 31)
    assert refused(ValueError, Drbg(ENTROPY).reseed, b"x" * 31)


def test_reseed_counter_is_enforced():
    generator = Drbg(ENTROPY)
    generator.RESEED_INTERVAL = 3
    for _ in range(3):
        generator.generate(1)
    assert refused(ReseedNeeded, generator.generate, 1)
    assert refused(ReseedNeeded, generator.bits, 1)
    generator.reseed(ENTROPY)
    assert len(generator.generate(1)) == 1


def test_request_sizes():
    generator = Drbg(ENTROPY)
    assert refused(ValueError, generator.generate, (1 << 16) + 1)
    assert [len(generator.bytes(n)) for n in (0, 1, 31, 32, 33, 1000)] == [0, 1, 31, 32, 33, 1000]
    other, generator = Drbg(ENTROPY), Drbg(ENTROPY)
    generator.MAX_REQUEST = 40  # so that one answer takes many requests, but no time
    assert generator.bytes(100) == other.generate(40) + other.generate(40) + other.generate(20)


def test_bits_are_the_stream_lowest_first():
    number = int.from_bytes(Drbg(ENTROPY).generate(32), "little")
    generator = Drbg(ENTROPY)
    at = 0
    for count in (1, 1, 3, 0, 3, 8, 24, 7, 23, 1, 64, 9, 100, 12):
        assert generator.bits(count) == (number >> at) & ((1 << count) - 1)
        at += count
    assert at == 256


def test_bits_cross_blocks():
    one, two = Drbg(ENTROPY), Drbg(ENTROPY)
    flips = [one.bits(1) for _ in range(600)]
    for start in range(0, 600, 50):
        expected = sum(flip << i for i, flip in enumerate(flips[start : start + 50]))
        assert two.bits(50) == expected


def test_long_integers():
    generator = Drbg(ENTROPY)
    for count in (129, 256, 1023, 2128):
        union = 0
        for _ in range(12):
            union |= generator.bits(count)
        assert bit_length(union) > count - 8
        assert union >> count == 0


def test_spent_bits_are_wiped():
    generator = Drbg(ENTROPY)
    generator.bits(12)
    assert bytes(generator._block[:2]) == b"\x00\x00"
    assert any(generator._block)
    assert generator._word >> 4 == 0
    generator.reseed(ENTROPY)
    assert not any(generator._block)
    assert generator._left == 0


def test_reseed_drops_buffered_bits():
    one, two = Drbg(ENTROPY), Drbg(ENTROPY)
    one.bits(5)
    two.generate(32)
    one.reseed(ENTROPY)
    two.reseed(ENTROPY)
    assert one.bits(64) == two.bits(64)


def test_below():
    generator = Drbg(ENTROPY)
    assert generator.below(1) == 0
    assert refused(ValueError, generator.below, 0)
    counts = [0] * 5
    for _ in range(500):
        counts[generator.below(5)] += 1
    assert min(counts) > 60
    limit = 3 << 200
    assert all(generator.below(limit) < limit for _ in range(10))
    # exactly the rejection of draws of the right width
    one, two = Drbg(ENTROPY), Drbg(ENTROPY)
    kept = [value for value in (two.bits(10) for _ in range(20)) if value < 700]
    assert [one.below(700) for _ in range(len(kept))] == kept


def test_chance_is_digits_of_the_ratio_against_single_bits():
    one, two = Drbg(ENTROPY), Drbg(ENTROPY)

    def flipped(num, den):
        while num and num < den:
            num *= 2
            flip = two.bits(1)
            if num >= den and not flip:
                return True
            if num < den and flip:
                return False
            if num >= den:
                num -= den
        return num >= den

    cases = (
        (1, 1),
        (7, 3),
        (0, 1),
        (1, 2),
        (31, 100),
        (1, 1000),
        (999, 1000),
        (5 << 70, 11 << 69),
    )
    for _ in range(40):
        for num, den in cases:
            assert one.chance(num, den) == flipped(num, den)
    assert one.bits(40) == two.bits(40)


def test_personalization_and_nonce_matter():
    outputs = [
        Drbg(ENTROPY).bytes(16),
        Drbg(ENTROPY, b"1").bytes(16),
        Drbg(ENTROPY, b"2").bytes(16),
        Drbg(ENTROPY, b"1", b"x").bytes(16),
    ]
    assert len(set(outputs)) == 4
