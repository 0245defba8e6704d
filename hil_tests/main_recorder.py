# For test-only mains: the meter as it is, but every noise share drawn is also written to a file.
# The firmware has no such hook; this replaces names of its modules before it starts.
import os

from wattveil_meter import meter
from wattveil_meter.sensors.replay import Replay


class Recorder:
    def __init__(self, sampler, log):
        self._sampler = sampler
        self._log = log

    def share(self, drbg):
        xi = self._sampler.share(drbg)
        self._log.write("%d\n" % xi)
        self._log.flush()
        return xi


class Recorded:
    def __init__(self, suite, log):
        self._suite = suite
        self._log = log
        self.tables = suite.tables

    def __call__(self, *args):
        self._log.write("start %d\n" % args[-1])
        return self._suite(*args)


def take_ctrl_c(folder=""):
    """Be interrupted by a file `ctrl-c` there, between two steps of the main loop.

    A PC's MicroPython takes a signal wherever it is, and in its garbage collector that leaves the heap
    locked; a board takes Ctrl-C between two bytecodes.
    """
    poll, begun = Replay.poll, []

    def interrupted(self, utc):
        if not begun:  # one turn of the loop at least: it says hello, under the next boot number
            begun.append(True)
            return poll(self, utc)
        try:
            os.remove(folder + "ctrl-c")
        except OSError:
            return poll(self, utc)
        raise KeyboardInterrupt

    Replay.poll = interrupted


def record(path):
    """Append to the file at `path`, from this start on; its folder is that of `take_ctrl_c`."""
    take_ctrl_c(path[: len(path) - len(path.split("/")[-1])])
    log = open(path, "a")
    log.write("boot\n")
    make_sampler = meter.make_sampler
    meter.make_sampler = lambda *args: Recorder(make_sampler(*args), log)
    for name in list(meter.SUITES):
        meter.SUITES[name] = Recorded(meter.SUITES[name], log)
