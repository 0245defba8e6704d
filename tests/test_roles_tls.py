"""Roles know each other by certificate, over real sockets; who has none, or a wrong one, is nobody."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from plainmeter import PERIOD, START, PlainLink
from plainworld import World
from processfleet import PATIENCE_S, Process, dial, eventually_dial, fleet
from wattveil import cli
from wattveil.fleet.broker import free_port
from wattveil.fleet.certificates import Authority, Issued
from wattveil.operate import tls
from wattveil.operate.tls import issue
from wattveil.runners import process
from wattveil.runners.process import PERIODS_AHEAD
from wattveil_meter.wire import CLOSE, SHARE


def test_two_periods_over_tls(tmp_path: Path) -> None:
    with fleet(tmp_path, "tcp", serial=True, tls=True) as running:
        for start in (START, START + PERIOD):
            running.set_clock(start + 10)
            running.prepare(start)
            running.set_clock(start + PERIOD)
            running.report(start)
            running.check(start)
        running.processes["dealer"].kill()  # and the link comes back
        running.start("dealer")
        third = START + 2 * PERIOD
        running.set_clock(third + 10)
        running.prepare(third)
        running.set_clock(third + PERIOD)
        running.report(third)
        running.check(third)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.write_folders()
    issue(tmp_path, 30)
    return made


@contextlib.contextmanager
def dealer(world: World) -> Iterator[tuple[str, Process]]:
    address = f"tcp:127.0.0.1:{free_port()}"
    running = Process(world, "dealer", "--listen", address)
    try:
        assert running.tell(clock=START + PERIOD, running=False) == {"ok": True}
        eventually_dial(address).close()
        yield address, running
    finally:
        running.kill()


def context(folder: Path, issued: Issued | None, scratch: Path) -> ssl.SSLContext:
    """A client's, that believes the fleet's authority and shows this certificate."""
    client = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    if issued is not None:
        (scratch / "client.pem").write_bytes(issued.certificate)
        (scratch / "client.key").write_bytes(issued.key)
        client.load_cert_chain(scratch / "client.pem", scratch / "client.key")
    return client


def ask(world: World, address: str, client: ssl.SSLContext, boot: int = 1) -> bytes:
    """What the dealer answers to a perfectly authenticated CLOSE; nothing when it hangs up."""
    link = PlainLink(world.cloud_dealer, 0, world.record, boot)
    frame = link.seal(CLOSE, world.members(1, 2, 3), START)
    raw = dial(address)
    raw.settimeout(PATIENCE_S)
    try:
        with client.wrap_socket(raw, server_hostname="dealer") as sock:
            sock.sendall(struct.pack("<I", len(frame)) + frame)
            return sock.recv(4096)
    except (ssl.SSLError, ConnectionError):
        return b""


def test_only_the_clouds_good_certificate_is_let_in(tmp_path: Path, world: World) -> None:
    authority = Authority.load(tmp_path / "authority")
    home, other = tmp_path / "cloud" / "tls", Authority.create(bytes(8))
    cloud = Issued((home / "role.pem").read_bytes(), (home / "role.key").read_bytes())
    wrong: dict[str, Issued | None] = {
        "none": None,
        "expired": authority.device("cloud", days=-1),
        "a meter's": authority.device("meter-01"),
        "the centre's": Issued(
            (tmp_path / "center" / "tls" / "role.pem").read_bytes(),
            (tmp_path / "center" / "tls" / "role.key").read_bytes(),
        ),
        "of another authority": other.device("cloud"),
    }
    with dealer(world) as (address, running):
        for name, issued in wrong.items():
            assert ask(world, address, context(home, issued, tmp_path)) == b"", name
        with eventually_dial(address) as plain:  # no TLS at all, but the right link key
            link = PlainLink(world.cloud_dealer, 0, world.record)
            frame = link.seal(CLOSE, world.members(1, 2, 3), START)
            plain.sendall(struct.pack("<I", len(frame)) + frame)
            plain.settimeout(PATIENCE_S)
            with contextlib.suppress(ConnectionError):
                while data := plain.recv(4096):
                    assert data[0] == 0x15  # a TLS alert
        assert running.status()["closings"] == {}
        answer = ask(world, address, context(home, cloud, tmp_path))
        assert answer[4 + 3] == SHARE
        assert running.status()["closings"] == {str(START): 3}


def test_a_revoked_certificate(tmp_path: Path, world: World) -> None:
    home = tmp_path / "cloud" / "tls"
    old = Issued((home / "role.pem").read_bytes(), (home / "role.key").read_bytes())
    assert cli.main(["tls", "revoke", str(tmp_path), "cloud"]) == 0
    new = Issued((home / "role.pem").read_bytes(), (home / "role.key").read_bytes())
    with dealer(world) as (address, running):
        assert ask(world, address, context(home, old, tmp_path)) == b""
        assert running.status()["closings"] == {}
        assert ask(world, address, context(home, new, tmp_path))[4 + 3] == SHARE


def test_a_revocation_that_was_broken_off(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old certificate is revoked all the same, and the role is not left with half a folder."""
    home, crl = tmp_path / "cloud" / "tls", tmp_path / "dealer" / "tls" / "crl.pem"

    def serial() -> int:
        return x509.load_pem_x509_certificate((home / "role.pem").read_bytes()).serial_number

    def broken_off(*_: object) -> None:
        raise KeyboardInterrupt

    first = serial()
    with monkeypatch.context() as killed:
        killed.setattr(tls, "issue", broken_off)
        assert cli.main(["tls", "revoke", str(tmp_path), "cloud"]) != 0
    assert not home.exists()
    assert cli.main(["tls", "issue", str(tmp_path)]) == 0
    second = serial()
    assert cli.main(["tls", "revoke", str(tmp_path), "cloud"]) == 0
    revoked = {one.serial_number for one in x509.load_pem_x509_crl(crl.read_bytes())}
    assert revoked == {first, second} and serial() not in revoked
    assert not [path for path in home.parent.iterdir() if path.name.startswith(".")]


def test_the_cloud_gives_nothing_to_a_false_dealer(tmp_path: Path, world: World) -> None:
    """Somebody at the dealer's address without its certificate sees a handshake and no frame."""
    authority = Authority.load(tmp_path / "authority")
    false = authority.server(["center"])  # of this fleet, but of the other role
    (tmp_path / "false.pem").write_bytes(false.certificate + false.key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "false.pem")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE_S)
        peers = [
            f"--peer={name}=tcp:127.0.0.1:{listening.getsockname()[1]}" for name in ("dealer",)
        ]
        peers.append(f"--peer=center=unix:{tmp_path}/none.sock")
        running = Process(world, "cloud", *peers)
        try:
            raw, _ = listening.accept()
            raw.settimeout(PATIENCE_S)
            with (
                pytest.raises((ssl.SSLError, ConnectionError)),
                server.wrap_socket(raw, server_side=True) as sock,
            ):
                assert sock.recv(1) == b"a frame"
        finally:
            running.kill()


def test_roles_on_other_machines_need_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    World(tmp_path).write_folders()
    command = ["dealer", "--state-dir", str(tmp_path / "dealer"), "--listen", "tcp:0.0.0.0:1"]
    assert process.main(command) == process.UNUSABLE
    assert "by TLS only" in capsys.readouterr().err
    (tmp_path / "dealer" / "tls").mkdir()
    assert process.main(command) == process.UNUSABLE
    assert "ca.pem is missing" in capsys.readouterr().err


def get(port: int, path: str) -> tuple[int, str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S) as answer:
        return answer.status, answer.read().decode()


def test_a_role_can_be_observed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = World(tmp_path)
    world.write_folders()
    ports = {name: free_port() for name in ("center", "dealer", "cloud")}
    peers = [f"--peer={name}=unix:{tmp_path}/{name}.sock" for name in ("center", "dealer")]
    running = [
        Process(
            world, name, "--listen", f"unix:{tmp_path}/{name}.sock", "--observe", str(port),
            "--log-format", "json", *(peers if name == "cloud" else ()),
        )
        for name, port in ports.items()
    ]  # fmt: skip
    try:
        for role in running:
            assert role.tell(clock=START + PERIOD, running=False) == {"ok": True}
        with eventually_dial(f"unix:{tmp_path}/dealer.sock") as sock:
            sock.sendall(struct.pack("<I", 3) + b"abc")
            end = time.monotonic() + PATIENCE_S
            while (
                'reason="truncated",role="dealer"} 1.0' not in get(ports["dealer"], "/metrics")[1]
            ):
                assert time.monotonic() < end
        assert get(ports["dealer"], "/healthz") == (200, "ok\n")
        status: Any = json.loads(get(ports["center"], "/status")[1])
        assert status["role"] == "center"
        assert "wattveil_epsilon_spent" in get(ports["center"], "/metrics")[1]
        ahead = f"{PERIODS_AHEAD * world.size}"
        full = f'wattveil_rows_ready{{role="cloud"}} {ahead}.0'
        while full not in (text := get(ports["cloud"], "/metrics")[1]):
            assert time.monotonic() < end
        assert f'wattveil_rows_made_total{{role="cloud"}} {ahead}.0' in text
        assert 'wattveil_rows_taken_total{source="pool"} 0.0' in text
        where = [str(port) for port in ports.values()]
        assert cli.main(["status", *where]) == 0
        out = capsys.readouterr().out
        assert "refused: 1 truncated" in out
        assert f"rows: {ahead} of {ahead} ready, 0 taken of {ahead} made ahead" in out
        assert cli.main(["status", "--json", *where]) == 0
        assert [one["role"] for one in json.loads(capsys.readouterr().out)] == list(ports)
        assert cli.main(["status", str(free_port())]) == 1
        assert "no answer" in capsys.readouterr().out
    finally:
        for role in running:
            role.kill()
