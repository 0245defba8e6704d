"""Retention: granular readings go after their time, aggregates stay.

What stays of a day is, for each interval, the sum over groups that are disjoint (all of one tariff,
region and type; those too small pooled), each of at least `group_min` homes with a reading and no
home above the dominance share: the industry's 15/15 rule. Disjoint, so that no two of them differ in
a few homes. They are sealed, too.
"""

from __future__ import annotations

import json
import os
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from wattveil.privacy.anonymise.rule import partition, permitted
from wattveil.privacy.config import amount
from wattveil.privacy.contracts import Json
from wattveil.privacy.vault.catalogue import first_of_month, month_of_day
from wattveil.privacy.vault.identities import SEGMENTS
from wattveil.privacy.vault.keys import KEPT
from wattveil.privacy.vault.seal import ABSENT, NONCE_BYTES
from wattveil.privacy.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_MEMBERS = 1000
_DAYS = 7  # aggregated at once


def expire(vault: Vault, before: int) -> Json:
    """Delete the readings of all UTC days before `before`, and keep their aggregates.

    One transaction enters the aggregates and the deletion in the log, and makes the readings
    unreadable (no present version; data keys of whole months destroyed). The rows go after it.
    """
    with vault.writing():
        catalogue, state = vault.catalogue, vault.state
        days = catalogue.days(0, before)
        kept: list[tuple[int, str, int, bytes]] = []
        key = vault.keys.newest(KEPT)
        for first, last in _runs([day for day, _, _ in days], vault.catalogue.epochs()):
            for day, segment, sums, counts in _aggregates(vault, first, last):
                kept.append((day, segment, key, _seal(vault, key, day, segment, sums, counts)))
        with state.transaction() as db:
            db.execute("PRAGMA secure_delete=ON")
            db.executemany("INSERT OR REPLACE INTO vault_kept VALUES(?,?,?,?)", kept)
            catalogue.forget_before(before)
            catalogue.put("horizon", max(before, catalogue.value("horizon")))
            catalogue.put("deleting", before)
            gone = db.execute(
                "UPDATE vault_keys SET wrapped=NULL WHERE month>=0 AND month<? "
                "AND wrapped IS NOT NULL",
                (month_of_day(before),),
            ).rowcount
            result = {
                "before": str(np.datetime64(before, "D")),
                "days": len(days),
                "meter_days": sum(row[1] for row in days),
                "readings": sum(row[2] for row in days),
                "aggregates_kept": len(kept),
                "data_keys_destroyed": gone,
            }
            index = state.log().append("deletion", result)
        vault.finish_deleting()
        catalogue.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return result | {"log_index": index}


def _runs(days: list[int], epochs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The days as ranges [first, last) of at most _DAYS, without gaps, each in one epoch."""
    begins = {first for _, first in epochs}
    runs: list[tuple[int, int]] = []
    for day in days:
        if runs and runs[-1][1] == day and day - runs[-1][0] < _DAYS and day not in begins:
            runs[-1] = (runs[-1][0], day + 1)
        else:
            runs.append((day, day + 1))
    return runs


def _aggregates(
    vault: Vault, first: int, last: int
) -> Iterator[tuple[int, str, NDArray[np.int64], NDArray[np.int64]]]:
    """(day, segment, Wh per interval or -1, homes with a reading) of what may be kept."""
    release = vault.state.config.release
    share = amount(release.dominance, "release.dominance")
    epoch = vault.catalogue.epoch_of(first, last)
    for segment, members in _groups(vault, epoch, first, last, release.group_min).items():
        sums, counts = _sum(vault, members, epoch, first, last, release.group_min, share)
        for i, day in enumerate(range(first, last)):
            cut = slice(i * vault.per_day, (i + 1) * vault.per_day)
            if (sums[cut] >= 0).any():
                yield day, segment, sums[cut], counts[cut]


def _groups(
    vault: Vault, epoch: int, first: int, last: int, group_min: int
) -> dict[str, list[bytes]]:
    """Homes with readings in these days by segment, those of small segments pooled."""
    segments = vault.catalogue.segments(epoch)
    names = sorted(segments)
    there = vault.catalogue.versions(names, first, last).any(axis=1)
    groups: dict[str, list[int]] = {}
    for i in np.flatnonzero(there).tolist():
        name = json.dumps(dict(zip(SEGMENTS, segments[names[i]], strict=True)))
        groups.setdefault(name, []).append(i)
    return {name: [names[i] for i in who] for name, who in partition(groups, group_min).items()}


def _sum(
    vault: Vault,
    members: list[bytes],
    epoch: int,
    first: int,
    last: int,
    group_min: int,
    share: Fraction,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sum and count of each interval; the sum is -1 where the rule forbids it."""
    slots = (last - first) * vault.per_day
    total, most, counts = (np.zeros(slots, np.int64) for _ in range(3))
    for at in range(0, len(members), _MEMBERS):
        wh = vault.days(members[at : at + _MEMBERS], epoch, first, last)
        present = wh != ABSENT
        values = np.where(present, wh, 0).astype(np.int64)
        total += values.sum(axis=0)
        most = np.maximum(most, values.max(axis=0))
        counts += present.sum(axis=0)
    good = permitted(total, most, counts, group_min, share)
    return np.where(good, total, -1), np.where(good, counts, 0)


def _bound(day: int, segment: str) -> bytes:
    return b"wattveil kept 1|" + day.to_bytes(4, "little") + segment.encode()


def _seal(
    vault: Vault,
    key: int,
    day: int,
    segment: str,
    sums: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    plain = np.concatenate([sums, counts]).astype("<i8").tobytes()
    return nonce + vault.keys.ciphers()[key].encrypt(nonce, plain, _bound(day, segment))


def kept(vault: Vault, first: int, last: int) -> list[Json]:
    """What stayed of the UTC days [first, last): sums in Wh, None where none may be kept."""
    rows = vault.catalogue.db.execute(
        "SELECT day, segment, key, box FROM vault_kept WHERE day>=? AND day<? ORDER BY day, segment",
        (first, last),
    ).fetchall()
    found = []
    for day, segment, key, box in rows:
        cipher = vault.keys.ciphers()[key]
        plain = cipher.decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], _bound(day, segment))
        sums, counts = np.frombuffer(plain, "<i8").reshape(2, -1)
        found.append(
            {
                "day": str(np.datetime64(day, "D")),
                "segment": segment,
                "sum_wh": [int(wh) if wh >= 0 else None for wh in sums],
                "homes": [int(n) for n in counts],
            }
        )
    return found


def months_before(day: int, months: int) -> int:
    """The UTC day index so many calendar months before a day; the month's last day at most."""
    month = month_of_day(day)
    offset = day - first_of_month(month)
    start = first_of_month(month - months)
    return min(start + offset, first_of_month(month - months + 1) - 1)
