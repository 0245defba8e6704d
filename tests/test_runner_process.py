"""Real processes, real sockets: a whole period, hostile clients, kill -9 in the middle."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plainmeter import PERIOD, START
from plainworld import World
from processfleet import eventually_dial, fleet
from wattveil.roles.common import ConfigError
from wattveil.runners import process, sockets
from wattveil.runners.sockets import STRANGER_LIMIT, parse_address

PATIENCE_S = 60.0  # of the test, on a busy machine


@pytest.mark.parametrize(("kind", "serial"), [("unix", True), ("tcp", False)])
def test_two_periods(tmp_path: Path, kind: str, serial: bool) -> None:
    with fleet(tmp_path, kind, serial) as running:
        running.prepare()
        running.set_clock(START + PERIOD)
        running.report()
        running.check()
        second = START + PERIOD
        running.prepare(second)
        running.set_clock(second + PERIOD)
        running.report(second)
        running.check(second)
        center = running.processes["center"].status()
        assert center["epsilon_spent"] == "1"
        assert center["role"] == "center"
        if kind == "unix":
            path = Path(running.address["center"].removeprefix("unix:"))
            assert path.stat().st_mode & 0o777 == 0o600
        for process_ in running.processes.values():
            process_.popen.send_signal(signal.SIGTERM)
            assert process_.popen.wait(PATIENCE_S) == 0


def hostile(address: str, stay: list[socket.socket]) -> None:
    """Everything a stranger may try on a socket."""
    for data in (
        os.urandom(3000),
        b"\xff" * 64,
        struct.pack("<I", STRANGER_LIMIT + 1),
        struct.pack("<I", 0) * 1000,
        struct.pack("<I", 72) + b"WV\x01\x12" + os.urandom(68),
        (struct.pack("<I", 100) + os.urandom(100)) * 50,
        b"",
    ):
        with contextlib.suppress(OSError), eventually_dial(address) as sock:
            sock.sendall(data)
    for data in (b"", b"\x00", struct.pack("<I", 60000) + b"WV"):  # and some stay
        for _ in range(20):
            sock = eventually_dial(address)
            stay.append(sock)
            with contextlib.suppress(OSError):
                sock.sendall(data)


def test_hostile_clients_change_nothing(tmp_path: Path) -> None:
    stay: list[socket.socket] = []
    with fleet(tmp_path, "tcp") as running:
        for name in running.processes:
            hostile(running.address[name], stay)
        running.prepare()
        for name in running.processes:
            hostile(running.address[name], stay)
        running.set_clock(START + PERIOD)
        running.report()
        running.check()
        for name, role in running.processes.items():
            assert role.popen.poll() is None
            counts = role.status()["refused"]
            assert counts["truncated"] > 100, name
        for sock in stay:
            sock.close()


def test_frames_that_dribble_in_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "STRANGER_S", 0.05)
    left, right = socket.socketpair()
    left.setblocking(False)
    connection = sockets.Connection(left, "in:1")
    right.sendall(b"\x10")
    assert connection.read() == []
    assert not connection.stale(time.monotonic())
    assert connection.stale(time.monotonic() + 1)
    connection.known = True
    assert not connection.stale(time.monotonic() + 1)
    left.close()
    right.close()


@pytest.mark.parametrize("name", ["center", "cloud", "dealer"])
def test_kill_minus_nine(tmp_path: Path, name: str) -> None:
    """Killed while preparing, and again while the reports come in."""
    with fleet(tmp_path) as running:

        def strike() -> None:
            running.processes[name].kill()
            running.start(name)

        for line in running.lines:
            line.meter.register().prepare(START)
        for _ in range(8):
            for line in running.lines:
                line.pump()
        strike()
        running.pump()
        running.set_clock(START + PERIOD)
        for line in running.lines[:2]:
            line.meter.report(START, 100)
        running.pump()
        strike()
        for line in running.lines[2:]:
            line.meter.report(START, 100)
        running.pump()
        strike()
        running.check()
        assert running.processes["center"].status()["epsilon_spent"] == "1/2"
        assert running.processes["dealer"].status()["closings"] == {str(START): 4}


def test_control_lines(tmp_path: Path) -> None:
    with fleet(tmp_path) as running:
        cloud, center = running.processes["cloud"], running.processes["center"]
        assert cloud.tell(close=START) == {"error": "early"}
        assert center.tell(close=START) == {"error": "not a command: only the cloud does that"}
        assert cloud.tell(readings={"1": {str(START): "00ff"}}) == {"ok": True}
        assert cloud.tell(readings={"1": {str(START): "xx"}})["error"].startswith("not a command")
        assert cloud.tell(attach=[{"port": "/dev/does-not-exist"}]) == {"ok": True}
        for _ in range(2):
            assert cloud.tell(detach=[{"port": "/dev/does-not-exist"}]) == {"ok": True}
        assert cloud.tell(nonsense=1) == {"error": "unknown command"}
        running.prepare()
        running.set_clock(START + PERIOD)
        for line in running.lines[:2]:
            line.meter.report(START, 7)
        running.pump()
        assert cloud.tell(close=START) == {"ok": True}
        assert running.outcome() == "released"
        assert center.tell(stop=True) == {"ok": True}
        assert center.popen.wait(PATIENCE_S) == 0
        assert cloud.popen.stdin is not None
        cloud.popen.stdin.close()  # the demo that started it is gone
        assert cloud.popen.wait(PATIENCE_S) == 0


def test_messages_instead_of_tracebacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path)
    world.write_folders()
    dealer = ["dealer", "--state-dir", str(tmp_path / "dealer")]
    cloud = ["cloud", "--state-dir", str(tmp_path / "cloud")]
    peers = ["--peer", "center=unix:/c", "--peer", "dealer=unix:/d"]
    listen = ["--listen", f"unix:{tmp_path}/x.sock"]
    for arguments, message in [
        ([*dealer, "--listen", "tcp:nowhere"], "an address is"),
        (dealer, "needs --listen"),
        ([*dealer, "--listen", f"unix:{tmp_path}/none/x"], "is no folder"),
        ([*cloud, "--peer", "center=unix:/x"], "needs --peer"),
        ([*cloud, "--peer", "x=unix:/x", "--peer", "dealer=unix:/x"], "connects to"),
        (["cloud", "--state-dir", str(tmp_path / "dealer"), *peers], "meters.json"),
        (["cloud", "--state-dir", str(tmp_path / "center"), *peers], "not the folder of a cloud"),
        (
            ["center", "--state-dir", str(tmp_path / "dealer"), *listen],
            "not the folder of a center",
        ),
        (["cloud", "--state-dir", str(tmp_path / "nowhere"), *peers], "no role's folder"),
        (["teapot"], "is no role"),
    ]:
        assert process.main(arguments) == process.UNUSABLE
        assert message in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()
    dealer += listen
    world.role("dealer")
    assert process.main(dealer) == process.UNUSABLE
    assert "in use by another process" in capsys.readouterr().err
    world.close()
    (tmp_path / "dealer" / "record.bin").write_bytes(b"junk")
    assert process.main(dealer) == process.UNUSABLE
    assert "not valid" in capsys.readouterr().err


def test_options_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    World(tmp_path).write_folders()
    folder = tmp_path / "cloud"
    config = tmp_path / "cloud.toml"
    config.write_text(
        f'state-dir = "{folder}"\npeer = ["center=unix:/c", "dealer=unix:/d"]\ndeadline = 7\n'
    )
    got = process.parse_arguments(["cloud", "--config", str(config), "--deadline", "9"])
    assert got.state_dir == folder
    assert got.peer == ["center=unix:/c", "dealer=unix:/d"]
    assert got.deadline == 9  # the command line has the last word
    with pytest.MonkeyPatch.context() as patch:  # stronger than the file, weaker than the line
        patch.setenv("WATTVEIL_CLOUD_DEADLINE", "8")
        patch.setenv("WATTVEIL_CLOUD_PORT", "/dev/a /dev/b")
        patch.setenv("WATTVEIL_DEALER_LISTEN", "unix:/not/mine")
        got = process.parse_arguments(["cloud", "--config", str(config)])
        assert (got.deadline, got.port, got.listen) == (8, ["/dev/a", "/dev/b"], None)
        got = process.parse_arguments(["cloud", "--config", str(config), "--deadline", "9"])
        assert got.deadline == 9
        patch.setenv("WATTVEIL_CLOUD_CONFIG", str(config))
        assert process.parse_arguments(["cloud"]).state_dir == folder
    for text, message in [
        ("listen =", "cloud.toml: Invalid"),
        ("control = true", "a text"),
        ("port=[{}]", "a"),
    ]:
        config.write_text(text)
        assert process.main(["cloud", "--config", str(config)]) == process.UNUSABLE
        assert message in capsys.readouterr().err
    config.write_text("speed = 3")
    with pytest.raises(SystemExit) as stopped:
        process.main(["cloud", "--config", str(config)])
    assert stopped.value.code == 2
    assert process.main(["dealer"]) == process.UNUSABLE
    assert "--state-dir" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "unix:relative", "tcp:host", "tcp:host:99999", "ftp:x:1"])
def test_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="an address is"):
        parse_address(text)


def test_a_socket_in_use_is_not_taken_over(tmp_path: Path) -> None:
    from wattveil.runners.sockets import listen

    address = f"unix:{tmp_path}/s"
    with listen(address), pytest.raises(FileExistsError, match="in use"):
        listen(address)
    listen(address).close()  # left behind by the first one
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileExistsError, match="no socket"):
        listen(f"unix:{tmp_path}/file")
    assert issubclass(ConfigError, Exception)


def test_told_to_stop_while_it_starts_again(tmp_path: Path) -> None:
    """SIGTERM after SIGHUP, when the old run is over and the new one has not begun."""
    world = World(tmp_path)
    world.write_folders()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "wattveil.runners.process", "dealer"]
    command += ["--state-dir", f"{tmp_path}/dealer", "--listen", f"unix:{tmp_path}/dealer.sock"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, bufsize=0) as dealer:
        assert dealer.stderr is not None
        for line in dealer.stderr:
            if b"listening" in line:
                dealer.send_signal(signal.SIGHUP)
            elif b"starting again" in line:
                dealer.send_signal(signal.SIGTERM)
                break
        try:
            assert dealer.wait(PATIENCE_S) in (0, -signal.SIGTERM)
        finally:
            dealer.kill()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_machine_that_is_gone_without_a_word_is_noticed(host: str) -> None:
    """By either end, so that its connections do not take the few places for ever."""
    try:
        server = sockets.listen(f"tcp:{host}:0")
    except OSError:
        pytest.skip(f"no {host} here")
    with server, sockets.connect(f"tcp:{host}:{server.getsockname()[1]}") as client:
        server.settimeout(PATIENCE_S)
        with sockets.accept(server) as accepted:
            for end in (client, accepted):
                assert not end.getblocking()
                assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                asks = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
                idle, step, count = (end.getsockopt(socket.IPPROTO_TCP, ask) for ask in asks)
                assert idle + step * count <= sockets.SILENCE_S
                most_ms = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
                assert most_ms == 1000 * sockets.SILENCE_S
