"""What the vectors are made from, and how they are written: keys, labelled bytes, records, operations.

Conventions (PROTOCOL.md, "Vectors"): byte strings and numbers beyond 53 bits are lower-case
hexadecimal, numbers big-endian without leading zeros. An operation has `success`; a refused one
has its `reason`. Where a result does not pin every input, `guard` does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from typing import Any

from reference import basics
from reference.basics import Bad, sha

Json = dict[str, Any]

# Safe primes made once by the project's own key generation. Test keys: they protect nothing.
PRIMES = {
    256: (0xE00C2544C56ABE53341E75BB0DE7DFEF, 0xF9AFE4B30AD3005C337E7A72334BD697),
    512: (
        0xD6A70432B5FC1E45F0EB5888A13B8A53FD0E8A060959E175E7BD4DCB8011A743,
        0xBE5FABBCCBB4FCBF76CAB5D3BAD42690FD6F10B1C26C0FFEE5869775216F648B,
    ),
    2048: (
        int(
            "f566efd14769aa23efc7b2e3bad33e072c3e665b7e3bda9256a0dc15a026207f"
            "52a37f3fddc1be6575a83c9e4dd0055a2b5e334d27057533aa5b2836ed3d5834"
            "f4a2d2e4f2661e7ac2380f8089af4b6402b6e8f352924b0d88eab255aec54864"
            "626d4c7d4d739555c61417e538b307c76b5fc96dcaeb26c84176f5c81b3ca59f",
            16,
        ),
        int(
            "f566a2c4b7083ff893f7fdeca9deb616302fc75d5526b5788f18d9d2e997f222"
            "224c655e05c0bfd9f04dc2913a045cf14993592e3343747338f6c758fbbea4c8"
            "c967b0c0fa0888c1b50d2d68b45d1c50b92d7f49cd32e61a0f999b00de5c9d25"
            "0326b0dbe0ed9c8f3419161f94653a06db6d1a1a47776bf58a614fe68cb41ef3",
            16,
        ),
    ),
}
FLEET = b"vectors1"
START = 1358121600
ROSTER = [b"MAC000002", b"MAC000003", b"MAC000004", "Zähler 5".encode()]


def rnd(label: str, size: int) -> bytes:
    blocks = (sha(f"wattveil vectors {label} {i}".encode()) for i in range(-(-size // 32)))
    return b"".join(blocks)[:size]


def rnd_bits(label: str, bits: int) -> int:
    return int.from_bytes(rnd(label, -(-bits // 8)), "big") >> -bits % 8


def hx(value: int) -> str:
    return f"{value:x}"


def guarded(item: Json) -> Json:
    text = json.dumps(item, sort_keys=True, separators=(",", ":"))
    return {**item, "guard": hashlib.sha256(text.encode()).hexdigest()[:16]}


def refused(operation: Json, reason: str, attempt: Callable[[], object]) -> Json:
    """The operation, once the reference has refused it for the right reason."""
    try:
        attempt()
    except Bad as bad:
        if bad.args[0] == reason:
            return guarded({**operation, "success": False, "reason": reason})
    raise AssertionError(f"not refused as {reason}: {operation}")


def done(operation: Json, **result: Any) -> Json:
    return {**operation, "success": True, **result}


def bases(bits: int, epoch: int = 1) -> tuple[int, int, int]:
    n = PRIMES[bits][0] * PRIMES[bits][1]
    return n, basics.base_h(n, FLEET, epoch)[0], basics.base_hs(n, FLEET, epoch)[0]


@cache
def tables(bits: int) -> dict[str, bytes]:
    """Whole table files; "form 2" is said in the name, else it is form 1."""
    n, h, h_s = bases(bits)
    full = bits + 80
    return {
        "h": basics.table(b"h", h, n, 256, 3, 2, pow(h, n, n * n)),
        "s": basics.table(b"s", h_s, n, 256, 3, 2, 1),
        "s full": basics.table(b"s", h_s, n, full, 3, 2, 1),
        "h form 2": basics.table(b"h", h, n, 256, 3, 2, pow(h, n, n * n), 2),
        "s form 2": basics.table(b"s", h_s, n, 256, 3, 2, 1, 2),
    }


ALLOWED = {"yan2024": ("h", "s", "s full"), "compact": ("s", "s form 2", "s full")}


def values(bits: int, **changes: Any) -> Json:
    n, h, h_s = bases(bits)
    files = ALLOWED.get(changes.get("suite", ""), ALLOWED["yan2024"])
    digests = b"".join(sha(tables(bits)[name]) for name in files)
    made = {
        "suite": "yan2024",
        "noise": "discrete",
        "n": n,
        "key_epoch": 1,
        "fleet": FLEET,
        "roster_epoch": 1,
        "roster_size": 4,
        "roster_digest": sha(basics.fields(*ROSTER)),
        "gamma": 3,
        "quorum_count": 3,
        "colluding": 0,
        "lo": 0,
        "hi": 1000,
        "epsilon_num": 1,
        "epsilon_den": 1,
        "unit": "Wh",
        "offset": 60000,
        "period_s": 1800,
        "phase_s": 0,
        "level": "short",
        "row_check": 1,
        "own_noise": 0,
        "h": h,
        "h_s": h_s,
        "tables": digests,
    }
    assert not set(changes) - set(made)
    return {**made, **changes}


def record(bits: int, **changes: Any) -> basics.Params:
    return basics.parse_record(basics.encode_record(values(bits, **changes)))
