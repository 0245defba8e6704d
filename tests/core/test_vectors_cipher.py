"""docs/vectors against the core, as test_vectors.py: the group, its tables, a meter's ciphertexts, totals."""

import gc
import io
from binascii import unhexlify
from hashlib import sha256

from vectorfile import by_name, finish, load, malformed
from wattveil_meter import masks
from wattveil_meter.cipher import Comb, power, table_digest
from wattveil_meter.fields import pack, uint
from wattveil_meter.kernels.montgomery import Montgomery
from wattveil_meter.kernels.portable import Portable
from wattveil_meter.meter import SUITES
from wattveil_meter.record import Record


def plain_jacobi(a, n):
    """The Jacobi symbol (a/n) for odd n > 0."""
    sign = 1
    while a:
        while not a & 1:
            a >>= 1
            if n & 7 in (3, 5):
                sign = -sign
        a, n = n, a
        if a & 3 == 3 and n & 3 == 3:
            sign = -sign
        a %= n
    return sign if n == 1 else 0


def group_stream(vector, label, counter, size):
    n = int(vector["n"], 16)
    head = (b"wattveil group", uint(n), unhexlify(vector["fleet"]))
    head += (vector["key_epoch"].to_bytes(4, "little"), label, counter.to_bytes(4, "little"))
    out = b""
    while len(out) < size:
        out += sha256(pack(*head, (len(out) // 32).to_bytes(4, "little"))).digest()
    return int.from_bytes(out[:size], "little")


def test_group():
    """h and h_s are made at provisioning; here with the core's field lists and plain integers."""
    for vector in load("group"):
        n = int(vector["n"], 16)
        size = len(vector["n"]) // 2
        h = group_stream(vector, b"h", vector["h_counter"], 2 * size + 16) % (n * n)
        assert h == int(vector["h"], 16)
        for counter in range(vector["h_s_counter"] + 1):
            x = group_stream(vector, b"hs", counter, size + 16) % n
            last = counter == vector["h_s_counter"]
            assert plain_jacobi(x, n) == (-1 if last else 1)
        assert x == int(vector["x"], 16)
        if size <= 64:  # a long power takes a board minutes
            assert pow(x, n, n * n) == int(vector["h_s"], 16)


def table_files():
    files = {}
    for vector in load("table"):
        if "file" in vector:
            files[unhexlify(vector["sha256"])] = unhexlify(vector["file"])
    return files


def value(ring, x):
    pair = ring.finish(x, 0)
    nb = ring.nb
    return int.from_bytes(pair[:nb], "little") + int.from_bytes(pair[nb:], "little") * ring.n


def montgomery(n):
    """A kernel for tables of form 2, its machine code played by plain integers."""
    n2 = n * n
    nb = len(uint(n))
    inverse = 1  # of R = 2^(8 nb) modulo n^2: halved 8 nb times
    for _ in range(8 * nb):
        inverse = (inverse + n2 if inverse & 1 else inverse) >> 1

    def multiply(out, x, y, ctx):
        c = plain_pair(x, n, nb) * plain_pair(y, n, nb) % n2 * inverse % n2
        out[:nb] = (c % n).to_bytes(nb, "little")
        out[nb:] = (c // n).to_bytes(nb, "little")

    return Montgomery(n, "plain", multiply)


def test_table():
    vectors = by_name("table")
    for name in ("h", "s", "s full", "h form 2", "s form 2"):
        vector = vectors[name]
        n = int(vector["n"], 16)
        ring = Portable(n) if vector["form"] == 1 else montgomery(n)
        file = io.BytesIO(unhexlify(vector["file"]))
        assert table_digest(file) == unhexlify(vector["sha256"])
        comb = Comb(file, ring, name[:1].encode())
        other = montgomery(n) if vector["form"] == 1 else Portable(n)
        assert malformed(Comb, file, other, name[:1].encode())
        assert (comb.bits, comb.teeth, comb.blocks) == (vector["bits"], 3, 2)
        assert value(ring, comb.times_constant(ring.one())) == int(vector["constant"], 16)
        for operation in vector["operations"]:
            exponent = int(operation["exponent"], 16)
            if operation["success"]:
                got = value(ring, finish(power(ring, [], comb, exponent)))
                assert got == int(operation["value"], 16)
            else:
                assert malformed(finish, power(ring, [], comb, exponent))
    data = unhexlify(vectors["h"]["file"])
    ring = Portable(int(vectors["h"]["n"], 16))
    for operation in vectors["tables of h that are refused"]["operations"]:
        patch = unhexlify(operation["bytes"])
        at = operation["at"]
        bad = io.BytesIO(data[:at] + patch + data[at + len(patch) :])
        assert malformed(Comb, bad, ring, b"h") != operation["success"], operation["what"]


class Replay:
    """The draws of a vector, as a generator and as a sampler."""

    def __init__(self, vector, record):
        self.shares = list(vector["xi"])
        if record.own_noise:
            self.shares.append(vector["own"])
        if record.suite == "compact":  # one ciphertext
            minus, r, self.x = [vector["minus"]], [vector["r"]], []
        else:
            order = list(range(1, record.gamma)) + [0]  # slot 1 is made last
            minus, r = [[vector[name][j] for j in order] for name in ("minus", "r")]
            self.x = [int(vector["x"][j], 16) for j in order]
        self.queues = {
            1: minus,
            record.randomiser_bits: [int(each, 16) for each in r],
            record.check_bits: [int(vector["s"], 16)] if record.row_check else [],
        }

    def share(self, _):
        return self.shares.pop(0)

    def bits(self, count):
        return self.queues[count].pop(0)

    def below(self, limit):
        return self.x.pop(0)

    def left(self):
        return sum([len(queue) for queue in self.queues.values()]) + len(self.shares + self.x)


def play(vector, files, kernel=Portable):
    """One meter's period with the draws of a vector."""
    gc.collect()
    record = Record.parse(unhexlify(vector["record"]))
    ring = kernel(record.n)
    draws = Replay(vector, record)
    combs = {}
    for i in range(0, len(record.tables), 32):
        data = files[record.tables[i : i + 32]]
        name = data[4:5]
        bits = 256 if name == b"h" else record.randomiser_bits
        if data[5] == ring.form and data[8] | data[9] << 8 == bits:
            combs[name.decode()] = Comb(io.BytesIO(data), ring, name)
    seeds = (unhexlify(vector["dealer_seed"]), unhexlify(vector["center_seed"]))
    suite = SUITES[record.suite](record, ring, combs, draws, draws, seeds, vector["start"])
    made = []
    for slot in range(1, record.gamma + 1):
        pair = suite.decode(unhexlify(vector["row"][slot - 1]))
        made.append(finish(suite.row(slot, pair)))
    made[0] = finish(suite.finish())
    wanted = [unhexlify(e) for e in vector.get("e", [])] or [None] * record.gamma
    assert made == wanted, vector["name"]
    assert draws.left() == 0
    blind = suite._blind
    for operation in vector["operations"]:
        # a suite reports once; each operation is a world of its own
        suite._blind = ring.copy(blind)
        reading = min(max(operation["reading"], record.lo), record.hi)
        report = operation["c"] if record.suite == "yan2024" else operation["t"]
        assert suite.report(reading) == unhexlify(report), vector["name"]


def test_compact():
    files = table_files()
    vectors = load("compact")
    for vector in vectors:
        play(vector, files)
    play(vectors[0], files, montgomery)  # the same bytes, whatever multiplies


def test_slot():
    files = table_files()
    vectors = load("slot")
    pairs = vectors.pop()
    for vector in vectors:
        play(vector, files)
    ring = Portable(int(pairs["n"], 16))
    for operation in pairs["operations"]:
        if operation["at"] != "meter":
            continue
        data = unhexlify(operation["pair"])
        if operation["success"]:
            assert value(ring, ring.decode(data)) == int(operation["value"], 16)
        else:
            assert malformed(ring.decode, data), operation["what"]


def plain_pair(data, n, size):
    return int.from_bytes(data[:size], "little") + n * int.from_bytes(data[size:], "little")


def test_closing():
    """Dealer, cloud and centre with plain integers: what the core's masks add up to."""
    for vector in load("closing"):
        if "p" not in vector:
            continue
        gc.collect()
        record = Record.parse(unhexlify(vector["record"]))
        n, nb, start = record.n, record.nb, vector["start"]
        n2 = n * n
        k = u = v = members = 0
        c1 = c2 = 1
        both = record.suite == "yan2024"
        for meter in vector["meters"]:
            dealer, center = unhexlify(meter["dealer_seed"]), unhexlify(meter["center_seed"])
            k += masks.mask_k(record, dealer, start)
            u += masks.mask_u(record, dealer, start)
            v += masks.mask_v(record, center, start)
            members |= 1 << (meter["number"] - 1)
            for e in meter.get("e", []):
                c1 = c1 * plain_pair(unhexlify(e), n, nb) % n2
            report = meter["c"] if both else meter["t"]
            c2 = c2 * plain_pair(unhexlify(report), n, nb) % n2
        assert k == int(vector["minus_k"], 16) if both else "minus_k" not in vector
        assert -u % n == int(vector["u"], 16)
        bitmap = members.to_bytes((record.roster_size + 7) // 8, "little")
        assert bitmap == unhexlify(vector["members"])
        key = unhexlify(vector["certificate_key"])
        certificate = masks.closing_certificate(key, record, start, bitmap)
        assert certificate == unhexlify(vector["certificate"])
        parts = ((-u % n).to_bytes(nb, "little"), certificate)
        share = pack(uint(k), *parts) if both else pack(*parts)
        assert share == unhexlify(vector["share_payload"])
        # h^-k without an inverse: h has the order (p - 1)(q - 1) n
        primes = int(vector["p"], 16), int(vector["q"], 16)
        phi = (primes[0] - 1) * (primes[1] - 1)
        c2 = c2 * (1 + (-u % n) * n) % n2
        if both:
            c2 = c2 * pow(record.h, -k % (phi * n), n2) % n2
            assert c1 == plain_pair(unhexlify(vector["c1"]), n, nb)
        assert c2 == plain_pair(unhexlify(vector["c2" if both else "t"]), n, nb)
        pairs = [unhexlify(vector[name]) for name in (("c1", "c2") if both else ("t",))]
        assert pack(bitmap, certificate, *pairs) == unhexlify(vector["open_payload"])
        count = len(vector["meters"])
        total = (pow(c1 * c2 % n2, phi, n2) - 1) // n  # times phi, modulo n
        claim = vector["total"] + v + record.offset * count
        assert total % n == claim * phi % n
