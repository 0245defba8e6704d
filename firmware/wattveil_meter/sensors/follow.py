"""A source whose registers are those of a meter behind it, which keeps them itself."""


class Follow:
    """Base of sources that are told a register now and then.

    The registers start at what the meter shows. When it shows less than before (it was exchanged or
    reset) they go on from where they were, and the interval is spoilt.
    """

    volatile = False

    def __init__(self, stale_ms):
        """stale_ms: age from which a register is no longer taken for the present one."""
        self.why = "sensor_fault"
        self.gaps = 0
        self.faults = {}
        self._stale_ms = stale_ms
        self.now = 0  # ms; `poll` sets it
        self._at = None  # ms of the newest registers
        self._shown = (0, 0)
        self._base = [0, 0]

    def read(self):
        """(import, export) in mWh, None when they are out of date."""
        if self._at is None or self.now - self._at > self._stale_ms:
            self.why = "sensor_fault"
            return None
        return (self._base[0] + self._shown[0], self._base[1] + self._shown[1])

    def follow(self, ms, imported, exported):
        """Take registers, mWh, read at `ms`."""
        if self._at is not None and (imported < self._shown[0] or exported < self._shown[1]):
            self.gaps += 1
            self.count("register_back")
            self._base[0] += self._shown[0] - imported
            self._base[1] += self._shown[1] - exported
        self._shown = (imported, exported)
        self._at = ms

    def count(self, reason):
        """Count something refused."""
        self.faults[reason] = self.faults.get(reason, 0) + 1
