"""A board's Wi-Fi, against a radio that does as the tests say: no PC's MicroPython has one."""

import sys


class Wlan:
    """As network.WLAN: what was asked of it, in `asked`."""

    def __init__(self, interface):
        self.asked = []
        self.joined = self.broken = False

    def active(self, on):
        self.asked.append("on" if on else "off")
        if self.broken:
            raise OSError("no answer from the chip")

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


def test_a_radio_that_says_it_is_joined_and_carries_nothing():
    wifi, clock = make()
    wifi.off()  # before it was ever on
    clock.now += 1000
    wifi.ready()
    radio = wifi._wlan
    radio.joined = True
    assert wifi.ready()
    wifi.off()
    assert radio.asked[-1] == "off" and wifi.offs == 2
    clock.now += 999
    assert not wifi.ready() and radio.asked[-1] == "off"
    radio.joined = False
    clock.now += 1
    assert not wifi.ready()
    assert [word for word in radio.asked if word != "config"][-2:] == ["on", "leave"]
    clock.now += 1000
    assert not wifi.ready() and radio.asked[-1] == "join street"
    radio.joined = True
    assert wifi.ready()
    radio.joined, radio.broken = False, True
    for _ in range(40):  # nor does switching it help: still nothing is raised
        wifi.off()
        for _ in range(3):
            clock.now += 1000
            assert not wifi.ready()
    radio.joined, radio.broken = True, False
    assert wifi.ready()


class Socket:
    """As SecureSocket: a network that lets nothing through, until `opens`."""

    opens = False
    unsent = False

    def __init__(self, *_):
        self.is_open = False

    def open(self):
        self.is_open = True

    def connected(self):
        return Socket.opens

    def read(self, steady):
        return None

    def write(self, data, steady):
        return b""

    def wait(self, ms):
        Clock.now += ms

    def close(self):
        self.is_open = False


class Package:
    number = 3

    class record:
        fleet = bytes(8)


class Radio:
    joins = offs = 0
    sees = True

    def ready(self):
        return Radio.sees

    def off(self):
        self.offs += 1


def mqtt_link(**settings):
    from wattveil_meter.links import mqtt

    kept = mqtt.trusting, mqtt.SecureSocket
    mqtt.trusting, mqtt.SecureSocket = (lambda *_: None), Socket
    try:
        config = dict(settings, host="h", ca="c", cert="c", key="k")
        link = mqtt.MqttLink(config, Package, Clock())
    finally:
        mqtt.trusting, mqtt.SecureSocket = kept
    link._wifi = Radio()
    return link


def spend(link, ms):
    end = Clock.now + ms
    while Clock.now < end:
        link.read(0)
        Clock.now += 3000


def test_silence_is_met_with_more_and_more():
    Socket.opens, Radio.sees = False, True
    link = mqtt_link()
    spend(link, 590000)
    assert link.outages["connect"] > 5 and link._wifi.offs == 0  # connects again and again
    spend(link, 50000)
    assert link._wifi.offs == 1
    spend(link, 5 * 600000)
    assert 5 <= link._wifi.offs <= 6 and not link.wedged  # an attempt under way is not cut short
    spend(link, 5 * 3600000)
    assert link.wedged  # after 6 hours, whether Wi-Fi claims to be joined
    Radio.sees = False
    offs = link._wifi.offs
    spend(link, 700000)
    assert link.wedged and link._wifi.offs > offs  # or not
    Socket.opens = Radio.sees = True  # a sign of life, though the broker never says a word
    spend(link, 700000)
    offs = link._wifi.offs
    assert not link.wedged and link.outages["slow"]
    spend(link, 3600000)
    assert not link.wedged and link._wifi.offs == offs
    Socket.opens = False


def test_a_driver_that_raises_is_an_outage():
    link = mqtt_link()

    def connected():
        raise OSError("out of sockets")

    link._socket.connected = connected
    spend(link, 60000)
    assert list(link.outages) == ["socket"] and link.outages["socket"] > 1
    if link._socket.is_open:  # this very moment
        link.read(0)
    assert not link._socket.is_open


def test_reset_can_be_ruled_out():
    Socket.opens = False
    link = mqtt_link(reset_h=0)
    spend(link, 8 * 3600000)
    assert not link.wedged and link._wifi.offs > 40
    for hours in (-1, 169):
        try:
            mqtt_link(reset_h=hours)
        except ValueError as error:
            message = str(error)
        else:
            message = "taken"
        assert message == "link: reset_h must be 0 to 168"


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
