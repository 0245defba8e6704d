"""Writes docs/vectors/*.json from the reference in tests/reference; a second run changes nothing."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def main(argv: list[str]) -> int:
    """`make_vectors.py [FOLDER]`, default docs/vectors; prints one line per file."""
    folder = Path(argv[0]) if argv else ROOT / "docs" / "vectors"
    sys.path.insert(0, str(ROOT / "tests"))
    # tests/ is no part of the packages that mypy sees
    vectors: Any = importlib.import_module("reference.vectors")
    for name in vectors.write(folder):
        print(f"{folder / name}: {(folder / name).stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
