"""One customer's readings as a Green Button file: ESPI 3.3 (NAESB REQ.21) in an Atom feed.

UsagePoint, LocalTimeParameters left out (times are UTC), MeterReading, ReadingType and one
IntervalBlock for each run of readings without a gap, at most a day long. The addresses and UUIDs
are derived from the meter id under a key: nothing in the file but the readings tells whose it is.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from wattveil.importers.greenbutton import ATOM, ESPI

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
MAX_BLOCK_S = 86_400


def to_xml(readings: Iterable[tuple[int, int]], interval_s: int, name: bytes, now: int) -> str:
    """(start in UTC s, Wh) of half-open intervals, in order, as XML.

    name: secret of this customer's addresses; now: UTC s, of the feed.
    """
    base = f"/espi/1_1/resource/RetailCustomer/{_uuid(name, 'customer')}/UsagePoint/1"
    reading = f"{base}/MeterReading/1"
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def entry(kind: str, own: str, up: str, related: list[tuple[str, str]], content: str) -> str:
        relations = [("self", own, f"espi-entry/{kind}"), ("up", up, f"espi-feed/{kind}")]
        relations += [("related", href, type_) for href, type_ in related]
        links = "".join(
            f'<link rel="{rel}" href="{href}" type="{type_}"/>' for rel, href, type_ in relations
        )
        return (
            f"<entry><id>urn:uuid:{_uuid(name, own)}</id>{links}<title>{kind}</title>"
            f'<content type="application/xml">{content}</content><published>{stamp}</published>'
            f"<updated>{stamp}</updated></entry>\n"
        )

    kind = "/espi/1_1/resource/ReadingType/1"
    parts = [
        (f'{_HEAD}<feed xmlns="{ATOM}" xmlns:espi="{ESPI}">'
        f"<id>urn:uuid:{_uuid(name, 'feed')}</id><title>Green Button Usage Feed</title>"
        f'<updated>{stamp}</updated><link rel="self" href="{base}/feed" type="application/atom+xml"/>\n'),
        entry(
            "UsagePoint", base, base.rpartition("/")[0], [(f"{base}/MeterReading", "espi-feed/MeterReading")],
            "<espi:UsagePoint><espi:ServiceCategory><espi:kind>0</espi:kind>"
            "</espi:ServiceCategory></espi:UsagePoint>",
        ),
        entry(
            "MeterReading", reading, f"{base}/MeterReading",
            [(f"{reading}/IntervalBlock", "espi-feed/IntervalBlock"),
             (kind, "espi-entry/ReadingType")], "<espi:MeterReading/>",
        ),
        entry("ReadingType", kind, kind.rpartition("/")[0], [], _reading_type(interval_s)),
    ]  # fmt: skip
    for number, block in enumerate(_blocks(readings, interval_s), 1):
        own = f"{reading}/IntervalBlock/{number}"
        up = f"{reading}/IntervalBlock"
        parts.append(entry("IntervalBlock", own, up, [], _interval_block(block, interval_s)))
    return "".join(parts) + "</feed>\n"


def _uuid(name: bytes, what: str) -> uuid.UUID:
    return uuid.UUID(bytes=hmac.digest(name, what.encode(), "sha256")[:16], version=4)


def _reading_type(interval_s: int) -> str:
    """Delivered electrical energy, deltas, in Wh."""
    values = (
        ("accumulationBehaviour", 4), ("commodity", 1), ("dataQualifier", 12),
        ("flowDirection", 1), ("intervalLength", interval_s), ("kind", 12),
        ("powerOfTenMultiplier", 0), ("uom", 72),
    )  # fmt: skip
    inside = "".join(f"<espi:{tag}>{value}</espi:{tag}>" for tag, value in values)
    return f"<espi:ReadingType>{inside}</espi:ReadingType>"


def _blocks(
    readings: Iterable[tuple[int, int]], interval_s: int
) -> Iterator[list[tuple[int, int]]]:
    block: list[tuple[int, int]] = []
    for start, wh in readings:
        if block and (start != block[-1][0] + interval_s or start % MAX_BLOCK_S == 0):
            yield block
            block = []
        block.append((start, wh))
    if block:
        yield block


def _interval_block(block: list[tuple[int, int]], interval_s: int) -> str:
    inside = "".join(
        f"<espi:IntervalReading>{_period(start, interval_s)}<espi:value>{wh}</espi:value>"
        "</espi:IntervalReading>"
        for start, wh in block
    )
    whole = len(block) * interval_s
    span = f"<espi:duration>{whole}</espi:duration><espi:start>{block[0][0]}</espi:start>"
    return (
        f"<espi:IntervalBlock><espi:interval>{span}</espi:interval>{inside}</espi:IntervalBlock>"
    )


def _period(start: int, length: int) -> str:
    return (
        f"<espi:timePeriod><espi:duration>{length}</espi:duration>"
        f"<espi:start>{start}</espi:start></espi:timePeriod>"
    )
