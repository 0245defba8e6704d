"""`wattveil vectors`: options and run."""

from __future__ import annotations

import argparse
from pathlib import Path

from wattveil import vectors


def options(parse: argparse.ArgumentParser) -> None:
    """Arguments of `wattveil vectors`."""
    parse.add_argument("action", choices=("check",))
    parse.add_argument("folder", type=Path, metavar="DIR", help="docs/vectors")


def run(args: argparse.Namespace) -> int:
    """Check them; the exit code."""
    return int(vectors.main(args.folder))
