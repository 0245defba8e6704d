"""The host's end of all meters behind a broker (PROTOCOL.md, "MQTT"), on paho-mqtt.

paho looks names up, connects and shakes hands where it stands, for seconds when a broker is gone: a
thread of its own does that. All the rest happens in the runner's loop, in `read`, `write` and `tick`:
a second thread that reads while the role computes waits for the interpreter's lock more than it
works. What the broker hands on is not trusted: a frame has to come on its sender's own topic, and
the role authenticates it like any other.
"""

from __future__ import annotations

import contextlib
import logging
import re
import selectors
import socket
import ssl
import stat
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from paho.mqtt.client import (
    MQTT_CLEAN_START_FIRST_ONLY,
    Client,
    ConnectFlags,
    DisconnectFlags,
    MQTTMessage,
    MQTTv5,
    MQTTv311,
)
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from wattveil_meter.wire import SERIAL_LIMIT, Refused, peek

PORT = 8883
KEEP_ALIVE_S = 60
CONNECT_S = 5.0  # for TCP, and again for TLS
RETRY_S = (0.25, 5.0)  # between tries to connect: first, most; sooner than meters, so they find us
QUEUE = 8192  # answers that may wait for the broker
TURN = 256  # frames handed over at once: nobody keeps the loop to himself
PEER = "mqtt:"

log = logging.getLogger("wattveil.mqtt")


@dataclass(frozen=True)
class Account:
    """Where a broker is and who we are there. password_file: one line, for its owner alone."""

    host: str
    port: int
    ca: Path
    user: str
    password_file: Path

    def password(self) -> str:
        """OSError; PermissionError when others may read it."""
        with self.password_file.open() as file:
            if stat.S_IMODE(self.password_file.stat().st_mode) & 0o077:
                raise PermissionError(
                    f"{self.password_file}: open to other users; if nobody else has read it, run:"
                    f" chmod 600 '{self.password_file}'"
                )
            return file.readline().rstrip("\n")


def parse_url(text: str) -> tuple[str, int]:
    """(host, port) of mqtts://host[:port]; ValueError. There is no MQTT without TLS here."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(text)
        rest = (parts.path, parts.query, parts.fragment, parts.username)
        if parts.scheme == "mqtts" and parts.hostname and not any(rest):
            return parts.hostname, parts.port or PORT
    raise ValueError(f"{text}: a broker is mqtts://host or mqtts://host:port")


class MqttLink:
    """Frames of the meters 1..`meters` of one fleet; peers are called mqtt:<number>.

    Connects, and connects again, by itself from `start` on, as long as `read` is called whenever
    `fileno` is ready and `tick` now and then. up: connected and subscribed. online: numbers of the
    meters the broker says are there; for the operator, it decides nothing. group: the name of the
    workers that share the fleet's requests among them (MQTT 5, "Shared Subscriptions"); None:
    there is one cloud, and it gets them all.
    """

    def __init__(
        self, account: Account, fleet: bytes, meters: int, group: str | None = None
    ) -> None:
        self.up = False
        self.online: set[int] = set()
        self.counts: Counter[str] = Counter()
        self._account = account
        self._meters = meters
        self._name = fleet.hex()
        self._root = f"wattveil/{self._name}"
        name = self._name
        self._topic = re.compile(rf"{self._root}/(up|status)/{name}-([1-9][0-9]{{0,9}})", re.ASCII)
        self._group = group
        self._frames: list[tuple[str, bytes]] = []
        self._heard = 0  # messages
        self._waiting = 0  # answers since the broker last took all there were
        self._told = False  # the operator knows that it is down
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._socket: Any = None  # paho's, while it is registered
        self._connecting = False  # a thread is at it, or we have not seen yet that it is done
        self._connected = threading.Event()  # it is done
        self._closing = threading.Event()
        self._wait_s = 0.0  # before the next try
        self._client = self._make()

    def _make(self) -> Client:
        context = ssl.create_default_context(cadata=self._account.ca.read_text())
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._account.user,
            clean_session=True if self._group is None else None,
            protocol=MQTTv311 if self._group is None else MQTTv5,
        )
        client.tls_set_context(context)
        client.username_pw_set(self._account.user, self._account.password())
        client.connect_timeout = CONNECT_S
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_socket_close = self._on_socket_close
        return client

    def start(self) -> None:
        """Begin to connect."""
        if not self._connecting:
            self._connecting = True
            threading.Thread(target=self._connect, name="mqtt-connect", daemon=True).start()

    def fileno(self) -> int:
        """To poll for input."""
        return self._selector.fileno()

    def read(self) -> list[tuple[str, bytes]]:
        """(peer, frame) of what has come, some of it: what is left makes `fileno` ready again."""
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass
        if self._connected.is_set():
            self._connected.clear()
            self._connecting = False
            self._socket = self._client.socket()
            if self._socket is None:  # it broke at once
                self.start()
            else:
                self._selector.register(self._socket, selectors.EVENT_READ)
        self._take()
        self._flush()
        taken, self._frames = self._frames, []
        return taken

    def write(self, peer: str, frame: bytes) -> bool:
        """Send a frame to a meter; False, and counted, when it is dropped: the meter asks again."""
        if not self.up:
            self.counts["down"] += 1
            return False
        if self._waiting >= QUEUE:
            self.counts["overflow_out"] += 1
            return False
        # QoS 0: a lost answer is asked for again, and neither meter nor broker has to remember it
        number = peer.removeprefix(PEER)
        self._client.publish(f"{self._root}/down/{self._name}-{number}", frame)
        self._flush()
        return True

    def tick(self) -> None:
        """Keep the connection alive, and notice that it is not; about once a second."""
        if self._socket is not None:
            self._client.loop_misc()

    def close(self) -> None:
        """Say goodbye."""
        self._closing.set()
        self._client.disconnect()
        self._selector.close()
        self._wake.close()
        self._woken.close()

    def status(self) -> dict[str, Any]:
        """For the operator, as plain data."""
        return {"up": self.up, "online": len(self.online), "counts": dict(self.counts)}

    def _take(self) -> None:
        """Up to a turn's messages; paho hands on one in each call, and says not whether it did."""
        while self._socket is not None and len(self._frames) < TURN:
            before = self._heard
            try:
                self._client.loop_read()
            except Exception as error:  # paho's parser, at what is no MQTT
                self._down(f"does not speak MQTT ({type(error).__name__})")
                self._client.disconnect()
                return
            if self._heard == before and not (self._socket and self._socket.pending()):
                return
        if self._socket is not None and self._socket.pending():
            self._signal()  # decrypted already: the system does not know of it

    def _flush(self) -> None:
        """Send what waits, and be called again for the rest."""
        if self._socket is None:
            return
        if self._client.want_write():
            self._client.loop_write()
        waits = self._client.want_write()
        self._waiting = self._waiting + 1 if waits else 0
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if waits else 0)
        if self._socket is not None and self._selector.get_key(self._socket).events != events:
            self._selector.modify(self._socket, events)

    # --- in a thread of its own ----------------------------------------------------------------------

    def _connect(self) -> None:
        while not self._closing.wait(self._wait_s):
            self._wait_s = min(max(2 * self._wait_s, RETRY_S[0]), RETRY_S[1])
            host, port = self._account.host, self._account.port
            clean = MQTT_CLEAN_START_FIRST_ONLY if self._group is None else True  # 3.1.1: always
            try:
                self._client.connect(host, port, KEEP_ALIVE_S, clean_start=clean)
            except (OSError, ValueError):
                self._down("cannot be reached, or is not the one we trust")
            else:
                self._connected.set()
                self._signal()
                return

    def _signal(self) -> None:
        with contextlib.suppress(OSError):  # full: then it is ready anyway; or closed
            self._wake.send(b"\0")

    # --- what paho says ------------------------------------------------------------------------------

    def _on_connect(
        self,
        client: Client,
        _: Any,
        flags: ConnectFlags,
        code: ReasonCode,
        more: Properties | None,
    ) -> None:
        if code.is_failure:
            self._down(f"the broker says {code}")
            return
        # One worker of a group gets each request. Every one of them hears who is online.
        share = "" if self._group is None else f"$share/{self._group}/"
        client.subscribe([(f"{share}{self._root}/up/+", 1), (f"{self._root}/status/+", 1)])

    def _on_subscribe(
        self, client: Client, _: Any, number: int, codes: list[ReasonCode], more: Properties | None
    ) -> None:
        self._heard += 1
        if any(code.is_failure for code in codes):
            self._down(f"{self._account.user} may not read {self._root}")
            return
        self.up = True
        self._told = False
        self._wait_s = 0.0
        log.info("broker %s: connected", self._account.host)

    def _on_socket_close(self, client: Client, _: Any, sock: Any) -> None:
        if sock is self._socket:
            self._socket = None
            self._selector.unregister(sock)

    def _on_disconnect(
        self,
        client: Client,
        _: Any,
        flags: DisconnectFlags,
        code: ReasonCode,
        more: Properties | None,
    ) -> None:
        if self.up:
            self.counts["outages"] += 1
        self.up = False
        self.online = set()
        self._waiting = 0
        if self._closing.is_set():
            return
        if code.is_failure:
            self._down(str(code))
        self.start()

    def _down(self, why: str) -> None:
        if not self._told:  # once, not at every try
            host, port = self._account.host, self._account.port
            log.warning("broker %s:%d: %s; trying again", host, port, why)
            self._told = True

    def _on_message(self, client: Client, _: Any, message: MQTTMessage) -> None:
        self._heard += 1
        frame = bytes(message.payload)
        found = None
        with contextlib.suppress(UnicodeDecodeError):
            found = self._topic.fullmatch(message.topic)
        number = int(found[2]) if found else 0
        if found is None or number > self._meters:
            self.counts["wrong_topic"] += 1
        elif found[1] == "status":
            change = self.online.add if frame == b"online" else self.online.discard
            change(number)
        elif message.retain:  # kept by the broker: nobody sends those
            self.counts["retained"] += 1
        elif len(frame) > SERIAL_LIMIT:
            self.counts["oversized"] += 1
        elif _sender(frame) not in (number, None):
            self.counts["wrong_topic"] += 1  # B's frame in A's topic: stolen, or a mistake
        else:
            self._frames.append((f"{PEER}{number}", frame))


def _sender(frame: bytes) -> int | None:
    """The sender a frame names; None when it is no frame: the role says why, and counts it."""
    try:
        _, sender = peek(frame)
    except Refused:
        return None
    return int(sender)
