"""MQTT link: sealed frames over TLS to a broker, on any board with a network (PROTOCOL.md, "MQTT").

The link is assumed to be down: it connects from the first `read` on, again and again, and an outage
is something that happens, not an error.
"""

import os
from binascii import hexlify

from wattveil_meter.links.mqtt_packets import Client, Lost
from wattveil_meter.links.secure import SecureSocket, read_file, trusting
from wattveil_meter.wire import SERIAL_LIMIT

PORT = 8883
READ_LIMIT = 4096  # bytes taken per call, so that the main loop goes on under a flood
OPEN_MS = 30000  # for connecting, TLS handshake and subscription together
RETRY_MS = 1000  # first wait; doubles up to retry_s
RADIO_MS = 600000  # without a sign of life from the network: the radio off and on, each time
STEADY_MS = 30000  # a session that lasted as long was a success: waits start anew
RESET_H = 6  # without one: the board wants a reset
_TURN_MS = 1000  # longest single wait
_BUSY_MS = 20  # the same while something waits to be sent
_KEYS = "kind host port address ca user password_file cert key keep_alive_s retry_s reset_h wifi".split()


def device_name(fleet, number):
    """Client id, user name and last level of the topics of meter `number` (PROTOCOL.md, "MQTT")."""
    return hexlify(fleet).decode() + "-" + str(number)


def topics(fleet, number):
    """[up, down, status] of one meter."""
    name = device_name(fleet, number)
    root = "wattveil/" + hexlify(fleet).decode()
    return [root + way + name for way in ("/up/", "/down/", "/status/")]


def _check(config):
    """ValueError says what is wrong with the "link" of config.json."""
    for name in config:
        if name not in _KEYS:
            raise ValueError("link: unknown setting " + str(name))
    for name in ("host", "ca"):
        if not config.get(name):
            raise ValueError("link: " + name + " is missing")
    if ("cert" in config) != ("key" in config):
        raise ValueError("link: cert and key belong together")
    if "cert" not in config and "password_file" not in config:
        raise ValueError("link: needs password_file, or cert and key")
    if not 10 <= config.get("keep_alive_s", 60) <= 1200:
        raise ValueError("link: keep_alive_s must be 10 to 1200")
    if not 1 <= config.get("retry_s", 60) <= 3600:
        raise ValueError("link: retry_s must be 1 to 3600")
    if not 0 <= config.get("reset_h", RESET_H) <= 168:
        raise ValueError("link: reset_h must be 0 to 168")


class MqttLink:
    """Frames through a broker.

    config: the "link" of config.json (docs/MQTT.md); package: the meter's; clock: .ms().
    ValueError, OSError: the configuration cannot be used.

    closed: never True; a board tries for ever. up: connected and subscribed. dropped: frames for
    which there was no connection. refused: counts by name of what came in and was no frame for us.
    outages: connections lost, or not made, by reason.

    A sign of life from the network is a TCP connection that is made, whatever the broker then says.
    """

    closed = False

    def __init__(self, config, package, clock):
        _check(config)
        fleet, number = package.record.fleet, package.number
        name = device_name(fleet, number)
        user = password = None
        if "password_file" in config:
            user = config.get("user", name).encode()
            password = read_file(config["password_file"]).strip()
        keep_alive_s = config.get("keep_alive_s", 60)
        account = (name, topics(fleet, number), user, password)
        self._client = Client(*account, keep_alive_s, SERIAL_LIMIT)
        ca = config["ca"]
        authorities = [ca] if isinstance(ca, str) else ca
        context = trusting(authorities, config.get("cert"), config.get("key"))
        where = (config["host"], config.get("port", PORT), config.get("address"))
        self._socket = SecureSocket(context, *where)
        self._wifi = None
        if "wifi" in config:
            from wattveil_meter.links.wifi import Wifi

            self._wifi = Wifi(config["wifi"], clock)
        self._clock = clock
        self._alive = self._tried = clock.ms()  # last sign of life; radio last switched off
        self._reset_ms = 3600000 * config.get("reset_h", RESET_H)
        self._begun = False  # a session on this connection
        self._deadline = 0  # until it is up; then, until it counts as a success
        self._retry_ms = 1000 * config.get("retry_s", 60)
        self._wait_ms = RETRY_MS
        self._next_try = clock.ms() + _below(RETRY_MS)  # a street comes back from a power cut
        self.refused = self._client.refused
        self.dropped = 0
        self.outages = {}

    @property
    def up(self):
        """Whether a frame would go out now."""
        return self._client.up

    @property
    def wedged(self):
        """Whether nothing but a reset is left to try; never with `reset_h` 0."""
        return 0 < self._reset_ms <= self._clock.ms() - self._alive

    def read(self, wait_ms=0):
        """The frames that have come; waits up to `wait_ms` for one, else not at all."""
        end = self._clock.ms() + wait_ms
        while True:
            now = self._clock.ms()
            frames = []
            more = self._guarded(self._step, frames, now)
            if frames or now >= end:
                return frames
            if not more:
                self._pause(end - now, now)

    def write(self, frame):
        """Send one frame; False when it was dropped, because there is no connection."""
        if self._guarded(self._publish, frame, self._clock.ms()):
            return True
        self.dropped += 1
        return False

    def close(self):
        """Say goodbye and give the socket back; the next `read` would connect again."""
        self._guarded(self._goodbye, None, self._clock.ms())
        self._socket.close()
        self._client.end()

    # --- one step at a time -------------------------------------------------------------------------

    def _guarded(self, step, argument, now):
        """step(argument, now); False if it ended the connection, or the board could not do it."""
        try:
            return step(argument, now)
        except Lost as lost:
            reason = lost.args[0]
        except MemoryError:
            reason = "memory"
        except OSError:  # of the network's driver
            reason = "socket"
        self.outages[reason] = self.outages.get(reason, 0) + 1
        self._socket.close()
        self._client.end()
        self._begun = False
        # from half to one and a half: a fleet does not come back in step
        self._next_try = now + self._wait_ms // 2 + _below(self._wait_ms)
        self._wait_ms = min(2 * self._wait_ms, self._retry_ms)
        return False

    def _step(self, frames, now):
        """Connect, or take what has come; whether there is more to do at once."""
        if not self._socket.is_open:
            if self._wifi and now - max(self._alive, self._tried) >= RADIO_MS:
                self._tried = now
                self._wifi.off()
            if now >= self._next_try and (self._wifi is None or self._wifi.ready()):
                self._deadline = now + OPEN_MS
                self._socket.open()
            return False
        if not self._client.up and now >= self._deadline:
            raise Lost("slow" if self._begun else "connect")
        if not self._begun:
            if self._socket.connected():
                self._begun = True
                self._client.begin(now)
            return False
        return self._exchange(frames, now)

    def _exchange(self, frames, now):
        client = self._client
        was = client.up
        self._alive = now
        self._flush()  # first: it begins the handshake
        taken = 0
        while taken < READ_LIMIT:
            data = self._socket.read(was)
            if not data:
                break
            taken += len(data)
            frames += client.receive(data, now)
        client.tick(now)
        if client.up and not was:
            self._deadline = now + STEADY_MS
        elif client.up and now >= self._deadline:
            self._wait_ms = RETRY_MS
        if taken:
            self._flush()
        return taken >= READ_LIMIT

    def _publish(self, frame, now):
        if not self._client.publish(frame, now):
            return False
        self._flush()
        return True

    def _goodbye(self, _, now):
        self._client.goodbye(now)
        self._flush()

    def _flush(self):
        if self._begun:
            self._client.out = self._socket.write(self._client.out, self._client.up)

    def _pause(self, wait_ms, now):
        wait_ms = min(wait_ms, _TURN_MS)
        if not self._socket.is_open:
            wait_ms = min(wait_ms, max(self._next_try - now, _BUSY_MS))
        elif self._client.out or self._socket.unsent:
            wait_ms = min(wait_ms, _BUSY_MS)
        self._socket.wait(wait_ms)


def _below(limit):
    return int.from_bytes(os.urandom(4), "little") % limit
