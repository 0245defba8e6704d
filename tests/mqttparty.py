"""Clients of a broker as anybody may write one, for tests of what an account is good for."""

from __future__ import annotations

import queue
import ssl
from collections.abc import Callable, Iterator

import pytest
from paho.mqtt.client import Client, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion

from wattveil.fleet.broker import AMQTT, HOST, Access, Broker, BrokerMissing, find_broker
from wattveil_meter.links.mqtt import device_name, topics

FLEET = bytes.fromhex("00a1b2c3d4e5f607")
PATIENCE_S = 90.0
A, B = device_name(FLEET, 1), device_name(FLEET, 2)
UP_A, DOWN_A, STATUS_A = topics(FLEET, 1)
UP_B, DOWN_B, STATUS_B = topics(FLEET, 2)


class Party:
    """A client of the broker, as anybody may write one."""

    def __init__(self, broker: Broker, access: Access, user: str | None, **more: str) -> None:
        self.seen: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.events: queue.Queue[str] = queue.Queue()
        self.client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=more.get("client_id", user or "nobody"),
            protocol=MQTTv311,
            reconnect_on_failure=False,
        )
        self.client.tls_set_context(trust(access.authority.pem))
        if user is not None:
            self.client.username_pw_set(user, more.get("password", access.passwords[user]))
        self.client.on_message = lambda c, u, m: self.seen.put((m.topic, bytes(m.payload)))
        self.client.on_connect = lambda c, u, f, code, p: self.events.put(str(code))
        self.client.on_disconnect = lambda *_: self.events.put("gone")
        self.client.on_subscribe = lambda *_: self.events.put("subscribed")
        self.client.connect(HOST, broker.port)
        self.client.loop_start()
        self.greeting = self.event()

    def event(self) -> str:
        return self.events.get(timeout=PATIENCE_S)

    def subscribe(self, topic: str) -> None:
        self.client.subscribe(topic, 1)
        assert self.event() == "subscribed"

    def publish(self, topic: str, message: bytes, retain: bool = False) -> None:
        self.client.publish(topic, message, 1, retain).wait_for_publish(PATIENCE_S)

    def next(self) -> tuple[str, bytes]:
        return self.seen.get(timeout=PATIENCE_S)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def trust(pem: bytes) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=pem.decode())


def start(access: Access, factory: pytest.TempPathFactory, program: str) -> Broker:
    try:
        found = find_broker()
    except BrokerMissing as missing:
        pytest.skip(str(missing))
    if program == AMQTT:
        pytest.importorskip(AMQTT, reason="pip install 'wattveil[broker]'")
    elif found == AMQTT:
        pytest.skip("mosquitto is missing: run `make setup`")
    log = factory.mktemp("broker") / "log.txt"
    return Broker(access, log, AMQTT if program == AMQTT else found)


def parties(broker: Broker, access: Access) -> Iterator[Callable[..., Party]]:
    joined: list[Party] = []

    def join(user: str | None, **more: str) -> Party:
        joined.append(Party(broker, access, user, **more))
        return joined[-1]

    yield join
    for each in joined:
        each.close()
