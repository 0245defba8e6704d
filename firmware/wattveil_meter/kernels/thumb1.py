"""Kernel `thumb1`: ARMv6-M code (Cortex-M0+: RP2040) that every Cortex-M runs. 1746 bytes.

multiply(out, x, y, ctx): the pair of x y / R mod n^2 (montgomery.py says what a pair is).

This file is written by tools/kernels/generate.py from tools/kernels/thumb1_source.py. The inline
assembler lacks ldmia, stmia and uxth, so the opcodes are given as numbers, with
the instructions above them; the source has macros, names of stack slots and every routine's contract.

Operands. out, x, y: bytearrays of 2 nb bytes, halves x0 | x1 little-endian, each below n, aligned to
words (a bytearray is, a slice in a memoryview may not be). out may be x, y or both. If y *is* x (one
buffer) the square is taken a shorter way. ctx: n and a work area, see montgomery.context.
n is odd and has exactly 32 s bits, s = 8, 16, 24 ...; R = 2^(32 s). One pair's operands may be any
values below n, 0 among them.

Steps, and what is easily forgotten (x y = T + n U mod n^2):
 1. T = x0 y0 < n^2.
 2. T = (T + m n) / R < 2n. Every two rows leave a carry that belongs to the column behind them; the
    last one is the result's bit s, without which a result above R is taken for a small one.
 3. z0 = T - j n, j = 0 or 1. j is kept: R T = R z0 + j n R, so the n-part gets + j R.
 4. U = x0 y1 + x1 y0 (a square: 2 x0 x1) + (2n - m) + j R. The n-part gets -m, since
    x0 y0 = R T - m n; 2n > m keeps it positive and is 0 mod n. 2n - m = D + ~m + 1 with
    D = 2n - R: no negative numbers. Two carries run through the lower half and up to 3 come out
    of it; they are carried through the whole upper half. U < 2n^2 - 2n + 2 + R <= 2nR: one bit above R^2.
 5. U -= nR if U >= nR. Without this step the next one could reach 3n.
 6. z1 = (U + m' n) / R, less n if it is n or more. Only now is `out` written: it may be x or y.
Subtractions of n are done always and undone by adding n & mask: no branch depends on a secret. One
loop does: a carry that runs past a word in Karatsuba's last sum, once in 2^31 calls.

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
# fmt: off
# ruff: noqa: F821
# pyright: reportUndefinedVariable=false

import micropython

SCRATCH = 7  # work area in ctx, in units of nb bytes


@micropython.asm_thumb
def probe(r0):
    """r0 + 1: is there an inline assembler at all?"""
    add(r0, r0, 1)


@micropython.asm_thumb
def multiply(r0, r1, r2, r3):
    # b main
    data(2, 0xe2d0)
    # rows:
    # mov r4, lr; str r4, [sp, #0]; movs r4, #0; mov r12, r4; mov lr, r4; ldr r4, [sp, #8]
    data(2, 0x4674, 0x9400, 0x2400, 0x46a4, 0x46a6, 0x9c02)
    # lsrs r4, r4, #5                         -- w = 4 mod 8: begin in the middle
    data(2, 0x0964)
    # bcc rows0; b rows4
    data(2, 0xd300, 0xe0c7)
    # rows0:
    # ldmia r1!, {r2}                         -- a
    data(2, 0xc904)
    # uxth r3, r2                             -- al
    data(2, 0xb293)
    # lsrs r2, r2, #16                        -- ah
    data(2, 0x0c12)
    # mov r4, r8; mov r5, r4; muls r4, r3     -- al b0l
    data(2, 0x4644, 0x4625, 0x435c)
    # muls r5, r2                             -- ah b0l
    data(2, 0x4355)
    # lsls r6, r5, #16; lsrs r5, r5, #16; adds r4, r6 -- the carry outlives mov and muls
    data(2, 0x042e, 0x0c2d, 0x19a4)
    # mov r6, r9; mov r7, r6; muls r7, r2     -- ah b0h
    data(2, 0x464e, 0x4637, 0x4357)
    # adcs r7, r5; muls r6, r3                -- al b0h
    data(2, 0x416f, 0x435e)
    # lsls r5, r6, #16; lsrs r6, r6, #16; adds r4, r5; adcs r7, r6 -- r7:r4 = a b0
    data(2, 0x0435, 0x0c36, 0x1964, 0x4177)
    # ldr r5, [r0]; movs r6, #0; adds r4, r5; adcs r7, r6; mov r5, r12; adds r4, r5
    data(2, 0x6805, 0x2600, 0x1964, 0x4177, 0x4665, 0x1964)
    # adcs r7, r6                             -- r7:r4 = a b0 + T[j] + X
    data(2, 0x4177)
    # stmia r0!, {r4}; mov r4, r10; mov r5, r4; muls r4, r3 -- al b1l
    data(2, 0xc010, 0x4654, 0x4625, 0x435c)
    # muls r5, r2                             -- ah b1l
    data(2, 0x4355)
    # lsls r6, r5, #16; lsrs r5, r5, #16; adds r4, r6; mov r6, r11; muls r2, r6 -- ah b1h
    data(2, 0x042e, 0x0c2d, 0x19a4, 0x465e, 0x4372)
    # adcs r2, r5; muls r3, r6                -- al b1h
    data(2, 0x416a, 0x4373)
    # lsls r5, r3, #16; lsrs r3, r3, #16; adds r4, r5; adcs r2, r3 -- r2:r4 = a b1
    data(2, 0x041d, 0x0c1b, 0x1964, 0x415a)
    # adds r4, r7; movs r5, #0; adcs r2, r5; mov r6, lr; adds r4, r6; adcs r2, r5 -- + r7 + Y
    data(2, 0x19e4, 0x2500, 0x416a, 0x4676, 0x19a4, 0x416a)
    # mov r12, r4; mov lr, r2
    data(2, 0x46a4, 0x4696)
    # the same 50 instructions, 2
    data(2, 0xc904, 0xb293, 0x0c12, 0x4644, 0x4625, 0x435c, 0x4355, 0x042e, 0x0c2d, 0x19a4, 0x464e, 0x4637)
    data(2, 0x4357, 0x416f, 0x435e, 0x0435, 0x0c36, 0x1964, 0x4177, 0x6805, 0x2600, 0x1964, 0x4177, 0x4665)
    data(2, 0x1964, 0x4177, 0xc010, 0x4654, 0x4625, 0x435c, 0x4355, 0x042e, 0x0c2d, 0x19a4, 0x465e, 0x4372)
    data(2, 0x416a, 0x4373, 0x041d, 0x0c1b, 0x1964, 0x415a, 0x19e4, 0x2500, 0x416a, 0x4676, 0x19a4, 0x416a)
    data(2, 0x46a4, 0x4696)
    # the same 50 instructions, 3
    data(2, 0xc904, 0xb293, 0x0c12, 0x4644, 0x4625, 0x435c, 0x4355, 0x042e, 0x0c2d, 0x19a4, 0x464e, 0x4637)
    data(2, 0x4357, 0x416f, 0x435e, 0x0435, 0x0c36, 0x1964, 0x4177, 0x6805, 0x2600, 0x1964, 0x4177, 0x4665)
    data(2, 0x1964, 0x4177, 0xc010, 0x4654, 0x4625, 0x435c, 0x4355, 0x042e, 0x0c2d, 0x19a4, 0x465e, 0x4372)
    data(2, 0x416a, 0x4373, 0x041d, 0x0c1b, 0x1964, 0x415a, 0x19e4, 0x2500, 0x416a, 0x4676, 0x19a4, 0x416a)
    data(2, 0x46a4, 0x4696)
    # the same 50 instructions, 4
    data(2, 0xc904, 0xb293, 0x0c12, 0x4644, 0x4625, 0x435c, 0x4355, 0x042e, 0x0c2d, 0x19a4, 0x464e, 0x4637)
    data(2, 0x4357, 0x416f, 0x435e, 0x0435, 0x0c36, 0x1964, 0x4177, 0x6805, 0x2600, 0x1964, 0x4177, 0x4665)
    data(2, 0x1964, 0x4177, 0xc010, 0x4654, 0x4625, 0x435c, 0x4355, 0x042e, 0x0c2d, 0x19a4, 0x465e, 0x4372)
    data(2, 0x416a, 0x4373, 0x041d, 0x0c1b, 0x1964, 0x415a, 0x19e4, 0x2500, 0x416a, 0x4676, 0x19a4, 0x416a)
    data(2, 0x46a4, 0x4696)
    # rows4: the same 50 instructions, 5
    data(2, 0xc904, 0xb293, 0x0c12, 0x4644, 0x4625, 0x435c, 0x4355, 0x042e, 0x0c2d, 0x19a4, 0x464e, 0x4637)
    data(2, 0x4357, 0x416f, 0x435e, 0x0435, 0x0c36, 0x1964, 0x4177, 0x6805, 0x2600, 0x1964, 0x4177, 0x4665)
    data(2, 0x1964, 0x4177, 0xc010, 0x4654, 0x4625, 0x435c, 0x4355, 0x042e, 0x0c2d, 0x19a4, 0x465e, 0x4372)
    data(2, 0x416a, 0x4373, 0x041d, 0x0c1b, 0x1964, 0x415a, 0x19e4, 0x2500, 0x416a, 0x4676, 0x19a4, 0x416a)
    data(2, 0x46a4, 0x4696)
    # the same 50 instructions, 6
    data(2, 0xc904, 0xb293, 0x0c12, 0x4644, 0x4625, 0x435c, 0x4355, 0x042e, 0x0c2d, 0x19a4, 0x464e, 0x4637)
    data(2, 0x4357, 0x416f, 0x435e, 0x0435, 0x0c36, 0x1964, 0x4177, 0x6805, 0x2600, 0x1964, 0x4177, 0x4665)
    data(2, 0x1964, 0x4177, 0xc010, 0x4654, 0x4625, 0x435c, 0x4355, 0x042e, 0x0c2d, 0x19a4, 0x465e, 0x4372)
    data(2, 0x416a, 0x4373, 0x041d, 0x0c1b, 0x1964, 0x415a, 0x19e4, 0x2500, 0x416a, 0x4676, 0x19a4, 0x416a)
    data(2, 0x46a4, 0x4696)
    # the same 50 instructions, 7
    data(2, 0xc904, 0xb293, 0x0c12, 0x4644, 0x4625, 0x435c, 0x4355, 0x042e, 0x0c2d, 0x19a4, 0x464e, 0x4637)
    data(2, 0x4357, 0x416f, 0x435e, 0x0435, 0x0c36, 0x1964, 0x4177, 0x6805, 0x2600, 0x1964, 0x4177, 0x4665)
    data(2, 0x1964, 0x4177, 0xc010, 0x4654, 0x4625, 0x435c, 0x4355, 0x042e, 0x0c2d, 0x19a4, 0x465e, 0x4372)
    data(2, 0x416a, 0x4373, 0x041d, 0x0c1b, 0x1964, 0x415a, 0x19e4, 0x2500, 0x416a, 0x4676, 0x19a4, 0x416a)
    data(2, 0x46a4, 0x4696)
    # the same 50 instructions, 8
    data(2, 0xc904, 0xb293, 0x0c12, 0x4644, 0x4625, 0x435c, 0x4355, 0x042e, 0x0c2d, 0x19a4, 0x464e, 0x4637)
    data(2, 0x4357, 0x416f, 0x435e, 0x0435, 0x0c36, 0x1964, 0x4177, 0x6805, 0x2600, 0x1964, 0x4177, 0x4665)
    data(2, 0x1964, 0x4177, 0xc010, 0x4654, 0x4625, 0x435c, 0x4355, 0x042e, 0x0c2d, 0x19a4, 0x465e, 0x4372)
    data(2, 0x416a, 0x4373, 0x041d, 0x0c1b, 0x1964, 0x415a, 0x19e4, 0x2500, 0x416a, 0x4676, 0x19a4, 0x416a)
    data(2, 0x46a4, 0x4696)
    # ldr r4, [sp, #4]; cmp r1, r4; beq rows_end; b rows0
    data(2, 0x9c01, 0x42a1, 0xd000, 0xe66b)
    # rows_end:
    # ldr r4, [sp, #0]; bx r4
    data(2, 0x9c00, 0x4720)
    # reduce:
    # push {lr}; ldr r4, [r3]; adds r5, r0, r4; push {r3, r5}; movs r6, #0; push {r6}
    data(2, 0xb500, 0x681c, 0x1905, 0xb428, 0x2600, 0xb440)
    # adds r3, #16; adds r3, r3, r4           -- end of n
    data(2, 0x3310, 0x191b)
    # push {r3, r4}; sub sp, #4
    data(2, 0xb418, 0xb081)
    # reduce_next:
    # ldr r1, [sp, #16]; ldr r4, [r1, #4]     -- k0
    data(2, 0x9904, 0x684c)
    # ldr r5, [r1, #8]                        -- k1
    data(2, 0x688d)
    # adds r1, #16                            -- n
    data(2, 0x3110)
    # ldmia r0!, {r2, r3}                     -- T0, T1
    data(2, 0xc80c)
    # subs r0, #8; muls r3, r4; muls r5, r2; adds r3, r5 -- T0 k1 + T1 k0
    data(2, 0x3808, 0x4363, 0x4355, 0x195b)
    # uxth r5, r2; lsrs r2, r2, #16; uxth r6, r4; lsrs r4, r4, #16; mov r7, r5; muls r7, r6
    data(2, 0xb295, 0x0c12, 0xb2a6, 0x0c24, 0x462f, 0x4377)
    # muls r6, r2; muls r5, r4; muls r2, r4; lsls r4, r6, #16; lsrs r6, r6, #16; adds r7, r4
    data(2, 0x4356, 0x4365, 0x4362, 0x0434, 0x0c36, 0x193f)
    # adcs r2, r6; lsls r4, r5, #16; lsrs r5, r5, #16; adds r4, r7 -- m0
    data(2, 0x4172, 0x042c, 0x0c2d, 0x19e4)
    # adcs r2, r5; adds r5, r3, r2            -- m1
    data(2, 0x416a, 0x189d)
    # uxth r6, r4; mov r8, r6; lsrs r4, r4, #16; mov r9, r4; uxth r6, r5; mov r10, r6
    data(2, 0xb2a6, 0x46b0, 0x0c24, 0x46a1, 0xb2ae, 0x46b2)
    # lsrs r5, r5, #16; mov r11, r5; bl rows
    data(2, 0x0c2d, 0x46ab, 0xf7ff, 0xfe32)
    # ldr r6, [sp, #12]                       -- the carry of the two rows before belongs to this column
    data(2, 0x9e03)
    # lsrs r6, r6, #1; ldr r4, [r0]; ldr r5, [r0, #4]; mov r2, r12; mov r3, lr; adcs r4, r2
    data(2, 0x0876, 0x6804, 0x6845, 0x4662, 0x4673, 0x4154)
    # adcs r5, r3; movs r6, #0; adcs r6, r6; str r6, [sp, #12]; stmia r0!, {r4, r5}
    data(2, 0x415d, 0x2600, 0x4176, 0x9603, 0xc030)
    # ldr r4, [sp, #8]; subs r0, r0, r4; subs r0, #8
    data(2, 0x9c02, 0x1b00, 0x3808)
    # mov r4, r9                              -- the two words of T are zero now: keep m there
    data(2, 0x464c)
    # lsls r4, r4, #16; mov r5, r8; orrs r4, r5; mov r5, r11; lsls r5, r5, #16; mov r6, r10
    data(2, 0x0424, 0x4645, 0x432c, 0x465d, 0x042d, 0x4656)
    # orrs r5, r6; stmia r0!, {r4, r5}; ldr r6, [sp, #20]; cmp r0, r6; bne reduce_next
    data(2, 0x4335, 0xc030, 0x9e05, 0x42b0, 0xd1bf)
    # ldr r4, [sp, #12]; add sp, #24; pop {pc}
    data(2, 0x9c03, 0xb006, 0xbd00)
    # school:
    # push {lr}; adds r4, r2, r3; push {r2, r4}; adds r2, r1, r3; push {r2, r3}; sub sp, #4
    data(2, 0xb500, 0x18d4, 0xb414, 0x18ca, 0xb40c, 0xb081)
    # movs r4, #0; movs r5, #0; movs r6, #0; movs r7, #0; adds r2, r0, r3
    data(2, 0x2400, 0x2500, 0x2600, 0x2700, 0x18c2)
    # school_clear:
    # stmia r0!, {r4, r5, r6, r7}; cmp r0, r2; bne school_clear; subs r0, r0, r3
    data(2, 0xc0f0, 0x4290, 0xd1fc, 0x1ac0)
    # school_next:
    # ldr r2, [sp, #12]; ldmia r2!, {r4, r5}; str r2, [sp, #12]; uxth r6, r4; mov r8, r6
    data(2, 0x9a03, 0xca30, 0x9203, 0xb2a6, 0x46b0)
    # lsrs r4, r4, #16; mov r9, r4; uxth r6, r5; mov r10, r6; lsrs r5, r5, #16; mov r11, r5
    data(2, 0x0c24, 0x46a1, 0xb2ae, 0x46b2, 0x0c2d, 0x46ab)
    # bl rows; mov r4, r12; mov r5, lr; stmia r0!, {r4, r5}; ldr r3, [sp, #8]; subs r0, r0, r3
    data(2, 0xf7ff, 0xfdf8, 0x4664, 0x4675, 0xc030, 0x9b02, 0x1ac0)
    # subs r1, r1, r3; ldr r4, [sp, #12]; ldr r5, [sp, #16]; cmp r4, r5; bne school_next
    data(2, 0x1ac9, 0x9c03, 0x9d04, 0x42ac, 0xd1e8)
    # add sp, #20; pop {pc}
    data(2, 0xb005, 0xbd00)
    # product:
    # cmp r3, #32; beq school; lsls r5, r3, #27; bne school; push {r0, r1, r2, r3, r4, lr}
    data(2, 0x2b20, 0xd0d5, 0x06dd, 0xd1d3, 0xb51f)
    # lsrs r3, r3, #1; adds r2, r1, r3; bl difference -- OUT = |a0 - a1|
    data(2, 0x085b, 0x18ca, 0xf000, 0xf881)
    # push {r6}; ldr r0, [sp, #4]; ldr r1, [sp, #8]; ldr r2, [sp, #12]; cmp r1, r2
    data(2, 0xb440, 0x9801, 0x9902, 0x9a03, 0x4291)
    # beq product_square; ldr r3, [sp, #16]; lsrs r3, r3, #1; adds r0, r0, r3; mov r1, r2
    data(2, 0xd008, 0x9b04, 0x085b, 0x18c0, 0x4611)
    # adds r2, r2, r3; push {r0}; bl difference -- OUT + h = |b0 - b1|
    data(2, 0x18d2, 0xb401, 0xf000, 0xf873)
    # pop {r0}
    data(2, 0xbc01)
    # product_square:
    # pop {r5}; eors r6, r5                   -- -1 when the product of the differences is negative
    data(2, 0xbc20, 0x406e)
    # push {r6}; mov r2, r0; ldr r1, [sp, #4]; ldr r0, [sp, #20]; ldr r3, [sp, #16]
    data(2, 0xb440, 0x4602, 0x9901, 0x9805, 0x9b04)
    # adds r4, r0, r3; lsrs r3, r3, #1; bl product -- TEMP = |a0 - a1| |b0 - b1|
    data(2, 0x18c4, 0x085b, 0xf7ff, 0xffdd)
    # ldr r0, [sp, #4]; ldr r1, [sp, #8]; ldr r2, [sp, #12]; ldr r3, [sp, #16]
    data(2, 0x9801, 0x9902, 0x9a03, 0x9b04)
    # ldr r4, [sp, #20]; adds r4, r4, r3; lsrs r3, r3, #1; bl product -- OUT = lo
    data(2, 0x9c05, 0x18e4, 0x085b, 0xf7ff, 0xffd4)
    # ldr r0, [sp, #4]; ldr r1, [sp, #8]; ldr r2, [sp, #12]; ldr r3, [sp, #16]
    data(2, 0x9801, 0x9902, 0x9a03, 0x9b04)
    # ldr r4, [sp, #20]; adds r4, r4, r3; adds r0, r0, r3; lsrs r3, r3, #1; adds r1, r1, r3
    data(2, 0x9c05, 0x18e4, 0x18c0, 0x085b, 0x18c9)
    # adds r2, r2, r3; bl product             -- OUT + w = hi
    data(2, 0x18d2, 0xf7ff, 0xffc8)
    # ldr r1, [sp, #4]; ldr r3, [sp, #16]; adds r2, r1, r3; ldr r0, [sp, #20]; adds r0, r0, r3
    data(2, 0x9901, 0x9b04, 0x18ca, 0x9805, 0x18c0)
    # bl plus                                 -- TEMP + w = lo + hi, r3 = carry
    data(2, 0xf000, 0xf827)
    # pop {r6}; push {r3}; ldr r3, [sp, #16]; ldr r2, [sp, #20]; adds r0, r2, r3; mov r1, r0
    data(2, 0xbc40, 0xb408, 0x9b04, 0x9a05, 0x18d0, 0x4601)
    # cmp r6, #0                              -- both ways take 8 cycles and the same loop
    data(2, 0x2e00)
    # bne product_plus; bl minus              -- TEMP + w -= TEMP
    data(2, 0xd103, 0xf000, 0xf82f)
    # subs r3, #1                             -- borrow: -1
    data(2, 0x3b01)
    # b product_middle
    data(2, 0xe003)
    # product_plus:
    # bl plus                                 -- TEMP + w += TEMP
    data(2, 0xf000, 0xf819)
    # mov r8, r8; mov r8, r8
    data(2, 0x46c0, 0x46c0)
    # product_middle:
    # pop {r4}; adds r3, r3, r4               -- carry of the middle term: 0 or 1, since it is >= 0
    data(2, 0xbc10, 0x191b)
    # push {r3}; ldr r3, [sp, #16]; ldr r0, [sp, #4]; lsrs r2, r3, #1; adds r0, r0, r2
    data(2, 0xb408, 0x9b04, 0x9801, 0x085a, 0x1880)
    # mov r1, r0; ldr r2, [sp, #20]; adds r2, r2, r3; bl plus -- OUT + h += middle term
    data(2, 0x4601, 0x9a05, 0x18d2, 0xf000, 0xf80b)
    # pop {r4}; adds r3, r3, r4               -- 0, 1 or 2 into the last quarter
    data(2, 0xbc10, 0x191b)
    # product_carry:
    # ldr r4, [r0]; adds r4, r4, r3; movs r3, #0; adcs r3, r3; stmia r0!, {r4}
    data(2, 0x6804, 0x18e4, 0x2300, 0x415b, 0xc010)
    # cmp r3, #0                              -- again once in 2^31
    data(2, 0x2b00)
    # bne product_carry; add sp, #20; pop {pc}
    data(2, 0xd1f8, 0xb005, 0xbd00)
    # plus:
    # adds r3, r3, r0; mov r12, r3; movs r3, #0
    data(2, 0x181b, 0x469c, 0x2300)
    # plus_next:
    # lsrs r3, r3, #1                         -- carry from the round before
    data(2, 0x085b)
    # ldmia r1!, {r4, r5}; ldmia r2!, {r6, r7}; adcs r4, r6; adcs r5, r7; stmia r0!, {r4, r5}
    data(2, 0xc930, 0xcac0, 0x4174, 0x417d, 0xc030)
    # ldmia r1!, {r4, r5}; ldmia r2!, {r6, r7}; adcs r4, r6; adcs r5, r7; stmia r0!, {r4, r5}
    data(2, 0xc930, 0xcac0, 0x4174, 0x417d, 0xc030)
    # adcs r3, r3; cmp r0, r12; bne plus_next; bx lr
    data(2, 0x415b, 0x4560, 0xd1f1, 0x4770)
    # minus:
    # adds r3, r3, r0; mov r12, r3; movs r3, #1
    data(2, 0x181b, 0x469c, 0x2301)
    # minus_next:
    # lsrs r3, r3, #1                         -- carry from the round before
    data(2, 0x085b)
    # ldmia r1!, {r4, r5}; ldmia r2!, {r6, r7}; sbcs r4, r6; sbcs r5, r7; stmia r0!, {r4, r5}
    data(2, 0xc930, 0xcac0, 0x41b4, 0x41bd, 0xc030)
    # ldmia r1!, {r4, r5}; ldmia r2!, {r6, r7}; sbcs r4, r6; sbcs r5, r7; stmia r0!, {r4, r5}
    data(2, 0xc930, 0xcac0, 0x41b4, 0x41bd, 0xc030)
    # adcs r3, r3; cmp r0, r12; bne minus_next; bx lr
    data(2, 0x415b, 0x4560, 0xd1f1, 0x4770)
    # difference:
    # push {r0, r3, lr}; bl minus; subs r6, r3, #1; pop {r0, r3}; adds r3, r3, r0; mov r12, r3
    data(2, 0xb509, 0xf7ff, 0xffeb, 0x1e5e, 0xbc09, 0x181b, 0x469c)
    # movs r7, #0; subs r3, r7, r6            -- -d = ~d + 1
    data(2, 0x2700, 0x1bbb)
    # difference_next:
    # lsrs r3, r3, #1; ldr r4, [r0]; ldr r5, [r0, #4]; eors r4, r6; eors r5, r6; adcs r4, r7
    data(2, 0x085b, 0x6804, 0x6845, 0x4074, 0x4075, 0x417c)
    # adcs r5, r7; stmia r0!, {r4, r5}; ldr r4, [r0]; ldr r5, [r0, #4]; eors r4, r6
    data(2, 0x417d, 0xc030, 0x6804, 0x6845, 0x4074)
    # eors r5, r6; adcs r4, r7; adcs r5, r7; stmia r0!, {r4, r5}; adcs r3, r3; cmp r0, r12
    data(2, 0x4075, 0x417c, 0x417d, 0xc030, 0x415b, 0x4560)
    # bne difference_next; pop {pc}
    data(2, 0xd1ed, 0xbd00)
    # below:
    # push {r0, r2, r3, r4, lr}; bl minus; ldr r6, [sp, #12]
    data(2, 0xb51d, 0xf7ff, 0xffcf, 0x9e03)
    # orrs r6, r3                             -- 1: no borrow, or one that the carry pays
    data(2, 0x431e)
    # subs r6, #1; pop {r0, r1, r3, r4}; adds r3, r3, r0; mov r12, r3; movs r3, #0
    data(2, 0x3e01, 0xbc1b, 0x181b, 0x469c, 0x2300)
    # below_next:
    # lsrs r3, r3, #1; ldmia r1!, {r4, r5}; ands r4, r6; ands r5, r6; ldr r7, [r0]
    data(2, 0x085b, 0xc930, 0x4034, 0x4035, 0x6807)
    # adcs r4, r7; ldr r7, [r0, #4]; adcs r5, r7; stmia r0!, {r4, r5}; adcs r3, r3
    data(2, 0x417c, 0x6847, 0x417d, 0xc030, 0x415b)
    # cmp r0, r12; bne below_next; pop {pc}
    data(2, 0x4560, 0xd1f3, 0xbd00)
    # main:
    # push {r0, r1, r2, r3}; mov r4, r8; mov r5, r9; mov r6, r10; mov r7, r11
    data(2, 0xb40f, 0x4644, 0x464d, 0x4656, 0x465f)
    # push {r4, r5, r6, r7}; sub sp, #36; ldr r4, [r3]; str r4, [sp, #8]; adds r3, #16
    data(2, 0xb4f0, 0xb089, 0x681c, 0x9402, 0x3310)
    # str r3, [sp, #12]; adds r3, r3, r4; str r3, [sp, #16]; adds r3, r3, r4
    data(2, 0x9303, 0x191b, 0x9304, 0x191b)
    # str r3, [sp, #20]; adds r3, r3, r4; str r3, [sp, #24]; mov r0, r3; adds r3, r3, r4
    data(2, 0x9305, 0x191b, 0x9306, 0x4618, 0x191b)
    # adds r3, r3, r4; str r3, [sp, #28]; adds r3, r3, r4; adds r3, r3, r4; str r3, [sp, #32]
    data(2, 0x191b, 0x9307, 0x191b, 0x191b, 0x9308)
    # mov r3, r4; ldr r4, [sp, #32]; bl product -- T = x0 y0
    data(2, 0x4623, 0x9c08, 0xf7ff, 0xff27)
    # ldr r0, [sp, #24]; ldr r3, [sp, #64]; bl reduce -- T = m | t
    data(2, 0x9806, 0x9b10, 0xf7ff, 0xfeae)
    # mov r1, r0; ldr r0, [sp, #20]; ldr r2, [sp, #12]; ldr r3, [sp, #8]
    data(2, 0x4601, 0x9805, 0x9a03, 0x9b02)
    # bl below                                -- Z = z0 = t - j n
    data(2, 0xf7ff, 0xffc3)
    # adds r6, #1; str r6, [sp, #4]           -- j
    data(2, 0x3601, 0x9601)
    # ldr r0, [sp, #28]; ldr r1, [sp, #56]; ldr r2, [sp, #60]; ldr r3, [sp, #8]
    data(2, 0x9807, 0x990e, 0x9a0f, 0x9b02)
    # adds r2, r2, r3; ldr r4, [sp, #32]; bl product -- U = x0 y1
    data(2, 0x18d2, 0x9c08, 0xf7ff, 0xff13)
    # movs r3, #0; ldr r1, [sp, #56]; ldr r2, [sp, #60]; cmp r1, r2; bne main_correct
    data(2, 0x2300, 0x990e, 0x9a0f, 0x4291, 0xd106)
    # ldr r0, [sp, #28]; mov r1, r0; mov r2, r0; ldr r3, [sp, #8]; lsls r3, r3, #1
    data(2, 0x9807, 0x4601, 0x4602, 0x9b02, 0x005b)
    # bl plus                                 -- a square: U = 2 x0 x1
    data(2, 0xf7ff, 0xff6d)
    # main_correct:
    # str r3, [sp, #0]; ldr r0, [sp, #28]     -- U += (2n - m) + j R, where 2n - m = D + ~m + 1
    data(2, 0x9300, 0x9807)
    # ldr r1, [sp, #24]; ldr r2, [sp, #16]; ldr r3, [sp, #8]; adds r3, r3, r1; mov r12, r3
    data(2, 0x9906, 0x9a04, 0x9b02, 0x185b, 0x469c)
    # movs r6, #1                             -- carry of D + ~m
    data(2, 0x2601)
    # movs r7, #0                             -- carry into U
    data(2, 0x2700)
    # main_correct_next:
    # ldmia r1!, {r3}; mvns r3, r3; ldmia r2!, {r4}; lsrs r6, r6, #1; adcs r3, r4; adcs r6, r6
    data(2, 0xc908, 0x43db, 0xca10, 0x0876, 0x4163, 0x4176)
    # ldr r4, [r0]; lsrs r7, r7, #1; adcs r3, r4; adcs r7, r7; stmia r0!, {r3}; cmp r1, r12
    data(2, 0x6804, 0x087f, 0x4163, 0x417f, 0xc008, 0x4561)
    # bne main_correct_next; adds r6, r6, r7; ldr r7, [sp, #4]
    data(2, 0xd1f2, 0x19f6, 0x9f01)
    # adds r6, r6, r7                         -- 0..3 into the upper half
    data(2, 0x19f6)
    # ldr r3, [sp, #8]; adds r3, r3, r0
    data(2, 0x9b02, 0x181b)
    # main_carry_next:
    # ldr r4, [r0]; adds r4, r4, r6; movs r6, #0; adcs r6, r6; stmia r0!, {r4}; cmp r0, r3
    data(2, 0x6804, 0x19a4, 0x2600, 0x4176, 0xc010, 0x4298)
    # bne main_carry_next; ldr r4, [sp, #0]; adds r4, r4, r6; str r4, [sp, #0]
    data(2, 0xd1f8, 0x9c00, 0x19a4, 0x9400)
    # ldr r1, [sp, #56]; ldr r2, [sp, #60]; cmp r1, r2; beq main_sum; ldr r0, [sp, #24]
    data(2, 0x990e, 0x9a0f, 0x4291, 0xd00f, 0x9806)
    # ldr r3, [sp, #8]; adds r1, r1, r3; ldr r4, [sp, #32]
    data(2, 0x9b02, 0x18c9, 0x9c08)
    # bl product                              -- T = x1 y0 (m is not needed any more)
    data(2, 0xf7ff, 0xfed8)
    # ldr r0, [sp, #28]; mov r1, r0; ldr r2, [sp, #24]; ldr r3, [sp, #8]; lsls r3, r3, #1
    data(2, 0x9807, 0x4601, 0x9a06, 0x9b02, 0x005b)
    # bl plus                                 -- U += T
    data(2, 0xf7ff, 0xff37)
    # ldr r4, [sp, #0]; adds r4, r4, r3; str r4, [sp, #0]
    data(2, 0x9c00, 0x18e4, 0x9400)
    # main_sum:
    # ldr r1, [sp, #28]                       -- U < 2nR: less nR, or 3n could come out
    data(2, 0x9907)
    # ldr r3, [sp, #8]; adds r1, r1, r3; mov r0, r1; ldr r2, [sp, #12]; ldr r4, [sp, #0]
    data(2, 0x9b02, 0x18c9, 0x4608, 0x9a03, 0x9c00)
    # bl below; ldr r0, [sp, #28]; ldr r3, [sp, #64]; bl reduce; mov r1, r0; ldr r0, [sp, #52]
    data(2, 0xf7ff, 0xff6c, 0x9807, 0x9b10, 0xf7ff, 0xfe4d, 0x4601, 0x980d)
    # ldr r2, [sp, #12]; ldr r3, [sp, #8]; adds r0, r0, r3; bl below -- z1
    data(2, 0x9a03, 0x9b02, 0x18c0, 0xf7ff, 0xff61)
    # ldr r0, [sp, #52]; ldr r1, [sp, #20]; ldr r3, [sp, #8]; adds r3, r3, r0
    data(2, 0x980d, 0x9905, 0x9b02, 0x181b)
    # main_copy:
    # ldmia r1!, {r4, r5, r6, r7}; stmia r0!, {r4, r5, r6, r7}; cmp r0, r3; bne main_copy
    data(2, 0xc9f0, 0xc0f0, 0x4298, 0xd1fb)
    # add sp, #36; pop {r4, r5, r6, r7}; mov r8, r4; mov r9, r5; mov r10, r6; mov r11, r7
    data(2, 0xb009, 0xbcf0, 0x46a0, 0x46a9, 0x46b2, 0x46bb)
    # add sp, #16
    data(2, 0xb004)
