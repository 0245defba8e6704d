"""A pulse counter in a state machine of an RP2's PIO: no interrupts, nothing lost while the CPU computes."""

import rp2

_MASK = 0xFFFFFFFF
_CYCLES = 64  # that a level lasts before it counts
_NUMBER = 0  # of the state machine: a Pico W's radio prefers the other PIO, numbers from 4


# A pulse: low at each of 32 looks in 64 cycles, then high at as many. X counts down.
# ruff: noqa: F821 (the names are instructions, known to asm_pio alone)
@rp2.asm_pio(autopush=True)
def _pulses():
    label("idle")  # pyright: ignore
    set(y, 31)  # pyright: ignore
    label("falls")  # pyright: ignore
    jmp(pin, "idle")  # pyright: ignore
    jmp(y_dec, "falls")  # pyright: ignore
    label("low")  # pyright: ignore
    set(y, 31)  # pyright: ignore
    label("rises")  # pyright: ignore
    jmp(pin, "high")  # pyright: ignore
    jmp("low")  # pyright: ignore
    label("high")  # pyright: ignore
    jmp(y_dec, "rises")  # pyright: ignore
    jmp(x_dec, "idle")  # pyright: ignore  (falls through to `idle`, the first instruction, when X was 0)


def counter(line, debounce_ms):
    """A function: the pulses so far, modulo 2^32. line: Pin, active low."""
    hertz = 1000 * _CYCLES // debounce_ms if debounce_ms else 100000 * _CYCLES
    machine = rp2.StateMachine(_NUMBER, _pulses, freq=hertz, jmp_pin=line)
    machine.exec("set(x, 0)")
    machine.active(1)
    # One instruction, which pushes by itself: a second one, given before the next cycle of a machine
    # this slow, would replace the first (Pico SDK, pio_sm_exec).
    show = rp2.asm_pio_encode("in_(x, 32)", 0)

    def count():
        machine.exec(show)
        return -machine.get() & _MASK

    return count
