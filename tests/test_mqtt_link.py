"""The host's end of a broker, over a real mosquitto with TLS."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paho.mqtt.publish import multiple

from wattveil.fleet.broker import HOST, Access, Broker, BrokerMissing, cloud_name, find_broker
from wattveil.links import mqtt
from wattveil.links.mqtt import QUEUE, TURN, Account, MqttLink, parse_url
from wattveil.runners import process
from wattveil_meter.links.mqtt import device_name, topics
from wattveil_meter.links.mqtt_packets import packet
from wattveil_meter.wire import HELLO, Channel

FLEET = bytes.fromhex("00a1b2c3d4e5f607")
PATIENCE_S = 90.0


@pytest.fixture(scope="module")
def access() -> Access:
    return Access.create(FLEET, 3)


@pytest.fixture
def broker(access: Access, tmp_path: Path) -> Iterator[Broker]:
    try:
        find_broker()
    except BrokerMissing as missing:
        pytest.skip(str(missing))
    with Broker(access, tmp_path / "broker.log") as running:
        yield running


@pytest.fixture
def link(access: Access, broker: Broker, tmp_path: Path) -> Iterator[MqttLink]:
    access.write_cloud(tmp_path, HOST, broker.port)
    account = Account(
        HOST, broker.port, tmp_path / "ca.pem", cloud_name(FLEET), tmp_path / "mqtt.pw"
    )
    made = MqttLink(account, FLEET, 2)  # meter 3 has an account, but is not in the roster
    yield made
    made.close()


def wait_for(link: MqttLink, condition: Callable[[], object]) -> None:
    """Run the link, as its runner does."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        select.select([link], [], [], 0.05)
        link.tick()
        assert link.read() == []


def received(link: MqttLink, count: int) -> list[tuple[str, bytes]]:
    seen: list[tuple[str, bytes]] = []
    end = time.monotonic() + PATIENCE_S
    while len(seen) < count:
        assert time.monotonic() < end, seen
        select.select([link], [], [], 0.2)
        seen += link.read()
    return seen


def frame(number: int) -> bytes:
    sealed: bytes = Channel(bytes(32), FLEET, number, 0, True, bytes(32), 1).seal(HELLO)
    return sealed


def publish(
    access: Access, broker: Broker, number: int, *payloads: bytes, retain: bool = False
) -> None:
    """As meter `number`, on its own topic; returns when the broker has them."""
    name = device_name(FLEET, number)
    topic = topics(FLEET, number)[0]
    multiple(
        [(topic, payload, 1, retain) for payload in payloads],
        hostname=HOST,
        port=broker.port,
        client_id=name,
        auth={"username": name, "password": access.passwords[name]},
        tls=ssl.create_default_context(cadata=access.authority.pem.decode()),
    )


def test_frames_arrive_by_their_senders_topic(
    link: MqttLink, access: Access, broker: Broker
) -> None:
    publish(access, broker, 1, b"kept", retain=True)
    assert link.read() == [] and not link.write("mqtt:1", b"x")
    assert link.counts["down"] == 1
    link.start()
    wait_for(link, lambda: link.up)
    publish(access, broker, 1, frame(2))  # B's frame by A's account
    publish(access, broker, 3, frame(3))
    publish(access, broker, 1, b"no frame at all")  # the role says why, and counts it
    publish(access, broker, 1, frame(1))
    publish(access, broker, 2, frame(2))
    assert received(link, 3) == [
        ("mqtt:1", b"no frame at all"),
        ("mqtt:1", frame(1)),
        ("mqtt:2", frame(2)),
    ]
    assert link.counts == {"down": 1, "retained": 1, "wrong_topic": 2}
    assert link.status() == {"up": True, "online": 0, "counts": dict(link.counts)}


def test_it_comes_back_after_the_broker(link: MqttLink, access: Access, broker: Broker) -> None:
    broker.kill()
    link.start()
    broker.start()
    wait_for(link, lambda: link.up)
    for outage in (1, 2):
        broker.kill()
        wait_for(link, lambda: not link.up)
        broker.start()
        wait_for(link, lambda: link.up)
        assert link.counts["outages"] == outage
    publish(access, broker, 1, frame(1))
    assert received(link, 1) == [("mqtt:1", frame(1))]


def test_a_flood_is_handed_over_by_turns(link: MqttLink, access: Access, broker: Broker) -> None:
    link.start()
    wait_for(link, lambda: link.up)
    count = 2 * TURN + 3
    publish(access, broker, 1, *(b"%d" % at for at in range(count)))
    taken, seen = [link.read()], 0
    while (seen := sum(map(len, taken))) < count:
        assert select.select([link], [], [], PATIENCE_S)[0], "what is left wakes the runner again"
        taken.append(link.read())
    assert seen == count and max(map(len, taken)) == TURN
    assert [frame for turn in taken for _, frame in turn] == [b"%d" % at for at in range(count)]


def test_answers_that_wait_are_bounded(link: MqttLink) -> None:
    link.start()
    wait_for(link, lambda: link.up)
    link._waiting = QUEUE
    assert not link.write("mqtt:1", b"x") and link.counts["overflow_out"] == 1


def test_addresses() -> None:
    assert parse_url("mqtts://broker.example") == ("broker.example", 8883)
    assert parse_url("mqtts://[::1]:1234") == ("::1", 1234)
    for wrong in ("mqtt://host", "host:1", "mqtts://", "mqtts://u:p@host", "mqtts://host/x",
                  "mqtts://host:x", "mqtts://host:70000"):  # fmt: skip
        with pytest.raises(ValueError, match="a broker is mqtts://host"):
            parse_url(wrong)


def test_a_password_that_others_may_read(access: Access, tmp_path: Path) -> None:
    access.write_cloud(tmp_path, HOST, 1)
    (tmp_path / "mqtt.pw").chmod(0o640)
    account = Account(HOST, 1, tmp_path / "ca.pem", cloud_name(FLEET), tmp_path / "mqtt.pw")
    with pytest.raises(PermissionError, match="chmod 600"):
        MqttLink(account, FLEET, 1)


def test_the_options_of_the_cloud(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("record.bin", "links.json"):
        (tmp_path / name).touch()
    peers = ["--peer", "center=unix:/c", "--peer", "dealer=unix:/d"]
    for given, said in (
        (["--mqtt", "mqtts://h"], "--mqtt needs --mqtt-ca"),
        (["--mqtt", "mqtts://h", "--mqtt-ca", "x", "--mqtt-user", "u"], "--mqtt-password-file"),
        (["--mqtt", "h", "--mqtt-ca", "x", "--mqtt-user", "u", "--mqtt-password-file", "p"],
         "a broker is mqtts://host"),
    ):  # fmt: skip
        assert process.main(["cloud", "--state-dir", str(tmp_path), *peers, *given]) == 2
        assert said in capsys.readouterr().err


CONNACK, SUBACK = b"\x20\x02\0\0", b"\x90\x04\0\1\1\1"
NONSENSE = [
    b"\x20\0",
    b"\x20\2\0\xff",
    CONNACK + b"\x90\0",
    *(CONNACK + SUBACK + packet(0x30, body) for body in
      (b"", b"\0", b"\0\0x", b"\0\5ab", b"\0\5a\xff\xfeb/x", b"\0\3a/+x")),
    *(CONNACK + SUBACK + last for last in
      (b"\x32\3\0\1a", b"\x36\5\0\1a\0\1", b"\x40\0", b"\xd0\1x", b"\x60\2\0\1", b"\xf0\0",
       b"\x30\xff\xff\xff\xff\1")),
]  # fmt: skip


def test_a_broker_that_sends_nonsense_is_left_and_tried_again(
    access: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "RETRY_S", (0.01, 0.01))
    server = access.authority.server([HOST])
    (tmp_path / "pem").write_bytes(server.certificate + server.key)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_S)
        port = listener.getsockname()[1]
        access.write_cloud(tmp_path, HOST, port)
        account = Account(HOST, port, tmp_path / "ca.pem", cloud_name(FLEET), tmp_path / "mqtt.pw")
        link = MqttLink(account, FLEET, 2)
        link.start()
        for data in [*NONSENSE, CONNACK + SUBACK]:
            sock = tls.wrap_socket(listener.accept()[0], server_side=True)
            assert sock.recv(1000)[:1] == b"\x10", data  # it came again, and says CONNECT
            sock.sendall(data)
            if data == CONNACK + SUBACK:
                wait_for(link, lambda: link.up)
            sock.close()
            wait_for(link, lambda: select.select([listener], [], [], 0)[0])
        link.close()


def test_closing_while_it_cannot_connect(access: Access, tmp_path: Path) -> None:
    access.write_cloud(tmp_path, HOST, 1)
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # never answers the handshake
        deaf.settimeout(PATIENCE_S)
        port = deaf.getsockname()[1]
        account = Account(HOST, port, tmp_path / "ca.pem", cloud_name(FLEET), tmp_path / "mqtt.pw")
        link = MqttLink(account, FLEET, 1)
        link.start()
        deaf.accept()[0].close()
        link.close()
    assert not link.up
