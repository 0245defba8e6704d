"""Kernel `thumb1`: Karatsuba's product, and the additions and subtractions around it."""

# r0 = 2w words, r1 = a, r2 = b, r3 = 4w, r4 = 2w words of scratch: Karatsuba down to 8 words (or an
# odd multiple of 4). With h = w/2, a = a0 + B a1, B = 2^(32h):
#   a b = lo + B (lo + hi - (a0 - a1)(b0 - b1)) + B^2 hi,  lo = a0 b0, hi = a1 b1.
# Absolute differences, and one sign (mask r6). a == b (one pointer): a square, the sign is 0.
PRODUCT_SLOTS = {"OUT": 0, "A": 4, "B": 8, "SIZE": 12, "TEMP": 16}  # in PRODUCT_BEGIN
PRODUCT_SLOTS1 = {name: at + 4 for name, at in PRODUCT_SLOTS.items()}  # a word more on the stack
PRODUCT_BEGIN = """
product:
    cmp r3, #32
    beq school
    lsls r5, r3, #27
    bne school
    push {r0, r1, r2, r3, r4, lr}
    lsrs r3, r3, #1
    adds r2, r1, r3
    bl difference            @ OUT = |a0 - a1|
    push {r6}
"""
PRODUCT_REST = """
    ldr r0, [sp, #OUT]
    ldr r1, [sp, #A]
    ldr r2, [sp, #B]
    cmp r1, r2
    beq product_square
    ldr r3, [sp, #SIZE]
    lsrs r3, r3, #1
    adds r0, r0, r3
    mov r1, r2
    adds r2, r2, r3
    push {r0}
    bl difference            @ OUT + h = |b0 - b1|
    pop {r0}
product_square:
    pop {r5}
    eors r6, r5              @ -1 when the product of the differences is negative
    push {r6}
    mov r2, r0
    ldr r1, [sp, #OUT]
    ldr r0, [sp, #TEMP]
    ldr r3, [sp, #SIZE]
    adds r4, r0, r3
    lsrs r3, r3, #1
    bl product               @ TEMP = |a0 - a1| |b0 - b1|
    ldr r0, [sp, #OUT]
    ldr r1, [sp, #A]
    ldr r2, [sp, #B]
    ldr r3, [sp, #SIZE]
    ldr r4, [sp, #TEMP]
    adds r4, r4, r3
    lsrs r3, r3, #1
    bl product               @ OUT = lo
    ldr r0, [sp, #OUT]
    ldr r1, [sp, #A]
    ldr r2, [sp, #B]
    ldr r3, [sp, #SIZE]
    ldr r4, [sp, #TEMP]
    adds r4, r4, r3
    adds r0, r0, r3
    lsrs r3, r3, #1
    adds r1, r1, r3
    adds r2, r2, r3
    bl product               @ OUT + w = hi
    ldr r1, [sp, #OUT]
    ldr r3, [sp, #SIZE]
    adds r2, r1, r3
    ldr r0, [sp, #TEMP]
    adds r0, r0, r3
    bl plus                  @ TEMP + w = lo + hi, r3 = carry
    pop {r6}
    push {r3}
    ldr r3, [sp, #SIZE]
    ldr r2, [sp, #TEMP]
    adds r0, r2, r3
    mov r1, r0
    cmp r6, #0               @ both ways take 8 cycles and the same loop
    bne product_plus
    bl minus                 @ TEMP + w -= TEMP
    subs r3, #1              @ borrow: -1
    b product_middle
product_plus:
    bl plus                  @ TEMP + w += TEMP
    mov r8, r8
    mov r8, r8
product_middle:
    pop {r4}
    adds r3, r3, r4          @ carry of the middle term: 0 or 1, since it is >= 0
    push {r3}
    ldr r3, [sp, #SIZE]
    ldr r0, [sp, #OUT]
    lsrs r2, r3, #1
    adds r0, r0, r2
    mov r1, r0
    ldr r2, [sp, #TEMP]
    adds r2, r2, r3
    bl plus                  @ OUT + h += middle term
    pop {r4}
    adds r3, r3, r4          @ 0, 1 or 2 into the last quarter
product_carry:
    ldr r4, [r0]
    adds r4, r4, r3
    movs r3, #0
    adcs r3, r3
    stmia r0!, {r4}
    cmp r3, #0               @ again once in 2^31
    bne product_carry
    add sp, #20
    pop {pc}
"""


def one_pass(name: str, first: int, operation: str) -> str:
    """r0[..] = r1[..] + or - r2[..], r3 bytes (a multiple of 16); r0..r2 advance, r3 = carry."""
    return f"""
{name}:
    adds r3, r3, r0
    mov r12, r3
    movs r3, #{first}
{name}_next:
    lsrs r3, r3, #1          @ carry from the round before
    ldmia r1!, {{r4, r5}}
    ldmia r2!, {{r6, r7}}
    {operation} r4, r6
    {operation} r5, r7
    stmia r0!, {{r4, r5}}
    ldmia r1!, {{r4, r5}}
    ldmia r2!, {{r6, r7}}
    {operation} r4, r6
    {operation} r5, r7
    stmia r0!, {{r4, r5}}
    adcs r3, r3
    cmp r0, r12
    bne {name}_next
    bx lr
"""


# r0[..] = |r1[..] - r2[..]|, r3 bytes; r6 = -1 when the difference was negative, else 0
DIFFERENCE = """
difference:
    push {r0, r3, lr}
    bl minus
    subs r6, r3, #1
    pop {r0, r3}
    adds r3, r3, r0
    mov r12, r3
    movs r7, #0
    subs r3, r7, r6          @ -d = ~d + 1
difference_next:
    lsrs r3, r3, #1
    ldr r4, [r0]
    ldr r5, [r0, #4]
    eors r4, r6
    eors r5, r6
    adcs r4, r7
    adcs r5, r7
    stmia r0!, {r4, r5}
    ldr r4, [r0]
    ldr r5, [r0, #4]
    eors r4, r6
    eors r5, r6
    adcs r4, r7
    adcs r5, r7
    stmia r0!, {r4, r5}
    adcs r3, r3
    cmp r0, r12
    bne difference_next
    pop {pc}
"""

# r0[..] = v - n if v >= n, else v, with v = r1[..] + r4 R, r2 = n, r3 bytes; r6 = -1 when v < n, else 0
BELOW = """
below:
    push {r0, r2, r3, r4, lr}
    bl minus
    ldr r6, [sp, #12]
    orrs r6, r3              @ 1: no borrow, or one that the carry pays
    subs r6, #1
    pop {r0, r1, r3, r4}
    adds r3, r3, r0
    mov r12, r3
    movs r3, #0
below_next:                  @ add n or zero
    lsrs r3, r3, #1
    ldmia r1!, {r4, r5}
    ands r4, r6
    ands r5, r6
    ldr r7, [r0]
    adcs r4, r7
    ldr r7, [r0, #4]
    adcs r5, r7
    stmia r0!, {r4, r5}
    adcs r3, r3
    cmp r0, r12
    bne below_next
    pop {pc}
"""
