"""Makes the vectors of suite compact: compact.json, and its part of closing.json."""

from __future__ import annotations

from functools import partial

from reference import basics, compact, yan
from reference.basics import le
from reference.inputs import (
    PRIMES,
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


def draw(p: basics.Params, label: str, xi: list[int], own: int = 0) -> compact.Draws:
    return compact.Draws(
        xi,
        rnd_bits(f"compact r {label}", p.randomiser_bits),
        rnd(f"compact minus {label}", 1)[0] & 1,
        rnd_bits(f"compact s {label}", p.check_bits),
        own,
    )


def row_of(p: basics.Params, label: str, hot: int) -> list[int]:
    rs = [rnd_bits(f"compact row {label} {j}", p.randomiser_bits) for j in range(p.gamma)]
    signs = [rnd(f"compact sign {label} {j}", 1)[0] & 1 for j in range(p.gamma)]
    return yan.one_hot(p, hot, rs, signs)


def make_compact() -> list[Json]:
    out: list[Json] = []
    for name, hot, xi, own, changes in (
        ("three slots", 2, [0, -17, 431], 0, {}),
        ("without the row check", 1, [5, 0, -3], 0, {"row_check": 0}),
        ("own noise", 3, [0, 0, 9], -250, {"own_noise": 1}),
        ("one slot", 1, [88], 0, {"gamma": 1}),
        ("six slots", 5, [0, 1, -60000, 0, 33, 7], 0, {"gamma": 6}),
        ("long randomisers", 2, [-60000, 60000], 0, {"level": "full", "gamma": 2}),
        ("noise beyond the offset", 1, [60001, -(10**9)], 0, {"gamma": 2}),
    ):
        p = record(512, suite="compact", **changes)
        seeds = (rnd(f"compact dealer {name}", 32), rnd(f"compact center {name}", 32))
        draws = draw(p, name, xi, own)
        row = row_of(p, name, hot)
        reports: list[Json] = []
        for reading in (0, 777, 1000, 5000, -1):
            t = compact.report(p, row, seeds, START, draws, reading)
            operation = done({"do": "report", "reading": reading}, t=yan.pair(p, t).hex())
            reports.append(operation if 0 <= reading < 1000 else guarded(operation))
        vector: Json = {
            "name": name,
            "record": p.raw.hex(),
            "start": START,
            "dealer_seed": seeds[0].hex(),
            "center_seed": seeds[1].hex(),
            "row": [yan.pair(p, b).hex() for b in row],
            "xi": draws.xi,
            "r": hx(draws.r),
            "minus": draws.minus,
        }
        if p.row_check:
            vector["s"] = hx(draws.s)
        if p.own_noise:
            vector["own"] = draws.own
        if any(abs(x) >= p.offset for x in xi):
            vector = guarded(vector)
        out.append({**vector, "operations": reports})
    return out


def make_closings() -> list[Json]:
    out: list[Json] = []
    for name, bits, numbers, changes in (
        ("compact, three of four", 512, [1, 2, 4], {}),
        (
            "compact, feed-in and own noise",
            256,
            [2, 3, 4],
            {"lo": -500, "offset": 90000, "own_noise": 1},
        ),
    ):
        p = record(bits, suite="compact", **changes)
        key = rnd(f"certificate key {name}", 32)
        bitmap = le(sum(1 << (i - 1) for i in numbers), 1)
        assert yan.members_of(p, bitmap) == numbers
        meters: list[Json] = []
        ts: list[int] = []
        expected = 0
        for i in numbers:
            label = f"{name} {i}"
            seeds = (rnd(f"dealer {label}", 32), rnd(f"center {label}", 32))
            hot = 1 + i % p.gamma
            xi = [rnd(f"xi {label} {j}", 1)[0] - 128 for j in range(p.gamma)]
            draws = draw(p, label, xi, own=i - 3)
            reading = 111 * i - (400 if p.lo else 0)
            t = compact.report(p, row_of(p, label, hot), seeds, START, draws, reading)
            expected += reading + xi[hot - 1] + (draws.own if p.own_noise else 0)
            ts.append(t)
            meters.append(
                {
                    "number": i,
                    "dealer_seed": seeds[0].hex(),
                    "center_seed": seeds[1].hex(),
                    "t": yan.pair(p, t).hex(),
                }
            )
        u = compact.share(p, [bytes.fromhex(m["dealer_seed"]) for m in meters], START)
        cert = basics.certificate(p, key, START, bitmap)
        t = compact.combine(p, ts, u)
        center = [bytes.fromhex(m["center_seed"]) for m in meters]
        total = compact.total(p, PRIMES[bits], t, center, START)
        assert total == expected
        size = len(numbers)
        b = yan.bound(p, size)
        low, high = size * p.lo - b, size * p.hi + b
        opened: list[Json] = []
        for value in (low, high, low - 1, high + 1):
            moved = t * pow(1 + p.n, value - total, p.n**2) % p.n**2
            operation = {"do": "open", "t": yan.pair(p, moved).hex()}
            attempt = partial(compact.total, p, PRIMES[bits], moved, center, START)
            if low <= value <= high:
                opened.append(done(operation, total=attempt()))
            else:
                opened.append(refused(operation, "sum_invalid", attempt))
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
                "u": hx(u),
                "certificate": cert.hex(),
                "t": yan.pair(p, t).hex(),
                "share_payload": basics.fields(le(u, p.nb), cert).hex(),
                "open_payload": basics.fields(bitmap, cert, yan.pair(p, t)).hex(),
                "low": low,
                "high": high,
                "total": total,
                "operations": opened,
            }
        )
    return out


def bad_shares() -> Json:
    p = record(256, suite="compact")
    shares: list[Json] = []
    for what, parts in (
        ("U not below n", [le(p.n, p.nb)]),
        ("U too short", [bytes(p.nb - 1)]),
        ("U too long", [bytes(p.nb + 1)]),
    ):
        operation: Json = {"do": "combine", "what": what, "parts": [x.hex() for x in parts]}
        shares.append(guarded({**operation, "success": False, "reason": "malformed"}))
    head = guarded({"name": "compact, shares a cloud refuses", "record": p.raw.hex()})
    return {**head, "operations": shares}
