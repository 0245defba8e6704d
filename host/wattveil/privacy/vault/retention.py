"""Retention: granular readings go after their time, aggregates stay.

What stays of a day is, for each interval, the sum over groups that are disjoint (all of one tariff,
region and type; those too small pooled), each of at least `group_min` homes with a reading and no
home above the dominance share: the industry's 15/15 rule. Disjoint, so that no two of them differ in
a few homes; and remembered among the exact answers, so that none differs in a few homes from one of
those. They are sealed, too.
"""

from __future__ import annotations

import os
import secrets
import time
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from wattveil.privacy.accountant import Accountant
from wattveil.privacy.anonymise.rule import partition, permitted
from wattveil.privacy.config import amount
from wattveil.privacy.contracts import Json
from wattveil.privacy.history import RETENTION, Asking, Cohort, check, enter
from wattveil.privacy.query.ask import Query
from wattveil.privacy.refusals import Refused
from wattveil.privacy.vault.catalogue import day_range, first_of_month, month_of_day
from wattveil.privacy.vault.identities import SEGMENTS
from wattveil.privacy.vault.keys import KEPT
from wattveil.privacy.vault.seal import ABSENT, DAY_S, NONCE_BYTES
from wattveil.privacy.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_MEMBERS = 1000
_DAYS = 7  # aggregated at once


class _Group(NamedTuple):
    """Sums that may stay of one group's days [first, last): Wh, -1 where the rule forbids it."""

    first: int
    last: int
    segment: str
    members: list[bytes]
    sums: NDArray[np.int64]
    homes: NDArray[np.int64]


def expire(vault: Vault, before: int) -> Json:
    """Delete the readings of all UTC days before `before`, and keep their aggregates.

    One transaction enters the aggregates and the deletion in the log, and makes the readings
    unreadable (no present version; data keys of whole months destroyed). The rows go after it.
    """
    with vault.writing():
        catalogue, state = vault.catalogue, vault.state
        days = catalogue.days(0, before)
        runs = _runs([day for day, _, _ in days], catalogue.epochs())
        groups = [group for first, last in runs for group in _groups_of(vault, first, last)]
        key = vault.keys.newest(KEPT)
        with state.transaction() as db:
            db.execute("PRAGMA secure_delete=ON")
            kept = [
                row for group in groups if _apart(vault, group) for row in _rows(vault, key, group)
            ]
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


def _apart(vault: Vault, group: _Group) -> bool:
    """Remember a group like one that was asked for exactly; False if, with an answer given before,
    its sums would reveal a few homes: then they go, too."""
    state, config = vault.state, vault.state.config
    names = [p.hex() for p in group.members]
    query = Query(
        "curve", group.first * DAY_S, group.last * DAY_S, vault.interval_s, config.clip_wh,
        "retention", "aggregate", resolution_s=vault.interval_s,
    )  # fmt: skip
    asking = Asking(
        f"retention:{secrets.token_hex(8)}", int(time.time()), RETENTION, query,
        Cohort.of(Accountant(state).subjects(vault.meter_ids(names))), vault.written(),
        lambda: vault.revisions(names, query.start, query.end),
    )  # fmt: skip
    with state.transaction() as db:
        try:
            check(db, asking, config.release.group_min)
        except Refused:
            return False
        enter(db, asking)
    return True


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


def _groups_of(vault: Vault, first: int, last: int) -> Iterator[_Group]:
    """What may be kept of the days [first, last), by segment, small segments pooled.

    Groups are made by public facts alone: who is in one does not depend on readings.
    """
    release = vault.state.config.release
    share = amount(release.dominance, "release.dominance")
    epoch = vault.catalogue.epoch_of(first, last)
    segments = vault.catalogue.segments(epoch)
    names = sorted(segments)
    groups: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        facts = ",".join(map("=".join, zip(SEGMENTS, segments[name], strict=True)))
        groups.setdefault(facts, []).append(i)
    for segment, who in partition(groups, release.group_min).items():
        members = [names[i] for i in who]
        sums, homes = _sum(vault, members, epoch, first, last, release.group_min, share)
        if (sums >= 0).any():
            yield _Group(first, last, segment, members, sums, homes)


def _rows(vault: Vault, key: int, group: _Group) -> Iterator[tuple[int, str, int, bytes]]:
    """Day by day, sealed."""
    for i, day in enumerate(range(group.first, group.last)):
        cut = slice(i * vault.per_day, (i + 1) * vault.per_day)
        sums, homes = group.sums[cut], group.homes[cut]
        if (sums >= 0).any():
            box = _seal(vault, key, day, group.segment, sums, homes)
            yield day, group.segment, key, box


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


class Kept(NamedTuple):
    """What stayed of one group's UTC day: Wh, -1 where none may be kept, and homes, by interval."""

    day: int
    segment: str
    wh: NDArray[np.int64]
    homes: NDArray[np.int64]


def kept(vault: Vault, first: int, last: int) -> Iterator[Kept]:
    """What stayed of the UTC days [first, last)."""
    rows = vault.catalogue.db.execute(
        "SELECT day, segment, key, box FROM vault_kept WHERE day>=? AND day<? ORDER BY day, segment",
        (first, last),
    ).fetchall()
    ciphers = vault.keys.ciphers()
    for day, segment, key, box in rows:
        plain = ciphers[key].decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], _bound(day, segment))
        yield Kept(day, segment, *np.frombuffer(plain, "<i8").reshape(2, -1))


def kept_series(vault: Vault, start: int, end: int, least: int) -> dict[str, NDArray[np.int64]]:
    """The kept sums of [start, end) UTC s by group: Wh of each interval, -1 where there is none or
    fewer than `least` homes had a reading."""
    first, last = day_range(start, end, vault.interval_s)
    series: dict[str, NDArray[np.int64]] = {}
    for one in kept(vault, first, last):
        nothing = np.full((last - first) * vault.per_day, -1, np.int64)
        at = (one.day - first) * vault.per_day
        series.setdefault(one.segment, nothing)[at : at + vault.per_day] = np.where(
            one.homes >= least, one.wh, -1
        )
    a, b = ((t - first * DAY_S) // vault.interval_s for t in (start, end))
    return {segment: wh[a:b] for segment, wh in series.items()}


def months_before(day: int, months: int) -> int:
    """The UTC day index so many calendar months before a day; the month's last day at most."""
    month = month_of_day(day)
    offset = day - first_of_month(month)
    start = first_of_month(month - months)
    return min(start + offset, first_of_month(month - months + 1) - 1)
