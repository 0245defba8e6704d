"""A meter's MQTT link, on every runtime, and whoever takes the broker's place: a real mosquitto, TLS."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mqttparty import DOWN_A, FLEET, PATIENCE_S, UP_A, A, Party, parties, start
from wattveil.fleet.broker import ADDRESS, HOST, Access, Broker, BrokerMissing, cloud_name
from wattveil.fleet.certificates import Authority
from wattveil.fleet.emulated import firmware_folder
from wattveil.fleet.runtime import RuntimeMissing, find_runtime

PROGRAM = Path(__file__).with_name("mqttmeter.py")


@pytest.fixture(scope="module")
def access() -> Access:
    return Access.create(FLEET, 2)


@pytest.fixture(scope="module")
def broker(access: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with start(access, tmp_path_factory, "mosquitto") as running:
        yield running


@pytest.fixture
def party(broker: Broker, access: Access) -> Iterator[Callable[..., Party]]:
    yield from parties(broker, access)


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
            timeout=240,
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
        listener.settimeout(PATIENCE_S)
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
    with socket.socket() as deaf:  # held, so that nobody else gets it, and not listening
        deaf.bind((ADDRESS, 0))
        configure(tmp_path, access, deaf.getsockname()[1])
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
