"""Makes the vectors of what the parties do in one period: slot, registration and closing.json."""

from __future__ import annotations

from functools import partial

from reference import basics, make_compact, yan
from reference.basics import le
from reference.inputs import (
    PRIMES,
    ROSTER,
    START,
    Json,
    done,
    guarded,
    hx,
    record,
    refused,
    rnd,
    rnd_bits,
)


def draw(p: basics.Params, label: str, xi: list[int], own: int = 0) -> yan.Draws:
    g = p.gamma
    return yan.Draws(
        xi,
        [rnd_bits(f"x {label} {j}", p.n.bit_length()) % p.n for j in range(g)],
        [rnd_bits(f"r {label} {j}", p.randomiser_bits) for j in range(g)],
        [rnd(f"minus {label} {j}", 1)[0] & 1 for j in range(g)],
        rnd_bits(f"s {label}", p.check_bits),
        own,
    )


def row_of(p: basics.Params, label: str, hot: int) -> list[int]:
    rs = [rnd_bits(f"row {label} {j}", p.randomiser_bits) for j in range(p.gamma)]
    signs = [rnd(f"sign {label} {j}", 1)[0] & 1 for j in range(p.gamma)]
    return yan.one_hot(p, hot, rs, signs)


def make_slot() -> list[Json]:
    out: list[Json] = []
    for name, hot, xi, own, changes in (
        ("with the row check", 2, [0, -17, 431], 0, {}),
        ("without the row check", 1, [5, 0, -3], 0, {"row_check": 0}),
        ("own noise", 3, [0, 0, 9], -250, {"own_noise": 1}),
        ("one slot", 1, [88], 0, {"gamma": 1}),
        ("long randomisers", 2, [-60000, 60000], 0, {"level": "full", "gamma": 2}),
        ("noise beyond the offset", 1, [60001, -(10**9)], 0, {"gamma": 2}),
    ):
        p = record(512, **changes)
        seeds = (rnd(f"dealer {name}", 32), rnd(f"center {name}", 32))
        draws = draw(p, name, xi, own)
        row = row_of(p, name, hot)
        es = yan.slots(p, row, draws)
        reports: list[Json] = []
        for reading in (0, 777, 1000, 5000, -1):
            c = yan.report(p, seeds, START, draws, reading)
            operation = done({"do": "report", "reading": reading}, c=yan.pair(p, c).hex())
            reports.append(operation if 0 <= reading < 1000 else guarded(operation))
        vector: Json = {
            "name": name,
            "record": p.raw.hex(),
            "start": START,
            "dealer_seed": seeds[0].hex(),
            "center_seed": seeds[1].hex(),
            "row": [yan.pair(p, b).hex() for b in row],
            "xi": draws.xi,
            "x": [hx(x) for x in draws.x],
            "r": [hx(r) for r in draws.r],
            "minus": draws.minus,
        }
        if p.row_check:
            vector["s"] = hx(draws.s)
        if p.own_noise:
            vector["own"] = draws.own
        vector["e"] = [yan.pair(p, e).hex() for e in es]
        if any(abs(x) >= p.offset for x in xi):
            vector = guarded(vector)
        out.append({**vector, "operations": reports})
    p = record(512)
    pairs: list[Json] = []
    nb, n = p.nb, p.n
    prime = PRIMES[512][0]
    for what, data, meter, cloud in (
        ("one", le(1, nb) + bytes(nb), True, True),
        ("the largest", le(n - 1, nb) * 2, True, True),
        ("zero", bytes(2 * nb), False, False),
        ("a multiple of n", bytes(nb) + le(1, nb), True, False),
        ("a multiple of p", le(prime, nb) + bytes(nb), True, False),
        ("first half not below n", le(n, nb) + bytes(nb), False, False),
        ("second half not below n", le(1, nb) + le(n, nb), False, False),
        ("a byte short", le(1, nb) + bytes(nb - 1), False, False),
        ("a byte long", le(1, nb) + bytes(nb + 1), False, False),
    ):
        for at, accepted in (("meter", meter), ("cloud", cloud)):
            operation = {"do": "take", "what": what, "at": at, "pair": data.hex()}
            if accepted:
                value = yan_value(data, nb, n)
                pairs.append(guarded(done(operation, value=hx(value))))
            elif at == "cloud":
                attempt = partial(yan.unpair, p, data)
                pairs.append(refused(operation, "not_a_ciphertext", attempt))
            else:
                pairs.append(
                    guarded({**operation, "success": False, "reason": "not_a_ciphertext"})
                )
    out.append({"name": "pairs", "n": hx(n), "operations": pairs})
    return out


def yan_value(data: bytes, nb: int, n: int) -> int:
    return basics.num(data[:nb]) + n * basics.num(data[nb:])


def make_registration() -> list[Json]:
    out: list[Json] = []
    for name, meter, tau, running in (
        ("the clock runs", ROSTER[1], START + 17, 1),
        ("a frozen clock, an id with an umlaut", ROSTER[3], START, 0),
    ):
        p = record(512)
        key = rnd(f"registration {name}", 32)
        nonces = [rnd(f"nonce {name}", 16), rnd(f"center nonce {name}", 16)]
        macs = {
            "time_mac": basics.time_mac(p, key, meter, nonces, START, running),
            "identity": basics.identity(meter, tau),
            "register_mac": basics.register_mac(p, key, meter, tau, nonces[1]),
            "registered_mac": basics.registered_mac(p, key, meter, tau, nonces[1]),
        }
        time_is = le(START, 8) + bytes([running]) + nonces[1] + macs["time_mac"]
        register = le(tau, 8) + macs["identity"] + macs["register_mac"]
        registered = macs["registered_mac"]
        operations: list[Json] = []
        for do, payload, bad in (
            ("time_is", time_is, [0, 8, 9, 56]),
            ("register", register, [0, 8, 71]),
            ("registered", registered, [0, 31]),
        ):
            operations.append(done({"do": do, "payload": payload.hex()}))
            for at in bad:
                wrong = bytearray(payload)
                wrong[at] ^= 1
                operation = {"do": do, "payload": wrong.hex()}
                operation |= {"success": False, "reason": "refused"}
                operations.append(guarded(operation))
        vector: Json = {"name": name, "record": p.raw.hex(), "registration_key": key.hex()}
        vector |= {"meter": meter.hex(), "nonce": nonces[0].hex()}
        vector |= {"center_nonce": nonces[1].hex(), "now": START, "running": running, "tau": tau}
        out.append({**vector, **{k: v.hex() for k, v in macs.items()}, "operations": operations})
    return out


def make_closing() -> list[Json]:
    out: list[Json] = []
    for name, bits, numbers, changes in (
        ("three of four", 512, [1, 2, 4], {}),
        ("feed-in and own noise", 256, [2, 3, 4], {"lo": -500, "offset": 90000, "own_noise": 1}),
        ("everybody, no row check", 256, [1, 2, 3, 4], {"row_check": 0, "gamma": 1}),
    ):
        p = record(bits, **changes)
        key = rnd(f"certificate key {name}", 32)
        bitmap = le(sum(1 << (i - 1) for i in numbers), 1)
        assert yan.members_of(p, bitmap) == numbers
        meters: list[Json] = []
        es: list[int] = []
        cs: list[int] = []
        expected = 0
        for i in numbers:
            label = f"{name} {i}"
            seeds = (rnd(f"dealer {label}", 32), rnd(f"center {label}", 32))
            hot = 1 + i % p.gamma
            xi = [rnd(f"xi {label} {j}", 1)[0] - 128 for j in range(p.gamma)]
            draws = draw(p, label, xi, own=i - 3)
            reading = 111 * i - (400 if p.lo else 0)
            mine = yan.slots(p, row_of(p, label, hot), draws)
            c = yan.report(p, seeds, START, draws, reading)
            expected += reading + xi[hot - 1] + (draws.own if p.own_noise else 0)
            es += mine
            cs.append(c)
            meters.append(
                {
                    "number": i,
                    "dealer_seed": seeds[0].hex(),
                    "center_seed": seeds[1].hex(),
                    "e": [yan.pair(p, e).hex() for e in mine],
                    "c": yan.pair(p, c).hex(),
                }
            )
        minus_k, u = yan.share(p, [bytes.fromhex(m["dealer_seed"]) for m in meters], START)
        cert = basics.certificate(p, key, START, bitmap)
        c1, c2 = yan.combine(p, es, cs, minus_k, u)
        center = [bytes.fromhex(m["center_seed"]) for m in meters]
        total = yan.total(p, PRIMES[bits], c1, c2, center, START)
        assert total == expected
        size = len(numbers)
        b = yan.bound(p, size)
        low, high = size * p.lo - b, size * p.hi + b
        opened: list[Json] = []
        g = 1 + p.n
        for value in (low, high, low - 1, high + 1):
            moved = c2 * pow(g, value - total, p.n**2) % p.n**2
            operation = {"do": "open", "c2": yan.pair(p, moved).hex()}
            attempt = partial(yan.total, p, PRIMES[bits], c1, moved, center, START)
            if low <= value <= high:
                opened.append(done(operation, total=attempt()))
            else:
                opened.append(refused(operation, "sum_invalid", attempt))
        u_bytes = le(u, p.nb)
        payloads = {
            "share": basics.fields(basics.shortest(minus_k), u_bytes, cert),
            "open": basics.fields(bitmap, cert, yan.pair(p, c1), yan.pair(p, c2)),
        }
        out.append(
            {
                "name": name,
                "record": p.raw.hex(),
                "p": hx(PRIMES[bits][0]),
                "q": hx(PRIMES[bits][1]),
                "start": START,
                "certificate_key": key.hex(),
                "members": bitmap.hex(),
                "meters": meters,
                "minus_k": hx(minus_k),
                "u": hx(u),
                "certificate": cert.hex(),
                "c1": yan.pair(p, c1).hex(),
                "c2": yan.pair(p, c2).hex(),
                "share_payload": payloads["share"].hex(),
                "open_payload": payloads["open"].hex(),
                "low": low,
                "high": high,
                "total": total,
                "operations": opened,
            }
        )
    out += make_compact.make_closings()
    p = record(256)
    sets: list[Json] = []
    for data, reason in (
        ("", "bad_set"),
        ("0700", "bad_set"),
        ("17", "bad_set"),
        ("8f", "bad_set"),
        ("00", "below_quorum"),
        ("05", "below_quorum"),
    ):
        attempt = partial(yan.members_of, p, bytes.fromhex(data))
        sets.append(refused({"do": "close", "members": data}, reason, attempt))
    head = guarded({"name": "sets a dealer refuses", "record": p.raw.hex()})
    out.append({**head, "operations": sets})
    shares: list[Json] = []
    for what, parts in (
        ("K' of 260 bits", [basics.shortest(1 << 259), bytes(p.nb)]),
        ("K' not in shortest form", [b"\x01\0", bytes(p.nb)]),
        ("U not below n", [b"\x01", le(p.n, p.nb)]),
        ("U too short", [b"\x01", bytes(p.nb - 1)]),
    ):
        operation: Json = {"do": "combine", "what": what, "parts": [x.hex() for x in parts]}
        shares.append(guarded({**operation, "success": False, "reason": "malformed"}))
    head = guarded({"name": "shares a cloud refuses", "record": p.raw.hex()})
    out.append({**head, "operations": shares})
    return [*out, make_compact.bad_shares()]
