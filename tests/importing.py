"""Where the importers' test files are, and short ways to read one."""

from __future__ import annotations

from pathlib import Path

import pytest

from wattveil.importers.files import Found, join, read_file
from wattveil.importers.readings import LoadData
from wattveil.importers.series import Note

FIXTURES = Path(__file__).parent / "fixtures"
REAL = Path(__file__).parents[2] / "shared/data/importer"  # kept outside the repository
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not there")


def put(folder: Path, content: str | bytes, name: str = "x") -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def read(*files: str | Path) -> tuple[list[Found], LoadData | None, list[Note]]:
    """As `wattveil import` reads them."""
    notes: list[Note] = []
    found = [read_file(str(file), skip_bad=True) for file in files]
    return found, join(found, notes), notes
