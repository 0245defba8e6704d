"""A question about a group: what, whom, when, and how it is to be protected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from wattveil.importers.readings import BadReading, parse_timestamp
from wattveil.privacy.config import Config, amount

KINDS = ("sum", "mean", "count", "quantile", "histogram", "curve")
UNITS = {
    "sum": "Wh",
    "mean": "Wh per meter and interval",
    "count": "meters",
    "quantile": "Wh per interval, of a meter's mean",
    "histogram": "meters",
    "curve": "Wh",
}
MAX_STEPS = 100_000  # values of one answer
MAX_EDGES = 1_000
MAX_CLIP_WH = 100_000_000
MAX_DENOMINATOR = 1_000  # of a quantile
MIN_EPSILON = Fraction(1, 10**6)

Json = dict[str, Any]


@dataclass(frozen=True)
class Query:
    """One question. [start, end) in UTC s; clip_wh bounds one reading of interval_s.

    epsilon: None for a technique that has none. resolution_s: of a curve's steps. at: which
    quantile. edges: of a histogram's bins over a meter's mean reading, Wh. above: a count's
    threshold of a meter's energy over the range, Wh. consistent: post-process for consistency.
    """

    kind: str
    start: int
    end: int
    interval_s: int
    clip_wh: int
    purpose: str
    technique: str = "dp"
    segment: tuple[tuple[str, str], ...] = ()
    epsilon: Fraction | None = None
    delta: Fraction = Fraction(0)
    resolution_s: int = 0
    at: Fraction = Fraction(1, 2)
    edges: tuple[int, ...] = ()
    above: int | None = None
    consistent: bool = False

    @property
    def intervals(self) -> int:
        """Readings of one meter in the range."""
        return (self.end - self.start) // self.interval_s

    @property
    def steps(self) -> int:
        """Values of a curve."""
        return (self.end - self.start) // self.resolution_s

    @property
    def unit(self) -> str:
        """Whom the answer protects."""
        return f"one meter over [{stamp(self.start)}, {stamp(self.end)})"

    def public(self) -> Json:
        """The question, for the log."""
        shown: Json = {
            "kind": self.kind,
            "technique": self.technique,
            "purpose": self.purpose,
            "segment": dict(self.segment),
            "start": stamp(self.start),
            "end": stamp(self.end),
            "clip_wh": self.clip_wh,
        }
        if self.kind == "curve":
            shown["resolution_s"] = self.resolution_s
        return shown

    def template(self, group_min: int) -> Json:
        """An answer with nothing in it yet; an answer, a preview and a refusal fill it."""
        return {
            "query": self.kind,
            "technique": self.technique,
            "unit": self.unit,
            "value_unit": UNITS[self.kind],
            "segment": dict(self.segment),
            "epsilon": None if self.epsilon is None else float(self.epsilon),
            "delta": float(self.delta),
            "mechanism": None,
            "scale": None,
            "clip_wh": self.clip_wh,
            "norm": None,
            "group_min": group_min,
            "post_processing": [],
            "values": [],
            "spent": None,
            "remaining": None,
            "budget": None,
            "log_index": None,
            "refused": None,
        }

    def spans(self) -> list[Json]:
        """Start and end of every value of the answer."""
        if self.kind == "histogram":
            whole = {"start": stamp(self.start), "end": stamp(self.end)}
            return [whole | {"bin_wh": [low, high]} for low, high in self.bins()]
        length = self.resolution_s if self.kind == "curve" else self.end - self.start
        return [
            {"start": stamp(at), "end": stamp(at + length)}
            for at in range(self.start, self.end, length)
        ]

    def bins(self) -> list[tuple[int, int]]:
        """Half-open bins but the last, which holds its upper edge, the clip, too."""
        return list(zip(self.edges, self.edges[1:], strict=False))


def stamp(at: int) -> str:
    """UTC seconds as text."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str, name: str) -> int:
    """An ISO 8601 time with an offset, or a date, which is its UTC midnight; ValueError."""
    try:
        return parse_timestamp(text if "T" in text.upper() else f"{text}T00:00:00Z")
    except BadReading as bad:
        raise ValueError(f"{name}: {bad.reason}; {bad.todo}") from None


def default_edges(clip: int) -> tuple[int, ...]:
    """Doubling bins below the clip, public like it: 0, ... clip/4, clip/2, clip."""
    edges = {0, clip} | {clip >> k for k in range(1, 8)}
    return tuple(sorted(edges))


def make(
    config: Config,
    kind: str,
    start: str,
    end: str,
    purpose: str,
    *,
    technique: str = "dp",
    segment: Sequence[str] = (),
    epsilon: str | None = None,
    delta: str | None = None,
    clip: int | None = None,
    resolution: int | None = None,
    at: str = "0.5",
    edges: str | None = None,
    above: int | None = None,
    consistent: bool = False,
) -> Query:
    """A query from what a person or program wrote; ValueError says what to write instead."""
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no query: there are {', '.join(KINDS)}")
    first, last = parse_time(start, "from"), parse_time(end, "to")
    interval = config.interval_s
    if first % interval or last % interval or last <= first:
        raise ValueError(f"from and to are multiples of {interval} s, and to is after from")
    step = interval if resolution is None else resolution
    if step < 1 or step % interval or (last - first) % step:
        raise ValueError(f"resolution: a multiple of {interval} s that divides the range")
    if (last - first) // step > MAX_STEPS:
        raise ValueError(f"at most {MAX_STEPS:,} values: choose a coarser --resolution")
    bound = config.clip_wh if clip is None else clip
    if not 1 <= bound <= MAX_CLIP_WH:
        raise ValueError(f"clip: between 1 and {MAX_CLIP_WH:,} Wh in one interval")
    if technique == "dp" and epsilon is None:
        raise ValueError("technique dp needs --epsilon")
    if technique == "aggregate" and (epsilon, delta, clip) != (None,) * 3:
        # Exact sums under two bounds would tell how many readings lie between them.
        raise ValueError("technique aggregate: leave --epsilon, --dp-delta and --clip out")
    quantile = amount(at, "quantile")
    if quantile >= 1 or quantile.denominator > MAX_DENOMINATOR:
        raise ValueError(f"quantile: between 0 and 1, in steps of 1/{MAX_DENOMINATOR} or coarser")
    if above is not None and above < 0:
        raise ValueError("above: Wh, not negative")
    return Query(
        kind=kind,
        start=first,
        end=last,
        interval_s=interval,
        clip_wh=bound,
        purpose=purpose,
        technique=technique,
        segment=_segment(segment),
        epsilon=None if epsilon is None else _epsilon(epsilon),
        delta=_delta(delta),
        resolution_s=step if kind == "curve" else last - first,
        at=quantile,
        edges=_edges(edges, bound) if kind == "histogram" else (),
        above=above,
        consistent=consistent,
    )


def _epsilon(text: str) -> Fraction:
    epsilon = amount(text, "epsilon")
    if not MIN_EPSILON <= epsilon <= 1 / MIN_EPSILON:
        raise ValueError("epsilon: between 0.000001 and 1000000")
    return epsilon


def _delta(text: str | None) -> Fraction:
    if text is None or text in ("0", "0.0"):
        return Fraction(0)
    delta = amount(text, "dp-delta")
    if not Fraction(1, 10**15) <= delta < 1:
        raise ValueError("dp-delta: a small chance, like 1e-6, and not below 1e-15")
    return delta


def _segment(parts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or not key or not value or key in found:
            raise ValueError(f"segment {part!r}: write KEY=VALUE, each key once")
        found[key] = value
    return tuple(sorted(found.items()))


def _edges(text: str | None, clip: int) -> tuple[int, ...]:
    if text is None:
        return default_edges(clip)
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise ValueError("bins: whole Wh, ascending, like 0,100,200,400")
    edges = tuple(int(part) for part in parts)
    if not 2 <= len(edges) <= MAX_EDGES or list(edges) != sorted(set(edges)):
        raise ValueError("bins: at least two edges, ascending")
    if edges[0] != 0 or edges[-1] < clip:
        raise ValueError(
            f"bins: from 0 to the clip of {clip} Wh or beyond, so that no meter is lost"
        )
    return edges
