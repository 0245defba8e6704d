"""A pulse counter in a state machine of an RP2's PIO: no interrupts, nothing lost while the CPU computes."""

import rp2

_MASK = 0xFFFFFFFF


# One pulse: low at two moments 32 cycles apart, then high at two moments 32 cycles apart. X counts down.
# ruff: noqa: F821 (the names are instructions, known to asm_pio alone)
@rp2.asm_pio()
def _pulses():
    label("idle")  # pyright: ignore
    wait(0, pin, 0)[31]  # pyright: ignore
    jmp(pin, "idle")  # pyright: ignore
    label("low")  # pyright: ignore
    wait(1, pin, 0)[31]  # pyright: ignore
    jmp(pin, "high")  # pyright: ignore
    jmp("low")  # pyright: ignore
    label("high")  # pyright: ignore
    jmp(x_dec, "idle")  # pyright: ignore  (falls through to `idle`, the first instruction, when X was 0)


def counter(line, debounce_ms, number=4):
    """A function: the pulses so far, modulo 2^32. line: Pin, active low; number: of the state machine."""
    hertz = 32000 // debounce_ms if debounce_ms else 3200000
    machine = rp2.StateMachine(number, _pulses, freq=hertz, in_base=line, jmp_pin=line)
    machine.exec("set(x, 0)")
    machine.active(1)

    def count():
        machine.exec("mov(isr, invert(x))")
        machine.exec("push(noblock)")
        return (machine.get() + 1) & _MASK

    return count
