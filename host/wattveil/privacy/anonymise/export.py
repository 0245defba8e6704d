"""Anonymised exports out of the vault, through the gateway."""

from __future__ import annotations

import csv
import io
import secrets
import time
from collections.abc import Sequence
from fractions import Fraction
from functools import partial

import numpy as np

from wattveil.privacy import history
from wattveil.privacy.anonymise.kanonymity import DAY_S, Release, anonymise
from wattveil.privacy.anonymise.profiles import Profiles, coarsen, of_blocks
from wattveil.privacy.anonymise.rule import aggregate, grouped
from wattveil.privacy.config import amount
from wattveil.privacy.contracts import Json, Segment
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.history import Asking, Cohort, remember
from wattveil.privacy.people import Person
from wattveil.privacy.query.ask import Query, stamp
from wattveil.privacy.refusals import Refused
from wattveil.privacy.vault.identities import SEGMENTS
from wattveil.privacy.vault.retention import kept_series
from wattveil.privacy.vault.vault import Vault, as_bytes

LEAST_K = 5
MAX_READINGS = 50_000_000  # held at once, 8 bytes each and as many again on the way


class _Ask:
    """Who asks for which homes and when; the decision is the gateway's."""

    def __init__(
        self,
        gateway: Gateway,
        person: Person,
        query: Query,
    ) -> None:
        self.gateway, self.person, self.query = gateway, person, query
        self.charge = f"anonymise:{secrets.token_hex(8)}"
        self.cohort = Cohort(())
        self.vault: Vault = gateway.state.vault()

    def permit(self, members: int) -> None:
        """Ask the policy. Refused."""
        context = {
            "purpose": self.query.purpose,
            "technique": self.query.technique,
            "members": members,
            "group_min": self.gateway.state.config.release.group_min,
            "resolution_s": self.query.resolution_s,
        }
        self.gateway.permit(self.person, "anonymise", {}, context)

    def profiles(self, by: Sequence[str] = (), least: int = 0) -> Profiles:
        """The readings, once the policy has permitted. by, least: the groups of exact sums. Refused,
        ValueError."""
        query, vault = self.query, self.vault
        members = vault.members(dict(query.segment), query.start, query.end)
        self.permit(len(members))
        readings = len(members) * query.intervals
        if readings > MAX_READINGS:
            raise ValueError(
                f"{readings} readings at once, at most {MAX_READINGS}: ask for less time"
            )
        epoch = vault.catalogue.epoch_of(query.start // DAY_S, -(-query.end // DAY_S))
        known = vault.catalogue.segments(epoch)
        facts = {p: dict(zip(SEGMENTS, known[as_bytes(p)], strict=True)) for p in members}
        groups = [members]
        if query.technique == "aggregate":
            cut = grouped([facts[p] for p in members], by, least).values()
            groups += [[members[i] for i in who] for who in cut if len(who) < len(members)]
        self._remember(groups)
        blocks = vault.blocks(members, query.start, query.end)
        return of_blocks(blocks, facts, query.start, query.interval_s)

    def _remember(self, groups: list[list[str]]) -> None:
        """Enter everybody, and each group, among what was asked: see history.py. Refused."""
        gateway, query, vault = self.gateway, self.query, self.vault
        subjects = dict(
            zip(groups[0], gateway.accountant.subjects(vault.meter_ids(groups[0])), strict=True)
        )
        cohorts = {Cohort.of(subjects[p] for p in members): members for members in groups}
        self.cohort = next(iter(cohorts))
        with gateway.state.transaction() as db:
            for cohort, members in cohorts.items():
                revisions = partial(vault.revisions, members, query.start, query.end)
                asking = Asking(
                    self.charge, int(time.time()), str(self.person), query, cohort,
                    vault.written(), revisions,
                )  # fmt: skip
                for alarm in remember(db, asking, gateway.state.config.release.group_min):
                    gateway.note("alarm", {"alarm": alarm.kind, "person": self.person.logged,
                                           "charge": self.charge, "earlier": alarm.earlier})  # fmt: skip

    def released(self, text: str, made: Json) -> tuple[str, Json]:
        """Enter the release in the log, and hand out."""
        body: Json = {
            "person": self.person.logged,
            "action": "anonymise",
            "charge": self.charge,
            "query": self.query.public(),
            "epsilon": "0",
            "delta": "0",
            "cohort": self.cohort.digest.hex(),
        }
        index = self.gateway.note("release", body | made)
        return text, made | {"log_index": index, "refused": None}


def _query(
    gateway: Gateway,
    technique: str,
    purpose: str,
    segment: Segment,
    start: int,
    end: int,
    every_s: int,
) -> Query:
    config = gateway.state.config
    if every_s < 1 or every_s % config.interval_s or (end - start) % every_s:
        raise ValueError(f"--every: a multiple of {config.interval_s} s that divides the range")
    return Query(
        "curve", start, end, config.interval_s, config.clip_wh, purpose, technique,
        tuple(sorted(segment.items())), resolution_s=every_s,
    )  # fmt: skip


def export_sums(
    gateway: Gateway,
    person: Person,
    purpose: str,
    *,
    segment: Segment,
    start: int,
    end: int,
    every_s: int,
    by: Sequence[str],
    least: int | None = None,
    share: Fraction | None = None,
) -> tuple[str, Json]:
    """CSV group,start,wh by the aggregation rule; rows that it forbids are left out. Refused.

    least, share: stricter than config.toml's, never laxer.
    """
    ask = _Ask(
        gateway,
        person,
        _query(gateway, "aggregate", purpose, segment, start, end, every_s),
    )
    release = gateway.state.config.release
    most = amount(release.dominance, "release.dominance")
    least, share = max(least or 0, release.group_min), min(share or most, most)
    for key in by:
        if key not in SEGMENTS:
            raise ValueError(f"--by {key!r} is not known: there are {', '.join(SEGMENTS)}")
    profiles = ask.profiles(by, least)
    groups = aggregate(profiles, by, every_s // profiles.interval_s, least, share)
    shown = sum(int((group.wh >= 0).sum()) for group in groups)
    if not shown:
        raise Refused("group_too_small", "no group and interval keeps the aggregation rule")
    rows = [
        (group.name, stamp(start + at * every_s), int(wh))
        for group in groups
        for at, wh in enumerate(group.wh)
        if wh >= 0
    ]
    made: Json = {
        "method": "aggregate",
        "rule": f"{least} homes at least, at most {float(share):.0%} of one",
        "every_s": every_s,
        "groups": len(groups),
        "values": shown,
        "left_out": sum(len(group.wh) for group in groups) - shown,
    }
    return ask.released(_csv(("group", "start", "wh"), rows), made)


def export_kept(
    gateway: Gateway, person: Person, purpose: str, *, start: int, end: int, every_s: int
) -> tuple[str, Json]:
    """CSV group,start,wh of the sums that stayed when readings were deleted. Refused.

    Who may be in them was decided, and remembered, when they were made: see retention.py.
    """
    query = _query(gateway, "aggregate", purpose, {}, start, end, every_s)
    ask = _Ask(gateway, person, query)
    least, steps = gateway.state.config.release.group_min, every_s // query.interval_s
    ask.permit(least)
    rows, left_out = [], 0
    for segment, wh in kept_series(ask.vault, start, end, least).items():
        for at, total in enumerate(coarsen(wh, steps).tolist()):
            if total >= 0:
                rows.append((segment, stamp(start + at * every_s), total))
            left_out += total < 0
    if not rows:
        raise Refused("no_data", "no sums were kept of this range")
    with gateway.state.transaction() as db:
        ask.cohort = history.kept(db, start, end)
        ask.cohort.store(db)
    made: Json = {
        "method": "kept",
        "rule": f"{least} homes at least; the share of one as it was when they were made",
        "every_s": every_s,
        "groups": len({row[0] for row in rows}),
        "values": len(rows),
        "left_out": left_out,
    }
    return ask.released(_csv(("group", "start", "wh"), rows), made)


def export_records(
    gateway: Gateway,
    person: Person,
    purpose: str,
    *,
    segment: Segment,
    start: int,
    end: int,
    k: int,
    l_diverse: int,
    window_s: int,
    most_suppressed: float,
) -> tuple[str, Json]:
    """CSV of k-anonymous records, each home under a new pseudonym in each window. Refused."""
    interval = gateway.state.config.interval_s
    query = _query(gateway, "k-anonymity", purpose, segment, start, end, interval)
    ask = _Ask(gateway, person, query)
    if k < LEAST_K:
        raise ValueError(f"k is {LEAST_K} at least")
    if start % DAY_S or end % DAY_S:
        raise ValueError("k-anonymous records are of whole days")
    profiles = ask.profiles()
    release = anonymise(profiles, k=k, l_diverse=l_diverse, window_s=window_s,
                        most_suppressed=most_suppressed)  # fmt: skip
    length = release.grid.steps * profiles.interval_s
    made: Json = {
        "method": "k-anonymity",
        "k": k,
        "l": l_diverse,
        "every_s": length,
        "band_wh": release.grid.band,
        "facts_kept": list(release.grid.kept),
        "window_s": window_s,
        "suppressed": round(release.suppressed, 4),
    }
    return ask.released(_records(release, profiles, window_s, length), made)


def _records(release: Release, profiles: Profiles, window_s: int, length: int) -> str:
    """pseudonym, facts, type, start, low and high end of the band in Wh; in random order."""
    head = ("pseudonym", "tariff", "region", "type", "start", "low_wh", "high_wh")
    rows = []
    shown = np.flatnonzero(release.shown)
    for at in np.random.default_rng().permutation(shown).tolist():
        name = secrets.token_hex(8)
        begins = profiles.start + int(release.window[at]) * window_s
        kind = profiles.facts[int(release.home[at])].get("type", "")
        for slot, low in enumerate(release.bands[at].tolist()):
            rows.append((name, *release.facts[at], kind, stamp(begins + slot * length),
                         low, low + release.grid.band))  # fmt: skip
    return _csv(head, rows)


def _csv(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()
