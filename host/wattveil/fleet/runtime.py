"""The MicroPython runtimes that `tools/get_micropython.py` found, to start meters on."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

NAMES = ("micropython", "micropython-arm")
_ASK_VERSION = "import sys; print(*sys.implementation[1][:3])"


class RuntimeMissing(RuntimeError):
    """A runtime is not on this machine; the message says what to do."""


@dataclass(frozen=True)
class Runtime:
    """How to start one MicroPython: append `-X heapsize=192k`, a script and its arguments."""

    name: str
    argv: tuple[str, ...]
    version: str


def find_runtime(name: str) -> Runtime:
    """The runtime `micropython` (64-bit) or `micropython-arm` (32-bit integers, as on the boards).

    A command line in WATTVEIL_MICROPYTHON or WATTVEIL_MICROPYTHON_ARM goes before the found one.
    """
    if name not in NAMES:
        raise ValueError(f"no runtime is called {name!r}: there are {', '.join(NAMES)}")
    variable = "WATTVEIL_" + name.upper().replace("-", "_")
    if command := os.environ.get(variable):
        argv = tuple(shlex.split(command))
        return Runtime(name, argv, _version(argv, variable))
    return _recorded(name)


def _recorded(name: str) -> Runtime:
    path = _folder() / f"{name}.json"
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        raise RuntimeMissing(f"{name} was not looked for yet: run `make setup`") from None
    except ValueError:
        raise RuntimeMissing(f"{path} cannot be read: run `make setup`") from None
    if "missing" in record:
        raise RuntimeMissing(f"{name} is missing: {record['missing']}")
    argv = tuple(str(part) for part in record["argv"])
    if shutil.which(argv[0]) is None:
        raise RuntimeMissing(f"{name}: {argv[0]} is gone: run `make setup`")
    return Runtime(name, argv, str(record["version"]))


def _folder() -> Path:
    """The folder into which tools/get_micropython.py writes."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("WATTVEIL_CACHE") or Path(home, "wattveil")).absolute() / "runtimes"


def _version(argv: tuple[str, ...], variable: str) -> str:
    command = [*argv, "-c", _ASK_VERSION]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise RuntimeMissing(f"{variable} does not run MicroPython: {error}") from error
    return ".".join(done.stdout.split())
