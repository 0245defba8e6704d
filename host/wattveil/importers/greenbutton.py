"""Reader of Green Button files: ESPI (NAESB REQ.21) resources in an Atom feed.

What is used of a feed: UsagePoint -> MeterReading -> ReadingType and IntervalBlock, tied together by
their `self`, `up` and `related` links.  A series counts when it is electrical energy that was
delivered (flowDirection forward), interval by interval (accumulationBehaviour deltaData), in Wh
(uom 72) times any power of ten.  Of several such series of one usage point the one with the
shortest intervals is taken; everything that is not taken is said.

Times are UTC seconds, as ESPI has them; LocalTimeParameters only say how to show them, so they
are not applied.  Where the unit is finer than 1 Wh, what an interval leaves over is carried into
the next, so that a series of consecutive intervals keeps its sum to 1 Wh.

XML is read by defusedxml's SAX reader: no DTD, no entities, nothing external; depth and text are
limited here.
"""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass, field
from typing import Any
from xml.sax import SAXException, SAXParseException
from xml.sax.handler import ContentHandler, feature_namespaces
from xml.sax.xmlreader import Locator

from defusedxml.common import DefusedXmlException
from defusedxml.expatreader import create_parser

from .readings import MAX_WH, DataError
from .series import Interval, Note

ESPI = "http://naesb.org/espi"
ATOM = "http://www.w3.org/2005/Atom"
MAX_DEPTH = 64
MAX_TEXT = 4096  # characters of one value
_RESOURCES = ("UsagePoint", "MeterReading", "ReadingType", "IntervalBlock", "LocalTimeParameters")
_SECOND = "not used: another series of the same usage point"
_INTEGER = re.compile(r"[+-]?\d{1,19}", re.ASCII)
_UUID = re.compile(r"urn:uuid:([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.IGNORECASE)


@dataclass
class _Entry:
    """One Atom entry: its links, the resource in it, and what was found of that resource's values."""

    line: int
    kind: str = ""
    identity: str = ""
    links: dict[str, list[str]] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    readings: list[tuple[int, dict[str, str]]] = field(default_factory=list)

    def linked(self, relation: str) -> list[str]:
        return self.links.get(relation, [])


class _Reader(ContentHandler):
    """Collects the entries; the path of open elements says where a value belongs."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self.entries: list[_Entry] = []
        self._file = file
        self._where = Locator()
        self._path: list[str] = []
        self._text: list[str] | None = None
        self._size = 0
        self._entry: _Entry | None = None
        self._reading: dict[str, str] | None = None

    def setDocumentLocator(self, locator: Locator) -> None:
        self._where = locator

    def fail(self, reason: str, todo: str = "ask the utility for a whole file") -> DataError:
        """The error at the place where the parser is."""
        line, column = self._where.getLineNumber(), self._where.getColumnNumber()
        return DataError(self._file, line or 1, (column or 0) + 1, reason, todo)

    def startElementNS(self, name: Any, qname: str | None, attrs: Any) -> None:
        space, local = name
        if not self._path and local != "feed":
            raise self.fail(
                f"the document is a {local[:40]!r}, no Atom feed", "give Green Button XML"
            )
        if len(self._path) == MAX_DEPTH:
            raise self.fail(f"more than {MAX_DEPTH} elements within each other")
        known = space in (ESPI, ATOM) or not space
        self._path.append(local if known else "")
        self._text, self._size = [], 0
        line = self._where.getLineNumber() or 1
        entry = self._entry
        if local == "entry" and space == ATOM:
            self._entry = _Entry(line)
        elif entry is None:
            return
        elif local == "link":
            relation, href = attrs.get((None, "rel")), attrs.get((None, "href"))
            if relation and href:
                entry.links.setdefault(relation, []).append(href)
        elif space == ESPI and local in _RESOURCES and not entry.kind:
            entry.kind = local
        elif space == ESPI and local == "IntervalReading":
            self._reading = {}
            entry.readings.append((line, self._reading))

    def characters(self, content: str) -> None:
        if self._text is not None:
            self._size += len(content)
            if self._size > MAX_TEXT:
                raise self.fail(f"a value of more than {MAX_TEXT} characters")
            self._text.append(content)

    def endElementNS(self, name: Any, qname: str | None) -> None:
        _, local = name
        text = "".join(self._text).strip() if self._text is not None else ""
        self._text = None
        path, entry = self._path, self._entry
        if entry is not None and local == "entry":
            self.entries.append(entry)
            self._entry = None
        elif entry is not None and text:
            parent = path[-2]
            if local == "id" and parent == "entry":
                entry.identity = text
            elif self._reading is not None and parent in ("IntervalReading", "timePeriod"):
                self._reading.setdefault(local, text)
            elif parent == entry.kind or parent == "ServiceCategory":
                entry.values.setdefault(local, text)
        if local == "IntervalReading":
            self._reading = None
        path.pop()


def _integer(values: dict[str, str], key: str, default: int | None = None) -> int | None:
    """The value as an integer; `default` when it is not there, None when it is none."""
    text = values.get(key)
    if text is None:
        return default
    return int(text) if _INTEGER.fullmatch(text) else None


def _parse(file: str, data: bytes) -> list[_Entry]:
    reader = _Reader(file)
    parser: Any = create_parser(forbid_dtd=True, forbid_entities=True, forbid_external=True)
    parser.setFeature(feature_namespaces, True)
    parser.setContentHandler(reader)
    try:
        parser.parse(io.BytesIO(data))
    except DefusedXmlException as error:
        reason = f"the XML has a {'DTD' if 'DTD' in type(error).__name__ else 'entity or external part'}"
        raise reader.fail(reason, "Green Button files need none: do not trust this one") from None
    except SAXParseException as error:
        line, column = error.getLineNumber() or 1, error.getColumnNumber() or 0
        reason = f"not well-formed XML: {error.getMessage()}"
        raise DataError(file, line, column + 1, reason, "download the file again") from None
    except (SAXException, UnicodeError, ValueError, LookupError) as error:
        if isinstance(error, DataError):
            raise
        raise reader.fail(f"the XML cannot be read: {error}") from None
    return reader.entries


class _Feed:
    """The entries of a file and their relations."""

    def __init__(self, entries: list[_Entry]) -> None:
        self.of_kind = {kind: [e for e in entries if e.kind == kind] for kind in _RESOURCES}

    def _one(self, kind: str, wanted: list[str], below: str = "") -> _Entry | None:
        """The resource one of whose own addresses (with `below` after it) is wanted, or the only one."""
        found = self.of_kind[kind]
        for entry in found:
            own = {href.rstrip("/") + below for href in entry.linked("self")}
            if own & {href.rstrip("/") for href in wanted}:
                return entry
            if below and set(entry.linked("related")) & set(wanted):
                return entry
        return found[0] if len(found) == 1 else None

    def meter_reading(self, block: _Entry) -> _Entry | None:
        return self._one("MeterReading", block.linked("up"), "/IntervalBlock")

    def reading_type(self, meter: _Entry) -> _Entry | None:
        return self._one("ReadingType", meter.linked("related"))

    def usage_point(self, meter: _Entry) -> _Entry | None:
        return self._one("UsagePoint", meter.linked("up"), "/MeterReading")


def _why_not(kind: _Entry, point: _Entry) -> str:
    """Why a series of this type is not delivered energy in Wh; empty when it is."""
    for values, key, allowed, what in (
        (point.values, "kind", (0,), "the service is not electricity"),
        (kind.values, "commodity", (0, 1, 2), "the commodity is not electricity"),
        (kind.values, "uom", (72,), "the unit is not Wh"),
        (kind.values, "accumulationBehaviour", (0, 4), "the values are not per interval"),
        (kind.values, "flowDirection", (0, 1), "the flow is not delivery to the customer"),
    ):
        default = None if key == "uom" else allowed[0]
        if _integer(values, key, default) not in allowed:
            return f"{what} ({key} {values.get(key, 'missing')[:20]!r})"
    power = _integer(kind.values, "powerOfTenMultiplier", 0)
    if power is None or not -12 <= power <= 12:
        return "powerOfTenMultiplier is not -12 to 12"
    return ""


def _meter_id(point: _Entry) -> str:
    """32 bytes that no other usage point has: the digits of its UUID, or of a hash of its identity."""
    match = _UUID.fullmatch(point.identity)
    if match:
        return match[1].replace("-", "").lower()
    return (
        "gb-"
        + hashlib.sha256((point.identity or str(point.linked("self"))).encode()).hexdigest()[:16]
    )


def _series(
    file: str, kind: _Entry, blocks: list[_Entry], meter: str, notes: list[Note]
) -> list[Interval]:
    power = _integer(kind.values, "powerOfTenMultiplier", 0) or 0
    length = _integer(kind.values, "intervalLength", 0)
    raw: list[tuple[int, int, int, int]] = []  # start, duration, value, line
    for block in blocks:
        for line, values in block.readings:
            start, duration = _integer(values, "start"), _integer(values, "duration")
            value = _integer(values, "value")
            if start is None or duration is None or value is None:
                missing = [
                    k for k in ("start", "duration", "value") if _integer(values, k) is None
                ]
                notes.append(Note(file, line, f"no whole number as {' and '.join(missing)}"))
            elif not 0 <= start < 4_102_444_800:
                notes.append(Note(file, line, f"start {start} is not between 1970 and 2099"))
            elif duration < 1 or (length and duration != length):
                notes.append(
                    Note(file, line, f"duration {duration} s, but the type says {length} s")
                )
            elif not 0 <= value * 10 ** max(power, 0) // 10 ** max(-power, 0) <= MAX_WH:
                notes.append(Note(file, line, f"value {value} is negative or above {MAX_WH} Wh"))
            else:
                raw.append((start, duration, value, line))
    found, rest, end = [], 0, None
    for start, duration, value, line in sorted(raw):
        if start != end:
            rest = 0
        wh, rest = divmod(value * 10 ** max(power, 0) + rest, 10 ** max(-power, 0))
        found.append(Interval(meter, start, duration, wh, file, line))
        end = start + duration
    return found


def read_greenbutton(file: str, data: bytes, notes: list[Note]) -> list[Interval]:
    """The delivered energy in a Green Button file; DataError when it is none or is broken."""
    feed = _Feed(_parse(file, data))
    blocks: dict[int, tuple[_Entry, list[_Entry]]] = {}
    for block in feed.of_kind["IntervalBlock"]:
        meter = feed.meter_reading(block)
        if meter is None:
            notes.append(Note(file, block.line, "an IntervalBlock of no MeterReading in the file"))
        else:
            blocks.setdefault(id(meter), (meter, []))[1].append(block)
    best: dict[str, tuple[list[Interval], _Entry]] = {}
    for meter, own in blocks.values():
        kind, point = feed.reading_type(meter), feed.usage_point(meter)
        if kind is None or point is None:
            what = "ReadingType" if kind is None else "UsagePoint"
            notes.append(Note(file, meter.line, f"a MeterReading of no {what} in the file"))
            continue
        reason = _why_not(kind, point)
        if reason:
            notes.append(Note(file, meter.line, f"not used: {reason}", bad=False))
            continue
        name = _meter_id(point)
        series = _series(file, kind, own, name, notes)
        if not series:
            continue
        before = best.get(name)
        if before and before[0][0].duration <= series[0].duration:
            notes.append(Note(file, meter.line, _SECOND, bad=False))
            continue
        if before:
            notes.append(Note(file, before[1].line, _SECOND, bad=False))
        best[name] = (series, meter)
    return [interval for series, _ in best.values() for interval in series]
