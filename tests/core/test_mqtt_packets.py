"""The MQTT client of the firmware, byte for byte and against a broker that breaks every rule."""

from hashlib import sha256

from wattveil_meter.links.mqtt_packets import (
    Client,
    Lost,
    Parser,
    connect,
    packet,
    publish,
    subscribe,
)

UP, DOWN, STATUS = "w/up/1", "w/down/1", "w/status/1"
LIMIT = 300
CONNACK = b"\x20\x02\x00\x00"
SUBACK = b"\x90\x03\x00\x01\x01"


def make(keep_alive_s=60):
    return Client("1", (UP, DOWN, STATUS), b"user", b"secret", keep_alive_s, LIMIT)


def taken(client):
    out = client.out
    client.out = b""
    return out


def ready(now=0):
    """A client whose session stands, and nothing left to send."""
    client = make()
    client.begin(now)
    taken(client)
    assert client.receive(CONNACK + SUBACK, now) == []
    assert client.up
    taken(client)
    return client


def lost(call, *args):
    """The name of the reason for which `call` gave the connection up, "" if it did not."""
    try:
        call(*args)
    except Lost as error:
        return error.args[0]
    return ""


def down(message, qos=0, number=7, retain=0, dup=0, topic=DOWN):
    body = len(topic).to_bytes(2, "big") + topic.encode()
    body += number.to_bytes(2, "big") if qos else b""
    return packet(0x30 | dup << 3 | qos << 1 | retain, body + message)


def test_packets_as_the_standard_prints_them():
    assert packet(0x30, b"") == b"\x30\x00"
    assert packet(0x30, b"x" * 127)[:2] == b"\x30\x7f"
    assert packet(0x30, b"x" * 128)[:3] == b"\x30\x80\x01"
    assert packet(0x30, b"x" * 16384)[:4] == b"\x30\x80\x80\x01"
    assert subscribe(b"a/b", 10) == b"\x82\x08\x00\x0a\x00\x03a/b\x01"
    assert publish(b"a/b", b"hi") == b"\x30\x07\x00\x03a/bhi"
    assert publish(b"a/b", b"hi", 10) == b"\x32\x09\x00\x03a/b\x00\x0ahi"
    assert publish(b"a/b", b"", 0, True) == b"\x31\x05\x00\x03a/b"
    will = (b"s", b"offline")
    tail = b"\x00\x01c\x00\x01s\x00\x07offline"
    head = b"\x00\x04MQTT\x04"
    assert connect(b"c", None, None, will, 60) == packet(0x10, head + b"\x26\x00\x3c" + tail)
    full = head + b"\xe6\x00\x3c" + tail + b"\x00\x01u\x00\x01p"
    assert connect(b"c", b"u", b"p", will, 60) == packet(0x10, full)


def test_a_session_from_connect_to_goodbye():
    client = make()
    client.begin(0)
    assert not client.up and not client.publish(b"too early", 0)
    expected = connect(b"1", b"user", b"secret", (STATUS.encode(), b"offline"), 60)
    assert taken(client) == expected
    assert client.receive(CONNACK[:3], 1) == [] and not taken(client)
    assert client.receive(CONNACK[3:], 2) == []
    assert taken(client) == subscribe(DOWN.encode(), 1) and not client.up
    assert client.receive(SUBACK, 3) == [] and client.up
    assert taken(client) == publish(STATUS.encode(), b"online", retain=True)
    assert client.publish(b"a", 4) and client.publish(b"b", 5)
    assert taken(client) == publish(UP.encode(), b"a", 1) + publish(UP.encode(), b"b", 2)
    assert client.receive(b"\x40\x02\x00\x01", 6) == []
    assert client.receive(down(b"answer") + down(b"more", qos=1, number=0x1234), 7) == [
        b"answer",
        b"more",
    ]
    assert taken(client) == b"\x40\x02\x12\x34"
    client.goodbye(8)
    assert taken(client) == publish(STATUS.encode(), b"offline", retain=True) + b"\xe0\x00"
    client.end()
    assert not client.up and not client.publish(b"x", 9)
    client.begin(10)
    assert taken(client) == expected


def test_packet_numbers_wrap_past_zero():
    client = ready()
    client._number = 0xFFFE
    client.publish(b"", 0)
    client.publish(b"", 0)
    assert taken(client)[-2:] == b"\x00\x01"


def test_what_the_broker_refuses_has_a_name():
    for code, name in enumerate(
        ("protocol", "client_id", "unavailable", "credentials", "not_allowed"), 1
    ):
        client = make()
        client.begin(0)
        assert lost(client.receive, bytes((0x20, 2, 0, code)), 0) == name
    client = make()
    client.begin(0)
    client.receive(CONNACK, 0)
    assert lost(client.receive, b"\x90\x03\x00\x01\x80", 0) == "not_allowed"


def test_what_a_broker_may_not_send():
    early = [
        SUBACK,  # before CONNACK
        down(b"x"),
        b"\xd0\x00",
        b"\x20\x02\x01\x00",  # a session we never asked for
        b"\x20\x02\x00\x06",
        b"\x20\x03\x00\x00\x00",
        b"\x21\x02\x00\x00",
    ]
    for data in early:
        client = make()
        client.begin(0)
        assert lost(client.receive, data, 0) == "malformed", data
        assert client.refused["malformed"] == 1 and not client.up
    for data in (b"\x90\x03\x00\x02\x01", b"\x90\x03\x00\x01\x02", b"\x90\x04\x00\x01\x01\x01"):
        client = make()
        client.begin(0)
        client.receive(CONNACK, 0)
        assert lost(client.receive, data, 0) == "malformed", data
    late = [
        CONNACK,  # again
        SUBACK,
        b"\x10\x00",  # what only clients send
        b"\x82\x00",
        b"\xc0\x00",
        b"\xe0\x00",
        b"\x00\x00",
        b"\xf0\x00",
        b"\x50\x02\x00\x01",  # of QoS 2
        b"\xb0\x02\x00\x01",  # UNSUBACK
        b"\xd0\x01\x00",
        b"\xd1\x00",
        b"\x40\x02\x00\x01",  # nothing was published
        b"\x40\x03\x00\x01\x00",
        b"\x30\x00",
        b"\x30\x01\x00",
        b"\x30\x02\x00\x00",  # no topic
        b"\x30\x03\x00\x05w",  # topic beyond the end
        b"\x32\x04\x00\x01w\x00",  # half a packet number
        down(b"x", qos=1, number=0),
        down(b"x", qos=2),
        down(b"x", qos=3),
        down(b"x", dup=1),
    ]
    for data in late:
        client = ready()
        assert lost(client.receive, data, 0) == "malformed", data
        assert client.refused["malformed"] == 1


def test_what_is_dropped_without_ending_the_connection():
    client = ready()
    assert client.receive(down(b"x", topic="w/down/2"), 0) == []
    assert client.receive(down(b"x", topic="w/down/1/"), 0) == []
    assert client.receive(down(b"x", retain=1), 0) == []
    assert client.receive(down(b"x", qos=1, retain=1), 0) == []
    assert client.receive(down(b"y" * (LIMIT + 1), qos=1), 0) == []
    assert client.refused == {"malformed": 0, "oversized": 1, "retained": 2, "wrong_topic": 2}
    assert taken(client) == b"\x40\x02\x00\x07" * 2
    assert client.receive(down(b"y" * LIMIT, qos=1, dup=1), 0) == [b"y" * LIMIT]


def test_no_packet_is_larger_than_its_limit_allows():
    for head in (b"\x30\xff\xff\xff\x7f", b"\x30\x80\x80\x01", b"\x30\xad\x04"):
        client = ready()
        assert lost(client.receive, head, 0) == "oversized", head
        assert client.refused["oversized"] == 1
    for head in (b"\x30\x80\x00", b"\x30\x80\x80\x00", b"\x30\x80\x80\x80\x80\x01"):
        assert lost(ready().receive, head, 0) == "malformed", head


def test_a_broker_that_talks_but_does_not_listen():
    client = ready()
    reason = ""
    count = 0
    while not reason:
        count += 1
        assert count < 1000
        reason = lost(client.receive, down(b"", qos=1, topic="x"), 0)
    assert reason == "clogged" and len(client.out) <= 3 * LIMIT + 4


def test_keep_alive():
    client = ready()
    client.tick(29999)
    assert not taken(client)
    client.tick(30000)
    assert taken(client) == b"\xc0\x00"
    client.tick(30001)
    assert not taken(client)  # one is under way
    client.receive(b"\xd0\x00", 30100)
    client.tick(60099)
    assert taken(client) == b"\xc0\x00"  # what we sent counts too: a broker waits 1.5 times 60 s
    client.publish(b"x", 60200)
    taken(client)
    client.receive(down(b"x"), 60300)
    client.tick(90199)
    assert not taken(client)
    client.tick(90200)
    assert taken(client) == b"\xc0\x00"
    assert lost(client.tick, 120299) == ""
    assert lost(client.tick, 120300) == "silent"
    client = make()
    client.begin(5)
    taken(client)
    client.tick(40000)
    assert not taken(client)  # no ping before the session stands


def stream(seed):
    """Bytes that look random and are the same everywhere."""
    block = sha256(seed.encode()).digest()
    while True:
        for byte in block:
            yield byte
        block = sha256(block).digest()


def test_any_cut_of_a_stream_gives_the_same_frames():
    data = b""
    for i in range(12):
        data += down(bytes((i,)) * (17 * i), qos=i % 2, number=i + 1)
    data += b"\xd0\x00"
    expected = ready().receive(data, 0)
    assert len(expected) == 12
    cuts = stream("cuts")
    for _ in range(40):
        client = ready()
        at = 0
        frames = []
        while at < len(data):
            size = 1 + next(cuts) % 40
            frames += client.receive(data[at : at + size], 0)
            at += size
        assert frames == expected


def test_fuzz():
    """Whatever comes, the client drops it or gives up by name, and holds no more than a packet."""
    names = ("malformed", "oversized", "clogged", "protocol", "client_id", "unavailable")
    names += ("credentials", "not_allowed")
    good = CONNACK + SUBACK + down(b"abc", qos=1) + down(b"defgh") + b"\xd0\x00" + down(b"")
    random = stream("fuzz")
    whole = 0
    for turn in range(300):
        data = bytearray(good)
        for _ in range(turn % 4):
            data[next(random) % len(data)] = next(random)
        if turn % 3 == 0:
            data = data[: next(random) % len(data)]
        if turn % 5 == 0:
            data = bytearray([next(random) for _ in range(40)])
        client = make()
        client.begin(0)
        frames = []

        def feed(client=client, data=data, frames=frames):
            for i in range(0, len(data), 7):
                frames += client.receive(bytes(data[i : i + 7]), 0)
                assert len(client._parser._data) <= LIMIT + 256 + 5

        reason = lost(feed)
        assert reason == "" or reason in names, reason
        assert len(frames) <= 3
        whole += len(frames) == 3
    assert whole > 30  # untouched ones among them


def test_parser_alone():
    parser = Parser(10)
    assert parser.feed(b"") == []
    assert parser.feed(b"\x30") == []
    assert parser.feed(b"\x02ab\xd0\x00\x40") == [(3, 0, b"ab"), (13, 0, b"")]
    assert parser.feed(b"\x02\x00\x01") == [(4, 0, b"\x00\x01")]
    assert lost(parser.feed, b"\x30\x0b") == "oversized"
