"""One period of a real meter, registration to report, against answers recorded beforehand.

    micropython period.py FOLDER [FREE]

FOLDER (written by wattveil.bench.rig): record.bin, meter.bin, h.tab, s.tab, job.json and down.bin, the
serial bytes of every answer, each behind its length (2 bytes). The meter's clock and entropy are the
recording's, so it asks exactly what was answered. Writes up.bin the same way and prints one line of JSON.

FREE: bytes the period may use: once the meter is built and the heap collected, a ballast takes the
rest, so that a period that ends without MemoryError has never needed more. 0: all of the heap; -1: stop
at the idle meter.
"""

# mypy: ignore-errors

import gc
import json
import sys
from binascii import unhexlify

import ticks


class Clock:
    """Milliseconds that pass only when the meter waits."""

    def __init__(self):
        self.value = 0

    def ms(self):
        """As hal.Clock."""
        return self.value


class Sensor:
    """The one reading of the job."""

    remote = False

    def __init__(self, start, reading):
        self.start = start
        self.reading = reading

    def energy(self, start, length):
        """As in wattveil_meter/sensors."""
        return self.reading if start == self.start else None


def alloc():
    """Bytes of heap in use after a collection; 0 where that cannot be asked."""
    gc.collect()
    return gc.mem_alloc() if hasattr(gc, "mem_alloc") else 0


def read(folder, name):
    """Contents of a file."""
    with open(folder + "/" + name, "rb") as file:
        return file.read()


def build(folder, job, clock):
    """The meter of the folder, as wattveil_meter.app builds it."""
    from wattveil_meter import selftest
    from wattveil_meter.kernels.portable import Portable
    from wattveil_meter.meter import Meter, Package
    from wattveil_meter.store import MemoryStorage

    package = Package(read(folder, "record.bin"), read(folder, "meter.bin"))
    ring = Portable(package.record.n)
    result = selftest.run(ring)
    gc.collect()
    return Meter(
        package,
        {"h": open(folder + "/h.tab", "rb"), "s": open(folder + "/s.tab", "rb")},
        MemoryStorage(),
        Sensor(job["start"], job["reading"]),
        clock,
        unhexlify(job["entropy"]),
        ("bench", "0", result),
        ring,
    )


def ballast(free):
    """Blocks that leave `free` bytes of the heap."""
    kept = []
    for size in (1024, 64):
        while gc.mem_free() > free + size + 64:
            kept.append(bytearray(size))
    return kept


class Driver:
    """Turns of the meter, timed by what it was doing."""

    def __init__(self, meter, clock, deframer, stuff, down, up):
        self.meter = meter
        self.clock = clock
        self.deframer = deframer
        self.stuff = stuff
        self.down = down
        self.up = up
        self.ballast = None
        self.us = {}  # state -> us
        self.bytes = [0, 0]  # up, down: serial bytes of the period, from its first time request on

    def turn(self):
        """One poll and, when it asks, one answer."""
        meter = self.meter
        state = meter.state
        begun = ticks.now()
        out = meter.poll()
        spent = ticks.since(begun)
        if isinstance(out, bytes):
            spent += self.answer(out)
        elif out:
            self.clock.value += out
            state = "waiting"  # nothing but the look at the clock
        self.us[state] = self.us.get(state, 0) + spent

    def answer(self, frame):
        """Send one frame, take its answer; us within the meter."""
        counted = self.meter.state != "unregistered"
        sent = self.stuff(frame)
        self.up.write(len(sent).to_bytes(2, "little"))
        self.up.write(sent)
        size = int.from_bytes(self.down.read(2), "little")
        if counted:
            self.bytes[0] += len(sent)
            self.bytes[1] += size
        sent = None
        spent = 0
        while size:
            data = self.down.read(min(size, 512))  # as much as links.serial takes at once
            size -= len(data)
            for got in self.deframer.feed(data):
                begun = ticks.now()
                self.meter.receive(got)
                spent += ticks.since(begun)
        return spent


def main(folder, free):
    """Build, run, print."""
    bare = alloc()
    begun = ticks.now()
    import wattveil_meter.app  # everything a board imports
    from wattveil_meter.wire import Deframer, stuff

    import_us = ticks.since(begun)
    imported = alloc()
    job = json.loads(read(folder, "job.json"))
    clock = Clock()
    begun = ticks.now()
    meter = build(folder, job, clock)
    build_us = ticks.since(begun)
    deframer = Deframer()
    out = {"import_us": import_us, "build_us": build_us, "bare": bare}
    out["imported"] = imported
    out["version"] = wattveil_meter.app.VERSION
    with open(folder + "/down.bin", "rb") as down, open(folder + "/up.bin", "wb") as up:
        driver = Driver(meter, clock, deframer, stuff, down, up)
        out["idle"] = alloc()
        driver.ballast = ballast(free) if free > 0 else None
        while free >= 0 and meter.state != "reported":
            driver.turn()
        driver.ballast = None
    out["us"] = driver.us
    out["bytes"] = driver.bytes
    out["modmuls"] = meter.ring.modmuls
    out["refused"] = meter.refused
    print(json.dumps(out))


main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
