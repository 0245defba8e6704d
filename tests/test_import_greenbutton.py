"""Green Button: sums, units and intervals; broken, hostile and random XML is refused with line and reason."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from importing import FIXTURES, REAL, needs_real, put, read
from wattveil.importers.greenbutton import read_greenbutton
from wattveil.importers.readings import DataError
from wattveil.importers.series import Note

HOURLY = (FIXTURES / "greenbutton/hourly.xml").read_text()
SOLAR = (FIXTURES / "greenbutton/solar.xml").read_text()


def test_hours_with_one_missing() -> None:
    found, data, notes = read(FIXTURES / "greenbutton/hourly.xml")
    assert data is not None and not notes and found[0].format == "green button"
    (meter,) = data.meters
    assert re.fullmatch("[0-9a-f]{32}", meter)
    assert (data.period_s, len(data.starts), data.present) == (3600, 72, 71)
    # local midnight of tzOffset -28800 and the reading that is not there; UTC as in the file
    assert data.starts[0] == 1_772_928_000 + 28_800
    assert data.get(meter, data.starts[0] + 29 * 3600) is None
    values = [100 + 7 * hour + day for day in range(3) for hour in range(24)]
    assert list(data.values[meter].values()) == values[:29] + values[30:]


def test_multiplier_with_the_remainder_carried_and_what_is_not_used() -> None:
    _, data, notes = read(FIXTURES / "greenbutton/solar.xml")
    assert data is not None and len(data.meters) == 1 and data.period_s == 900
    mwh = [62_500 + 333 * k for k in range(8)]
    (row,) = data.values.values()
    assert sum(row.values()) == sum(mwh) // 1000
    carried = [sum(mwh[: k + 1]) // 1000 - sum(mwh[:k]) // 1000 for k in range(8)]
    assert list(row.values()) == carried
    assert [(note.reason, note.bad) for note in notes] == [
        ("not used: another series of the same usage point", False),
        ("not used: the flow is not delivery to the customer (flowDirection '19')", False),
        ("not used: the service is not electricity (kind '1')", False),
    ]
    for note in notes:  # the line of the MeterReading's entry
        entry = SOLAR.splitlines()[note.line - 1 :]
        assert entry[0].strip() == "<entry>"
        assert "<MeterReading " in "".join(entry[: entry.index("  </entry>")])


def one_bad(folder: Path, old: str, new: str) -> list[Note]:
    """Notes on the hourly file with one thing in it changed; at most the changed reading is lost."""
    assert old in HOURLY
    changed = HOURLY.replace(old, new, 1)
    _, data, notes = read(put(folder, changed))
    assert data is not None and data.present == 70
    (line,) = {note.line for note in notes}
    assert "<IntervalReading>" in changed.splitlines()[line - 1]
    return notes


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("<value>107</value>", "<value>10.7</value>", "no whole number as value"),
        ("<value>107</value>", "<value>-107</value>", "value -107 is negative"),
        ("<value>107</value>", "", "no whole number as value"),
        ("<value>107</value>", "<value>9999999999</value>", "above 999999999 Wh"),
        ("<duration>3600</duration>", "<duration>1800</duration>", "the type says 3600 s"),
        ("<duration>3600</duration>", "<duration>0</duration>", "duration 0 s"),
        (
            "<start>1772956800</start></timePeriod>",
            "<start>-5</start></timePeriod>",
            "not between 1970",
        ),
        ("<start>1772956800</start></timePeriod>", "<start>now</start></timePeriod>", "as start"),
        (
            "<start>1772956800</start></timePeriod>",
            "<start>1772956801</start></timePeriod>",
            "off the grid",
        ),
    ],
)
def test_bad_readings_are_noted_by_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    if "off the grid" in says:  # the first one sets the grid, so move the second
        old, new = (text.replace("17729568", "17729604") for text in (old, new))
    (note,) = one_bad(tmp_path, old, new)
    assert says in note.reason and note.bad


def test_conflicts_and_repeats(tmp_path: Path) -> None:
    block = HOURLY[HOURLY.index("<IntervalBlock ") : HOURLY.index("</IntervalBlock>") + 16]
    again = HOURLY.replace(block, block + block, 1)
    _, data, notes = read(put(tmp_path, again))
    assert data is not None and (data.present, data.duplicates, notes) == (71, 24, [])
    other = HOURLY.replace(block, block + block.replace(">107<", ">108<"), 1)
    _, data, notes = read(put(tmp_path, other))
    assert data is not None and data.present == 70
    assert [note.reason for note in notes] == ["the same interval again, with another value"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("<uom>72</uom>", "<uom>38</uom>", "the unit is not Wh (uom '38')"),
        ("<uom>72</uom>", "", "the unit is not Wh (uom 'missing')"),
        (
            "<commodity>1</commodity>",
            "<commodity>7</commodity>",
            "the commodity is not electricity",
        ),
        (
            "<accumulationBehaviour>4<",
            "<accumulationBehaviour>3<",
            "the values are not per interval",
        ),
        ("<flowDirection>1<", "<flowDirection>4<", "not delivery to the customer"),
        ("<powerOfTenMultiplier>0<", "<powerOfTenMultiplier>99<", "powerOfTenMultiplier is not"),
        ("<powerOfTenMultiplier>0<", "<powerOfTenMultiplier>x<", "powerOfTenMultiplier is not"),
        ('ReadingType xmlns="http://naesb.org/espi"', "ReadingKind", "of no ReadingType"),
        ('UsagePoint xmlns="http://naesb.org/espi"', "Point", "of no UsagePoint"),
        ('MeterReading xmlns="http://naesb.org/espi"', "Reading", "of no MeterReading"),
    ],
)
def test_series_that_cannot_be_used(tmp_path: Path, old: str, new: str, says: str) -> None:
    changed = HOURLY.replace(old, new)
    name = old.split()[0]
    if name in ("ReadingType", "UsagePoint"):
        changed = changed.replace(f"</{name}>", f"</{new}>")
    _, data, notes = read(put(tmp_path, changed))
    assert data is None
    assert says in notes[0].reason and notes[0].line > 0


def refuse(folder: Path, content: str | bytes) -> DataError:
    with pytest.raises(DataError) as caught:
        read(put(folder, content))
    assert caught.value.line >= 1 and "\n" not in str(caught.value)
    return caught.value


def test_broken_xml_says_where(tmp_path: Path) -> None:
    lines = HOURLY.splitlines()
    error = refuse(tmp_path, HOURLY.replace("107</value>", "107</valu>", 1))
    assert "107<" in lines[error.line - 1] and "mismatched tag" in error.reason
    error = refuse(tmp_path, "\n".join(lines[:120]))
    assert error.line == 120 and "not well-formed XML" in error.reason
    assert "no Atom feed" in refuse(tmp_path, "<html><body/></html>").reason
    assert "not well-formed" in refuse(tmp_path, b"<feed>\xff\xfe</feed>").reason
    assert refuse(tmp_path, '<?xml version="1.0" encoding="klingon"?><feed/>').line == 1


BOMB = """<?xml version="1.0"?>
<!DOCTYPE feed [
 <!ENTITY a "aaaaaaaaaa">
 <!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
 <!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">
]>
<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>&c;</id></entry></feed>"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BOMB, "DTD"),
        ('<?xml version="1.0"?><!DOCTYPE feed SYSTEM "file:///etc/passwd"><feed/>', "DTD"),
        (
            '<?xml version="1.0"?><!DOCTYPE f [<!ENTITY x SYSTEM "file:///etc/passwd">]><f>&x;</f>',
            "DTD",
        ),
        ('<feed xmlns="http://www.w3.org/2005/Atom">' + "<a>" * 100_000, "more than 64 elements"),
        (f'<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>{"x" * 5000}</id>', "4096 char"),
        (
            '<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>&undefined;</id>',
            "undefined entity",
        ),
    ],
)
def test_hostile_xml(tmp_path: Path, text: str, says: str) -> None:
    began = time.process_time()
    assert says in refuse(tmp_path, text).reason
    assert time.process_time() - began < 20


@given(st.data())
def test_random_damage_is_refused_or_read(data: st.DataObject) -> None:
    text = bytearray(SOLAR.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
    try:
        intervals = read_greenbutton("x", bytes(text), [])
    except DataError:
        return
    assert all(i.wh >= 0 and i.duration > 0 for i in intervals)


@given(st.text(alphabet="<>/&;=\"' abfeed!?-[]:x", max_size=200))
def test_random_markup(text: str) -> None:
    try:
        assert read_greenbutton("x", ("<feed>" + text).encode(), []) == []
    except DataError:
        return


@needs_real
@pytest.mark.parametrize(
    ("name", "period", "readings", "total", "first"),
    [
        ("coastal_single_family_hourly", 3600, 362, 291_018, 1_293_868_800),
        ("electric_containerized_abridged", 3600, 8, 4_086, 1_293_868_800),
        ("gba_test_usage_data_01", 900, 96, None, 1_330_578_000),
        ("hourly_nine_days", 3600, 216, 199_563, 1_388_552_400),
    ],
)
def test_real_files(name: str, period: int, readings: int, total: int | None, first: int) -> None:
    path = REAL / f"greenbutton/{name}.xml"
    _, data, notes = read(path)
    assert data is not None and not notes
    assert (data.period_s, data.present, data.starts[0]) == (period, readings, first)
    # the second opinion: every value of an IntervalReading in the text, all of them Wh
    text = re.sub(r"<!--.*?-->", "", path.read_text(), flags=re.DOTALL)
    blocks = re.findall(r"<IntervalReading>.*?</IntervalReading>", text, re.DOTALL)
    values = [int(re.search(r"<value>(\d+)</value>", b)[1]) for b in blocks]  # type: ignore[index]
    assert sum(sum(row.values()) for row in data.values.values()) == sum(values)
    assert total is None or sum(values) == total
