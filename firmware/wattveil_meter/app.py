"""A meter as a program: files in the current folder, a link, a sensor, and a loop over them.

Files: record.bin and meter.bin (provisioning), h.tab and s.tab (combs, as the suite needs them),
config.json (PROTOCOL.md, "Provisioning files"); the meter itself keeps boot.bin, period.bin, seeds.bin
and starts.bin there, and log.txt.
"""

import gc
import json

from wattveil_meter import VERSION, hal, links, selftest, sensors
from wattveil_meter.kernels import choose
from wattveil_meter.kernels.portable import Portable
from wattveil_meter.log import Log
from wattveil_meter.meter import SUITES, Meter
from wattveil_meter.package import Package
from wattveil_meter.store import FileStorage
from wattveil_meter.supervisor import SETTLED_MS, Starts, Supervisor

TASKS = ("sensor", "meter", "link")
_SENSE_MS = 200  # between polls of the sensor, unless it asks for an earlier one
_TELL_MS = 1000  # between looks at the counters
_DAY_MS = 86400000


def _read(name):
    with open(name, "rb") as file:
        return file.read()


def _open(names):
    """The table files there are, by name; they stay open."""
    files = {}
    for name in names:
        try:
            files[name] = open(name + ".tab", "rb")
        except OSError:
            pass  # the meter says which is missing
    return files


def _ring(record, tables):
    """The kernel for the tables in flash: machine code for form 2, else the interpreter's integers."""
    for file in tables.values():
        file.seek(5)
        if file.read(1) == b"\2":
            return choose(record.n)
    return Portable(record.n)


class App:
    """A meter, its link and its sensor in one loop. log, starts: see log.py and supervisor.py."""

    def __init__(self, meter, link, sensor, clock, watchdog, log, starts):
        self.meter, self.link, self.sensor = meter, link, sensor
        self.clock, self.log, self.starts = clock, log, starts
        self.supervisor = Supervisor(watchdog, TASKS, hal.note)
        log.utc = meter.utc

    def run(self):
        """Until the link is closed for good."""
        clock, meter, sensor, link = self.clock, self.meter, self.sensor, self.link
        begins, ran = self.supervisor.begins, self.supervisor.ran
        begun = clock.ms()
        told = day = begun - _DAY_MS
        sense = begun  # when to poll the sensor
        settled = False
        up = link.up
        while not link.closed:
            now = clock.ms()
            if now >= sense:
                begins("sensor")
                wish = sensor.poll(meter.utc())
                sense = clock.ms() + wish if wish is not None else now + _SENSE_MS
                ran("sensor")
            begins("meter")
            out = meter.poll()
            ran("meter")
            begins("link")
            if isinstance(out, bytes):
                link.write(out)
                out = 0
            for frame in link.read(max(0, min(out, sense - clock.ms()))):
                meter.receive(frame)
            if link.up and not up:
                meter.wake()
            up = link.up
            ran("link")
            if link.wedged and not meter.at_stake():
                self.restart("link_silent")
            if now - told >= _TELL_MS:
                told = now
                self.log.counts(self.counts())
            if not settled and now - begun >= SETTLED_MS:
                settled = True
                self.starts.settled()
            if now - day >= _DAY_MS and meter.utc() is not None:
                day = now
                self.summary("day")

    def restart(self, why):
        """Reset the board without losing a count; the log keeps the reason."""
        self.sensor.save()
        self.summary("restart " + why)
        self.starts.settled()  # no failed start
        hal.reset()

    def counts(self):
        """All counters, of the meter by name and of the link by "link_" and name."""
        counts = dict(self.meter.refused)
        for name in self.link.refused:
            if self.link.refused[name]:
                counts["link_" + name] = self.link.refused[name]
        if self.link.dropped:
            counts["link_dropped"] = self.link.dropped
        return counts

    def summary(self, event):
        """One line that tells how the meter is."""
        counts = self.counts()
        told = ["%s=%d" % (name, counts[name]) for name in sorted(counts)]
        drift = self.meter.time.drift_ppm()
        if drift is not None:
            told.insert(0, "drift_ppm=%d" % drift)
        missing = self.sensor.why
        if missing:
            told.insert(0, "sensor=" + "_".join(missing.split()))
        self.log.write(event, "state=" + self.meter.state, *told)


def build(clock, storage, log, starts):
    """The App of the current folder."""
    with open("config.json") as file:
        config = json.load(file)
    package = Package(_read("record.bin"), _read("meter.bin"))
    tables = _open(SUITES[package.record.suite].tables)
    ring = _ring(package.record, tables)
    about = (hal.runtime(), VERSION, selftest.run(ring))
    gc.collect()
    # from here on: a sensor or a network that hangs must not hang the meter for good
    watchdog = hal.watchdog(config.get("watchdog_ms", 0))
    sensor = sensors.make(config["sensor"], package, storage)
    link = links.make(config.get("link", {"kind": "serial"}), package)
    args = (sensor, clock, hal.entropy(), about, ring, config.get("poll_ms", 200))
    meter = Meter(package, tables, storage, *args)
    return App(meter, link, sensor, clock, watchdog, log, starts)


def main():
    """The meter's life from boot on; ends by Ctrl-C, or with a link that is closed for good."""
    clock = hal.Clock()
    log = Log(clock)
    storage = FileStorage()
    starts = Starts(storage)
    reason = hal.reset_reason()
    safe_s = starts.begin(reason)
    hung = hal.noted() if reason == "wdt" else 0
    hal.note(0)
    told = ["hung=" + TASKS[hung - 1]] if 0 < hung <= len(TASKS) else []
    log.write("start", reason, VERSION, "unclean=%d" % starts.unclean, *told)
    app = None
    try:
        if safe_s:
            log.write("safe_mode", "for_s=%d" % safe_s)
            print("wattveil: safe mode, next try in %d s; log.txt says why" % safe_s)
            hal.reset_after(safe_s)
            return  # to the REPL; on a PC, the end
        app = build(clock, storage, log, starts)
        app.run()
        app.summary("end")
        starts.settled()
    except KeyboardInterrupt:  # someone is at the console
        hal.rest_watchdog()
        starts.settled()
        if app:
            app.sensor.save()
            app.summary("stop")
        raise
    except Exception as error:
        gc.collect()  # it may be that there was no memory
        log.write("crash", hal.where(error))
        if app:
            app.sensor.save()
        if not hal.is_board():
            raise
        hal.reset()
