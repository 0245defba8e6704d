"""Readings for the sensor `replay`: the file readings.csv in a meter's folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def write_readings(folder: Path, readings: Iterable[tuple[int, int | None]]) -> int:
    """Replace `folder`/readings.csv by (start UTC s, Wh) pairs; returns how many lines it holds.

    An absent reading (None) has no line, which is how the meter knows it is missing. ValueError
    for a start that is there twice. A meter that runs sees the old or the new file, never half.
    """
    lines: dict[int, int] = {}
    for start, wh in readings:
        if start in lines:
            raise ValueError(f"two readings for the interval that starts at {start}")
        if wh is not None:
            lines[int(start)] = int(wh)
    temporary = Path(folder) / ".readings.csv.new"
    temporary.write_text("".join(f"{start},{wh}\n" for start, wh in sorted(lines.items())))
    os.chmod(temporary, 0o600)  # a household's data
    os.replace(temporary, Path(folder) / "readings.csv")
    return len(lines)
