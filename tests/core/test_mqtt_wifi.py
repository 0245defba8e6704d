"""A board's Wi-Fi, against a radio that does as the tests say: no PC's MicroPython has one."""

import sys


class Wlan:
    """As network.WLAN: what was asked of it, in `asked`."""

    def __init__(self, interface):
        self.asked = []
        self.joined = self.broken = False

    def active(self, on):
        self.asked.append("on")

    def config(self, **settings):
        self.asked.append("config")

    def isconnected(self):
        return self.joined

    def connect(self, ssid, password):
        self.asked.append("join " + ssid)
        if self.broken:
            raise OSError("Wifi Internal State Error")

    def disconnect(self):
        self.asked.append("leave")
        if self.broken:
            raise OSError("not started")


class Network:
    STA_IF = 0
    WLAN = Wlan


class Clock:
    now = 5000

    def ms(self):
        return self.now


def make():
    before = sys.modules.get("network")
    sys.modules["network"] = Network  # pyright: ignore[reportArgumentType]
    try:
        from wattveil_meter.links.wifi import Wifi
    finally:
        if before is None:
            del sys.modules["network"]
        else:
            sys.modules["network"] = before
    clock = Clock()
    return Wifi({"ssid": "street"}, clock), clock


def test_it_joins_and_joins_again_without_waiting():
    wifi, clock = make()
    assert not wifi.ready()
    radio = wifi._wlan
    assert [word for word in radio.asked if word != "config"] == ["on", "leave"]
    clock.now += 999
    assert not wifi.ready() and wifi.joins == 0
    clock.now += 1  # an ESP32 has to rest between leaving and joining
    assert not wifi.ready() and radio.asked[-1] == "join street" and wifi.joins == 1
    radio.joined = True
    assert wifi.ready() and wifi.ready()
    radio.joined = False  # the access point restarts: everything anew
    assert not wifi.ready() and radio.asked[-1] == "leave"
    clock.now += 1000
    assert not wifi.ready() and wifi.joins == 2
    clock.now += 29999
    assert not wifi.ready() and radio.asked[-1] == "join street"
    clock.now += 1  # this attempt has failed
    assert not wifi.ready() and radio.asked[-1] == "leave"
    clock.now += 1000
    assert not wifi.ready() and wifi.joins == 3


def test_a_radio_that_raises():
    wifi, clock = make()
    wifi.ready()
    wifi._wlan.broken = True
    for _ in range(5):
        clock.now += 31000
        assert not wifi.ready()
    assert wifi.joins > 1
    wifi._wlan.joined = True
    assert wifi.ready()


def test_settings():
    make()
    from wattveil_meter.links.wifi import Wifi

    try:
        Wifi({"ssid": "x", "password": "in the configuration"}, Clock())
    except ValueError as error:
        message = str(error)
    else:
        message = "taken"
    assert message == "wifi: unknown setting password"
