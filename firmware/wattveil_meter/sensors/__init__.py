"""Load sensors: what tells a meter how much energy its household took in an interval.

Every sensor has

    remote              True only for `demo`, whose reading comes through the cloud
    poll(utc)           called at least 4 times a second with UTC seconds (int), or None before the first
                        time sync; never raises; returns within 20 ms, but for one flash write an interval.
                        What it returns is in how many ms it would like the next one, None for any time
    save()              keeps the counts that a loss of power would take; called before a planned reset
    energy(start, length)   whole Wh in [start, start + length), UTC seconds; None when missing
    why                 the reason of the last None, below

    no_sync             no time sync yet
    gap                 a restart, a late poll or a stretch the sensor did not see fell into the interval, or
                        the meter behind the sensor was exchanged or reset
    clock_jump          the clock was set, by more than 2 s, within the interval
    sensor_fault        the sensor did not answer, or not in form, at one end of the interval
    no_such_interval    not an interval of the record's grid that has ended, or too long ago

A missing interval is never added to a later one. `energy` is what was imported; where the record's `lo` is
negative it is import minus export, and may be negative.

A *source* measures: it counts mWh (integers) into two registers that never go back, import and export, and
knows neither clock nor intervals. `Intervals` (intervals.py) makes a sensor of any source. A source has

    poll(ms)            called with monotonic milliseconds as often as the sensor is; returns the same wish
    read()              (import, export) in mWh, or None; then `why` says why
    gaps                how many stretches it could not measure; a change spoils the interval
    faults              reason -> count of what it refused
    volatile            True when its counts are lost with the power; then also
    state(), restore(a, b)  two integers >= 0 that survive in sensor.bin

All arithmetic is on integers: a board's floats have 24 bits, which lose a Wh beyond 16,777 kWh.
Wiring, ranges, accuracy and every configuration key: docs/SENSORS.md.
"""


def make(config, package, storage):
    """The sensor of config.json's `sensor` object; ValueError says which key is wrong.

    package: meter.Package; storage: as in store.py, for registers that the hardware does not keep.
    Each kind is imported only where it is used: a board has room for one.
    """
    config = dict(config)
    kind = config.pop("kind", None)
    if kind == "replay":
        from wattveil_meter.sensors.replay import Replay

        return Replay(*take(config, file=""))
    if kind == "demo":
        from wattveil_meter.sensors.demo import Demo

        take(config)
        return Demo(package.registration_key, package.record.fleet)
    if kind == "simulated":
        from wattveil_meter.sensors.simulated import Simulated

        return Simulated(*take(config, seed=1, occupants=2))
    if kind == "adc_ct":
        from wattveil_meter.sensors.adc_ct import open_source
    elif kind == "pzem004t":
        from wattveil_meter.sensors.pzem004t import open_source
    elif kind == "pulse":
        from wattveil_meter.sensors.pulse import open_source
    elif kind == "p1":
        from wattveil_meter.sensors.p1 import open_source
    else:
        raise ValueError("config.json: unknown sensor kind " + str(kind))
    from wattveil_meter.hal import Clock
    from wattveil_meter.sensors.intervals import Intervals

    return Intervals(open_source(config), package.record, Clock(), storage)


def take(config, **defaults):
    """The values of `defaults`' keys, in ascending order of key; ValueError for any other key or type.

    A default gives the type; None stands for "an integer, and it must be there".
    """
    for key in config:
        if key not in defaults:
            raise ValueError("config.json: the sensor takes no key " + str(key))
    values = []
    for key in sorted(defaults):
        default = defaults[key]
        value = config.get(key, default)
        if type(value) is not (int if default is None else type(default)):
            raise ValueError("config.json: sensor key " + key + " is missing or of the wrong type")
        values.append(value)
    return values
