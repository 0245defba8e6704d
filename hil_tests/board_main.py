# Test-only main for a board: the meter as it is, but
# - every noise share drawn is also written to shares.csv, where main_recorder.py is there too;
# - the sensor hangs once at the UTC second in a file named `hang`;
# - with a file named `full`, which holds a number, the flash is full for that many tries to store
#   the first report.
import os
import sys

from wattveil_meter import app, store
from wattveil_meter.sensors.replay import Replay


def number(name):
    try:
        with open(name) as file:
            return int(file.read())
    except OSError:
        return None


hang = number("hang")
full = None if sys.platform == "linux" else number("full")  # never a PC's disk
poll, write = Replay.poll, store.FileStorage.write


def poll_or_hang(self, utc):
    if hang is not None and utc is not None and utc >= hang:
        os.remove("hang")  # once
        while True:
            pass
    return poll(self, utc)


def write_to_full(self, name, value):
    global full
    if name != "period.bin" or len(value) < 100 or not full:  # a period begun has no report yet
        return write(self, name, value)
    full -= 1
    try:  # a file this small may still find room in its directory: the error is that of a longer one
        with open("filler", "wb") as file:
            while True:
                file.write(bytes(4096))
    finally:
        os.remove("filler")


if hang is not None:
    Replay.poll = poll_or_hang
if full is not None:
    store.FileStorage.write = write_to_full
try:
    import main_recorder

    main_recorder.record("shares.csv")
except ImportError:
    pass
app.main()
