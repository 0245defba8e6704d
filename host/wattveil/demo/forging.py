"""Frames an attacker could put on the cloud's line, for the demo's audience to see refused."""

from __future__ import annotations

import secrets

from wattveil.fleet.packages import MeterKeys
from wattveil.fleet.provision import Fleet
from wattveil_meter.wire import CLOUD, REPORT, Channel

KINDS = ("forged", "replayed", "garbage")


def attack(kind: str, fleet: Fleet, number: int, start: int) -> bytes:
    """A frame in the name of meter `number`.

    forged: a report under a key the attacker made up. replayed: one under the meter's own key with
    a counter the cloud has seen the last of, which is all that a recorded frame is. garbage: noise.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind}: an attack is one of {', '.join(KINDS)}")
    if kind == "garbage":
        return secrets.token_bytes(200)
    record = fleet.record
    key = MeterKeys.read(fleet.meters[fleet.roster[number - 1]].files).link
    if kind == "forged":
        key = secrets.token_bytes(32)
    channel = Channel(key, record.fleet, number, CLOUD, True, record.fingerprint, 0)
    frame: bytes = channel.seal(REPORT, secrets.token_bytes(2 * record.nb), start)
    return frame
