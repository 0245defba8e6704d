"""Source `adc_ct`: a current transformer (SCT-013) on an ADC pin; with a second pin, the mains voltage.

A mains cycle is sampled in its two halves, 64 points in 10.0 ms (50 Hz) or 8.3 ms (60 Hz) each: one poll
takes the first, a later one the second, whole cycles after the moment it would have followed at. The polls
after that compute what they mean, by the trapezium rule over the phases the points were really taken at:

    I_rms^2 = mean(i^2) - mean(i)^2 - noise^2            offset and the converter's noise removed
    P       = mean(v' i) - mean(v') mean(i)              v' = v, phase_us later: transformer and sampling
    S       = volts * I_rms                              without voltage: apparent power, never export

The mains may be 0.4 % off its nominal frequency: that moves I_rms by at most 0.2 %, P by at most 0.4 %.
Between two cycles power is taken to go in a straight line; stretches of more than 2 s without a good
cycle are gaps.
Units: counts are read_u16's (0..65535), gains uA and uV per count, power mW, energy uJ = mW ms.
"""

from array import array

from wattveil_meter.sensors import take

POINTS = 128
_MASK = 0x3FFFFFFF  # ticks_us wraps here, or at a multiple
_GAP_MS = 2000
_STALL = 5  # points that may be late in one piece: more, and the cycle is dropped
_EARLY_US = 8000  # a poll waits as long for its half to begin
_AIM_MS = 5  # and asks to come as much earlier
_LATE_US = 200000  # between the halves: the waves have drifted apart
_MWH = 3600000  # uJ


def isqrt(n):
    """The integer square root of n >= 0 (Newton, from above)."""
    if n < 2:
        return n
    x = 1
    while x * x < n:
        x <<= 1
    while True:
        y = (x + n // x) >> 1
        if y >= x:
            return x
        x = y


LATE = -1  # of Cycle.wait


class Cycle:
    """The points of one cycle: `at` us since its start, `i` and `v` counts; `count` of them are there."""

    def __init__(self, hz, read_i, read_v, ticks_us, points=POINTS, cycles=1):
        """hz: 50 or 60; read_i, read_v (None without voltage): functions, counts; ticks_us: `time`'s."""
        self.period = (1000000 * cycles + hz // 2) // hz
        self.i = array("H", bytes(2 * (points + 2)))
        self.v = array("H", bytes(2 * (points + 2))) if read_v else None
        self.at = array("I", bytes(4 * (points + 2)))
        self.count = 0
        self._step = self.period // points
        self._read_i = read_i
        self._read_v = read_v
        self._ticks = ticks_us
        self._begin = 0  # ticks
        self._until = 0  # us of the cycle; 0 between cycles

    def wait(self):
        """us until the wave is where sampling goes on; LATE when it no longer can."""
        if not self._until:
            return 0
        passed = (self._ticks() - self._begin) & _MASK
        if passed >= _LATE_US:
            return LATE
        wait = self._until - passed
        return 0 if 0 > wait >= -self._step else wait % self.period

    def sample(self, until=None):
        """Take the points of a new cycle, or go on with it where the wave is there again.

        Up to the last before `until` (us of the cycle), by default up to the first at or after its end.
        The name of a fault, or "": then it is over.
        """
        at, i, v = self.at, self.i, self.v
        read_i, read_v, ticks = self._read_i, self._read_v, self._ticks
        late = _STALL * self._step
        due = self._until
        if not due:
            self.count = 0
            self._begin = ticks()
        begin = self._begin
        # whole cycles that have passed; a point may be late (`wait` lets it be by one step)
        cycles = (((ticks() - begin) & _MASK) - due - late // 2 + self.period - 1) // self.period
        cycles *= self.period
        end = self.period if until is None else until - self._step // 2
        k = self.count
        fault = ""
        while k < len(i):
            now = ((ticks() - begin) & _MASK) - cycles
            if now < due:
                continue
            if now > due + late:
                fault = "stalled"
            if until is not None and now >= until:
                break
            at[k] = now
            x = read_i()
            i[k] = x
            if not 64 <= x < 65472:
                fault = "clipped"
            if v is not None:
                x = read_v()
                v[k] = x
                if not 64 <= x < 65472:
                    fault = "clipped"
            k += 1
            due = now + self._step
            if (now if until is None else due) >= end:
                break
        self.count = k
        self._until = until or 0
        if until is None and at[k - 1] < self.period:
            fault = "stalled"
        if fault:
            self.drop()
        return fault

    def drop(self):
        """The next points are those of a new cycle."""
        self._until = 0

    def _cut(self, x):
        """Values at the points, from mid-scale, the last one moved back to the period's very end."""
        values = [x[k] - 32768 for k in range(self.count)]
        last, before = self.at[self.count - 1], self.at[self.count - 2]
        rise = (values[-1] - values[-2]) * (self.period - before)
        values[-1] = values[-2] + rise // (last - before)
        return values

    def _late(self, v, phase_us):
        """v as it is phase_us later at every point; the wave goes on as it began."""
        at, last, period = self.at, self.count - 1, self.period
        out = []
        j = 0
        for k in range(self.count):
            t = (at[k] if k < last else period) + phase_us
            t %= period
            if at[j] > t:
                j = 0
            while j + 1 < last and at[j + 1] <= t:
                j += 1
            width = (at[j + 1] if j + 1 < last else period) - at[j]
            out.append(v[j] + (v[j + 1] - v[j]) * (t - at[j]) // width)
        return out

    def moments(self, phase_us=0):
        """Generator: None between pieces of work, then (mean square of i, mean of v'i) about the means.

        counts^2 * 256; the second 0 without voltage.
        """
        i = self._cut(self.i)
        v = None
        if self.v is not None:
            v = self._late(self._cut(self.v), phase_us)
            yield None
        last, period = self.count - 1, 2 * self.period
        s_i = s_ii = s_v = s_vi = 0
        for k in range(last):  # twice the integrals
            width = (self.at[k + 1] if k + 1 < last else self.period) - self.at[k]
            a, b = i[k], i[k + 1]
            s_i += (a + b) * width
            s_ii += (a * a + b * b) * width
            if v is not None:
                c, d = v[k], v[k + 1]
                s_v += (c + d) * width
                s_vi += (a * c + b * d) * width
        square = period * period
        yield (
            (s_ii * period - s_i * s_i) * 256 // square,
            (s_vi * period - s_v * s_i) * 256 // square,
        )


class AdcCt:
    """Power from cycles, energy from power."""

    volatile = True

    def __init__(self, cycle, i_gain, i_noise, min_w, phase_us, v_gain, volts):
        """i_gain uA, v_gain uV per count; i_noise counts RMS; below min_w W is 0; volts: nominal V."""
        self.why = "sensor_fault"
        self.gaps = 0
        self.faults = {}
        self.power = None  # mW, of the newest cycle; negative is export
        self.current = 0  # mA, RMS
        self._cycle = cycle
        self._i_gain = i_gain
        self._noise = i_noise * i_noise * 256
        self._min = min_w * 1000
        self._phase_us = phase_us
        self._v_gain = v_gain
        self._volts = volts
        self._energy = [0, 0]  # uJ
        self._at = None  # ms of the newest good cycle
        self._half = False  # whether a cycle's first half is sampled
        self._moments = None  # of the cycle that is sampled and not yet computed, a generator
        self._sampled = 0  # ms of that cycle

    def poll(self, ms):
        """Sample half a cycle, or compute a piece of the one sampled."""
        wish = self._step(ms)
        if self._at is not None and ms - self._at > _GAP_MS:
            self.gaps += 1
            self._at = self.power = None
        return wish

    def _step(self, ms):
        work, self._moments = self._moments, None
        if work:
            moments = next(work)
            if moments is None:
                self._moments = work
                return 0
            self._take(self._sampled, self._power(moments))
            return None
        cycle = self._cycle
        wait = cycle.wait()
        if wait > _EARLY_US:
            return wait // 1000 - _AIM_MS
        if wait == LATE:
            cycle.drop()
            return self._fault("late")
        second, self._half = self._half, False
        fault = cycle.sample(None if second else cycle.period // 2)
        if fault:
            return self._fault(fault)
        if second:
            self._moments = cycle.moments(self._phase_us)
            return 0
        self._half = True
        self._sampled = ms
        return max(0, cycle.wait() // 1000 - _AIM_MS)

    def _fault(self, name):
        self._half = False
        self.faults[name] = self.faults.get(name, 0) + 1

    def _power(self, moments):
        """mW of the sampled cycle."""
        square, product = moments
        ua = isqrt(max(0, square - self._noise) * self._i_gain * self._i_gain) // 16
        self.current = ua // 1000
        if self._cycle.v is None:
            power = self._volts * ua // 1000
        else:
            power = product * self._i_gain * self._v_gain // 256000000000
        return 0 if abs(power) < self._min else power

    def _take(self, at, power):
        if self.power is not None and self._at is not None:
            energy = (self.power + power) * (at - self._at) // 2
            self._energy[energy < 0] += abs(energy)
        self._at = at
        self.power = power

    def read(self):
        """(import, export) in mWh; the part of a mWh stays behind. None while no cycle is good."""
        if self._at is None:
            return None
        return (self._energy[0] // _MWH, self._energy[1] // _MWH)

    def state(self):
        """(import, export) in uJ."""
        return tuple(self._energy)

    def restore(self, a, b):
        """Go on from what was stored."""
        self._energy = [a, b]


def _channels(current_pin, voltage_pin):
    from time import ticks_us

    from machine import ADC, Pin

    pins = [ADC(Pin(pin)) if pin >= 0 else None for pin in (current_pin, voltage_pin)]
    for adc in pins:
        if hasattr(adc, "atten"):  # ESP32: 0 to about 3.1 V
            adc.atten(ADC.ATTN_11DB)  # pyright: ignore
    current, voltage = pins
    return current.read_u16, voltage.read_u16 if voltage else None, ticks_us  # pyright: ignore


def open_source(config):
    """Keys: current_pin, voltage_pin, mains_hz, volts, min_w, i_gain, v_gain, phase_us, i_noise."""
    current_pin, i_gain, i_noise, mains_hz, min_w, phase_us, v_gain, voltage_pin, volts = take(
        config,
        current_pin=None,
        voltage_pin=-1,
        mains_hz=None,
        i_gain=None,
        v_gain=0,
        phase_us=0,
        i_noise=0,
        min_w=0,
        volts=230,
    )
    if mains_hz not in (50, 60):
        raise ValueError("config.json: sensor key mains_hz must be 50 or 60")
    if voltage_pin >= 0 and not v_gain:
        raise ValueError("config.json: the sensor has a voltage_pin but no v_gain: calibrate it")
    cycle = Cycle(mains_hz, *_channels(current_pin, voltage_pin))
    return AdcCt(cycle, i_gain, i_noise, min_w, phase_us, v_gain, volts)


def dump(config):
    """Print ten cycles for calibration, a line `us i v` a point; v is 0 without voltage. Needs no gains."""
    cycle = Cycle(
        config["mains_hz"],
        *_channels(config["current_pin"], config.get("voltage_pin", -1)),
        points=10 * POINTS,
        cycles=10,
    )
    fault = cycle.sample()
    for k in range(cycle.count):
        print(cycle.at[k], cycle.i[k], cycle.v[k] if cycle.v is not None else 0)
    print("end", fault or "ok")
