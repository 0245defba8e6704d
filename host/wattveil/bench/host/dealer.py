"""The dealer's closing, beside PROTOCOL.md's masks written a second time."""

from __future__ import annotations

import hmac
import secrets
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wattveil.bench.host.record import HostPlan, HostRecord, Progress, Way, race, record
from wattveil.bench.rig import DAY, METERS, SETTINGS, START
from wattveil.fleet.provision import provision
from wattveil.fleet.settings import FleetSettings
from wattveil.paillier.keys import PrivateKey
from wattveil.roles.suites import suite_of
from wattveil_meter.fields import pack

SEEDS = 100  # meters closed each turn


def run_dealer(key: PrivateKey, plan: HostPlan, progress: Progress) -> list[HostRecord]:
    """One meter's part of K and U."""
    with tempfile.TemporaryDirectory(prefix="wattveil-bench-") as folder:
        ids = [f"meter{number:03}" for number in range(METERS)]
        settings = FleetSettings(gamma=plan.gamma, **SETTINGS)
        fleet = provision(Path(folder, "fleet"), key, ids, settings, emulated=True, day=DAY)
    suite, fleet_record = suite_of(fleet.record), fleet.record
    seeds = [secrets.token_bytes(32) for _ in range(SEEDS)]
    ours = Way(lambda: suite.share(fleet_record, seeds, START), SEEDS)
    plain = Way(lambda: _plain_share(fleet_record, seeds), SEEDS)
    race(plan.repeats, ours, plain)
    checked = all(share == plain.results[0] for share in ours.results)
    return [
        record("dealer", "share, one meter", key.public.bits, ours.us, "us", checked,
               suite=fleet_record.suite, meters=SEEDS, baseline="the same masks by hmac.new",
               baseline_value=plain.us)
    ]  # fmt: skip


def _plain_share(record: Any, seeds: Sequence[bytes]) -> list[bytes]:
    times = struct.pack("<Q", START), struct.pack("<I", record.period_s), struct.pack("<I", DAY)

    def mask(seed: bytes, label: bytes, size: int) -> int:
        out = b""
        for i in range(-(-size // 32)):
            fields = (b"wattveil prf", label, record.fingerprint, *times, struct.pack("<I", i))
            out += hmac.new(seed, pack(*fields), "sha256").digest()
        return int.from_bytes(out[:size], "little")

    k = sum(mask(seed, b"k", 32) for seed in seeds)
    u = -sum(mask(seed, b"u", record.nb + 10) for seed in seeds) % record.n
    return [k.to_bytes(-(-k.bit_length() // 8), "little"), u.to_bytes(record.nb, "little")]
