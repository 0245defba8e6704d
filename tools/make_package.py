#!/usr/bin/env python3
"""package.json for `mpremote mip install`: every file of the firmware, from the tree as it is.

    python tools/make_package.py [--check]

--check writes nothing and exits 1 when package.json is not what would be written.
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "package.json"


def package(root: Path = ROOT) -> str:
    """The file's text. Paths are relative to it, so it works from a checkout and from any host."""
    firmware = root / "firmware"
    sources = sorted((firmware / "wattveil_meter").rglob("*.py"))
    urls = [[p.relative_to(firmware).as_posix(), p.relative_to(root).as_posix()] for p in sources]
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    return json.dumps({"urls": urls, "deps": [], "version": version}, indent=1) + "\n"


def main(arguments: list[str]) -> int:
    """Write it, or compare."""
    if arguments == ["--check"]:
        if not TARGET.exists() or TARGET.read_text() != package():
            print("package.json is out of date: run tools/make_package.py", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(package())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
