"""Kernel `thumb1`: rows of products, the schoolbook product and the Montgomery reduction."""

# One column of two rows: T[j] += a[j] b, with b = b0 + 2^32 b1 in halves of 16 bits.
# r0 = T + 4j, r1 = a + 4j, r8:r9 = low:high half of b0, r10:r11 = of b1, r12 = X, lr = Y: what is
# still to be added to columns j and j+1. 53 cycles for two products of 32 x 32 bits.
# No sum of a column overflows: X + T[j] + a b0 < 2^64, and hi + Y + a b1 < 2^64.
COLUMN = """
    ldmia r1!, {r2}          @ a
    uxth r3, r2              @ al
    lsrs r2, r2, #16         @ ah
    mov r4, r8
    mov r5, r4
    muls r4, r3              @ al b0l
    muls r5, r2              @ ah b0l
    lsls r6, r5, #16
    lsrs r5, r5, #16
    adds r4, r6              @ the carry outlives mov and muls
    mov r6, r9
    mov r7, r6
    muls r7, r2              @ ah b0h
    adcs r7, r5
    muls r6, r3              @ al b0h
    lsls r5, r6, #16
    lsrs r6, r6, #16
    adds r4, r5
    adcs r7, r6              @ r7:r4 = a b0
    ldr r5, [r0]
    movs r6, #0
    adds r4, r5
    adcs r7, r6
    mov r5, r12
    adds r4, r5
    adcs r7, r6              @ r7:r4 = a b0 + T[j] + X
    stmia r0!, {r4}
    mov r4, r10
    mov r5, r4
    muls r4, r3              @ al b1l
    muls r5, r2              @ ah b1l
    lsls r6, r5, #16
    lsrs r5, r5, #16
    adds r4, r6
    mov r6, r11
    muls r2, r6              @ ah b1h
    adcs r2, r5
    muls r3, r6              @ al b1h
    lsls r5, r3, #16
    lsrs r3, r3, #16
    adds r4, r5
    adcs r2, r3              @ r2:r4 = a b1
    adds r4, r7
    movs r5, #0
    adcs r2, r5
    mov r6, lr
    adds r4, r6
    adcs r2, r5              @ + r7 + Y
    mov r12, r4
    mov lr, r2
"""

# r0 = T, r1 = a; on return r0 = T + 4w, r1 = a + 4w, r12 = X, lr = Y: columns w and w+1.
# The caller's frame: RET for the way back (lr is in use), END = a + 4w, BYTES = 4w, w = 4, 8, 12 ...
ROWS = f"""
rows:
    mov r4, lr
    str r4, [sp, #RET]
    movs r4, #0
    mov r12, r4
    mov lr, r4
    ldr r4, [sp, #BYTES]
    lsrs r4, r4, #5          @ w = 4 mod 8: begin in the middle
    bcc rows0
    b rows4
rows0:
{COLUMN * 4}
rows4:
{COLUMN * 4}
    ldr r4, [sp, #END]
    cmp r1, r4
    beq rows_end
    b rows0
rows_end:
    ldr r4, [sp, #RET]
    bx r4
"""

SPLIT = """
    uxth r6, r4
    mov r8, r6
    lsrs r4, r4, #16
    mov r9, r4
    uxth r6, r5
    mov r10, r6
    lsrs r5, r5, #16
    mov r11, r5
"""

# r0 = T: 2s words T become (T + m n) / R. On return r0 = T + 4s, where the result's s words are,
# r4 = its carry (0 or 1), and T's low half holds m.
# Two words of m at a time: m0 = T0 k0, m1 = hi(T0 k0) + T0 k1 + T1 k0 with k = -1/n mod 2^64.
REDUCE_SLOTS = {"RET": 0, "END": 4, "BYTES": 8, "CARRY": 12, "CONTEXT": 16, "LAST": 20}
REDUCE = f"""
reduce:                      @ r0 = T, r3 = context
    push {{lr}}
    ldr r4, [r3]
    adds r5, r0, r4
    push {{r3, r5}}
    movs r6, #0
    push {{r6}}
    adds r3, #16
    adds r3, r3, r4          @ end of n
    push {{r3, r4}}
    sub sp, #4
reduce_next:
    ldr r1, [sp, #CONTEXT]
    ldr r4, [r1, #4]         @ k0
    ldr r5, [r1, #8]         @ k1
    adds r1, #16             @ n
    ldmia r0!, {{r2, r3}}      @ T0, T1
    subs r0, #8
    muls r3, r4
    muls r5, r2
    adds r3, r5              @ T0 k1 + T1 k0
    uxth r5, r2
    lsrs r2, r2, #16
    uxth r6, r4
    lsrs r4, r4, #16
    mov r7, r5
    muls r7, r6
    muls r6, r2
    muls r5, r4
    muls r2, r4
    lsls r4, r6, #16
    lsrs r6, r6, #16
    adds r7, r4
    adcs r2, r6
    lsls r4, r5, #16
    lsrs r5, r5, #16
    adds r4, r7              @ m0
    adcs r2, r5
    adds r5, r3, r2          @ m1
{SPLIT}
    bl rows
    ldr r6, [sp, #CARRY]     @ the carry of the two rows before belongs to this column
    lsrs r6, r6, #1
    ldr r4, [r0]
    ldr r5, [r0, #4]
    mov r2, r12
    mov r3, lr
    adcs r4, r2
    adcs r5, r3
    movs r6, #0
    adcs r6, r6
    str r6, [sp, #CARRY]
    stmia r0!, {{r4, r5}}
    ldr r4, [sp, #BYTES]
    subs r0, r0, r4
    subs r0, #8
    mov r4, r9               @ the two words of T are zero now: keep m there
    lsls r4, r4, #16
    mov r5, r8
    orrs r4, r5
    mov r5, r11
    lsls r5, r5, #16
    mov r6, r10
    orrs r5, r6
    stmia r0!, {{r4, r5}}
    ldr r6, [sp, #LAST]
    cmp r0, r6
    bne reduce_next
    ldr r4, [sp, #CARRY]
    add sp, #24
    pop {{pc}}
"""

# r0 = 2w words, r1 = a, r2 = b, r3 = 4w: the product, row by row.
SCHOOL_SLOTS = {"RET": 0, "END": 4, "BYTES": 8, "FACTOR": 12, "LAST": 16}
SCHOOL = f"""
school:
    push {{lr}}
    adds r4, r2, r3
    push {{r2, r4}}
    adds r2, r1, r3
    push {{r2, r3}}
    sub sp, #4
    movs r4, #0
    movs r5, #0
    movs r6, #0
    movs r7, #0
    adds r2, r0, r3
school_clear:
    stmia r0!, {{r4, r5, r6, r7}}
    cmp r0, r2
    bne school_clear
    subs r0, r0, r3
school_next:
    ldr r2, [sp, #FACTOR]
    ldmia r2!, {{r4, r5}}
    str r2, [sp, #FACTOR]
{SPLIT}
    bl rows
    mov r4, r12
    mov r5, lr
    stmia r0!, {{r4, r5}}
    ldr r3, [sp, #BYTES]
    subs r0, r0, r3
    subs r1, r1, r3
    ldr r4, [sp, #FACTOR]
    ldr r5, [sp, #LAST]
    cmp r4, r5
    bne school_next
    add sp, #20
    pop {{pc}}
"""
