"""`wattveil broker`: what it writes makes a broker, a cloud and meters that find each other."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from wattveil.cli import main
from wattveil.fleet.broker import HOST, Access, Broker, BrokerMissing, cloud_name, find_broker
from wattveil.fleet.emulated import firmware_folder
from wattveil.links.mqtt import Account, MqttLink, parse_url
from wattveil.runners.process import parse_arguments
from wattveil_meter.links.mqtt import device_name

PROGRAM = Path(__file__).with_name("mqttmeter.py")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A fleet of two, and its id."""
    root = tmp_path_factory.mktemp("fleet") / "fleet"
    options = "--meters 2 --bits 256 --insecure-test-key --gamma 2 --tables 128"
    assert main(["keygen", "--out", str(root), *options.split()]) == 0
    from wattveil.roles.folders import load_record

    return root, load_record(root / "cloud")[0].fleet


def run(*words: object) -> int:
    return main(["broker", *map(str, words)])


def test_it_makes_a_working_fleet(fleet: tuple[Path, bytes], tmp_path: Path) -> None:
    try:
        find_broker()
    except BrokerMissing as missing:
        pytest.skip(str(missing))
    root, identity = fleet
    out = tmp_path / "mqtt"
    # a running place for a broker, whose files are then replaced by the command's
    broker = Broker(Access.create(identity, 2), tmp_path / "broker.log")
    options = ("--host", HOST, "--port", broker.port, "--out", out, "--folder", broker.folder)
    assert run(root, *options) == 0
    for file in (out / "broker").iterdir():
        (broker.folder / file.name).write_bytes(file.read_bytes())
    for secret in ("authority/ca.key", "broker/server.key", "cloud/mqtt.pw"):
        assert (out / secret).stat().st_mode & 0o777 == 0o600
    assert out.stat().st_mode & 0o777 == 0o700
    state = ("--state-dir", root / "cloud", "--peer", "center=unix:/c", "--peer", "dealer=unix:/d")
    words = ["cloud", *map(str, state), "--config", str(out / "cloud" / "mqtt.toml")]
    given = parse_arguments(words)
    cloud = out / "cloud"
    account = Account(
        *parse_url(given.mqtt),
        cloud / given.mqtt_ca,
        given.mqtt_user,
        cloud / given.mqtt_password_file,
    )
    link = MqttLink(account, identity, 2)
    with broker:
        link.start()
        folder = out / "meters" / "meter-0002"
        config = tomllib.loads((folder / "link.toml").read_text())
        (folder / "config.json").write_text(json.dumps(config))
        end = time.monotonic() + 90
        while not link.up:
            assert time.monotonic() < end, (tmp_path / "broker.log").read_text()
            assert link.read() == []
            time.sleep(0.01)
        done = subprocess.run(
            [sys.executable, PROGRAM, identity.hex(), "2", "up"],
            cwd=folder,
            env={"PYTHONPATH": str(firmware_folder())},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert json.loads(done.stdout)["up"], done.stderr
        end = time.monotonic() + 90
        while not (frames := link.read()):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert frames == [("mqtt:2", b"hello")]
        link.close()


def test_again_keeps_passwords_with_their_meters(
    fleet: tuple[Path, bytes], tmp_path: Path
) -> None:
    root, identity = fleet
    first, second = tmp_path / "first", tmp_path / "second"
    wifi = tmp_path / "wifi.txt"
    wifi.write_text("hush\n")
    words = ("--host", "b.example", "--address", "192.0.2.7", "--wifi", 'a "street"')
    assert run(root, *words, "--wifi-password-file", wifi, "--out", first) == 0
    link = tomllib.loads((first / "meters" / "meter-0001" / "link.toml").read_text())["link"]
    assert link["wifi"] == {"ssid": 'a "street"', "password_file": "wifi.pw"}
    assert link["address"] == "192.0.2.7" and link["port"] == 8883
    # the roster changes: what was meter 2 becomes meter 1, somebody new meter 2
    moved = tmp_path / "renewed"
    shutil.copytree(root / "cloud", moved / "cloud")
    shutil.move(first / "meters" / "meter-0002", first / "meters" / "was-2")
    shutil.move(first / "meters" / "meter-0001", first / "meters" / "meter-0002")
    assert run(moved, "--host", "b.example", "--out", second, "--again", first) == 0
    kept = first / "meters" / "meter-0002" / "mqtt.pw"
    assert (second / "meters" / "meter-0002" / "mqtt.pw").read_text() == kept.read_text()
    assert (second / "cloud" / "mqtt.pw").read_text() == (first / "cloud" / "mqtt.pw").read_text()
    new = (second / "meters" / "meter-0001" / "mqtt.pw").read_text()
    assert new not in (kept.read_text(), (first / "meters" / "was-2" / "mqtt.pw").read_text())
    for name in ("ca.key", "ca.pem"):
        kept = first / "authority" / name
        assert (second / "authority" / name).read_bytes() == kept.read_bytes()
    old, renewed = ((each / "broker" / "server.pem").read_bytes() for each in (first, second))
    assert old != renewed
    users = [line.split(":")[0] for line in (second / "broker" / "passwords").open()]
    assert users == [device_name(identity, 1), device_name(identity, 2), cloud_name(identity)]


def test_what_it_refuses(
    fleet: tuple[Path, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, _ = fleet
    (tmp_path / "there").mkdir()
    for words, said in (
        (("--wifi", "x"), "belong together"),
        (("--port", "0"), "1 to 65535"),
        (("--out", tmp_path / "there"), "exists"),
        (("--again", tmp_path / "there", "--out", tmp_path / "new"), "ca.key"),
    ):
        assert run(root, "--host", "b.example", *words) in (1, 2)
        assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists() and not (root / "mqtt").exists()


def test_a_demo_without_mosquitto_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("wattveil.fleet.broker._WHERE", "")
    monkeypatch.setattr("wattveil.fleet.broker.AMQTT", "no_such_package")
    assert main(["demo", "--link", "mqtt", "--runtime", "cpython"]) == 1
    assert "make setup" in capsys.readouterr().err
    assert main(["demo", "--link", "mqtt", "--port", "/dev/null"]) == 2
    assert "--port needs --link serial" in capsys.readouterr().err
