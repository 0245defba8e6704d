"""Source `pulse`: an S0 output (IEC 62053-31) or the CF pin of a BL0937, counted.

Every pulse is the same energy, num/den mWh:

    S0        1,000,000 / imp_kwh
    BL0937    Vref^2 * divider / (shunt * 1721506) J, Vref = 1.218 V (datasheet, "CF frequency")

What counts: on an RP2 a state machine, which filters bounce too (pulse_rp2.py); on an ESP32 its pulse
counter, whose filter ends at 13 us, when no other is asked for; else an interrupt handler with `Debounce`.
"""

from wattveil_meter.sensors import take

_MASK = 0x3FFFFFFF  # ticks_us and the counters wrap here, or at a multiple


class Pulse:
    """read_count: function, pulses since some moment, counting up and wrapping at 2^30 or a multiple."""

    volatile = True
    gaps = 0
    why = ""

    def __init__(self, read_count, num, den):
        self.faults = {}
        self._read = read_count
        self._num = num
        self._den = den
        self._last = read_count()
        self._pulses = 0

    def poll(self, ms):
        """Take the counter over into an integer that does not wrap."""
        count = self._read()
        self._pulses += (count - self._last) & _MASK
        self._last = count

    def read(self):
        """(import, 0) in mWh; the part of a mWh stays in the pulses."""
        return (self._pulses * self._num // self._den, 0)

    def state(self):
        """(pulses, 0)."""
        return (self._pulses, 0)

    def restore(self, pulses, _):
        """Go on from what was stored."""
        self._pulses = pulses


class Debounce:
    """Counts pulses of a contact that bounces, from its edges.

    A level counts once it has lasted `least` us; a pulse is an active level that counts after an
    inactive one that did. `edge` allocates nothing, so that it can run in an interrupt.
    """

    def __init__(self, least):
        """least: us, below 2^29."""
        self.count = 0
        self._least = least
        self._since = 0
        self._stable = False  # the level that last counted
        self._level = False

    def edge(self, active, us):
        """The line is `active` from `us` on (ticks, wrapping at 2^30 or a multiple)."""
        self.settle(us)
        self._level = active
        self._since = us

    def settle(self, us):
        """Let the present level count if it has lasted; call it every 10 minutes, before ticks wrap."""
        if self._level != self._stable and (us - self._since) & _MASK >= self._least:
            self._stable = self._level
            if self._level:
                self.count = (self.count + 1) & _MASK


def energy(imp_kwh, shunt_uohm, divider):
    """(num, den) of the mWh in one pulse, from imp/kWh, or from a BL0937's shunt (uOhm) and divider ratio."""
    if imp_kwh > 0 and not shunt_uohm and not divider:
        return (1000000, imp_kwh)
    if shunt_uohm > 0 and divider > 0 and not imp_kwh:
        # uJ = 1.218^2 * 10^6 * divider / (shunt_uohm * 10^-6 * 1721506); 1 mWh = 3600000 uJ
        return (1483524 * divider * 1000000, shunt_uohm * 1721506 * 3600000)
    raise ValueError("config.json: give the sensor imp_kwh, or shunt_uohm and divider")


def _by_interrupt(pin, least):
    from time import ticks_us

    from machine import disable_irq, enable_irq

    debounce = Debounce(least)

    def edge(line):
        debounce.edge(not line.value(), ticks_us())

    def count():
        state = disable_irq()
        debounce.settle(ticks_us())
        enable_irq(state)
        return debounce.count

    pin.irq(edge, pin.IRQ_FALLING | pin.IRQ_RISING)
    return count


def open_source(config):
    """Keys: pin, pull_up, debounce_ms (0..16; 0 is none), and imp_kwh or shunt_uohm and divider."""
    from sys import platform

    from machine import Pin

    debounce_ms, divider, imp_kwh, pin, pull_up, shunt_uohm = take(
        config, pin=None, pull_up=True, debounce_ms=15, imp_kwh=0, shunt_uohm=0, divider=0
    )
    num, den = energy(imp_kwh, shunt_uohm, divider)
    if not 0 <= debounce_ms <= 16:
        raise ValueError("config.json: sensor key debounce_ms must be 0 to 16")
    line = Pin(pin, Pin.IN, Pin.PULL_UP) if pull_up else Pin(pin, Pin.IN)
    if platform == "rp2":
        from wattveil_meter.sensors.pulse_rp2 import counter

        return Pulse(counter(line, debounce_ms), num, den)
    if not debounce_ms:
        try:
            from machine import Counter  # pyright: ignore[reportAttributeAccessIssue]

            return Pulse(Counter(0, line, edge=Counter.FALLING, filter_ns=12700).value, num, den)
        except ImportError:
            pass  # an older MicroPython, or a chip without
    return Pulse(_by_interrupt(line, debounce_ms * 1000), num, den)
