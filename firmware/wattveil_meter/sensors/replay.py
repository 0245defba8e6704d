"""Sensor `replay`: readings from a file in flash, one line `start,wh` per interval (UTC s, Wh)."""


class Replay:
    """Looks an interval up by its start; a line that is not there is a missing reading.

    The file is searched from where the last interval was found, so that in ascending files, which
    wattveil writes, a year of readings costs no more than a day. It may be replaced while the meter runs.
    """

    remote = False

    def __init__(self, path):
        self.why = ""
        self._path = path
        self._at = 0  # byte offset of the line after the last one found

    def poll(self, utc):
        """Nothing to do."""

    def save(self):
        """Nothing to keep."""

    def energy(self, start, length):
        """Wh in [start, start + length); None: no such line, or one or a file that cannot be read."""
        key = str(start).encode() + b","
        self.why = "no_such_interval"
        try:
            with open(self._path, "rb") as file:
                for begin in (self._at, 0):
                    file.seek(begin)
                    while True:
                        line = file.readline()
                        if not line:
                            break
                        if line.startswith(key):
                            self._at = file.tell()
                            return int(line[len(key) :])
        except (OSError, ValueError):
            self.why = "sensor_fault"
        return None
