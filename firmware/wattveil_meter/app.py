"""A meter as a program: files in the current folder, a link, and a loop.

Files: record.bin and meter.bin (provisioning), h.tab and s.tab (combs), config.json (sensor, poll_ms);
the meter itself keeps boot.bin and period.bin there.
"""

import gc
import json

from wattveil_meter import VERSION, hal, selftest
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


def build():
    """The meter of the current folder."""
    with open("config.json") as file:
        config = json.load(file)
    package = Package(_read("record.bin"), _read("meter.bin"))
    ring = Portable(package.record.n)
    about = (hal.runtime(), VERSION, selftest.run(ring))
    gc.collect()
    return Meter(
        package,
        {name: open(name + ".tab", "rb") for name in SUITES[package.record.suite].tables},
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
