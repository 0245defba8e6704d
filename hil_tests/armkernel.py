"""Runs a kernel's machine code on ARM MicroPython builds without inline assembler (Debian's armhf).

    from armkernel import load
    multiply = load(code)                   # `code` as tools/kernels makes it
    Montgomery(n, "thumb1", multiply)

or as a program, for tests that bring thousands of operands:

    micropython-arm armkernel.py CODE CTX <records >results

A record is x | y | way (one byte); its result is out of multiply(out, x, y), where out is x for
way 1, y for way 2, and out and y are x (a square in place) for way 3; for way 4 y alone is x.

The code is put behind the entry and before the exit that @micropython.asm_thumb gives a function, in
memory that may be executed, and called through ffi. With an address as third argument of `load` the
code is put there, so that a trace can be limited to it.
"""

import sys

ENTRY = b"\xf2\xb5"  # push {r1, r4, r5, r6, r7, lr}
EXIT = b"\xf2\xbd"  # pop {r1, r4, r5, r6, r7, pc}
_READ_WRITE_EXECUTE = 7
_PRIVATE_ANONYMOUS = 0x22
_FIXED = 0x10


def load(code, at=0):
    """multiply(out, x, y, ctx) from machine code."""
    import ffi
    import uctypes

    whole = ENTRY + code + EXIT
    pages = (len(whole) + 4095) & ~4095
    mmap = ffi.open("libc.so.6").func("P", "mmap", "Piiiii")
    flags = _PRIVATE_ANONYMOUS | (_FIXED if at else 0)
    where = mmap(at, pages, _READ_WRITE_EXECUTE, flags, -1, 0)
    uctypes.bytearray_at(where, len(whole))[:] = whole
    return ffi.func("v", where | 1, "PPPP")  # bit 0: Thumb


def main(code_file, ctx_file, at=0):
    """Records from standard input, results to standard output."""
    with open(code_file, "rb") as file:
        multiply = load(file.read(), int(at))
    with open(ctx_file, "rb") as file:
        ctx = bytearray(file.read())
    size = 2 * int.from_bytes(ctx[:4], "little")
    x = bytearray(size)
    y = bytearray(size)
    out = bytearray(size)
    way = bytearray(1)
    source = sys.stdin.buffer
    while source.readinto(x):
        source.readinto(y)
        source.readinto(way)
        result = (out, x, y, x, out)[way[0]]
        multiply(result, x, x if way[0] >= 3 else y, ctx)
        sys.stdout.buffer.write(result)


if __name__ == "__main__":
    main(*sys.argv[1:])
