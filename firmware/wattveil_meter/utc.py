"""UTC as the centre last told it, counted on with the meter's own clock in between.

The meter has no other source of time: no battery, no NTP. How far its own clock is off is measured
against the centre's, and a centre whose clock jumps is noticed.
"""

_JUMP_S = 60  # more than an answer can be late (30 s between tries) and a clock drift in 600 s
_LEAST_S = 3600  # before that, whole seconds say nothing about the drift


class Utc:
    """Seconds since 1970 without leap seconds.

    running: whether the centre's clock runs (a demonstration's stands between orders).
    """

    def __init__(self, clock):
        """clock: .ms(), monotonic milliseconds."""
        self._clock = clock
        self._at = None  # (UTC s, clock ms) at the last answer of the centre
        self._since = None  # the same at the first answer since the last jump
        self.running = 0

    def set(self, now, running):
        """Take the centre's word; True when its clock jumped since the last one."""
        ms = self._clock.ms()
        going_on = self._at is not None and self.running and running
        jumped = going_on and abs(now - self.now()) >= _JUMP_S
        if jumped or not going_on:
            self._since = (now, ms)
        self._at = (now, ms)
        self.running = running
        return jumped

    def known(self):
        """UTC s, None before the first answer."""
        return None if self._at is None else self.now()

    def now(self):
        """UTC s; 0 before the first answer."""
        if self._at is None:
            return 0
        now, at = self._at
        return now + (self._clock.ms() - at) // 1000 if self.running else now

    def ms_at(self, when):
        """What the own clock (ms) will show at `when` (UTC s), if the centre's runs on."""
        now, at = self._at or (when, 0)
        return at + (when - now) * 1000

    def drift_ppm(self):
        """How much faster the own clock runs than the centre's, parts per million; None if unknown.

        Good to 10^6 / (seconds since the first answer): 280 ppm after an hour, 12 after a day.
        """
        if self._at is None or self._since is None or not self.running:
            return None
        span = self._at[0] - self._since[0]
        if span < _LEAST_S:
            return None
        return (self._at[1] - self._since[1] - span * 1000) * 1000 // span
