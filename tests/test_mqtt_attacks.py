"""Who has a meter's account, or the broker's place, and what that is good for: a real mosquitto, TLS.

Nothing here waits for a time to pass: what must not arrive is followed by something that does, on
the same connection, and order is kept (MQTT 3.1.1, 4.6).
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion

from wattveil.fleet.broker import (
    ADDRESS,
    AMQTT,
    HOST,
    Access,
    Broker,
    BrokerMissing,
    cloud_name,
    find_broker,
)
from wattveil.fleet.certificates import Authority
from wattveil.fleet.emulated import firmware_folder
from wattveil.fleet.runtime import RuntimeMissing, find_runtime
from wattveil_meter.links.mqtt import device_name, topics
from wattveil_meter.wire import SERIAL_LIMIT

FLEET = bytes.fromhex("00a1b2c3d4e5f607")
PROGRAM = Path(__file__).with_name("mqttmeter.py")
PATIENCE_S = 20.0
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


@pytest.fixture(scope="module")
def access() -> Access:
    return Access.create(FLEET, 2)


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


@pytest.fixture(scope="module")
def broker(access: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with start(access, tmp_path_factory, "mosquitto") as running:
        yield running


@pytest.fixture(scope="module", params=["mosquitto", AMQTT])
def any_broker(
    request: pytest.FixtureRequest, access: Access, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broker]:
    if request.param == "mosquitto":
        yield request.getfixturevalue("broker")
        return
    with start(access, tmp_path_factory, request.param) as running:
        yield running


def parties(broker: Broker, access: Access) -> Iterator[Callable[..., Party]]:
    joined: list[Party] = []

    def join(user: str | None, **more: str) -> Party:
        joined.append(Party(broker, access, user, **more))
        return joined[-1]

    yield join
    for each in joined:
        each.close()


@pytest.fixture
def party(broker: Broker, access: Access) -> Iterator[Callable[..., Party]]:
    yield from parties(broker, access)


@pytest.fixture
def anywhere(any_broker: Broker, access: Access) -> Iterator[Callable[..., Party]]:
    yield from parties(any_broker, access)


# --- accounts -----------------------------------------------------------------------------------


def test_a_meter_publishes_as_itself_only(anywhere: Callable[..., Party]) -> None:
    cloud, a = anywhere(cloud_name(FLEET)), anywhere(A)
    cloud.subscribe(UP_A.rpartition("/")[0] + "/+")
    cloud.subscribe(STATUS_A.rpartition("/")[0] + "/+")
    b = anywhere(B)
    b.subscribe(DOWN_B)
    for topic in (UP_B, STATUS_B, DOWN_B, DOWN_A, "wattveil", f"{UP_A}/x"):
        a.publish(topic, b"forged")
    a.publish(STATUS_A, b"mine")
    a.publish(UP_A, b"mine")
    assert [cloud.next(), cloud.next()] == [(STATUS_A, b"mine"), (UP_A, b"mine")]
    cloud.publish(DOWN_B, b"real")
    assert b.next() == (DOWN_B, b"real")


def test_a_meter_reads_its_own_answers_only(anywhere: Callable[..., Party]) -> None:
    cloud, a, b = anywhere(cloud_name(FLEET)), anywhere(A), anywhere(B)
    for topic in ("#", "$SYS/#", "wattveil/#", "+/+/down/+", DOWN_B, UP_B, DOWN_A):
        a.subscribe(topic)
    b.publish(UP_B, b"b asks")
    b.publish(STATUS_B, b"online")
    cloud.publish(DOWN_B, b"for b")
    cloud.publish(DOWN_A, b"for a")
    assert a.next() == (DOWN_A, b"for a")
    a.publish(UP_A, b"a asks")  # nor its own questions
    cloud.publish(DOWN_A, b"again")
    seen = a.next()
    while seen == (DOWN_A, b"for a"):  # one copy for each subscription that matches
        seen = a.next()
    assert seen == (DOWN_A, b"again")


def test_a_cloud_speaks_for_its_own_fleet_only(anywhere: Callable[..., Party]) -> None:
    cloud, a = anywhere(cloud_name(FLEET)), anywhere(A)
    a.subscribe(DOWN_A)
    cloud.subscribe("#")
    cloud.publish(UP_A, b"as a meter")
    cloud.publish(topics(bytes(8), 1)[1], b"to another fleet")
    cloud.publish(DOWN_A, b"to ours")
    assert a.next() == (DOWN_A, b"to ours")
    a.publish(UP_A, b"question")
    assert cloud.next() == (UP_A, b"question")


def test_strangers_stay_out(anywhere: Callable[..., Party], access: Access) -> None:
    assert anywhere(None).greeting == "Not authorized"
    assert anywhere(A, password="guess").greeting == "Not authorized"
    assert anywhere(A, password=access.passwords[B]).greeting == "Not authorized"
    assert anywhere(A, password="").greeting == "Not authorized"
    assert anywhere(A).greeting == "Success"


def test_a_client_id_gives_nobody_anothers_session(party: Callable[..., Party]) -> None:
    cloud, b = party(cloud_name(FLEET)), party(B)
    b.subscribe(DOWN_B)
    thief = party(A, client_id=B)
    assert thief.greeting == "Success"  # but as A, whatever it calls itself
    cloud.publish(DOWN_B, b"still there")
    assert b.next() == (DOWN_B, b"still there")
    assert b.events.empty()


def test_what_is_larger_than_a_frame_ends_the_connection(party: Callable[..., Party]) -> None:
    cloud, a, b = party(cloud_name(FLEET)), party(A), party(B)
    cloud.subscribe(UP_A.rpartition("/")[0] + "/+")
    b.publish(UP_B, b"x" * SERIAL_LIMIT)
    assert cloud.next() == (UP_B, b"x" * SERIAL_LIMIT)
    a.client.publish(UP_A, b"x" * (SERIAL_LIMIT + 200), 1)
    assert a.event() == "gone"
    b.publish(UP_B, b"after")
    assert cloud.next() == (UP_B, b"after")


def test_the_broker_runs_without_rights(broker: Broker) -> None:
    status = Path(f"/proc/{broker.pid}/status").read_text()
    uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
    assert "0" not in uids
    assert broker.folder.stat().st_mode & 0o777 == 0o700
    assert (broker.folder / "server.key").stat().st_mode & 0o777 == 0o600
    assert not list(broker.folder.glob("ca.*"))


@pytest.mark.parametrize("program", ["mosquitto", AMQTT])
def test_a_broker_ends_with_whoever_started_it(
    program: str, access: Access, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also when that one was killed. Linux: the kernel sees to it."""
    if sys.platform != "linux":
        pytest.skip("needs PR_SET_PDEATHSIG")
    unused = start(access, tmp_path_factory, program)
    source = (
        "import os, sys; from pathlib import Path; from wattveil.fleet.broker import *\n"
        "broker = Broker(Access.create(bytes(8), 1), Path(sys.argv[1]), sys.argv[2])\n"
        "broker.start(); print(broker.pid, broker.folder, flush=True); sys.stdin.read()"
    )
    log = tmp_path_factory.mktemp("killed") / "log.txt"
    parent = subprocess.Popen(
        [sys.executable, "-c", source, str(log), unused._program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    unused.close()
    assert parent.stdout is not None
    pid, folder = parent.stdout.readline().split()
    os.kill(int(pid), 0)
    parent.kill()
    parent.communicate()
    end = time.monotonic() + PATIENCE_S
    while (running := Path(f"/proc/{pid}/stat")).exists():
        if running.read_text().rpartition(")")[2].split()[0] == "Z":
            break  # dead, and nobody asks for its status
        assert time.monotonic() < end
        time.sleep(0.02)
    shutil.rmtree(folder)


# --- the meter's side, on every runtime -----------------------------------------------------------


@pytest.fixture(params=["cpython", "micropython", "micropython-arm"])
def meter(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """meter(until): run mqttmeter.py in tmp_path as meter 1; what it saw."""
    environment = {**os.environ, "PYTHONPATH": str(firmware_folder())}
    environment["MICROPYPATH"] = f".frozen:{firmware_folder()}"
    argv = [sys.executable]
    if request.param != "cpython":
        try:
            heap = "384k" if request.param == "micropython" else "192k"
            argv = [*find_runtime(request.param).argv, "-X", f"heapsize={heap}"]
        except RuntimeMissing as missing:
            pytest.skip(str(missing))

    def run(until: str) -> dict[str, Any]:
        done = subprocess.run(
            [*argv, str(PROGRAM), FLEET.hex(), "1", until],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        seen: dict[str, Any] = json.loads(done.stdout)
        return seen

    return run


def configure(folder: Path, access: Access, port: int, **more: Any) -> None:
    (folder / "config.json").write_text("{}")
    access.write_meter(folder, 1, HOST, port, ADDRESS)
    config = json.loads((folder / "config.json").read_text())
    config["link"].update(more)
    (folder / "config.json").write_text(json.dumps(config))


def test_a_meter_connects_and_takes_only_fresh_frames(
    meter: Callable[..., Any], party: Callable[..., Party], access: Access, broker: Broker,
    tmp_path: Path,
) -> None:  # fmt: skip
    configure(tmp_path, access, broker.port)
    cloud = party(cloud_name(FLEET))
    cloud.publish(DOWN_A, b"kept by the broker", retain=True)
    cloud.subscribe(UP_A)
    answer = threading.Thread(target=lambda: (cloud.next(), cloud.publish(DOWN_A, b"fresh")))
    answer.start()
    seen = meter("frame")
    answer.join()
    cloud.publish(DOWN_A, b"", retain=True)
    assert seen["up"] and seen["frames"] == [b"fresh".hex()] and not seen["outages"]
    assert seen["refused"]["retained"] == 1


def test_a_false_broker_gets_nothing(
    meter: Callable[..., Any], access: Access, tmp_path: Path
) -> None:
    """Another authority, another name, an outdated certificate, no TLS at all."""
    other = Authority.create(FLEET)
    heard: list[bytes] = []
    for server in (
        other.server([HOST, ADDRESS]),
        access.authority.server(["elsewhere.example"]),
        access.authority.server([HOST], days=-1),
        access.authority.device(HOST),  # a meter's certificate is no broker's
        None,
    ):
        folder = tmp_path / "server"
        folder.mkdir()
        listener = socket.create_server((ADDRESS, 0))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if server is not None:
            (folder / "pem").write_bytes(server.certificate + server.key)
            tls.load_cert_chain(folder / "pem")

        def serve(listener: socket.socket = listener, tls: Any = tls if server else None) -> None:
            sock, _ = listener.accept()
            sock.settimeout(PATIENCE_S)
            try:
                if tls is None:
                    sock.recv(10_000)
                    sock.sendall(b"\x20\x02\x00\x00")
                else:
                    heard.append(tls.wrap_socket(sock, server_side=True).recv(10_000))
            except OSError:
                pass
            finally:
                sock.close()

        thread = threading.Thread(target=serve)
        thread.start()
        for name in ("config.json", "mqtt.pw", "ca.der"):
            (tmp_path / name).unlink(missing_ok=True)
        configure(tmp_path, access, listener.getsockname()[1])
        seen = meter("outage")
        thread.join()
        listener.close()
        shutil.rmtree(folder)
        assert not seen["up"] and list(seen["outages"]) == ["tls"], seen
    assert b"".join(heard) == b"", "a password was sent to somebody"


def test_a_broker_that_stalls_does_not_stop_the_meter(
    meter: Callable[..., Any], access: Access, tmp_path: Path
) -> None:
    """It takes the connection and the first message of the handshake, and says nothing more."""
    with socket.create_server((ADDRESS, 0)) as listener:
        configure(tmp_path, access, listener.getsockname()[1])
        listener.settimeout(PATIENCE_S)
        hello: list[bytes] = []
        over = threading.Event()

        def stall() -> None:
            sock, _ = listener.accept()
            sock.settimeout(PATIENCE_S)
            hello.append(sock.recv(10_000))
            over.wait(PATIENCE_S)
            sock.close()

        thread = threading.Thread(target=stall)
        thread.start()
        seen = meter("stall")
        over.set()
        thread.join()
    assert hello[0][:1] == b"\x16"  # a TLS handshake
    assert seen["calls"] == 200 and not seen["up"] and not seen["outages"]


def test_what_a_refused_meter_is_told(
    meter: Callable[..., Any], access: Access, broker: Broker, tmp_path: Path
) -> None:
    configure(tmp_path, access, broker.port)
    (tmp_path / "mqtt.pw").write_text("wrong\n")
    seen = meter("outage")
    assert not seen["up"] and list(seen["outages"]) == ["not_allowed"], seen
    (tmp_path / "config.json").unlink()
    (tmp_path / "mqtt.pw").unlink()
    (tmp_path / "ca.der").unlink()
    with socket.create_server((ADDRESS, 0)) as free:
        port = free.getsockname()[1]
    configure(tmp_path, access, port)
    assert list(meter("outage")["outages"]) == ["connect"]


def test_two_authorities_while_one_replaces_the_other(
    meter: Callable[..., Any], access: Access, broker: Broker, tmp_path: Path
) -> None:
    configure(tmp_path, access, broker.port, ca=["next.der", "ca.der"])
    (tmp_path / "next.der").write_bytes(Authority.create(FLEET).der)
    assert meter("up")["up"]


def test_a_certificate_instead_of_a_password(
    meter: Callable[..., Any], access: Access, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    log = tmp_path / "broker.log"
    try:
        strict = Broker(access, log)
    except BrokerMissing as missing:
        pytest.skip(str(missing))
    config = strict.folder / "mosquitto.conf"
    text = config.read_text().replace(
        "allow_anonymous false",
        f"allow_anonymous false\ncafile {strict.folder}/ca.pem\n"
        "require_certificate true\nuse_identity_as_username true",
    )
    config.write_text(text)
    (strict.folder / "ca.pem").write_bytes(access.authority.pem)
    (strict.folder / "ca.pem").chmod(0o644)
    with strict:
        configure(tmp_path, access, strict.port)
        seen = meter("outage")  # a password does not do here
        assert not seen["up"] and seen["outages"], seen
        issued = access.authority.device(A)
        cert, key = issued.der()
        if "cpython" in request.node.name.split("[")[1].split("]")[0].split("-"):
            cert, key = issued.certificate, issued.key
        (tmp_path / "device.crt").write_bytes(cert)
        (tmp_path / "device.key").write_bytes(key)
        link = json.loads((tmp_path / "config.json").read_text())["link"]
        del link["password_file"]
        link |= {"cert": "device.crt", "key": "device.key"}
        (tmp_path / "config.json").write_text(json.dumps({"link": link}))
        seen = meter("up")
        assert seen["up"], (seen, log.read_text())
