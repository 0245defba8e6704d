"""docs/vectors, made by another implementation, against the core: the same files on every runtime.

Here fields, records, frames, masks, draws and registration; ciphertexts in test_vectors_cipher.
Only what a meter computes is checked here; `wattveil vectors check` checks all of it, strictly.
"""

from binascii import unhexlify

from vectorfile import by_name, finish, good_and_bad, load, malformed, reason
from wattveil_meter import masks, wire
from wattveil_meter.drbg import Drbg
from wattveil_meter.fields import pack, read_uint, uint, unpack
from wattveil_meter.noise import make_sampler
from wattveil_meter.record import FIELDS, Record
from wattveil_meter.seeds import Seeds, record_of
from wattveil_meter.store import MemoryStorage


def test_fields():
    vectors = by_name("fields")
    for operation in vectors["field lists"]["operations"]:
        parts = [unhexlify(part) for part in operation["parts"]]
        data = unhexlify(operation["bytes"])
        assert pack(*parts) == data and unpack(data, len(parts)) == parts
    for operation in vectors["field lists that are refused"]["operations"]:
        assert malformed(unpack, unhexlify(operation["bytes"]), operation["count"])
    good, bad = good_and_bad(vectors["integers"]["operations"])
    for operation in good:
        data = unhexlify(operation["bytes"])
        assert uint(int(operation["value"], 16)) == data
        assert read_uint(data) == int(operation["value"], 16)
    for operation in bad:
        assert malformed(read_uint, unhexlify(operation["bytes"]))


def test_record():
    vectors = load("record")
    for operation in vectors.pop()["operations"]:
        assert malformed(Record.parse, unhexlify(operation["raw"])), operation["what"]
    for vector in vectors:
        record = Record.parse(unhexlify(vector["raw"]))
        assert record.fingerprint == unhexlify(vector["fingerprint"])
        for name in ("nb", "a", "exponent_bits", "check_bits", "randomiser_bits"):
            assert getattr(record, name) == vector.get(name, getattr(record, name)), name
        for name, kind in FIELDS:
            value = vector.get("values", {}).get(name)
            if kind == "b" and value is not None:
                value = unhexlify(value)
            elif name in ("n", "h", "h_s") and value is not None:
                value = int(value, 16)
            assert value is None or getattr(record, name) == value, name
        for case in vector.get("starts", []):
            assert record.start_of(case["now"]) == case["start"]


def channel(vector, opens, boot=1):
    ends = (0, vector["sender"]) if opens else (vector["sender"], 0)
    asks = (vector["direction"] == "up") != opens
    keys = (unhexlify(vector["link_key"]), unhexlify(vector["fleet"]))
    hint = unhexlify(vector["hint"]) + bytes(24)
    return wire.Channel(*keys, *ends, asks, hint, boot, vector.get("limit", wire.METER_LIMIT))


def test_frames():
    for vector in load("frames"):
        opens = "limit" in vector
        link = channel(vector, opens, vector.get("boot", 1))
        for operation in vector["operations"]:
            frame = unhexlify(operation["frame"])
            if not operation["success"]:
                assert reason(link.open, frame) == operation["reason"], operation
                continue
            start, reply = operation["start"], int(operation["reply"], 16)
            payload = unhexlify(operation["payload"])
            if not opens:
                assert link.seal(operation["type"], payload, start, reply) == frame
                assert link.counter == int(operation["counter"], 16)
                continue
            got = link.open(frame)
            assert (got.type, got.start, got.reply) == (operation["type"], start, reply)
            assert got.payload == payload and got.counter == int(operation["counter"], 16)


def test_stuffing():
    vectors = by_name("stuffing")
    for operation in vectors["stuffing"]["operations"]:
        assert wire.stuff(unhexlify(operation["frame"])) == unhexlify(operation["line"])
    for operation in vectors["streams"]["operations"]:
        deframer = wire.Deframer(vectors["streams"]["limit"])
        frames = deframer.feed(unhexlify(operation["stream"]))
        assert frames == [unhexlify(frame) for frame in operation["frames"]], operation["what"]
        assert deframer.refused["damaged"] == operation["damaged"], operation["what"]
        assert deframer.refused["oversized"] == operation["oversized"], operation["what"]


def test_prf():
    for vector in load("prf"):
        record = Record.parse(unhexlify(vector["record"]))
        args = (record, unhexlify(vector["seed"]), vector["start"])
        assert masks.mask_u(*args) == int(vector["u"], 16)
        assert masks.mask_k(*args) == int(vector["k"], 16)
        assert masks.mask_v(*args) == int(vector["v"], 16)


def test_ratchet():
    for vector in load("ratchet"):
        record = Record.parse(unhexlify(vector["record"]))
        seed = unhexlify(vector["seed"])  # the dealer's, and here the centre's too
        storage = MemoryStorage({"seeds.bin": record_of(vector["day"], seed, seed)})
        good, bad = good_and_bad(vector["operations"])
        for operation in good:
            seeds, start = Seeds(storage), operation["start"]
            dealer, center = finish(seeds.of(start // 86400))
            assert dealer == center == unhexlify(operation["day_seed"])
            assert masks.mask_u(record, dealer, start) == int(operation["u"], 16)
            assert masks.mask_k(record, dealer, start) == int(operation["k"], 16)
            assert masks.mask_v(record, center, start) == int(operation["v"], 16)
        for operation in bad:
            assert operation["reason"] == "expired"
            assert finish(Seeds(storage).of(operation["start"] // 86400)) is None


def test_drbg():
    vectors = by_name("drbg")
    for operation in vectors.pop("too little entropy")["operations"]:
        try:
            Drbg(unhexlify(operation["entropy"]))
            raise AssertionError("accepted")
        except ValueError:
            pass
    for vector in vectors.values():
        parts = [unhexlify(vector[key]) for key in ("entropy", "nonce", "personalization")]
        drbg = Drbg(*parts)
        for operation in vector["operations"]:
            do = operation["do"]
            if do == "bytes":
                assert drbg.bytes(operation["size"]) == unhexlify(operation["result"])
            elif do == "bits":
                assert drbg.bits(operation["count"]) == int(operation["result"], 16)
            elif do == "below":
                assert drbg.below(int(operation["limit"], 16)) == int(operation["result"], 16)
            else:
                assert do == "reseed"
                drbg.reseed(unhexlify(operation["entropy"]))


def test_noise():
    """Discrete shares are the same everywhere; gamma shares may differ where floats are shorter."""
    for vector in load("noise"):
        epsilon = (vector["epsilon_num"], vector["epsilon_den"])
        sampler = make_sampler(vector["noise"], vector["a"], *epsilon, vector["delta"])
        drbg = Drbg(unhexlify(vector["entropy"]))
        for expected in vector["shares"]:
            got = sampler.share(drbg)
            if vector["noise"] == "discrete":
                assert got == expected
            else:
                assert abs(got - expected) <= 1 + abs(expected) / 100000
        assert drbg.bits(16) == vector["next_16_bits"]


def test_registration():
    for vector in load("registration"):
        record = Record.parse(unhexlify(vector["record"]))
        names = ("registration_key", "meter", "nonce", "center_nonce")
        key, meter, nonce, fresh = [unhexlify(vector[name]) for name in names]
        times = (vector["now"], vector["running"])
        tau = vector["tau"]
        time_mac = masks.time_mac(key, record, meter, nonce, fresh, *times)
        register = masks.register_mac(key, record, meter, tau, fresh)
        registered = masks.registered_mac(key, record, meter, tau, fresh)
        identity = masks.identity_hash(meter, tau)
        assert time_mac == unhexlify(vector["time_mac"])
        assert identity == unhexlify(vector["identity"])
        assert register == unhexlify(vector["register_mac"])
        assert registered == unhexlify(vector["registered_mac"])
        right = {
            "time_is": masks.u64(vector["now"]) + bytes((vector["running"],)) + fresh + time_mac,
            "register": masks.u64(tau) + identity + register,
            "registered": registered,
        }
        for operation in vector["operations"]:
            equal = unhexlify(operation["payload"]) == right[operation["do"]]
            assert equal == operation["success"]
