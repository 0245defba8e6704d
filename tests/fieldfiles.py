"""What lies in a meter's folder: what it is made of, and what its log tells."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def package(folder: Path) -> dict[str, bytes]:
    """What goes to a board: all but tables, whose form depends on it, and what a meter leaves behind."""
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.is_file()
        and path.suffix not in (".tab", ".txt", ".old")
        and path.name != "shares.csv"
    }


def log_lines(path: Path) -> list[str]:
    """The whole lines of a log.txt."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if len(line.split()) > 2]


def counters(lines: Iterable[str]) -> dict[str, int]:
    """What a meter has counted since its last start, as far as its log tells (log.py)."""
    told: dict[str, int] = {}
    for line in lines:
        words = line.split()
        if words[2] == "start":
            told = {}
        for word in words[3:]:
            name, found, value = word.partition("=")
            if found and value.lstrip("-").isdigit():
                told[name] = int(value)
    return told
