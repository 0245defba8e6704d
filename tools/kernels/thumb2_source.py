"""Assembly source of the kernel `thumb2` (ARMv7E-M with DSP: Cortex-M4, M7, M33).

    source() -> str                    text for assembler.assemble
    SCRATCH, REPEATED                  for generate.py

UMAAL adds two words to a product of 32 x 32 bits: four rows at a time, no carry flag. The routines
with rows are in thumb2_rows.py. `[sp, #NAME]` is a stack slot.
"""

from __future__ import annotations

from kernels.assembler import slots
from kernels.thumb2_rows import PAIR, PRODUCT, REDUCE, ROWS, TAIL

SCRATCH = 4  # work area behind n and D, in halves of s words: T (2), U (2)
REPEATED = PAIR  # unrolled: the generated file comments it once

# r0[..] = v - n if v >= n, else v, with v = r1[..] + r4 R; s words. r4 = 1 when n was taken off, else 0
BELOW = """
below:
    str r0, [sp, #A]
    str r4, [sp, #B]
    ldr r2, [sp, #N]
    ldr r3, [sp, #HALF]
    adds r3, r3, r1
    subs r4, r1, r1          @ no borrow
below_minus:
    ldmia r1!, {r4, r5}
    ldmia r2!, {r6, r7}
    sbcs r4, r6
    sbcs r5, r7
    stmia r0!, {r4, r5}
    teq r1, r3               @ leaves the carry alone
    bne below_minus
    movs r6, #0
    adcs r6, r6
    ldr r4, [sp, #B]
    orrs r6, r4              @ 1: no borrow, or one that the carry pays
    str r6, [sp, #B]
    subs r6, #1              @ mask
    ldr r0, [sp, #A]
    ldr r2, [sp, #N]
    ldr r3, [sp, #HALF]
    adds r3, r3, r0          @ no carry: addresses
below_plus:                  @ add n or zero
    ldmia r2!, {r4, r5}
    ands r4, r6
    ands r5, r6
    ldrd r1, r7, [r0]
    adcs r4, r1
    adcs r5, r7
    stmia r0!, {r4, r5}
    teq r0, r3
    bne below_plus
    ldr r4, [sp, #B]
    bx lr
"""

SLOTS = {
    name: 4 * at
    for at, name in enumerate(
        "RET BACK END LAST CARRY A B TOP J HALF N D T U RESULT X Y CONTEXT".split()
    )
}
MAIN = """
main:
    push.w {r4-r11, lr}
    sub sp, #72
    str r0, [sp, #RESULT]
    str r1, [sp, #X]
    str r2, [sp, #Y]
    str r3, [sp, #CONTEXT]
    ldr r4, [r3]
    str r4, [sp, #HALF]
    adds r3, #16
    str r3, [sp, #N]
    adds r3, r3, r4
    str r3, [sp, #D]
    adds r3, r3, r4
    str r3, [sp, #T]
    mov r0, r3
    adds r3, r3, r4
    adds r3, r3, r4
    str r3, [sp, #U]
    adds r3, r3, r4
    adds r3, r3, r4          @ end of U
    movs r4, #0
    movs r5, #0
    movs r6, #0
    movs r7, #0
    mov r8, r0
main_clear:                  @ T = U = 0
    stmia r0!, {r4, r5, r6, r7}
    cmp r0, r3
    bne main_clear
    mov r0, r8
    bl product               @ T = x0 y0
    ldr r0, [sp, #T]
    bl reduce                @ T = m | t
    mov r1, r0
    bl below                 @ upper half of T = z0 = t - j n
    str r4, [sp, #J]
    ldr r0, [sp, #U]
    ldr r1, [sp, #X]
    ldr r2, [sp, #Y]
    ldr r3, [sp, #HALF]
    adds r2, r2, r3
    bl product               @ U = x0 y1
    ldr r1, [sp, #X]
    ldr r2, [sp, #Y]
    ldr r0, [sp, #U]
    ldr r3, [sp, #HALF]
    cmp r1, r2
    beq main_double
    adds r1, r1, r3
    bl product               @ U += x1 y0
    b main_correct
main_double:                 @ a square: U = 2 x0 x1
    lsls r3, r3, #1
    adds r3, r3, r0
    movs r4, #0
    adds r4, r4, r4          @ no carry
main_double_next:
    ldrd r4, r5, [r0]
    adcs r4, r4
    adcs r5, r5
    stmia r0!, {r4, r5}
    teq r0, r3
    bne main_double_next
    movs r4, #0
    adcs r4, r4
main_correct:                @ U += (2n - m) + j R, where 2n - m = D + ~m + 1
    str r4, [sp, #TOP]
    ldr r0, [sp, #U]
    ldr r1, [sp, #T]
    ldr r2, [sp, #D]
    ldr r3, [sp, #HALF]
    adds r3, r3, r1
    movs r6, #1              @ carry of D + ~m
    movs r7, #0              @ carry into U
main_correct_next:
    ldmia r1!, {r4}
    mvns r4, r4
    ldmia r2!, {r5}
    lsrs r6, r6, #1
    adcs r4, r5
    adcs r6, r6
    ldr r5, [r0]
    lsrs r7, r7, #1
    adcs r4, r5
    adcs r7, r7
    stmia r0!, {r4}
    cmp r1, r3
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
    ldr r1, [sp, #U]         @ U < 2nR: less nR, or 3n could come out
    ldr r3, [sp, #HALF]
    adds r1, r1, r3
    mov r0, r1
    bl below
    ldr r0, [sp, #U]
    bl reduce
    mov r1, r0
    ldr r0, [sp, #RESULT]
    ldr r3, [sp, #HALF]
    adds r0, r0, r3
    bl below                 @ z1
    ldr r0, [sp, #RESULT]
    ldr r3, [sp, #HALF]
    ldr r1, [sp, #T]
    adds r1, r1, r3
    adds r3, r3, r0
main_copy:                   @ z0
    ldmia r1!, {r4, r5, r6, r7}
    stmia r0!, {r4, r5, r6, r7}
    cmp r0, r3
    bne main_copy
    add sp, #72
    pop.w {r4-r11, lr}
"""


def source() -> str:
    """The whole kernel. It is entered at its first instruction and left behind its last."""
    parts = (ROWS, TAIL, PRODUCT, REDUCE, BELOW, MAIN)
    return "    b main\n" + "".join(slots(part, SLOTS) for part in parts)
