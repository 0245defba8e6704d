"""Kernel `thumb2`: rows of products, the product and the Montgomery reduction."""


def _word(t: str, a: str) -> str:
    """T[j] += a[j] b and the carries c move up one column."""
    return f"""
    umaal {t}, r8, {a}, r4
    umaal r8, r9, {a}, r5
    umaal r9, r10, {a}, r6
    umaal r10, r11, {a}, r7
"""


PAIR = f"""
    ldrd r2, r3, [r1], #8
    ldrd r12, lr, [r0]
{_word("r12", "r2")}{_word("lr", "r3")}
    strd r12, lr, [r0], #8
"""

# r0 = T + 4j, r1 = a + 4j, r4..r7 = four words of b, r8..r11 = what is still to be added to columns
# j .. j+3. On return r0 = T + 4w, r1 = a + 4w = END. c + T + a b < 2^64: UMAAL never overflows.
ROWS = f"""
rows:                        @ w = 0 mod 8
    str.w lr, [sp, #RET]
rows0:
{PAIR * 2}
rows4:
{PAIR * 2}
    ldr r2, [sp, #END]
    cmp r1, r2
    bne rows0
    ldr r2, [sp, #RET]
    bx r2
rows_behind_first4:          @ w = 4 mod 8: begin in the middle
    str.w lr, [sp, #RET]
    b rows4
"""

# T[i+s .. i+s+3] += r8..r11 and the carry of the four rows before, whose column this is.
# On return r0 = T + 4(i+4).
TAIL = """
tail:
    ldmia.w r0, {r2, r3, r12}
    ldr r5, [r0, #12]
    ldr r4, [sp, #CARRY]
    lsrs r4, r4, #1
    adcs.w r8, r8, r2
    adcs.w r9, r9, r3
    adcs.w r10, r10, r12
    adcs.w r11, r11, r5
    movs r4, #0
    adcs r4, r4
    str r4, [sp, #CARRY]
    stmia.w r0!, {r8-r11}
    ldr r4, [sp, #HALF]
    subs r0, r0, r4
    bx lr
"""

# r0 = T, r1 = a, r2 = b: T[0 .. 2s-1] += a b; r4 = CARRY = carry out
PRODUCT = """
product:
    str.w lr, [sp, #BACK]
    str r1, [sp, #A]
    ldr r3, [sp, #HALF]
    adds r4, r1, r3
    str r4, [sp, #END]
    adds r4, r2, r3
    str r4, [sp, #LAST]
    movs r4, #0
    str r4, [sp, #CARRY]
product_next:
    ldr r1, [sp, #A]
    ldmia r2!, {r4, r5, r6, r7}
    str r2, [sp, #B]
    movs r3, #0
    mov r8, r3
    mov r9, r3
    mov r10, r3
    mov r11, r3
    bl rows
    bl tail
    ldr r2, [sp, #B]
    ldr r4, [sp, #LAST]
    cmp r2, r4
    bne product_next
    ldr r4, [sp, #CARRY]
    ldr r2, [sp, #BACK]
    bx r2
"""


def _first_four() -> str:
    """Four words m of the quotient, and their products with n[0..3].

    T[i..i+3] are in r9..r12. Row k makes word k zero, so its register is free for the row's carry:
    after four rows the words of columns i+4 .. i+7 are in r8..r11, where `rows` wants them.
    """
    words = ["r9", "r10", "r11", "r12", "r8"]
    text = "    movs r2, #0\n    mov r8, r2\n"
    text += "    ldr r1, [sp, #N]\n    ldr r7, [sp, #CONTEXT]\n    ldr r7, [r7, #4]\n"
    text += "    str r0, [sp, #B]\n    ldmia.w r1!, {r0, r2, r3, lr}\n"
    for m in ("r4", "r5", "r6", "r7"):
        text += f"    mul {m}, r7, {words[0]}\n"
        for at, n in enumerate(("r0", "r2", "r3", "lr")):
            text += f"    umaal {words[at]}, {words[4]}, {n}, {m}\n"
        words = words[1:] + words[:1]
    return text


# r0 = T: 2s words T become (T + m n) / R. On return r0 = T + 4s, where the result's s words are,
# r4 = CARRY = its carry (0 or 1), and T's low half holds m. k = -1/n mod 2^32.
REDUCE = f"""
reduce:
    str.w lr, [sp, #BACK]
    ldr r3, [sp, #HALF]
    ldr r1, [sp, #N]
    adds r1, r1, r3
    str r1, [sp, #END]
    adds r1, r0, r3
    str r1, [sp, #LAST]
    movs r4, #0
    str r4, [sp, #CARRY]
reduce_next:
    ldmia.w r0, {{r9-r12}}
{_first_four()}
    ldr r0, [sp, #B]
    stmia r0!, {{r4, r5, r6, r7}}  @ these words of T are zero now: keep m there
    bl rows_behind_first4
    bl tail
    ldr r4, [sp, #LAST]
    cmp r0, r4
    bne reduce_next
    ldr r4, [sp, #CARRY]
    ldr r2, [sp, #BACK]
    bx r2
"""
