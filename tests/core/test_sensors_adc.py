"""The current transformer's mathematics against signals whose RMS and power are known.

The converter is the RP2040's: 12 bits, 1.65 V in the middle, spread over read_u16's range; it adds noise,
takes its time, and takes some more now and then. The full load is 30 A RMS, an SCT-013-030's, on 230 V.
"""

import math

from wattveil_meter.sensors.adc_ct import AdcCt, Cycle, isqrt

I_GAIN = 1511  # uA per count: 30 A are 1 V RMS, 19859 counts
V_GAIN = 20000  # uV per count: 230 V are 11500 counts
FULL_I, FULL_V = 30.0, 230.0
CT_US, MUX_US = 140, 28  # the transformer leads; voltage is sampled after current
# harmonics: number, share of the fundamental, phase against the voltage's zero, rad
SINE = ((1, 1.0, 0.0),)
LAGGING = ((1, 1.0, -0.6), (3, 0.10, 0.3), (5, 0.06, 1.0))
RECTIFIER = ((1, 1.0, 0.1), (3, 0.65, 3.0), (5, 0.40, 0.2), (7, 0.20, 2.8))
DIMMER = ((1, 1.0, -0.5), (2, 0.15, 0.4), (3, 0.30, 1.5))
VOLTAGE = ((1, 1.0, 0.0), (3, 0.02, 0.5), (5, 0.03, 2.0))


class Mains:
    """Converter and clock: waves of voltage and current, and an offset each, sampled in virtual time."""

    def __init__(self, hz, load, current, noise=32, seed=1):
        self.hz = hz
        self.i = [
            (n, share * math.sqrt(2) * load / 1e-6 / I_GAIN, phase) for n, share, phase in current
        ]
        self.v = [
            (n, share * math.sqrt(2) * FULL_V / 1e-6 / V_GAIN, phase)
            for n, share, phase in VOLTAGE
        ]
        self.noise = noise
        self.us = 0
        self.stall = 0
        self._seed = seed

    def random(self):
        """0..1023"""
        self._seed = (self._seed * 1103 + 12347) % 65521
        return self._seed >> 6

    def ticks(self):
        self.us += 3
        return (self.us + (1 << 30) - 50000) % (1 << 30)  # wraps within the first cycles

    def _read(self, wave, offset, us):
        angle = 2 * math.pi * ((us % 1000000) * self.hz % 1000000) / 1000000
        x = sum([amplitude * math.sin(n * angle + phase) for n, amplitude, phase in wave])
        # three uniform numbers: nearly normal, of standard deviation `noise`
        dither = sum([self.random() - 511.5 for _ in range(3)]) / 512 * self.noise
        x = min(max(int(x + dither + offset + 0.5), 0), 65535) >> 4
        self.us += 20 + (self.random() & 7) + self.stall
        self.stall = 0
        return x << 4 | x >> 8

    def read_i(self):
        return self._read(self.i, 33100, self.us + CT_US)

    def read_v(self):
        return self._read(self.v, 32500, self.us)

    def amps(self):
        return math.sqrt(sum([a * a for _, a, _ in self.i]) / 2) * I_GAIN * 1e-6

    def watts(self):
        total = 0.0
        for n, a, phase in self.i:
            for m, b, other in self.v:
                if n == m:
                    total += a * I_GAIN * 1e-6 * b * V_GAIN * 1e-6 / 2 * math.cos(phase - other)
        return total

    def cycle(self, voltage=True):
        return Cycle(round(self.hz), self.read_i, self.read_v if voltage else None, self.ticks)


def source(mains, voltage=True, noise=33, min_w=0):
    return AdcCt(mains.cycle(voltage), I_GAIN, noise, min_w, CT_US - MUX_US, V_GAIN, 230)


class Loop:
    """The main loop, which comes when it was asked to, up to `slow` us later; longest: us of a poll."""

    def __init__(self, adc, mains, slow=1000):
        self.adc, self.mains, self.slow = adc, mains, slow
        self.longest = 0

    def poll(self):
        """Whether that was the end of a cycle, good or not."""
        begun = self.mains.us
        wish = self.adc.poll(begun // 1000)
        self.longest = max(self.longest, self.mains.us - begun)
        self.mains.us += 1000 * (200 if wish is None else wish)
        self.mains.us += self.mains.random() * self.slow // 1024
        return wish is None

    def cycle(self):
        while not self.poll():
            pass

    def until(self, ms):
        while self.mains.us < 1000 * ms:
            self.poll()


def errors(mains, cycles=6, slow=1000):
    """(RMS, power): share by which the mean of some cycles is off, and by which the worst cycle's RMS is."""
    adc = source(mains)
    loop = Loop(adc, mains, slow)
    currents, powers = [], []
    for _ in range(cycles):
        loop.cycle()
        currents.append(adc.current / 1000)
        powers.append(adc.power / 1000)
    amps, watts = mains.amps(), mains.watts()
    apparent = amps * FULL_V
    worst = max([abs(i - amps) for i in currents]) / amps
    assert adc.faults == {}
    assert loop.longest < 18500, loop.longest
    return (
        abs(sum(currents) / cycles - amps) / amps,
        abs(sum(powers) / cycles - watts) / (watts if watts > apparent / 3 else apparent),
        worst,
    )


def check(hz, current, load=1.0, noise=32, slow=1000):
    rms, power, worst = errors(Mains(hz, FULL_I * load, current, noise), slow=slow)
    print("%.1f Hz %3d %%: RMS off by %.2f %%, worst cycle %.2f %%, power %.2f %%"
          % (hz, load * 100, 100 * rms, 100 * worst, 100 * power))  # fmt: skip
    assert rms < 0.005 and power < 0.01, (hz, load, rms, power)
    assert worst < 0.02


def test_integer_square_root():
    for n in (0, 1, 2, 3, 4, 8, 9, 10**10 - 1, 10**10, (1 << 80) - 1):
        root = isqrt(n)
        assert root * root <= n < (root + 1) * (root + 1)


def test_50_hz():
    for current in (SINE, LAGGING, RECTIFIER, DIMMER):
        for load in (0.4, 0.05):
            check(50, current, load)


def test_60_hz():
    for current in (SINE, LAGGING, RECTIFIER, DIMMER):
        for load in (0.4, 0.05):
            check(60, current, load)


def test_the_whole_range():
    for load in (1.0, 0.2, 0.1):
        check(50, LAGGING, load)


def test_mains_off_its_frequency():
    for hz in (49.8, 50.2, 59.8, 60.2):
        check(hz, LAGGING, 0.6)
        check(hz, SINE, 0.05)


def test_a_loop_that_is_late():
    for hz in (50, 60, 49.8):
        check(hz, DIMMER, 0.3, slow=9000)


def test_without_voltage_power_is_apparent_and_import():
    mains = Mains(50, 10.0, LAGGING)
    adc = source(mains, voltage=False)
    Loop(adc, mains).cycle()
    apparent = mains.amps() * 230
    assert abs(adc.power / 1000 - apparent) < 0.005 * apparent


def test_no_load():
    mains = Mains(50, 0.0, SINE)
    adc = source(mains, min_w=10)
    Loop(adc, mains).until(4000)
    assert adc.read() == (0, 0) and adc.power == 0
    adc = source(mains, noise=0)  # uncalibrated: the noise alone is 0.05 A
    Loop(adc, mains).cycle()
    assert 40 < adc.current < 60


def test_energy_and_export():
    mains = Mains(50, 10.0, SINE)
    adc = source(mains)
    loop = Loop(adc, mains)
    loop.cycle()
    begun = adc._at
    loop.until(8000)
    imported, exported = adc.read()
    watts = mains.watts()
    due = watts * (adc._at - begun) / 3600
    assert adc._at > 7000 and abs(imported - due) < 0.01 * due and exported == 0
    mains.i = [(n, -a, phase) for n, a, phase in mains.i]
    loop.until(16000)
    assert adc.read()[0] - imported < 200 and adc.gaps == 0
    assert abs(adc.read()[1] - watts * 7.8 / 3.6) < 0.05 * watts * 7.8 / 3.6
    a, b = adc.state()
    again = source(mains)
    again.restore(a, b)
    assert again.state() == adc.state() and again.read() is None  # no cycle yet
    Loop(again, mains).cycle()
    assert again.read() == adc.read()


def test_what_was_not_seen_is_a_gap():
    mains = Mains(50, 10.0, SINE)
    adc = source(mains)
    loop = Loop(adc, mains)
    loop.until(1000)
    before = adc.read()
    mains.us += 4000000
    loop.until(6000)
    assert adc.gaps == 1 and adc.power is not None
    assert adc.read()[0] - before[0] < 10.0 * 230 * 1.5 / 3.6  # nothing was made up for the 4 s
    mains.i = [(1, 40000.0, 0.0)]  # beyond the converter's range
    loop.until(10000)
    assert adc.faults["clipped"] > 5 and adc.gaps == 2 and adc.power is None
    # intervals without a good cycle at either end are missing, not 0
    assert adc.read() is None and adc.why == "sensor_fault"


def test_halves_too_far_apart_are_no_cycle():
    mains = Mains(50, 10.0, SINE)
    adc = source(mains)
    adc.poll(0)
    mains.us += 205000
    assert adc.poll(205) is None and adc.faults == {"late": 1}
    Loop(adc, mains).cycle()
    assert adc.power and adc.faults == {"late": 1}


def test_interruptions_while_sampling():
    mains = Mains(50, 10.0, SINE)
    cycle = mains.cycle()
    mains.stall = (
        600  # a Wi-Fi interrupt: the rule takes the time of three missing points into account
    )
    assert cycle.sample() == "" and cycle.count < 129
    square, _ = list(cycle.moments())[-1]
    amps = math.sqrt(square / 256) * I_GAIN * 1e-6
    assert abs(amps - mains.amps()) < 0.01 * mains.amps()
    for stall in (3000, 30000):
        mains.stall = stall
        assert cycle.sample() == "stalled"
        mains.stall = stall
        assert cycle.sample(10000) == "stalled" and cycle.wait() == 0  # begin anew
    for at in range(58, 66):  # about the end of the first half: no phase is sampled twice
        cycle = mains.cycle()
        cycle._read_i = Slow(mains, at).read
        begun = mains.us
        assert cycle.sample(10000) == ""
        mains.us = begun + 26000
        assert cycle.sample() == ""
        times = cycle.at[: cycle.count]
        assert all([times[k] < times[k + 1] for k in range(len(times) - 1)]), list(times)


class Slow:
    """Reads the current, and takes longer once."""

    def __init__(self, mains, at):
        self.mains, self.left = mains, at

    def read(self):
        if not self.left:
            self.mains.stall = 550
        self.left -= 1
        return self.mains.read_i()
