"""A small two-pass assembler for the Thumb instructions that the kernels use.

It exists so that the kernels' opcode constants can be made, and checked, with nothing but Python.
The syntax is GNU as's unified syntax; `@` starts a comment. Encodings are ARM's, DDI 0419 (ARMv6-M)
and DDI 0403 (ARMv7E-M); tests/test_kernels.py compares every one with GNU as where that is installed.
16-bit forms are written without a suffix, 32-bit ones with `.w` (or have no 16-bit form).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_REGISTERS = {f"r{n}": n for n in range(13)} | {"sp": 13, "lr": 14, "pc": 15}
_CONDITIONS = "eq ne cs cc mi pl vs vc hi ls ge lt gt le".split()
_ALU = "ands eors - - - adcs sbcs - tst rsbs cmp - orrs muls bics mvns".split()


class AssemblyError(ValueError):
    """A line that is not in the subset; the message quotes it."""


@dataclass
class Instruction:
    """One line: its text, and its opcode as one or two halfwords."""

    text: str
    halfwords: tuple[int, ...] = ()
    label: str = ""  # of this line, when it has one
    note: str = ""  # the comment behind `@`


def _split(operands: str) -> list[str]:
    """Operands at top level: "r0, [r1, #4]" has two."""
    return [part.strip() for part in re.findall(r"(?:\[[^\]]*\]!?|\{[^}]*\}|[^,])+", operands)]


def _low(name: str) -> int:
    number = _REGISTERS[name]
    if number > 7:
        raise AssemblyError(f"{name} is not a low register")
    return number


def _number(text: str, bits: int, scale: int = 1) -> int:
    if not text.startswith("#"):
        raise AssemblyError(f"{text}: immediate expected")
    value = int(text[1:], 0)
    if value % scale or not 0 <= value // scale < 1 << bits:
        raise AssemblyError(f"{text} does not fit")
    return value // scale


def _list(text: str, allowed: int) -> int:
    """Register list as a bit mask."""
    mask = 0
    for part in text.strip("{}").split(","):
        ends = [_REGISTERS[name.strip()] for name in part.split("-")]
        mask |= (2 << ends[-1]) - (1 << ends[0])
    if mask & ~allowed or not mask:
        raise AssemblyError(f"{text}: register not allowed here")
    return mask


def _address(text: str) -> tuple[str, str]:
    """[base] or [base, offset]."""
    inside = re.fullmatch(r"\[([^,\]]+)(?:,\s*([^\]]+))?\]", text)
    if inside is None:
        raise AssemblyError(f"{text}: address expected")
    return inside[1].strip(), (inside[2] or "#0").strip()


def _branch(name: str, distance: int) -> tuple[int, ...]:
    """Distance in halfwords from the instruction's address + 4."""
    if name == "bl":
        if not -(1 << 21) <= distance < 1 << 21:
            raise AssemblyError("bl too far")
        sign = int(distance < 0)
        j1, j2 = (distance >> 22 & 1) ^ sign ^ 1, (distance >> 21 & 1) ^ sign ^ 1
        high = 0xF000 | sign << 10 | (distance >> 11 & 0x3FF)
        return high, 0xD000 | j1 << 13 | j2 << 11 | (distance & 0x7FF)
    width = 11 if name == "b" else 8
    if not -(1 << width - 1) <= distance < 1 << width - 1:
        raise AssemblyError(f"{name} too far: {distance} halfwords")
    base = 0xE000 if name == "b" else 0xD000 | _CONDITIONS.index(name[1:]) << 8
    return (base | distance & (1 << width) - 1,)


def _add_sub(name: str, ops: list[str]) -> int:
    minus = name == "subs"
    if len(ops) == 3 and not ops[2].startswith("#"):
        return 0x1800 | minus << 9 | _low(ops[2]) << 6 | _low(ops[1]) << 3 | _low(ops[0])
    if len(ops) == 3:
        return 0x1C00 | minus << 9 | _number(ops[2], 3) << 6 | _low(ops[1]) << 3 | _low(ops[0])
    if ops[1].startswith("#"):
        return (0x3800 if minus else 0x3000) | _low(ops[0]) << 8 | _number(ops[1], 8)
    return 0x1800 | minus << 9 | _low(ops[1]) << 6 | _low(ops[0]) << 3 | _low(ops[0])


def _load_store(name: str, ops: list[str]) -> int:
    load = name == "ldr"
    base, offset = _address(ops[1])
    if base == "sp":
        return (0x9800 if load else 0x9000) | _low(ops[0]) << 8 | _number(offset, 8, 4)
    if not offset.startswith("#"):
        return (0x5800 if load else 0x5000) | _low(offset) << 6 | _low(base) << 3 | _low(ops[0])
    place = _low(base) << 3 | _low(ops[0])
    return (0x6800 if load else 0x6000) | _number(offset, 5, 4) << 6 | place


def _narrow(name: str, ops: list[str]) -> int | None:
    """A 16-bit instruction, or None when the name has no 16-bit form here."""
    if name == "nop":
        return 0xBF00
    if name in ("lsls", "lsrs", "asrs"):
        kind = ("lsls", "lsrs", "asrs").index(name)
        return kind << 11 | _number(ops[2], 5) << 6 | _low(ops[1]) << 3 | _low(ops[0])
    if name == "movs":
        return 0x2000 | _low(ops[0]) << 8 | _number(ops[1], 8)
    if name == "cmp" and ops[1].startswith("#"):
        return 0x2800 | _low(ops[0]) << 8 | _number(ops[1], 8)
    if name in ("adds", "subs"):
        return _add_sub(name, ops)
    if name in ("add", "sub") and ops[0] == "sp":
        return (0xB080 if name == "sub" else 0xB000) | _number(ops[-1], 7, 4)
    if name == "add" and ops[1] == "sp":
        return 0xA800 | _low(ops[0]) << 8 | _number(ops[2], 8, 4)
    first = _REGISTERS.get(ops[0], 0)
    last = _REGISTERS.get(ops[-1], 0)
    high = (first & 8) << 4 | last << 3 | first & 7
    if name in ("add", "mov") and len(ops) == 2:
        return (0x4400 if name == "add" else 0x4600) | high
    if name == "cmp" and (first > 7 or last > 7):
        return 0x4500 | high
    if name in _ALU:
        return 0x4000 | _ALU.index(name) << 6 | _low(ops[1]) << 3 | _low(ops[0])
    if name == "bx":
        return 0x4700 | first << 3
    if name == "uxth":
        return 0xB280 | _low(ops[1]) << 3 | _low(ops[0])
    if name in ("push", "pop"):
        extra = 14 if name == "push" else 15
        mask = _list(ops[0], 0xFF | 1 << extra)
        return (0xB400 if name == "push" else 0xBC00) | (mask >> extra & 1) << 8 | mask & 0xFF
    if name in ("ldmia", "stmia"):
        base = _low(ops[0].rstrip("!"))
        mask = _list(ops[1], 0xFF)
        if not ops[0].endswith("!") or mask >> base & 1:
            raise AssemblyError("only with write-back, base not in the list")
        return (0xC800 if name == "ldmia" else 0xC000) | base << 8 | mask
    if name in ("ldr", "str"):
        return _load_store(name, ops)
    return None


def _wide(name: str, ops: list[str]) -> tuple[int, int] | None:
    """A 32-bit instruction of ARMv7E-M."""
    if name == "umaal":
        low, high, n, m = (_REGISTERS[op] for op in ops)
        return 0xFBE0 | n, low << 12 | high << 8 | 0x60 | m
    if name == "mul":
        d, n, m = (_REGISTERS[op] for op in ops)
        return 0xFB00 | n, 0xF000 | d << 8 | m
    if name == "teq":
        return 0xEA90 | _REGISTERS[ops[0]], 0x0F00 | _REGISTERS[ops[1]]
    if name == "adcs.w":
        d, n, m = (_REGISTERS[op] for op in ops)
        return 0xEB50 | n, d << 8 | m
    if name in ("ldrd", "strd"):
        base, offset = _address(ops[2])
        code = 0xE840 | (name == "ldrd") << 4 | 0x80  # upwards
        code |= 0x20 if len(ops) == 4 else 0x100  # after the access, or before it
        if len(ops) == 4:
            offset = ops[3]
        second = _REGISTERS[ops[0]] << 12 | _REGISTERS[ops[1]] << 8 | _number(offset, 8, 4)
        return code | _REGISTERS[base], second
    if name in ("ldr.w", "str.w"):
        base, offset = _address(ops[1])
        code = 0xF8D0 if name == "ldr.w" else 0xF8C0
        return code | _REGISTERS[base], _REGISTERS[ops[0]] << 12 | _number(offset, 12)
    if name in ("ldmia.w", "stmia.w"):
        code = 0xE890 if name == "ldmia.w" else 0xE880
        base = ops[0].rstrip("!")
        write_back = ops[0].endswith("!") << 5
        return code | write_back | _REGISTERS[base], _list(ops[1], 0x5FFF)
    if name in ("push.w", "pop.w"):
        code = 0xE92D if name == "push.w" else 0xE8BD
        return code, _list(ops[0], 0x5FFF)
    return None


def _encode(line: str, here: int, labels: dict[str, int]) -> tuple[int, ...]:
    name, _, rest = line.partition(" ")
    ops = _split(rest)
    if name in ("b", "bl") or (name[0] == "b" and name[1:] in _CONDITIONS):
        return _branch(name, (labels.get(ops[0], here) - here - 4) // 2 if labels else 0)
    wide = _wide(name, ops)
    if wide is not None:
        return wide
    narrow = _narrow(name, ops)
    if narrow is None:
        raise AssemblyError("not in the subset")
    return (narrow,)


def assemble(source: str) -> list[Instruction]:
    """The instructions of a source text, encoded. AssemblyError names the line that is wrong."""
    lines: list[Instruction] = []
    labels: dict[str, int] = {}
    pending = ""
    for raw in source.splitlines():
        text, _, note = raw.partition("@")
        text = " ".join(text.split())
        found = re.match(r"(\w+):\s*(.*)", text)
        if found:
            if found[1] in labels:
                raise AssemblyError(f"label {found[1]} twice")
            pending, text = found[1], found[2]
            labels[pending] = -1
        if text:
            lines.append(Instruction(text, label=pending, note=note.strip()))
            pending = ""
    if pending:
        raise AssemblyError(f"label {pending} at the end")
    for final in (False, True):
        here = 0
        for line in lines:
            if line.label:
                labels[line.label] = here
            try:
                target = re.fullmatch(r"b(?:l|\w\w)? (\w+)", line.text)
                if target and target[1] not in labels and not line.text.startswith("bx"):
                    raise AssemblyError(f"no label {target[1]}")
                line.halfwords = _encode(line.text, here, labels if final else {})
            except (ValueError, KeyError, IndexError) as error:
                raise AssemblyError(f"{line.text}: {error}") from error
            here += 2 * len(line.halfwords)
    return lines


def code(lines: list[Instruction]) -> bytes:
    """The machine code."""
    return b"".join(h.to_bytes(2, "little") for line in lines for h in line.halfwords)


def slots(text: str, offsets: dict[str, int]) -> str:
    """Put stack offsets where a source has their names: [sp, #NAME]."""
    return re.sub(r"\[sp, #([A-Z]\w*)\]", lambda found: f"[sp, #{offsets[found[1]]}]", text)
