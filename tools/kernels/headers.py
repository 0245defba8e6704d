"""What the generated kernel files say about themselves; <BYTES> is the size of the code."""

_COMMON = """
multiply(out, x, y, ctx): the pair of x y / R mod n^2 (montgomery.py says what a pair is).

This file is written by tools/kernels/generate.py from tools/kernels/{name}_source.py. The inline
assembler lacks {lacks}, so the opcodes are given as numbers, with
the instructions above them; the source has macros, names of stack slots and every routine's contract.

Operands. out, x, y: bytearrays of 2 nb bytes, halves x0 | x1 little-endian, each below n, aligned to
words (a bytearray is, a slice in a memoryview may not be). out may be x, y or both. If y *is* x (one
buffer) the square is taken a shorter way. ctx: n and a work area, see montgomery.context.
n is odd and has exactly 32 s bits, s = 8, 16, 24 ...; R = 2^(32 s). One pair's operands may be any
values below n, 0 among them.
"""

_STEPS = """
Steps, and what is easily forgotten ({t}):
 1. T = x0 y0 < n^2.
 2. T = (T + m n) / R < 2n. Every {rows} rows leave a carry that belongs to the column behind them; the
    last one is the result's bit s, without which a result above R is taken for a small one.
 3. z0 = T - j n, j = 0 or 1. j is kept: R T = R z0 + j n R, so the n-part gets + j R.
 4. U = x0 y1 + x1 y0 (a square: 2 x0 x1) + (2n - m) + j R. The n-part gets -m, since
    x0 y0 = R T - m n; 2n > m keeps it positive and is 0 mod n. 2n - m = D + ~m + 1 with
    D = 2n - R: no negative numbers. Two carries run through the lower half and up to 3 come out
    of it; they are carried through the whole upper half. U < 2n^2 - 2n + 2 + R <= 2nR: one bit above R^2.
 5. U -= nR if U >= nR. Without this step the next one could reach 3n.
 6. z1 = (U + m' n) / R, less n if it is n or more. Only now is `out` written: it may be x or y.
Subtractions of n are done always and undone by adding n & mask: no branch depends on a secret. {time}
"""

THUMB1 = (
    '"""Kernel `thumb1`: ARMv6-M code (Cortex-M0+: RP2040) that every Cortex-M runs. <BYTES> bytes.\n'
    + _COMMON.format(name="thumb1", lacks="ldmia, stmia and uxth")
    + _STEPS.format(
        t="x y = T + n U mod n^2",
        rows="two",
        time="One\nloop does: a carry that runs past a word in Karatsuba's last sum, once in 2^31 calls.",
    )
    + """
Products are Karatsuba's down to 8 words (an odd multiple of 4 when s is no power of two), with
absolute differences and one sign:
    a b = lo + B (lo + hi - (a0 - a1)(b0 - b1)) + B^2 hi;
a square needs one difference and no sign. Reductions and the smallest products go row by row, two rows
at a time, each word of 32 x 32 bits as four products of 16 x 16 (`muls` gives the lower 32 bits only);
a column of two rows takes 53 cycles. The quotient's words come in pairs by k = -1/n mod 2^64. (Karatsuba
for the reductions was counted too: finding m in blocks costs what it saves.)

Registers: r4..r7 and lr are saved by the inline assembler's own entry, r8..r11 here; r0..r3, r12 and
the flags are lost. Stack: 200 bytes. Scratch in ctx: z0 | T (2) | U (2) | Karatsuba (2), each nb bytes.

Cycles, counted on rp2040js's Cortex-M0+ (code and data in RAM), product / square:
    1024 bits  124,563 / 102,826      2048 bits  429,122 / 361,116      3072 bits  910,424 / 774,702
that is 3.43 / 2.89 ms for 2048 bits at 125 MHz. Instructions: 379,844 / 323,485.
"""
)

THUMB2 = (
    '"""Kernel `thumb2`: ARMv7E-M code with DSP (Cortex-M4, M7, M33: RP2350). <BYTES> bytes.\n'
    + _COMMON.format(name="thumb2", lacks="umaal, ldrd, strd, ldm and stm")
    + _STEPS.format(t="x y = T + n U mod n^2", rows="four", time="Nor\ndoes a loop.")
    + """
Products and reductions go row by row, four rows at a time. UMAAL r, c, a, b leaves r + c + a b in c:r,
which cannot overflow, so a column is one UMAAL per row with no carry to save:
two words of `a` cost 8 UMAAL and 3 double-word accesses. The first four columns of a reduction also
give the four words of m; the register of the word that has become zero holds the row's carry.

Registers: r4..r11 and lr are saved here; r0..r3, r12 and the flags are lost. Stack: 132 bytes.
Scratch in ctx: T (2) | U (2), each nb bytes; z0 waits in T's upper half.

Instructions, counted with qemu-arm, product / square:
    1024 bits  10,534 / 8,957      2048 bits  35,910 / 29,757      3072 bits  76,326 / 62,589
"""
)
