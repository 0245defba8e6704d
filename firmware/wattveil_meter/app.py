"""A meter as a program: files in the current folder, a link, and a loop.

Files: record.bin and meter.bin (provisioning), h.tab and s.tab (combs, as the suite needs them),
config.json (sensor, poll_ms); the meter itself keeps boot.bin and period.bin there.
"""

import gc
import json

from wattveil_meter import VERSION, hal, selftest
from wattveil_meter.kernels import choose
from wattveil_meter.kernels.portable import Portable
from wattveil_meter.links.serial import SerialLink
from wattveil_meter.meter import SUITES, Meter, Package
from wattveil_meter.sensors.demo import Demo
from wattveil_meter.sensors.replay import Replay
from wattveil_meter.store import FileStorage


def _read(name):
    with open(name, "rb") as file:
        return file.read()


def _sensor(config, package):
    if config["kind"] == "replay":
        return Replay(config["file"])
    if config["kind"] == "demo":
        return Demo(package.registration_key, package.record.fleet)
    raise ValueError("config.json: unknown sensor kind " + str(config["kind"]))


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


def build():
    """The meter of the current folder."""
    with open("config.json") as file:
        config = json.load(file)
    package = Package(_read("record.bin"), _read("meter.bin"))
    tables = _open(SUITES[package.record.suite].tables)
    ring = _ring(package.record, tables)
    about = (hal.runtime(), VERSION, selftest.run(ring))
    gc.collect()
    return Meter(
        package,
        tables,
        FileStorage(),
        _sensor(config["sensor"], package),
        hal.Clock(),
        hal.entropy(),
        about,
        ring,
        config.get("poll_ms", 200),
    )


def main():
    """Run until the link is closed for good."""
    link = SerialLink()
    meter = build()
    while not link.closed:
        out = meter.poll()
        if isinstance(out, bytes):
            link.write(out)
            out = 0
        for frame in link.read(out):
            meter.receive(frame)
