"""Kernel `thumb2`: ARMv7E-M code with DSP (Cortex-M4, M7, M33: RP2350). 780 bytes.

multiply(out, x, y, ctx): the pair of x y / R mod n^2 (montgomery.py says what a pair is).

This file is written by tools/kernels/generate.py from tools/kernels/thumb2_source.py. The inline
assembler lacks umaal, ldrd, strd, ldm and stm, so the opcodes are given as numbers, with
the instructions above them; the source has macros, names of stack slots and every routine's contract.

Operands. out, x, y: bytearrays of 2 nb bytes, halves x0 | x1 little-endian, each below n, aligned to
words (a bytearray is, a slice in a memoryview may not be). out may be x, y or both. If y *is* x (one
buffer) the square is taken a shorter way. ctx: n and a work area, see montgomery.context.
n is odd and has exactly 32 s bits, s = 8, 16, 24 ...; R = 2^(32 s). One pair's operands may be any
values below n, 0 among them.

Steps, and what is easily forgotten (x y = T + n U mod n^2):
 1. T = x0 y0 < n^2.
 2. T = (T + m n) / R < 2n. Every four rows leave a carry that belongs to the column behind them; the
    last one is the result's bit s, without which a result above R is taken for a small one.
 3. z0 = T - j n, j = 0 or 1. j is kept: R T = R z0 + j n R, so the n-part gets + j R.
 4. U = x0 y1 + x1 y0 (a square: 2 x0 x1) + (2n - m) + j R. The n-part gets -m, since
    x0 y0 = R T - m n; 2n > m keeps it positive and is 0 mod n. 2n - m = D + ~m + 1 with
    D = 2n - R: no negative numbers. Two carries run through the lower half and up to 3 come out
    of it; they are carried through the whole upper half. U < 2n^2 - 2n + 2 + R <= 2nR: one bit above R^2.
 5. U -= nR if U >= nR. Without this step the next one could reach 3n.
 6. z1 = (U + m' n) / R, less n if it is n or more. Only now is `out` written: it may be x or y.
Subtractions of n are done always and undone by adding n & mask: no branch depends on a secret. Nor
does a loop.

Products and reductions go row by row, four rows at a time. UMAAL r, c, a, b leaves r + c + a b in c:r,
which cannot overflow, so a column is one UMAAL per row with no carry to save:
two words of `a` cost 8 UMAAL and 3 double-word accesses. The first four columns of a reduction also
give the four words of m; the register of the word that has become zero holds the row's carry.

Registers: r4..r11 and lr are saved here; r0..r3, r12 and the flags are lost. Stack: 132 bytes.
Scratch in ctx: T (2) | U (2), each nb bytes; z0 waits in T's upper half.

Instructions, counted with qemu-arm, product / square:
    1024 bits  10,534 / 8,957      2048 bits  35,910 / 29,757      3072 bits  76,326 / 62,589
"""
# fmt: off
# ruff: noqa: F821
# pyright: reportUndefinedVariable=false

import micropython

SCRATCH = 4  # work area in ctx, in units of nb bytes


@micropython.asm_thumb
def probe(r0):
    """r0 + 1: is there an inline assembler at all?"""
    add(r0, r0, 1)


@micropython.asm_thumb
def multiply(r0, r1, r2, r3):
    # b main
    data(2, 0xe100)
    # rows:
    # str.w lr, [sp, #0]
    data(2, 0xf8cd, 0xe000)
    # rows0:
    # ldrd r2, r3, [r1], #8; ldrd r12, lr, [r0]; umaal r12, r8, r2, r4; umaal r8, r9, r2, r5
    data(2, 0xe8f1, 0x2302, 0xe9d0, 0xce00, 0xfbe2, 0xc864, 0xfbe2, 0x8965)
    # umaal r9, r10, r2, r6; umaal r10, r11, r2, r7; umaal lr, r8, r3, r4
    data(2, 0xfbe2, 0x9a66, 0xfbe2, 0xab67, 0xfbe3, 0xe864)
    # umaal r8, r9, r3, r5; umaal r9, r10, r3, r6; umaal r10, r11, r3, r7
    data(2, 0xfbe3, 0x8965, 0xfbe3, 0x9a66, 0xfbe3, 0xab67)
    # strd r12, lr, [r0], #8
    data(2, 0xe8e0, 0xce02)
    # the same 11 instructions, 2
    data(2, 0xe8f1, 0x2302, 0xe9d0, 0xce00, 0xfbe2, 0xc864, 0xfbe2, 0x8965, 0xfbe2, 0x9a66, 0xfbe2, 0xab67)
    data(2, 0xfbe3, 0xe864, 0xfbe3, 0x8965, 0xfbe3, 0x9a66, 0xfbe3, 0xab67, 0xe8e0, 0xce02)
    # rows4: the same 11 instructions, 3
    data(2, 0xe8f1, 0x2302, 0xe9d0, 0xce00, 0xfbe2, 0xc864, 0xfbe2, 0x8965, 0xfbe2, 0x9a66, 0xfbe2, 0xab67)
    data(2, 0xfbe3, 0xe864, 0xfbe3, 0x8965, 0xfbe3, 0x9a66, 0xfbe3, 0xab67, 0xe8e0, 0xce02)
    # the same 11 instructions, 4
    data(2, 0xe8f1, 0x2302, 0xe9d0, 0xce00, 0xfbe2, 0xc864, 0xfbe2, 0x8965, 0xfbe2, 0x9a66, 0xfbe2, 0xab67)
    data(2, 0xfbe3, 0xe864, 0xfbe3, 0x8965, 0xfbe3, 0x9a66, 0xfbe3, 0xab67, 0xe8e0, 0xce02)
    # ldr r2, [sp, #8]; cmp r1, r2; bne rows0; ldr r2, [sp, #0]; bx r2
    data(2, 0x9a02, 0x4291, 0xd1a4, 0x9a00, 0x4710)
    # rows_behind_first4:
    # str.w lr, [sp, #0]; b rows4
    data(2, 0xf8cd, 0xe000, 0xe7cb)
    # tail:
    # ldmia.w r0, {r2, r3, r12}; ldr r5, [r0, #12]; ldr r4, [sp, #16]; lsrs r4, r4, #1
    data(2, 0xe890, 0x100c, 0x68c5, 0x9c04, 0x0864)
    # adcs.w r8, r8, r2; adcs.w r9, r9, r3; adcs.w r10, r10, r12; adcs.w r11, r11, r5
    data(2, 0xeb58, 0x0802, 0xeb59, 0x0903, 0xeb5a, 0x0a0c, 0xeb5b, 0x0b05)
    # movs r4, #0; adcs r4, r4; str r4, [sp, #16]; stmia.w r0!, {r8-r11}; ldr r4, [sp, #36]
    data(2, 0x2400, 0x4164, 0x9404, 0xe8a0, 0x0f00, 0x9c09)
    # subs r0, r0, r4; bx lr
    data(2, 0x1b00, 0x4770)
    # product:
    # str.w lr, [sp, #4]; str r1, [sp, #20]; ldr r3, [sp, #36]; adds r4, r1, r3
    data(2, 0xf8cd, 0xe004, 0x9105, 0x9b09, 0x18cc)
    # str r4, [sp, #8]; adds r4, r2, r3; str r4, [sp, #12]; movs r4, #0; str r4, [sp, #16]
    data(2, 0x9402, 0x18d4, 0x9403, 0x2400, 0x9404)
    # product_next:
    # ldr r1, [sp, #20]; ldmia r2!, {r4, r5, r6, r7}; str r2, [sp, #24]; movs r3, #0
    data(2, 0x9905, 0xcaf0, 0x9206, 0x2300)
    # mov r8, r3; mov r9, r3; mov r10, r3; mov r11, r3; bl rows; bl tail; ldr r2, [sp, #24]
    data(2, 0x4698, 0x4699, 0x469a, 0x469b, 0xf7ff, 0xff75, 0xf7ff, 0xffd5, 0x9a06)
    # ldr r4, [sp, #12]; cmp r2, r4; bne product_next; ldr r4, [sp, #16]; ldr r2, [sp, #4]
    data(2, 0x9c03, 0x42a2, 0xd1ef, 0x9c04, 0x9a01)
    # bx r2
    data(2, 0x4710)
    # reduce:
    # str.w lr, [sp, #4]; ldr r3, [sp, #36]; ldr r1, [sp, #40]; adds r1, r1, r3
    data(2, 0xf8cd, 0xe004, 0x9b09, 0x990a, 0x18c9)
    # str r1, [sp, #8]; adds r1, r0, r3; str r1, [sp, #12]; movs r4, #0; str r4, [sp, #16]
    data(2, 0x9102, 0x18c1, 0x9103, 0x2400, 0x9404)
    # reduce_next:
    # ldmia.w r0, {r9-r12}; movs r2, #0; mov r8, r2; ldr r1, [sp, #40]; ldr r7, [sp, #68]
    data(2, 0xe890, 0x1e00, 0x2200, 0x4690, 0x990a, 0x9f11)
    # ldr r7, [r7, #4]; str r0, [sp, #24]; ldmia.w r1!, {r0, r2, r3, lr}; mul r4, r7, r9
    data(2, 0x687f, 0x9006, 0xe8b1, 0x400d, 0xfb07, 0xf409)
    # umaal r9, r8, r0, r4; umaal r10, r8, r2, r4; umaal r11, r8, r3, r4
    data(2, 0xfbe0, 0x9864, 0xfbe2, 0xa864, 0xfbe3, 0xb864)
    # umaal r12, r8, lr, r4; mul r5, r7, r10; umaal r10, r9, r0, r5; umaal r11, r9, r2, r5
    data(2, 0xfbee, 0xc864, 0xfb07, 0xf50a, 0xfbe0, 0xa965, 0xfbe2, 0xb965)
    # umaal r12, r9, r3, r5; umaal r8, r9, lr, r5; mul r6, r7, r11; umaal r11, r10, r0, r6
    data(2, 0xfbe3, 0xc965, 0xfbee, 0x8965, 0xfb07, 0xf60b, 0xfbe0, 0xba66)
    # umaal r12, r10, r2, r6; umaal r8, r10, r3, r6; umaal r9, r10, lr, r6; mul r7, r7, r12
    data(2, 0xfbe2, 0xca66, 0xfbe3, 0x8a66, 0xfbee, 0x9a66, 0xfb07, 0xf70c)
    # umaal r12, r11, r0, r7; umaal r8, r11, r2, r7; umaal r9, r11, r3, r7
    data(2, 0xfbe0, 0xcb67, 0xfbe2, 0x8b67, 0xfbe3, 0x9b67)
    # umaal r10, r11, lr, r7; ldr r0, [sp, #24]
    data(2, 0xfbee, 0xab67, 0x9806)
    # stmia r0!, {r4, r5, r6, r7}             -- these words of T are zero now: keep m there
    data(2, 0xc0f0)
    # bl rows_behind_first4; bl tail; ldr r4, [sp, #12]; cmp r0, r4; bne reduce_next
    data(2, 0xf7ff, 0xff8b, 0xf7ff, 0xff8c, 0x9c03, 0x42a0, 0xd1c4)
    # ldr r4, [sp, #16]; ldr r2, [sp, #4]; bx r2
    data(2, 0x9c04, 0x9a01, 0x4710)
    # below:
    # str r0, [sp, #20]; str r4, [sp, #24]; ldr r2, [sp, #40]; ldr r3, [sp, #36]
    data(2, 0x9005, 0x9406, 0x9a0a, 0x9b09)
    # adds r3, r3, r1; subs r4, r1, r1        -- no borrow
    data(2, 0x185b, 0x1a4c)
    # below_minus:
    # ldmia r1!, {r4, r5}; ldmia r2!, {r6, r7}; sbcs r4, r6; sbcs r5, r7; stmia r0!, {r4, r5}
    data(2, 0xc930, 0xcac0, 0x41b4, 0x41bd, 0xc030)
    # teq r1, r3                              -- leaves the carry alone
    data(2, 0xea91, 0x0f03)
    # bne below_minus; movs r6, #0; adcs r6, r6; ldr r4, [sp, #24]
    data(2, 0xd1f7, 0x2600, 0x4176, 0x9c06)
    # orrs r6, r4                             -- 1: no borrow, or one that the carry pays
    data(2, 0x4326)
    # str r6, [sp, #24]; subs r6, #1          -- mask
    data(2, 0x9606, 0x3e01)
    # ldr r0, [sp, #20]; ldr r2, [sp, #40]; ldr r3, [sp, #36]
    data(2, 0x9805, 0x9a0a, 0x9b09)
    # adds r3, r3, r0                         -- no carry: addresses
    data(2, 0x181b)
    # below_plus:
    # ldmia r2!, {r4, r5}; ands r4, r6; ands r5, r6; ldrd r1, r7, [r0]; adcs r4, r1
    data(2, 0xca30, 0x4034, 0x4035, 0xe9d0, 0x1700, 0x414c)
    # adcs r5, r7; stmia r0!, {r4, r5}; teq r0, r3; bne below_plus; ldr r4, [sp, #24]; bx lr
    data(2, 0x417d, 0xc030, 0xea90, 0x0f03, 0xd1f4, 0x9c06, 0x4770)
    # main:
    # push.w {r4-r11, lr}; sub sp, #72; str r0, [sp, #56]; str r1, [sp, #60]
    data(2, 0xe92d, 0x4ff0, 0xb092, 0x900e, 0x910f)
    # str r2, [sp, #64]; str r3, [sp, #68]; ldr r4, [r3]; str r4, [sp, #36]; adds r3, #16
    data(2, 0x9210, 0x9311, 0x681c, 0x9409, 0x3310)
    # str r3, [sp, #40]; adds r3, r3, r4; str r3, [sp, #44]; adds r3, r3, r4
    data(2, 0x930a, 0x191b, 0x930b, 0x191b)
    # str r3, [sp, #48]; mov r0, r3; adds r3, r3, r4; adds r3, r3, r4; str r3, [sp, #52]
    data(2, 0x930c, 0x4618, 0x191b, 0x191b, 0x930d)
    # adds r3, r3, r4; adds r3, r3, r4        -- end of U
    data(2, 0x191b, 0x191b)
    # movs r4, #0; movs r5, #0; movs r6, #0; movs r7, #0; mov r8, r0
    data(2, 0x2400, 0x2500, 0x2600, 0x2700, 0x4680)
    # main_clear:
    # stmia r0!, {r4, r5, r6, r7}; cmp r0, r3; bne main_clear; mov r0, r8; bl product -- T = x0 y0
    data(2, 0xc0f0, 0x4298, 0xd1fc, 0x4640, 0xf7ff, 0xff56)
    # ldr r0, [sp, #48]; bl reduce            -- T = m | t
    data(2, 0x980c, 0xf7ff, 0xff70)
    # mov r1, r0; bl below                    -- upper half of T = z0 = t - j n
    data(2, 0x4601, 0xf7ff, 0xffb5)
    # str r4, [sp, #32]; ldr r0, [sp, #52]; ldr r1, [sp, #60]; ldr r2, [sp, #64]
    data(2, 0x9408, 0x980d, 0x990f, 0x9a10)
    # ldr r3, [sp, #36]; adds r2, r2, r3; bl product -- U = x0 y1
    data(2, 0x9b09, 0x18d2, 0xf7ff, 0xff48)
    # ldr r1, [sp, #60]; ldr r2, [sp, #64]; ldr r0, [sp, #52]; ldr r3, [sp, #36]; cmp r1, r2
    data(2, 0x990f, 0x9a10, 0x980d, 0x9b09, 0x4291)
    # beq main_double; adds r1, r1, r3; bl product -- U += x1 y0
    data(2, 0xd003, 0x18c9, 0xf7ff, 0xff3f)
    # b main_correct
    data(2, 0xe00d)
    # main_double:
    # lsls r3, r3, #1; adds r3, r3, r0; movs r4, #0; adds r4, r4, r4 -- no carry
    data(2, 0x005b, 0x181b, 0x2400, 0x1924)
    # main_double_next:
    # ldrd r4, r5, [r0]; adcs r4, r4; adcs r5, r5; stmia r0!, {r4, r5}; teq r0, r3
    data(2, 0xe9d0, 0x4500, 0x4164, 0x416d, 0xc030, 0xea90, 0x0f03)
    # bne main_double_next; movs r4, #0; adcs r4, r4
    data(2, 0xd1f7, 0x2400, 0x4164)
    # main_correct:
    # str r4, [sp, #28]; ldr r0, [sp, #52]; ldr r1, [sp, #48]; ldr r2, [sp, #44]
    data(2, 0x9407, 0x980d, 0x990c, 0x9a0b)
    # ldr r3, [sp, #36]; adds r3, r3, r1; movs r6, #1 -- carry of D + ~m
    data(2, 0x9b09, 0x185b, 0x2601)
    # movs r7, #0                             -- carry into U
    data(2, 0x2700)
    # main_correct_next:
    # ldmia r1!, {r4}; mvns r4, r4; ldmia r2!, {r5}; lsrs r6, r6, #1; adcs r4, r5; adcs r6, r6
    data(2, 0xc910, 0x43e4, 0xca20, 0x0876, 0x416c, 0x4176)
    # ldr r5, [r0]; lsrs r7, r7, #1; adcs r4, r5; adcs r7, r7; stmia r0!, {r4}; cmp r1, r3
    data(2, 0x6805, 0x087f, 0x416c, 0x417f, 0xc010, 0x4299)
    # bne main_correct_next; adds r6, r6, r7; ldr r7, [sp, #32]
    data(2, 0xd1f2, 0x19f6, 0x9f08)
    # adds r6, r6, r7                         -- 0..3 into the upper half
    data(2, 0x19f6)
    # ldr r3, [sp, #36]; adds r3, r3, r0
    data(2, 0x9b09, 0x181b)
    # main_carry_next:
    # ldr r4, [r0]; adds r4, r4, r6; movs r6, #0; adcs r6, r6; stmia r0!, {r4}; cmp r0, r3
    data(2, 0x6804, 0x19a4, 0x2600, 0x4176, 0xc010, 0x4298)
    # bne main_carry_next; ldr r4, [sp, #28]; adds r4, r4, r6
    data(2, 0xd1f8, 0x9c07, 0x19a4)
    # ldr r1, [sp, #52]                       -- U < 2nR: less nR, or 3n could come out
    data(2, 0x990d)
    # ldr r3, [sp, #36]; adds r1, r1, r3; mov r0, r1; bl below; ldr r0, [sp, #52]; bl reduce
    data(2, 0x9b09, 0x18c9, 0x4608, 0xf7ff, 0xff6c, 0x980d, 0xf7ff, 0xff21)
    # mov r1, r0; ldr r0, [sp, #56]; ldr r3, [sp, #36]; adds r0, r0, r3; bl below -- z1
    data(2, 0x4601, 0x980e, 0x9b09, 0x18c0, 0xf7ff, 0xff63)
    # ldr r0, [sp, #56]; ldr r3, [sp, #36]; ldr r1, [sp, #48]; adds r1, r1, r3
    data(2, 0x980e, 0x9b09, 0x990c, 0x18c9)
    # adds r3, r3, r0
    data(2, 0x181b)
    # main_copy:
    # ldmia r1!, {r4, r5, r6, r7}; stmia r0!, {r4, r5, r6, r7}; cmp r0, r3; bne main_copy
    data(2, 0xc9f0, 0xc0f0, 0x4298, 0xd1fb)
    # add sp, #72; pop.w {r4-r11, lr}
    data(2, 0xb012, 0xe8bd, 0x4ff0)
