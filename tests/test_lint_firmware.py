"""The firmware lint finds each trap, and what it says MicroPython lacks is really lacking."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import lint_firmware
from wattveil.fleet.runtime import NAMES, RuntimeMissing, find_runtime

TRAPS = [
    ("n = (5).bit_length()", "bit_length"),
    ("i = pow(3, -1, 7)", "negative exponent"),
    ("i = pow(3, -e, n)", "negative exponent"),
    ("i = pow(3, exp=-1, mod=7)", "negative exponent"),
    ("import random", "rng"),
    ("import dataclasses", "dataclasses"),
    ("from typing import Any", "typing"),
    ("import enum as e", "enum"),
    ("import os.path, requests", "requests"),
    ("from math import isqrt", "math.isqrt"),
    ("import time\nt = time.monotonic()", "time.monotonic"),
    ("def f(a, /):\n    pass", "positional-only"),
    ("f = lambda a, /: a", "positional-only"),
    ("match x:\n    case 1:\n        pass", "match"),
    ("try:\n    pass\nexcept* ValueError:\n    pass", "except*"),
    ("s = 'abc'.removeprefix('a')", "removeprefix"),
    ("b = (5).to_bytes(2, 'big', signed=True)", "to_bytes"),
    ("n = int.from_bytes(b'a', byteorder='big')", "from_bytes"),
    ("try:\n    pass\nexcept TimeoutError:\n    pass", "TimeoutError"),
    ("try:\n    pass\nexcept (ImportError, OSError):\n    import random", "rng"),
    ("try:\n    import random\nexcept ImportError:\n    pass", "rng"),
    ("def f():\n    hasattr(os, 'sync')\n    return time.monotonic()", "time.monotonic"),
    ("x = (", "syntax"),
]

FINE = """
import sys
import time
from micropython import const
from wattveil_meter.wire import Frame
from . import noise
try:
    import network
except ImportError:
    import socket as network
try:
    from hmac import digest
except ImportError:
    digest = None
def now():
    if not hasattr(time, "ticks_ms"):
        return time.monotonic()
    return time.ticks_ms()
_N = const(3)
def f(a: int, *, b: bytes = b"") -> str:
    if (n := pow(a, 5, 7)) > 0:
        n = int.from_bytes(n.to_bytes(2, "big"), "big")
    return f"{b.hex()} {'x' if n else f'{n:>3}'}"
"""


@pytest.mark.parametrize(("source", "word"), TRAPS)
def test_a_trap_is_found_on_its_line(source: str, word: str) -> None:
    found = lint_firmware.check("# first line\n" + source)
    assert len(found) >= 1
    assert any(word in reason for _, reason in found)
    assert all(line >= 2 for line, _ in found)


def test_what_micropython_takes_passes() -> None:
    assert lint_firmware.check(FINE) == []


@pytest.mark.parametrize(
    "source", ["x = [*a, 1]", "x = {**a}", "with (a as b, c as d):\n    pass"]
)
def test_mpy_cross_refuses_the_rest(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.py"
    path.write_text("\n\n" + source + "\n")
    assert lint_firmware.check(path.read_text()) == []
    assert lint_firmware.main([str(tmp_path)]) == 1
    assert f"{path}:3: mpy-cross: " in capsys.readouterr().out


def test_a_clean_folder_passes(tmp_path: Path) -> None:
    tmp_path.joinpath("m.py").write_text(FINE)
    assert lint_firmware.main([str(tmp_path)]) == 0


@pytest.mark.parametrize("name", NAMES)
def test_what_the_lint_refuses_is_not_there(name: str) -> None:
    try:
        argv = find_runtime(name).argv
    except RuntimeMissing as missing:
        pytest.skip(str(missing))
    methods, names, members = (
        sorted(lint_firmware.METHODS),
        sorted(lint_firmware.NAMES),
        lint_firmware.MEMBERS,
    )
    script = f"""
import builtins, hashlib
some = (1, "", b"", bytearray(), [], (), dict(), set(), memoryview(b""), hashlib.sha256())
for name in {methods!r}:
    for thing in some:
        if hasattr(thing, name): print(type(thing), name)
for name in {names!r}:
    if hasattr(builtins, name): print(name)
for module, members in {[(m, sorted(v)) for m, v in members.items()]!r}:
    module = __import__(module)
    for name in members:
        if hasattr(module, name): print(module, name)
print(pow(3, -1, 7))
"""
    done = subprocess.run(
        [*argv, "-c", script], capture_output=True, text=True, timeout=240, check=True
    )
    assert done.stdout.split() == ["0"]
