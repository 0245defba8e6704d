"""A small common CSV, and ways to load it and to see it refused, for the tests of the importer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wattveil.importers.csv_file import read_csv
from wattveil.importers.readings import DataError, LoadData

HEAD = "meter_id,timestamp,wh\n"
T0 = 1_358_121_600  # 2013-01-14T00:00:00Z
HALF = 1800
# a has three half-hours, b lacks the middle one
ROWS = [
    "a,2013-01-14T00:00:00Z,10",
    "a,2013-01-14T00:30:00Z,11",
    "a,2013-01-14T01:00:00Z,12",
    "b,2013-01-14T00:00:00Z,20",
    "b,2013-01-14T01:00:00Z,22",
]
VALUES = {
    "a": {T0: 10, T0 + HALF: 11, T0 + 2 * HALF: 12},
    "b": {T0: 20, T0 + 2 * HALF: 22},
}


def load(folder: Path, content: str | bytes, **options: Any) -> LoadData:
    path = folder / "x.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_csv(path, **options)


def body(*rows: str, head: str = HEAD) -> str:
    return head + "".join(row + "\n" for row in rows)


def refuse(folder: Path, content: str | bytes, **options: Any) -> tuple[str, DataError]:
    """What the message says after the file's name, and the error itself."""
    with pytest.raises(DataError) as caught:
        load(folder, content, **options)
    prefix = str(folder / "x.csv") + ":"
    assert str(caught.value).startswith(prefix)
    assert "; " in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)[len(prefix) :], caught.value
