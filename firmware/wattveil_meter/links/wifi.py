"""Wi-Fi of a board as a station: joined, and joined again, without ever waiting for it."""

import sys

import network

JOIN_MS = 30000  # an attempt that takes longer has failed
PAUSE_MS = 1000  # between leaving and joining: an ESP32 that joins at once never gets back in
_NO_POWER_SAVING = 0xA11140  # CYW43 of a Pico W: power saving loses packets


class Wifi:
    """config: {"ssid", "password_file"}; clock: .ms(). ValueError, OSError.

    joins: attempts so far.
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
        self._until = 0  # of the attempt, or the pause, under way
        self._joining = False
        self.joins = 0

    def ready(self):
        """Whether there is a network now; call it again and again, it brings that about."""
        wlan = self._wlan
        if wlan is None:
            wlan = self._wlan = network.WLAN(network.STA_IF)
            wlan.active(True)
            if sys.platform == "rp2":
                wlan.config(pm=_NO_POWER_SAVING)
        if wlan.isconnected():
            self._joining = False
            self._until = 0
            return True
        now = self._clock.ms()
        if now < self._until:
            return False
        if self._joining or self._until == 0:
            self._joining = False
            self._until = now + PAUSE_MS
            try:
                wlan.disconnect()
            except OSError:
                pass  # it was not joined
        else:
            self._joining = True
            self._until = now + JOIN_MS
            self.joins += 1
            try:
                wlan.connect(self._ssid, self._password)
            except OSError:
                pass  # the radio is not ready; the next attempt begins by leaving
        return False
