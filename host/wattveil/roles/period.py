"""One period at the cloud: what came in, the set it closed over, and its rows in the store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from wattveil.roles.common import decode_members, encode_members
from wattveil.roles.effects import Drop, Effect, Save
from wattveil.roles.running import Running
from wattveil_meter.fields import pack, unpack

OPEN, CLOSING, OPENING, DONE = "open", "closing", "opening", "done"
WRONG_RECORD = "wrong_record"
RECEIPT = 16  # bytes


def receipt(pair: bytes) -> bytes:
    """What is kept of a report, so that a meter that lost its answer gets it again."""
    return hashlib.sha256(pair).digest()[:RECEIPT]


@dataclass
class Period:
    """Everything about one start (UTC s).

    open: meters upload. closing: S is fixed and on disk, the dealer is asked. opening: the
    ciphertexts are fixed and on disk, the centre is asked. done: only outcome and numbers left.
    """

    start: int
    size: int  # of the roster
    phase: str = OPEN
    members: bytes = b""  # S once closing
    outcome: str | None = None
    opening: bytes = field(default=b"", repr=False)  # payload of OPEN
    rows: dict[int, list[bytes]] = field(default_factory=dict, repr=False)
    slots: dict[int, dict[int, bytes]] = field(default_factory=dict, repr=False)
    reports: dict[int, bytes] = field(default_factory=dict, repr=False)
    absent: set[int] = field(default_factory=set)
    waiting: set[int] = field(default_factory=set)  # suites without slots: see `prepared`
    stored: bool = False  # the period's own row is on disk
    ended: float | None = None  # mono when our clock was first seen at or past the end
    kept: tuple[list[int], list[int], list[int]] = ([], [], [])  # prepared, reported, absent
    receipts: dict[int, bytes] = field(default_factory=dict, repr=False)  # of reports, once done
    running: Running | None = field(default=None, repr=False)  # of the reports, and their slots

    def prepared(self, slots: int) -> list[int]:
        """Meters whose slots are all stored.

        Without slots: those that have asked for the time since they pulled their rows, which a
        meter does when it has nothing left to do but wait for the period's end.
        """
        if self.phase == DONE:
            return self.kept[0]
        if not slots:
            return sorted(self.waiting | set(self.reports))
        return sorted(number for number, have in self.slots.items() if len(have) == slots)

    def status(self, slots: int) -> dict[str, object]:
        """Numbers and outcome."""
        done = self.phase == DONE
        return {
            "prepared": self.prepared(slots),
            "reported": self.kept[1] if done else sorted(self.reports),
            "absent": self.kept[2] if done else sorted(self.absent),
            "outcome": self.outcome,
        }

    def shown(self, number: int) -> dict[str, object]:
        """One meter's ciphertexts as they came, in plain JSON types."""
        slots = self.slots.get(number, {})
        return {
            "start": self.start,
            "meter": number,
            "slots": [slots[slot].hex() for slot in sorted(slots)],
            "report": self.reports[number].hex(),
        }

    def steps(self) -> int:
        """How much has come in: it grows while meters get on."""
        return len(self.rows) + sum(map(len, self.slots.values())) + len(self.reports)

    def accounted(self, out: set[int]) -> bool:
        """Every meter of the roster has reported or will not; those in `out` do not matter."""
        # Nobody has reported and is absent: asked after every report, this must not grow with m.
        gone = sum(number not in self.reports and number not in self.absent for number in out)
        return len(self.reports) + len(self.absent) + gone == self.size

    # --- the store ------------------------------------------------------------------------------

    def save(self, fingerprint: bytes) -> Save:
        """The period's own row."""
        texts = (self.phase.encode(), (self.outcome or "").encode())
        kept = [encode_members(numbers, self.size) for numbers in self.kept]
        receipts = b"".join(self.receipts[number] for number in sorted(self.receipts))
        parts = (*texts, self.size.to_bytes(4, "little"), self.members, *kept, receipts)
        return Save("period", str(self.start), pack(fingerprint, *parts))

    def drops(self) -> list[Effect]:
        """All rows but the period's own and the bits."""
        effects: list[Effect] = [Drop("rows", f"{self.start}:{n}") for n in self.rows]
        for number, have in self.slots.items():
            effects += [Drop("slot", f"{self.start}:{number}:{slot}") for slot in have]
        effects += [Drop("report", f"{self.start}:{n}") for n in self.reports]
        effects += [Drop("absent", f"{self.start}:{n}") for n in self.absent]
        if self.opening:
            effects.append(Drop("opening", str(self.start)))
        return effects

    def finish(self, outcome: str, slots: int, fingerprint: bytes) -> list[Effect]:
        """The outcome is known: drop what was collected, keep the numbers."""
        effects = self.drops()
        self.kept = (self.prepared(slots), sorted(self.reports), sorted(self.absent))
        self.receipts = {number: receipt(pair) for number, pair in self.reports.items()}
        self.phase, self.outcome = DONE, outcome
        self.forget()
        return [*effects, self.save(fingerprint)]

    def forget(self) -> None:
        """What was collected is of no more use."""
        self.rows, self.slots, self.reports, self.absent = {}, {}, {}, set()
        self.waiting = set()
        self.opening = b""
        self.running = None


def restore_periods(
    load: Mapping[str, Mapping[str, bytes]], pair_bytes: int
) -> tuple[dict[int, Period], dict[int, bytes]]:
    """All periods by start, and the fingerprint each belongs to."""
    periods: dict[int, Period] = {}
    for kind in KINDS:
        for key, row in load[kind].items():
            take_row(periods, kind, key, row, pair_bytes)
    fingerprints = {int(key): unpack(row, 9)[0] for key, row in load["period"].items()}
    return periods, fingerprints


def take_row(periods: dict[int, Period], kind: str, key: str, row: bytes, pair_bytes: int) -> None:
    """Take up a stored row of one of KINDS; a period's own before its others."""
    start, *numbers = map(int, key.split(":"))
    if kind == "period":
        _take_period(periods, start, row)
    elif kind == "rows":
        pairs = [row[at : at + pair_bytes] for at in range(0, len(row), pair_bytes)]
        periods[start].rows[numbers[0]] = pairs
    elif kind == "slot":
        periods[start].slots.setdefault(numbers[0], {})[numbers[1]] = row
    elif kind == "report":
        periods[start].reports[numbers[0]] = row
    elif kind == "absent":
        periods[start].absent.add(numbers[0])
    else:
        periods[start].opening = row


def _take_period(periods: dict[int, Period], start: int, row: bytes) -> None:
    _, phase, outcome, size, members, *kept, receipts = unpack(row, 9)
    meters = int.from_bytes(size, "little")
    period = periods.setdefault(start, Period(start, meters))
    period.phase, period.outcome = phase.decode(), outcome.decode() or None
    period.members, period.stored = members, True
    prepared, reported, absent = (decode_members(b, meters) or [] for b in kept)
    period.kept = (prepared, reported, absent)
    for i, number in enumerate(reported):
        period.receipts[number] = receipts[RECEIPT * i : RECEIPT * (i + 1)]
    if period.phase == DONE:
        period.forget()


KINDS = ("period", "rows", "slot", "report", "absent", "opening")
