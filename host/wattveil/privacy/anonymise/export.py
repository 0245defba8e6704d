"""Anonymised exports out of the vault, through the gateway."""

from __future__ import annotations

import csv
import io
import secrets
import time
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from wattveil.privacy.anonymise.kanonymity import DAY_S, Release, anonymise
from wattveil.privacy.anonymise.profiles import Profiles, of_blocks
from wattveil.privacy.anonymise.rule import aggregate, grouped
from wattveil.privacy.config import amount
from wattveil.privacy.contracts import Json, Segment
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.history import Asking, remember
from wattveil.privacy.people import Person
from wattveil.privacy.query.ask import Query, stamp
from wattveil.privacy.refusals import Refused
from wattveil.privacy.vault.identities import SEGMENTS
from wattveil.privacy.vault.vault import Vault, as_bytes

LEAST_K = 5
MAX_READINGS = 50_000_000  # held at once, 8 bytes each and as many again on the way


class _Ask:
    """Who asks for which homes and when; the decision is the gateway's."""

    def __init__(
        self,
        gateway: Gateway,
        person: Person,
        purpose: str,
        segment: Segment,
        start: int,
        end: int,
    ) -> None:
        self.gateway, self.person, self.purpose = gateway, person, purpose
        self.segment, self.start, self.end = segment, start, end
        self.vault: Vault = gateway.state.vault()

    def profiles(
        self, technique: str, resolution_s: int, by: Sequence[str] | None = None, least: int = 0
    ) -> Profiles:
        """The readings, once the policy has permitted. by, least: of exact sums. Refused, ValueError."""
        members = self.vault.members(self.segment, self.start, self.end)
        release = self.gateway.state.config.release
        context = {
            "purpose": self.purpose,
            "technique": technique,
            "members": len(members),
            "group_min": release.group_min,
            "resolution_s": resolution_s,
        }
        self.gateway.permit(self.person, "anonymise", {}, context)
        readings = len(members) * ((self.end - self.start) // self.vault.interval_s)
        if readings > MAX_READINGS:
            raise ValueError(
                f"{readings} readings at once, at most {MAX_READINGS}: ask for less time"
            )
        first = self.start // DAY_S
        epoch = self.vault.catalogue.epoch_of(first, -(-self.end // DAY_S))
        known = self.vault.catalogue.segments(epoch)
        facts = {p: dict(zip(SEGMENTS, known[as_bytes(p)], strict=True)) for p in members}
        if by is not None:
            order = list(facts)
            groups = grouped([facts[p] for p in order], by, least).values()
            self._remember([[order[i] for i in who] for who in groups], resolution_s)
        blocks = self.vault.blocks(members, self.start, self.end)
        return of_blocks(blocks, facts, self.start, self.vault.interval_s)

    def _remember(self, groups: list[list[str]], every_s: int) -> None:
        """Enter the groups among what was asked: no two exact answers may differ in a few homes."""
        gateway, config = self.gateway, self.gateway.state.config
        query = Query(
            "curve", self.start, self.end, config.interval_s, config.clip_wh, self.purpose,
            "aggregate", tuple(sorted(self.segment.items())), resolution_s=every_s,
        )  # fmt: skip
        with gateway.state.transaction() as db:
            for members in groups:
                subjects = gateway.accountant.subjects(self.vault.meter_ids(members))
                charge = f"anonymise:{secrets.token_hex(8)}"
                asking = Asking(charge, int(time.time()), str(self.person), query, subjects)
                for alarm in remember(db, asking, config.release.group_min):
                    gateway.note("alarm", {"alarm": alarm.kind, "person": self.person.logged,
                                           "charge": charge, "earlier": alarm.earlier})  # fmt: skip

    def released(self, text: str, made: Json) -> tuple[str, Json]:
        """Enter the release in the log, and hand out."""
        body = {
            "person": self.person.logged,
            "action": "anonymise",
            "purpose": self.purpose,
            "segment": dict(self.segment),
            "start": self.start,
            "end": self.end,
        }
        index = self.gateway.note("release", body | made)
        return text, made | {"log_index": index, "refused": None}


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
    ask = _Ask(gateway, person, purpose, segment, start, end)
    release = gateway.state.config.release
    most = amount(release.dominance, "release.dominance")
    least, share = max(least or 0, release.group_min), min(share or most, most)
    interval = ask.vault.interval_s
    if every_s % interval or (end - start) % every_s:
        raise ValueError(f"--every must be a multiple of {interval} s that divides the range")
    for key in by:
        if key not in SEGMENTS:
            raise ValueError(f"--by {key!r} is not known: there are {', '.join(SEGMENTS)}")
    profiles = ask.profiles("aggregate", every_s, by, least)
    groups = aggregate(profiles, by, every_s // interval, least, share)
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
    ask = _Ask(gateway, person, purpose, segment, start, end)
    if k < LEAST_K:
        raise ValueError(f"k is {LEAST_K} at least")
    if start % DAY_S or end % DAY_S:
        raise ValueError("k-anonymous records are of whole days")
    profiles = ask.profiles("k-anonymity", ask.vault.interval_s)
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
