"""What happened on this meter, for whoever comes to look: few short lines on flash, no secrets.

A line is `UTC uptime event detail…`: seconds since 1970 (`-` before the first sync), seconds since the
start, and words from the program, never values of the protocol. log.txt becomes log.old at LIMIT
bytes, so both take twice that; a day has at most 24 lines more than BURST, for the flash wears.
"""

import os

LIMIT = 3072  # bytes
BURST = 24  # lines at once
_REFILL_MS = 3600000  # for one line more


class Log:
    """Lines appended to log.txt of a folder. A flash that takes none is never in the way.

    utc: a function like Meter.utc, set when there is one. left_out: lines over the rate, told with
    the next one. failed: lines the flash did not take.
    """

    def __init__(self, clock, folder="."):
        self._clock = clock
        self._path = folder + "/log"
        self._begun = clock.ms()
        self._lines = BURST
        self._refilled = self._begun
        self._told = {}
        self.utc = lambda: None
        self.left_out = 0
        self.failed = 0

    def write(self, event, *details):
        """One line; details: words and numbers."""
        now = self._clock.ms()
        more = (now - self._refilled) // _REFILL_MS
        self._refilled += more * _REFILL_MS
        self._lines = min(BURST, self._lines + more)
        if not self._lines:
            self.left_out += 1
            return
        self._lines -= 1
        utc = self.utc()
        words = ["-" if utc is None else str(utc), str((now - self._begun) // 1000), event]
        words += [str(detail) for detail in details]
        if self.left_out:
            words.append("left_out=%d" % self.left_out)
        try:
            self._append(" ".join(words) + "\n")
            self.left_out = 0
        except OSError:
            self.failed += 1

    def counts(self, counts):
        """Tell counters (name -> count) that have reached 1, 2, 4, 8, … since they were last told."""
        for name in counts:
            if counts[name] >= 2 * self._told.get(name, 0.5):
                self._told[name] = counts[name]
                self.write("count", "%s=%d" % (name, counts[name]))

    def _append(self, line):
        try:
            if os.stat(self._path + ".txt")[6] + len(line) > LIMIT:
                os.rename(self._path + ".txt", self._path + ".old")
        except OSError:
            pass  # no log yet
        with open(self._path + ".txt", "a") as file:
            file.write(line)
