"""A source whose registers are those of a meter behind it, which keeps them itself."""

_SLACK = 1000000  # mWh
_MOST = 278  # mWh a ms: 1 MW


def _odd(shown, ms, new):
    """Why a meter that showed `shown` cannot show `new` (import, export) after `ms`; ""."""
    for k in (0, 1):
        if new[k] < shown[k]:
            return "register_back"
        if new[k] - shown[k] > _SLACK + _MOST * ms:
            return "register_jump"
    return ""


class Follow:
    """Base of sources that are told a register now and then.

    The registers start at what the meter shows. When it shows less than before, or more than can be,
    that is damage (of a telegram without a CRC), or the meter was exchanged or reset: once the next
    register says so too, they go on from where they were, and the interval is spoilt.
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
        self._doubt = None  # (ms, registers) of the last, if it was odd

    def read(self):
        """(import, export) in mWh, None when they are out of date."""
        if self._at is None or self.now - self._at > self._stale_ms:
            self.why = "sensor_fault"
            return None
        return (self._base[0] + self._shown[0], self._base[1] + self._shown[1])

    def follow(self, ms, imported, exported):
        """Take registers, mWh, read at `ms`."""
        new = (imported, exported)
        fault = "" if self._at is None else _odd(self._shown, ms - self._at, new)
        doubt, self._doubt = self._doubt, None
        if fault:
            if doubt is None or _odd(doubt[1], ms - doubt[0], new):
                self.count(fault)
                self._doubt = (ms, new)
                return
            self.gaps += 1
            for k in (0, 1):
                self._base[k] += self._shown[k] - doubt[1][k]
        self._shown = new
        self._at = ms

    def count(self, reason):
        """Count something refused."""
        self.faults[reason] = self.faults.get(reason, 0) + 1
