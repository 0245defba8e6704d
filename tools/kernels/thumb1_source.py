"""Assembly source of the kernel `thumb1` (ARMv6-M: Cortex-M0+, and every later Cortex-M).

    source() -> str                    text for assembler.assemble
    SCRATCH, REPEATED                  for generate.py

The routines are in thumb1_rows.py and thumb1_product.py. `[sp, #NAME]` is a stack slot.
"""

from __future__ import annotations

from kernels.assembler import slots
from kernels.thumb1_product import (
    BELOW,
    DIFFERENCE,
    PRODUCT_BEGIN,
    PRODUCT_REST,
    PRODUCT_SLOTS,
    PRODUCT_SLOTS1,
    one_pass,
)
from kernels.thumb1_rows import COLUMN, REDUCE, REDUCE_SLOTS, ROWS, SCHOOL, SCHOOL_SLOTS

SCRATCH = 7  # work area behind n and D, in halves of s words: Z, T (2), U (2), S (2)
REPEATED = COLUMN  # unrolled: the generated file comments it once

MAIN_SLOTS = {
    name: 4 * at
    for at, name in enumerate("TOP J HALF N D Z T U S SAVED _1 _2 _3 RESULT X Y CONTEXT".split())
}
MAIN = """
main:
    push {r0, r1, r2, r3}
    mov r4, r8
    mov r5, r9
    mov r6, r10
    mov r7, r11
    push {r4, r5, r6, r7}
    sub sp, #36
    ldr r4, [r3]
    str r4, [sp, #HALF]
    adds r3, #16
    str r3, [sp, #N]
    adds r3, r3, r4
    str r3, [sp, #D]
    adds r3, r3, r4
    str r3, [sp, #Z]
    adds r3, r3, r4
    str r3, [sp, #T]
    mov r0, r3
    adds r3, r3, r4
    adds r3, r3, r4
    str r3, [sp, #U]
    adds r3, r3, r4
    adds r3, r3, r4
    str r3, [sp, #S]
    mov r3, r4
    ldr r4, [sp, #S]
    bl product               @ T = x0 y0
    ldr r0, [sp, #T]
    ldr r3, [sp, #CONTEXT]
    bl reduce                @ T = m | t
    mov r1, r0
    ldr r0, [sp, #Z]
    ldr r2, [sp, #N]
    ldr r3, [sp, #HALF]
    bl below                 @ Z = z0 = t - j n
    adds r6, #1
    str r6, [sp, #J]         @ j
    ldr r0, [sp, #U]
    ldr r1, [sp, #X]
    ldr r2, [sp, #Y]
    ldr r3, [sp, #HALF]
    adds r2, r2, r3
    ldr r4, [sp, #S]
    bl product               @ U = x0 y1
    movs r3, #0
    ldr r1, [sp, #X]
    ldr r2, [sp, #Y]
    cmp r1, r2
    bne main_correct
    ldr r0, [sp, #U]
    mov r1, r0
    mov r2, r0
    ldr r3, [sp, #HALF]
    lsls r3, r3, #1
    bl plus                  @ a square: U = 2 x0 x1
main_correct:
    str r3, [sp, #TOP]
    ldr r0, [sp, #U]         @ U += (2n - m) + j R, where 2n - m = D + ~m + 1
    ldr r1, [sp, #T]
    ldr r2, [sp, #D]
    ldr r3, [sp, #HALF]
    adds r3, r3, r1
    mov r12, r3
    movs r6, #1              @ carry of D + ~m
    movs r7, #0              @ carry into U
main_correct_next:
    ldmia r1!, {r3}
    mvns r3, r3
    ldmia r2!, {r4}
    lsrs r6, r6, #1
    adcs r3, r4
    adcs r6, r6
    ldr r4, [r0]
    lsrs r7, r7, #1
    adcs r3, r4
    adcs r7, r7
    stmia r0!, {r3}
    cmp r1, r12
    bne main_correct_next
    adds r6, r6, r7
    ldr r7, [sp, #J]
    adds r6, r6, r7          @ 0..3 into the upper half
    ldr r3, [sp, #HALF]
    adds r3, r3, r0
main_carry_next:
    ldr r4, [r0]
    adds r4, r4, r6
    movs r6, #0
    adcs r6, r6
    stmia r0!, {r4}
    cmp r0, r3
    bne main_carry_next
    ldr r4, [sp, #TOP]
    adds r4, r4, r6
    str r4, [sp, #TOP]
    ldr r1, [sp, #X]
    ldr r2, [sp, #Y]
    cmp r1, r2
    beq main_sum
    ldr r0, [sp, #T]
    ldr r3, [sp, #HALF]
    adds r1, r1, r3
    ldr r4, [sp, #S]
    bl product               @ T = x1 y0 (m is not needed any more)
    ldr r0, [sp, #U]
    mov r1, r0
    ldr r2, [sp, #T]
    ldr r3, [sp, #HALF]
    lsls r3, r3, #1
    bl plus                  @ U += T
    ldr r4, [sp, #TOP]
    adds r4, r4, r3
    str r4, [sp, #TOP]
main_sum:
    ldr r1, [sp, #U]         @ U < 2nR: less nR, or 3n could come out
    ldr r3, [sp, #HALF]
    adds r1, r1, r3
    mov r0, r1
    ldr r2, [sp, #N]
    ldr r4, [sp, #TOP]
    bl below
    ldr r0, [sp, #U]
    ldr r3, [sp, #CONTEXT]
    bl reduce
    mov r1, r0
    ldr r0, [sp, #RESULT]
    ldr r2, [sp, #N]
    ldr r3, [sp, #HALF]
    adds r0, r0, r3
    bl below                 @ z1
    ldr r0, [sp, #RESULT]
    ldr r1, [sp, #Z]
    ldr r3, [sp, #HALF]
    adds r3, r3, r0
main_copy:
    ldmia r1!, {r4, r5, r6, r7}
    stmia r0!, {r4, r5, r6, r7}
    cmp r0, r3
    bne main_copy
    add sp, #36
    pop {r4, r5, r6, r7}
    mov r8, r4
    mov r9, r5
    mov r10, r6
    mov r11, r7
    add sp, #16
"""


def source() -> str:
    """The whole kernel. It is entered at its first instruction and left behind its last."""
    return "".join(
        (
            "    b main\n",
            slots(ROWS, SCHOOL_SLOTS),
            slots(REDUCE, REDUCE_SLOTS),
            slots(SCHOOL, SCHOOL_SLOTS),
            slots(PRODUCT_BEGIN, PRODUCT_SLOTS),
            slots(PRODUCT_REST, PRODUCT_SLOTS1),
            one_pass("plus", 0, "adcs"),
            one_pass("minus", 1, "sbcs"),
            DIFFERENCE,
            BELOW,
            slots(MAIN, MAIN_SLOTS),
        )
    )
