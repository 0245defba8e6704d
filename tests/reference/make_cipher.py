"""Makes the vectors of what ciphertexts are made of: prf, ratchet, group, table, noise and
drbg.json.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import gmpy2

from reference import basics, noise
from reference.basics import sha
from reference.inputs import (
    FLEET,
    PRIMES,
    START,
    Json,
    bases,
    done,
    guarded,
    hx,
    record,
    refused,
    rnd,
    rnd_bits,
    tables,
)


def make_prf() -> list[Json]:
    out = []
    for name, p, start in (
        ("a period", record(512), START),
        ("the next one", record(512), START + 1800),
        ("another period length", record(512, period_s=900), START),
        ("another key length", record(256), START),
    ):
        seed = rnd("seed", 32)
        wide = basics.prf(p, seed, b"u", start, p.nb + 10)
        out.append(
            {
                "name": name,
                "record": p.raw.hex(),
                "seed": seed.hex(),
                "start": start,
                "bytes_u": wide.hex(),
                "u": hx(basics.mask_u(p, seed, start)),
                "k": hx(basics.mask_k(p, seed, start)),
                "v": hx(basics.mask_v(p, seed, start)),
            }
        )
    return out


def make_ratchet() -> list[Json]:
    """One seed, and the periods of its day, of later ones and of the day before."""
    p, day, out = record(512), START // 86400, []
    for name, days in (
        ("its own day", [0]),
        ("several days", [1, 2, 3, 4, 7]),
        ("a year", [366]),
        ("days that are gone", [-1, -366]),
    ):
        seed, operations = rnd(f"ratchet {name}", 32), []
        for step in days:
            for start in ((day + step) * 86400, (day + step + 1) * 86400 - 1800):

                def made(start: int = start, seed: bytes = seed) -> bytes:
                    return basics.seed_of(day, seed, start // 86400)

                operation: Json = {"do": "masks", "start": start}
                if step < 0:
                    operations.append(refused(operation, "expired", made))
                    continue
                ours = made()
                masks = {
                    "u": hx(basics.mask_u(p, ours, start)),
                    "k": hx(basics.mask_k(p, ours, start)),
                    "v": hx(basics.mask_v(p, ours, start)),
                }
                operations.append(done(operation, day_seed=ours.hex(), **masks))
        vector = {"name": name, "record": p.raw.hex(), "day": day, "seed": seed.hex()}
        out.append({**guarded(vector), "operations": operations})
    return out


def make_group() -> list[Json]:
    out = []
    for bits, epoch in ((512, 1), (512, 7), (512, 20260101), (2048, 1)):
        n = PRIMES[bits][0] * PRIMES[bits][1]
        h, h_counter = basics.base_h(n, FLEET, epoch)
        h_s, x, counter = basics.base_hs(n, FLEET, epoch)
        assert gmpy2.jacobi(h_s, n) == -1
        out.append(
            {
                "name": f"{bits} bits, key epoch {epoch}",
                "n": hx(n),
                "fleet": FLEET.hex(),
                "key_epoch": epoch,
                "h_counter": h_counter,
                "h": hx(h),
                "h_s_counter": counter,
                "x": hx(x),
                "h_s": hx(h_s),
            }
        )
    assert any(item["h_s_counter"] for item in out)
    return out


def make_table() -> list[Json]:
    out: list[Json] = []
    n, h, h_s = bases(512)
    files = tables(512)
    for name, data in files.items():
        base = h if name[0] == "h" else h_s
        bits = int.from_bytes(data[8:10], "little")
        drawn = rnd_bits(f"exponent {name}", bits)
        exponents = [0, 1, 1 << (bits - 1), (1 << bits) - 1, drawn]
        exponents = exponents if data[5] == 1 else exponents[-2:]
        powers = [
            done({"do": "power", "exponent": hx(e)}, value=hx(pow(base, e, n * n)))
            for e in exponents
        ]
        long = {"do": "power", "exponent": hx(1 << bits)}
        powers.append(guarded({**long, "success": False, "reason": "malformed"}))
        out.append(
            {
                "name": name,
                "n": hx(n),
                "base": hx(base),
                "form": data[5],
                "bits": bits,
                "teeth": 3,
                "blocks": 2,
                "constant": hx(pow(base, n, n * n) if name[0] == "h" else 1),
                "file": data.hex(),
                "sha256": sha(data).hex(),
                "operations": powers,
            }
        )
    patches: list[Json] = [
        guarded(done({"do": "open", "what": "as it is", "at": 0, "bytes": ""})),
    ]
    for what, at, data in (
        ("another magic", 0, b"WVT2"),
        ("the table of the other base", 4, b"s"),
        ("another form", 5, b"\x02"),
        ("no teeth", 6, b"\x00"),
        ("no blocks", 7, b"\x00"),
        ("another modulus length", 10, b"\x20\0"),
        ("another modulus", 32, bytes(32)),
    ):
        patches.append(
            guarded(
                {
                    "do": "open",
                    "what": what,
                    "at": at,
                    "bytes": data.hex(),
                    "success": False,
                    "reason": "malformed",
                }
            )
        )
    digest = sha(files["h"]).hex()
    refusals = {"name": "tables of h that are refused", "n": hx(n), "sha256": digest}
    out.append({**refusals, "operations": patches})
    n, h, _ = bases(2048)
    for name, form, indices in (
        ("h of 2048 bits", 1, (0, 1, 2, 17, 19, 32)),
        ("h of 2048 bits, form 2", 2, (0, 1, 19)),
    ):
        data = basics.table(b"h", h, n, 256, 4, 2, int(gmpy2.powmod(h, n, n * n)), form)
        entries = [{"index": i, "bytes": data[64 + 512 * i :][:512].hex()} for i in indices]
        out.append(
            {
                "name": name,
                "n": hx(n),
                "base": hx(h),
                "form": form,
                "bits": 256,
                "teeth": 4,
                "blocks": 2,
                "sha256": sha(data).hex(),
                "entries": entries,
            }
        )
    return out


def make_noise() -> list[Json]:
    out: list[Json] = []
    for kind, a, epsilon, delta, count in (
        ("discrete", 1, Fraction(1), 5, 12),
        ("discrete", 3, Fraction(1, 2), 1000, 10),
        ("discrete", 100, Fraction(1), 1000, 60),
        ("discrete", 1000, Fraction(1, 10), 10000, 100),
        ("gamma", 1, Fraction(1), 5, 12),
        ("gamma", 3, Fraction(1, 2), 1000, 10),
        ("gamma", 100, Fraction(1), 1000, 40),
        ("gamma", 1000, Fraction(1, 10), 10000, 100),
    ):
        label = f"{kind}, a = {a}, epsilon = {epsilon}, delta = {delta}"
        entropy = rnd(f"noise {label}", 32)
        rng = noise.Drbg(entropy)
        share = noise.discrete_share if kind == "discrete" else noise.gamma_share
        shares = [share(rng, a, epsilon, delta) for _ in range(count)]
        vector: Json = {"name": label, "noise": kind, "a": a}
        vector |= {"epsilon_num": epsilon.numerator, "epsilon_den": epsilon.denominator}
        vector |= {"delta": delta, "entropy": entropy.hex()}
        if kind == "gamma":
            vector["float_bits"] = 64
        vector |= {"shares": shares, "next_16_bits": rng.bits(16)}
        out.append(guarded(vector))
    return out


def make_drbg() -> list[Json]:
    out: list[Json] = []
    steps: dict[str, list[tuple[str, int]]] = {
        "bytes": [("bytes", 32), ("bytes", 1), ("bytes", 100), ("bytes", 0), ("bytes", 33)],
        "bits": [
            *[("bits", c) for c in (1, 1, 3, 3, 8, 13, 24, 0, 128, 129, 5, 256, 1, 617)],
            ("bytes", 16),
            ("bits", 7),
            ("bytes", 16),
        ],
        "below": [
            *[("below", c) for c in (1, 2, 3, 20, 255, 256, 257, 1000)],
            ("below", PRIMES[512][0] * PRIMES[512][1]),
            ("bytes", 16),
        ],
        "reseeding": [
            *[("bits", 3), ("bytes", 8), ("reseed", 32), ("bits", 3), ("bytes", 8)],
            *[("reseed", 48), ("bytes", 40)],
        ],
    }
    for name, calls in steps.items():
        entropy, nonce, text = rnd(f"entropy {name}", 48), rnd(f"nonce {name}", 33), name.encode()
        rng = noise.Drbg(entropy, nonce, text)
        operations: list[Json] = []
        for i, (do, count) in enumerate(calls):
            if do == "bytes":
                result: Any = rng.bytes(count).hex()
                operations.append(done({"do": do, "size": count}, result=result))
            elif do == "bits":
                operation = done({"do": do, "count": count}, result=hx(rng.bits(count)))
                operations.append(guarded(operation))
            elif do == "below":
                operation = done({"do": do, "limit": hx(count)}, result=hx(rng.below(count)))
                operations.append(guarded(operation))
            else:
                fresh = rnd(f"reseed {name} {i}", count)
                rng.reseed(fresh)
                operations.append(done({"do": do, "entropy": fresh.hex()}))
        seeds = {"entropy": entropy.hex(), "nonce": nonce.hex(), "personalization": text.hex()}
        out.append({"name": name, **seeds, "operations": operations})
    short = rnd("short", 31)
    operation = {"do": "instantiate", "entropy": short.hex()}
    bad = refused(operation, "entropy", lambda: noise.Drbg(short))
    out.append({"name": "too little entropy", "operations": [bad]})
    return out
