"""MQTT 3.1.1 without input and output: a strict codec, and one client's session over it.

Only what a meter needs (OASIS MQTT 3.1.1; section numbers below are its own): QoS 0 and 1, a last
will, keep-alive, clean sessions. Whatever a broker may not send to such a client ends the connection.
"""

CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP = 2, 3, 4, 9, 13
_CODES = ("", "protocol", "client_id", "unavailable", "credentials", "not_allowed")  # 3.2.2.3
_PINGREQ = b"\xc0\x00"
_DISCONNECT = b"\xe0\x00"
_ROOM = 256  # bytes a packet may have besides a frame: topic and packet id


class Lost(Exception):
    """The connection is of no more use; args[0] is the reason's name."""


def _text(data):
    return len(data).to_bytes(2, "big") + data


def packet(head, body):
    """A control packet: first byte, length, body (2.2)."""
    out = bytearray((head,))
    size = len(body)
    while True:
        out.append(size & 0x7F | (0x80 if size > 0x7F else 0))
        size >>= 7
        if not size:
            return bytes(out) + body


def connect(name, user, password, will, keep_alive_s):
    """CONNECT with a clean session (3.1). user, password: bytes or None; will: (topic, message)."""
    flags = 0x02 | 0x04 | 0x20  # clean session; will: QoS 0, retained
    tail = _text(name) + _text(will[0]) + _text(will[1])
    if user is not None:
        flags |= 0x80
        tail += _text(user)
        if password is not None:
            flags |= 0x40
            tail += _text(password)
    head = _text(b"MQTT") + bytes((4, flags)) + keep_alive_s.to_bytes(2, "big")
    return packet(0x10, head + tail)


def publish(topic, message, number=0, retain=False):
    """PUBLISH (3.3); QoS 1 with a packet number, else QoS 0."""
    head = 0x30 | (0x02 if number else 0) | (0x01 if retain else 0)
    return packet(head, _text(topic) + (number.to_bytes(2, "big") if number else b"") + message)


def subscribe(topic, number):
    """SUBSCRIBE to one topic with QoS 1 (3.8)."""
    return packet(0x82, number.to_bytes(2, "big") + _text(topic) + b"\1")


class Parser:
    """Bytes in, (type, flags, body) out; Lost("oversized"), Lost("malformed")."""

    def __init__(self, limit):
        """limit: bytes of a body; nothing longer is ever held."""
        self._limit = limit
        self._data = b""

    def feed(self, data):
        """All packets completed by `data` (any number of bytes)."""
        data = self._data + data
        packets = []
        at = 0
        while True:
            head = self._head(data, at)
            if head is None or len(data) < head[0] + head[1]:
                break
            body, size = head
            packets.append((data[at] >> 4, data[at] & 15, data[body : body + size]))
            at = body + size
        self._data = data[at:]
        return packets

    def _head(self, data, at):
        """(where the body begins, its length), None when that has not come yet."""
        size = 0
        for i in range(4):
            if at + 1 + i >= len(data):
                return None
            byte = data[at + 1 + i]
            size |= (byte & 0x7F) << 7 * i
            if size > self._limit:
                raise Lost("oversized")
            if byte < 0x80:
                if i and not byte:  # not the shortest form
                    break
                return at + 2 + i, size
        raise Lost("malformed")


class Client:
    """One client: a session after the other, over connections that somebody else opens.

    name: client id and user name, text; topics: (up, down, status), text; limit: bytes of a frame;
    keep_alive_s: 10 to 65,535. `out`: bytes to send, for the owner to take. up: connected and
    subscribed. refused: counts of what was dropped, by name.

    Nothing is kept from one session to the next: a meter that gets no answer asks again, in a fresh
    frame, so an old one would only be refused. For the same reason an acknowledgement is read and
    forgotten; QoS 1 is there so that the broker holds requests for a cloud that is busy.
    """

    def __init__(self, name, topics, user, password, keep_alive_s, limit):
        self._up, self._down, self._status = [topic.encode() for topic in topics]
        will = (self._status, b"offline")
        self._connect = connect(name.encode(), user, password, will, keep_alive_s)
        self._quiet_ms = 500 * keep_alive_s
        self._limit = limit
        self._number = 0  # of the last publication
        self.refused = {"malformed": 0, "oversized": 0, "retained": 0, "wrong_topic": 0}
        self.up = False
        self.out = b""

    def begin(self, now):
        """Start a session on a new connection. now: ms that only grow."""
        self._parser = Parser(self._limit + _ROOM)
        self._connected = self.up = False
        self._heard = self._sent = self._pinged = now
        self.out = self._connect

    def end(self):
        """The connection is gone."""
        self.up = False
        self.out = b""

    def publish(self, message, now):
        """Send a message with QoS 1; False when there is no session. Lost."""
        if self.up:
            self._number = self._number % 0xFFFF + 1
            self._send(publish(self._up, message, self._number), now)
        return self.up

    def goodbye(self, now):
        """End the session as its will would, and disconnect."""
        if self.up:
            self._send(publish(self._status, b"offline", retain=True) + _DISCONNECT, now)

    def _send(self, data, now):
        self.out += data
        self._sent = now
        if len(self.out) > 3 * self._limit:  # it talks, but does not listen
            raise Lost("clogged")

    def receive(self, data, now):
        """Take bytes from the broker; the frames in them. Lost by name."""
        self._heard = now
        frames = []
        try:
            for kind, flags, body in self._parser.feed(data):
                if kind == PUBLISH and self._connected:
                    self._message_in(flags, body, frames, now)
                elif flags or not self._control(kind, body, now):
                    raise Lost("malformed")
        except Lost as lost:
            if lost.args[0] in self.refused:
                self.refused[lost.args[0]] += 1
            raise
        return frames

    def _control(self, kind, body, now):
        """Everything but PUBLISH; False when it may not come."""
        if not self._connected:
            # session present is 0: we never asked for one (3.2.2.2)
            if kind != CONNACK or len(body) != 2 or body[0] or body[1] >= len(_CODES):
                return False
            if body[1]:
                raise Lost(_CODES[body[1]])
            self._connected = True
            self._send(subscribe(self._down, 1), now)
            return True
        if kind == SUBACK:
            if self.up or len(body) != 3 or body[:2] != b"\0\1" or body[2] not in (0, 1, 0x80):
                return False
            if body[2] == 0x80:
                raise Lost("not_allowed")
            self.up = True
            self._send(publish(self._status, b"online", retain=True), now)
            return True
        if kind == PUBACK:
            return len(body) == 2 and self._number > 0
        return kind == PINGRESP and not body

    def _message_in(self, flags, body, frames, now):
        qos = flags >> 1 & 3
        size = 2 + (body[0] << 8 | body[1]) if len(body) > 1 else 0
        at = size + (2 if qos else 0)
        # QoS 2 was not granted; a duplicate has QoS 1 (3.3.1)
        if qos > 1 or (flags & 8 and not qos) or size < 3 or at > len(body):
            raise Lost("malformed")
        if qos:
            if body[size:at] == b"\0\0":
                raise Lost("malformed")
            self._send(b"\x40\x02" + body[size:at], now)
        if body[2:size] != self._down:
            self.refused["wrong_topic"] += 1
        elif flags & 1:  # an old command, kept by the broker: nobody may do that
            self.refused["retained"] += 1
        elif len(body) - at > self._limit:
            self.refused["oversized"] += 1
        else:
            frames.append(body[at:])

    def tick(self, now):
        """Keep the session alive: ping when it is quiet. Lost("silent") when the broker is."""
        if now - self._heard >= 2 * self._quiet_ms:
            raise Lost("silent")
        due = now - min(self._heard, self._sent) >= self._quiet_ms
        if self.up and due and now - self._pinged >= self._quiet_ms // 2:
            self._pinged = now
            self._send(_PINGREQ, now)
