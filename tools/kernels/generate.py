#!/usr/bin/env python3
"""Write the machine-code kernels of the firmware from their assembly sources.

    python tools/kernels/generate.py            write firmware/wattveil_meter/kernels/thumb*.py
    python tools/kernels/generate.py --check    exit 1 if a file there is not what would be written
    python tools/kernels/generate.py --source thumb1    print the assembly source (for GNU as)

Nothing but Python is needed. The output depends on the sources alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kernels import thumb1_source, thumb2_source
from kernels.assembler import Instruction, assemble, code
from kernels.headers import THUMB1, THUMB2

FOLDER = Path(__file__).resolve().parents[2] / "firmware" / "wattveil_meter" / "kernels"
SOURCES = {"thumb1": thumb1_source, "thumb2": thumb2_source}
HEADERS = {"thumb1": THUMB1, "thumb2": THUMB2}
WIDTH = 90  # of the instructions on a line of comment
ROW = 12  # halfwords on a line without comment
TAIL = '''"""
# fmt: off
# ruff: noqa: F821
# pyright: reportUndefinedVariable=false

import micropython

SCRATCH = {scratch}  # work area in ctx, in units of nb bytes


@micropython.asm_thumb
def probe(r0):
    """r0 + 1: is there an inline assembler at all?"""
    add(r0, r0, 1)


@micropython.asm_thumb
def multiply(r0, r1, r2, r3):
'''


def _data(lines: list[Instruction]) -> str:
    halfwords = [f"0x{half:04x}" for line in lines for half in line.halfwords]
    rows = [halfwords[at : at + ROW] for at in range(0, len(halfwords), ROW)]
    return "".join(f"    data(2, {', '.join(row)})\n" for row in rows)


def _group(lines: list[Instruction]) -> str:
    """A few opcodes, with their instructions above."""
    text = "; ".join(line.text for line in lines)
    note = lines[-1].note
    label = f"    # {lines[0].label}:\n" if lines[0].label else ""
    if note:
        text = f"{text:<39} -- {note}"
    return f"{label}    # {text}\n{_data(lines)}"


def _commented(lines: list[Instruction]) -> str:
    out = ""
    group: list[Instruction] = []
    for line in lines:
        width = sum(len(x.text) + 2 for x in [*group, line]) + len(line.note)
        if group and (line.label or group[-1].note or width > WIDTH):
            out += _group(group)
            group = []
        group.append(line)
    return out + _group(group)


def body(lines: list[Instruction], repeated: str) -> str:
    """The function's statements. What an unrolled loop repeats is commented once."""
    block = [line.text for line in assemble(repeated)]
    size = len(block)
    out = ""
    rest: list[Instruction] = []
    times = at = 0
    while at < len(lines):
        here = lines[at : at + size]
        if [line.text for line in here] != block:
            rest.append(lines[at])
            at += 1
            continue
        if rest:
            out += _commented(rest)
            rest = []
        at += size
        times += 1
        if times == 1:
            out += _commented(here)
            continue
        label = f"{here[0].label}: " if here[0].label else ""
        out += f"    # {label}the same {size} instructions, {times}\n"
        out += _data(here)
    return out + _commented(rest)


def generate(name: str) -> str:
    """The text of a kernel's file."""
    module = SOURCES[name]
    lines = assemble(module.source())
    header = HEADERS[name].replace("<BYTES>", str(len(code(lines))))
    return header + TAIL.format(scratch=module.SCRATCH) + body(lines, module.REPEATED)


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--source"]:
        print(SOURCES[arguments[1]].source())
        return 0
    stale = 0
    for name in SOURCES:
        path = FOLDER / f"{name}.py"
        text = generate(name)
        if arguments == ["--check"]:
            if not path.exists() or path.read_text() != text:
                print(f"{path}: not what tools/kernels/generate.py writes")
                stale = 1
        else:
            path.write_text(text)
            print(f"{path}: {len(code(assemble(SOURCES[name].source())))} bytes of code")
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
