"""Wi-Fi of a board as a station: joined, and joined again, without ever waiting for it."""

import sys

import network

JOIN_MS = 30000  # an attempt that takes longer has failed
PAUSE_MS = 1000  # between leaving and joining: an ESP32 that joins at once never gets back in
_NO_POWER_SAVING = 0xA11140  # CYW43 of a Pico W: power saving loses packets


class Wifi:
    """config: {"ssid", "password_file"}; clock: .ms(). ValueError, OSError.

    joins: attempts so far. offs: times the radio was switched off.
    """

    def __init__(self, config, clock):
        for name in config:
            if name not in ("ssid", "password_file"):
                raise ValueError("wifi: unknown setting " + str(name))
        self._ssid = config["ssid"]
        self._password = None
        if "password_file" in config:
            with open(config["password_file"]) as file:
                self._password = file.read().strip()
        self._clock = clock
        self._wlan = None
        self._on = False
        self._until = 0  # of the attempt, or the pause, under way
        self._joining = False
        self.joins = 0
        self.offs = 0

    def ready(self):
        """Whether there is a network now; call it again and again, it brings that about."""
        try:
            return self._step(self._clock.ms())
        except OSError:  # the radio is not ready; the next attempt begins by leaving
            return False

    def off(self):
        """Switch the radio off: `ready` begins anew. For one that says it is joined, and carries nothing."""
        self._on = self._joining = False
        self._until = self._clock.ms() + PAUSE_MS
        self.offs += 1
        try:
            if self._wlan is not None:
                self._wlan.active(False)
        except OSError:
            pass  # then switching it on has to do

    def _step(self, now):
        if now < self._until and not self._on:
            return False
        if self._wlan is None:
            self._wlan = network.WLAN(network.STA_IF)
        wlan = self._wlan
        if not self._on:
            self._on = True
            self._until = 0
            wlan.active(True)
            if sys.platform == "rp2":
                wlan.config(pm=_NO_POWER_SAVING)
        if wlan.isconnected():
            self._joining = False
            self._until = 0
            return True
        if now < self._until:
            return False
        if self._joining or self._until == 0:
            self._joining = False
            self._until = now + PAUSE_MS
            wlan.disconnect()
        else:
            self._joining = True
            self._until = now + JOIN_MS
            self.joins += 1
            wlan.connect(self._ssid, self._password)
        return False
