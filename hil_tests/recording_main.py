# Test-only main: the meter as it is, but every noise share drawn is also written to shares.csv.
# The firmware has no such hook; this file replaces two names of its modules before it starts.
from wattveil_meter import app, meter

log = open("shares.csv", "w")
make_sampler = meter.make_sampler


class Recorder:
    def __init__(self, sampler):
        self._sampler = sampler

    def share(self, drbg):
        xi = self._sampler.share(drbg)
        log.write("%d\n" % xi)
        log.flush()
        return xi


class Recorded:
    def __init__(self, suite):
        self._suite = suite
        self.tables = suite.tables

    def __call__(self, *args):
        log.write("start %d\n" % args[-1])
        return self._suite(*args)


meter.make_sampler = lambda *args: Recorder(make_sampler(*args))
for name in list(meter.SUITES):
    meter.SUITES[name] = Recorded(meter.SUITES[name])
app.main()
