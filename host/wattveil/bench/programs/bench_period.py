"""One period of a real meter on its serial link, registration to report, timed by what it does.

main({...}) with record.bin, meter.bin, tables and rows.bin in job["folder"]:

    start, reading, hot   of the period; the slot of the row, from 0, that encrypts 1
    kernel, code, scratch as in bench_kit.make_ring
    free                  heap the period may use: once the meter is built and the heap collected, a
                          ballast takes the rest, so that a period that ends without MemoryError has
                          never needed more. 0: all of the heap
    book_us               time for the textbook (bench_book); below 0: none of it

The other side is wattveil.bench.rig.Cloud. Prints one line of JSON at the end. Meter, storage and link
are those of the firmware; the sensor has the one reading; every share that is drawn is kept, so that
the host can check the answer to the last Wh.
"""

# mypy: ignore-errors

import gc

import bench_ticks as ticks
from bench_kit import alloc, make_ring, read, say


class Sensor:
    """The one reading of the job."""

    remote = False

    def __init__(self, start, reading):
        self.start = start
        self.reading = reading

    def energy(self, start, length):
        """As in wattveil_meter/sensors."""
        return self.reading if start == self.start else None


class Sampler:
    """Keeps the shares that another one draws, and the time it takes."""

    def __init__(self, sampler):
        self.sampler = sampler
        self.shares = []
        self.us = 0

    def share(self, drbg):
        """As in wattveil_meter/noise."""
        begun = ticks.now()
        xi = self.sampler.share(drbg)
        self.us += ticks.since(begun)
        self.shares.append(xi)
        return xi


class Storage:
    """Keeps the time another one takes to write and to get ready for it."""

    def __init__(self, storage):
        self.read = storage.read
        self.storage = storage
        self.us = 0

    def prepare(self, name):
        """As in wattveil_meter/store."""
        begun = ticks.now()
        self.storage.prepare(name)
        self.us += ticks.since(begun)

    def write(self, name, value):
        """As in wattveil_meter/store."""
        begun = ticks.now()
        self.storage.write(name, value)
        self.us += ticks.since(begun)


class Channel:
    """Keeps the time another one takes to open and seal frames."""

    def __init__(self, channel):
        self.channel = channel
        self.us = 0

    @property
    def counter(self):
        """As in wattveil_meter/wire."""
        return self.channel.counter

    def seal(self, *args):
        """As in wattveil_meter/wire."""
        begun = ticks.now()
        frame = self.channel.seal(*args)
        self.us += ticks.since(begun)
        return frame

    def open(self, frame):
        """As in wattveil_meter/wire."""
        begun = ticks.now()
        try:
            return self.channel.open(frame)
        finally:
            self.us += ticks.since(begun)


def build(job, ring):
    """(meter, sampler, storage) as wattveil_meter.app builds them, for a period never begun."""
    from wattveil_meter import VERSION, hal, meter, selftest
    from wattveil_meter.package import Package
    from wattveil_meter.store import FRESH, FileStorage

    package = Package(read(job, "record.bin"), read(job, "meter.bin"))
    about = (hal.runtime(), VERSION, selftest.run(ring))
    files = FileStorage(job["folder"])
    for name, value in FRESH.items():
        files.write(name, value)
    storage = Storage(files)
    samplers = []
    make_sampler = meter.make_sampler

    def keeping(*args):
        samplers.append(Sampler(make_sampler(*args)))
        return samplers[0]

    meter.make_sampler = keeping
    names = meter.SUITES[package.record.suite].tables
    tables = {name: open(job["folder"] + "/" + name + ".tab", "rb") for name in names}  # noqa: SIM115
    sensor = Sensor(job["start"], job["reading"])
    args = (sensor, hal.Clock(), hal.entropy(), about, ring, 1)
    made = meter.Meter(package, tables, storage, *args)
    made._channel = Channel(made._channel)
    meter.make_sampler = make_sampler
    return made, samplers[0], storage


def ballast(free):
    """Blocks that leave `free` bytes of the heap."""
    kept = []
    for size in (1024, 64):
        while gc.mem_free() > free + size + 64:
            kept.append(bytearray(size))
    return kept


class Driver:
    """The loop of wattveil_meter.app, timed: us by "prepare", "report", "link", "draw", "store"."""

    def __init__(self, meter, sampler, storage, link, book):
        self.meter = meter
        self.sampler = sampler
        self.storage = storage
        self.link = link
        self.book = book
        self.us = {"prepare": 0, "report": 0, "link": 0, "draw": 0, "store": 0}
        self.waiting = False
        self.phase = ""  # "prepare" or "report" while a request of that phase is under way

    def turn(self):
        """One poll; what it sends, and what came in."""
        meter = self.meter
        before = meter.state
        drawn, stored, sealed = self.sampler.us, self.storage.us, meter._channel.us
        begun = ticks.now()
        out = meter.poll()
        spent = ticks.since(begun)
        phase = ""
        if meter._unsent is not None:
            phase = "report"
        elif "rows" in (before, meter.state):
            phase = "prepare"
        if self.waiting:  # nothing but a look at the clock
            if self.phase:
                self.us["link"] += spent
        elif phase:
            drawn, stored = self.sampler.us - drawn, self.storage.us - stored
            self.us["draw"] += drawn
            self.us[phase] += spent - drawn - stored
            if phase == "report":
                self.us["store"] += stored
            else:  # a frame's encryption is the link's; the report's MAC is one of its three steps
                self.us["prepare"] -= meter._channel.us - sealed
                self.us["link"] += meter._channel.us - sealed
        if isinstance(out, bytes):
            if self.book and meter.state == "rows":
                if self.book.xi is None:
                    self.book.begin(self.sampler.shares)
                self.book.turn()
            self.phase = phase
            self.waiting = True
            self.timed_link(self.link.write, out)
            out = 0
        for frame in self.timed_link(self.link.read, out):
            self.waiting = False
            begun = ticks.now()
            meter.receive(frame)
            if self.phase:
                self.us["link"] += ticks.since(begun)

    def timed_link(self, call, argument):
        """Link time is what passes between a request and the whole frame that answers it."""
        begun = ticks.now()
        result = call(argument)
        if self.waiting and self.phase:
            self.us["link"] += ticks.since(begun)
        return result


def main(job):
    """Build, run, print."""
    bare = alloc()
    begun = ticks.now()
    import wattveil_meter.app  # everything a board imports
    from wattveil_meter.links.serial import SerialLink
    from wattveil_meter.record import Record

    import_us = ticks.since(begun)
    begun = ticks.now()
    ring, _ = make_ring(Record.parse(read(job, "record.bin")).n, job)
    meter, sampler, storage = build(job, ring)
    build_us = ticks.since(begun)
    link = SerialLink()
    book = None
    if job["book_us"] >= 0:
        from bench_book import Book

        def send(index, data):
            link.write(b"book" + bytes((index,)) + data)

        book = Book(meter, job, send)
    driver = Driver(meter, sampler, storage, link, book)
    modmuls = ring.modmuls
    idle = alloc()
    kept = ballast(job["free"]) if job["free"] > 0 else None
    while meter.state != "reported":
        driver.turn()
    kept = None
    modmuls = ring.modmuls - modmuls
    if book:
        book.finish(job["reading"])
    say(
        {
            "version": wattveil_meter.app.VERSION,
            "kernel": ring.name,
            "import_us": import_us,
            "build_us": build_us,
            "bare": bare,
            "idle": idle,
            "us": driver.us,
            "modmuls": modmuls,
            "xi": sampler.shares[job["hot"]],
            "refused": meter.refused,
            "ballast": kept,
            "book_us": book.us if book else {},
            "unit_steps": book.unit_steps if book else 0,
            "shares": sampler.shares[: meter.record.gamma] if book else [],
        }
    )
