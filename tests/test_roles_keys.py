"""Revoked meters, meters moved to new keys, and what a stolen key opens."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plainmeter import PERIOD, START, PlainMeter, Secrets, pack
from plainworld import Asker, World
from processfleet import PATIENCE_S, fleet
from wattveil import cli
from wattveil.operate import meters as command
from wattveil.roles.folders import load_center, load_cloud
from wattveil.roles.revoked import revoke
from wattveil_meter.fields import unpack
from wattveil_meter.wire import CLOSE, CODES, OPEN, SHARE


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def revoke_everywhere(world: World, name: str, now: int) -> None:
    """As the command does, beside the running roles."""
    for role in ("center", "cloud", "dealer"):
        world.stores[role].apply(revoke([name], world.roster, now, "stolen"))


def refused(net: Any, role: str) -> dict[str, int]:
    counts: dict[str, int] = net.roles[role].status()["refused"]
    return counts


# --- revocation ----------------------------------------------------------------------------------


def test_a_revoked_meter_is_refused_by_name_and_stays_so(world: World) -> None:
    net = world.net()
    meters = list(world.meters.values())
    for meter in meters:
        meter.register().prepare(START)
    net.settle(meters)
    revoke_everywhere(world, "meter-02", START + 20)
    for _ in range(2):  # and after one more restart
        net = world.net()
        frame = world.meters[2].link.seal(0x02, bytes(16))
        assert net.roles["cloud"].receive("port:2", frame) == []
        assert refused(net, "cloud") == {"revoked": 1}
        assert net.roles["cloud"].status()["revoked"] == ["meter-02"]
    world.end(START)
    for meter in meters:
        meter.report(START, 100 * meter.secrets.number)
    net.settle(meters)
    # its report is not waited for, the others' total is exact, and it pays nothing
    assert net.roles["cloud"].status()["periods"][START]["outcome"] == "released"
    release = net.roles["center"].status()["releases"][START]
    assert (release["members"], release["total_wh"]) == ([1, 3, 4], 800)
    assert "meter-02" not in world.stores["center"].load("spent")


def test_what_it_reported_before_counts_for_periods_that_were_over(world: World) -> None:
    net = world.net()
    meters = list(world.meters.values())
    for meter in meters:
        meter.register().prepare(START)
    net.settle(meters)
    world.end(START)
    world.meters[2].report(START, 200)
    net.settle(meters)
    revoke_everywhere(world, "meter-02", START + PERIOD)
    net = world.net()
    for meter in meters:
        meter.report(START, 100 * meter.secrets.number)
    net.settle(meters)
    assert net.roles["center"].status()["releases"][START]["members"] == [1, 2, 3, 4]


@pytest.mark.parametrize("role", ["dealer", "center"])
def test_dealer_and_centre_refuse_a_set_with_it(world: World, role: str) -> None:
    """Whatever the cloud says: each has its own word for who is revoked."""
    from test_roles_center import honest

    world.end(START)
    ask = Asker(world, role)
    payload = honest(world) if role == "center" else world.members(1, 2, 3, 4)
    type = OPEN if role == "center" else CLOSE
    ask.store.apply(revoke(["meter-02"], world.roster, START + 5, "stolen"))
    ask.restart()
    assert ask.code(type, payload, START) == CODES["refused"]
    if role == "center":
        relayed = (2).to_bytes(4, "little") + bytes(16)
        assert ask.code(0x10, relayed) == CODES["refused"]
        assert ask.role.status()["epsilon_spent"] == "0"
    assert ask.role.status()["refused"] == {"revoked": 1 + (role == "center")}
    good = honest(world, (1, 3, 4)) if role == "center" else world.members(1, 3, 4)
    assert ask(type, good, START) is not None
    assert role == "center" or ask(type, good, START)[0] == SHARE  # type: ignore[index]


def test_the_command(tmp_path: Path, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.write_folders()
    world.role("dealer")
    arguments = ["meter", "revoke", "meter-03", "--state-dir", str(tmp_path / "dealer")]
    assert cli.main([*arguments, "--reason", "sold"]) == 0
    assert "restart" in capsys.readouterr().out
    assert world.role("dealer").status()["revoked"] == ["meter-03"]
    arguments[2] = "meter-99"
    assert cli.main([*arguments, "--reason", "x"]) == 2
    assert "not in the roster" in capsys.readouterr().err


def test_a_running_role_takes_it_up_at_a_hangup(tmp_path: Path) -> None:
    with fleet(tmp_path) as running:
        dealer = running.processes["dealer"]
        assert dealer.status()["revoked"] == []
        boot = dealer.status()["boot"]
        arguments = ["--state-dir", str(tmp_path / "dealer"), "--reason", "stolen"]
        assert cli.main(["meter", "revoke", "meter-03", *arguments]) == 0
        dealer.popen.send_signal(signal.SIGHUP)
        end = time.monotonic() + PATIENCE_S
        while (status := dealer.status())["boot"] == boot:
            assert time.monotonic() < end
        assert status["revoked"] == ["meter-03"]
        assert dealer.popen.poll() is None


# --- rotation ------------------------------------------------------------------------------------


def rotated(world: World, monkeypatch: pytest.MonkeyPatch, now: int) -> Secrets:
    """Run the command for meter 2; its new secrets."""
    world.write_folders()
    old = world.secrets[1]
    folder = world.root / "meters" / old.id
    folder.mkdir(parents=True)
    keys = (b"wattveil meter 1", old.id.encode(), b"\x02", old.link, old.registration)
    (folder / "meter.bin").write_bytes(pack(*keys, bytes(32)))
    monkeypatch.setattr(command.time, "time", lambda: now)
    assert cli.main(["meter", "rotate", str(world.root), old.id, "--days", "1"]) == 0
    for path in (folder / "meter.bin", world.root / "cloud" / "meters.json"):
        assert path.stat().st_mode & 0o777 == 0o600
    parts = unpack((folder / "meter.bin").read_bytes(), 6)
    assert parts[3] != old.link and parts[4] != old.registration
    assert parts[5:] == [bytes(32)]
    return Secrets(old.id, 2, parts[3], parts[4], old.dealer_seed, old.center_seed)


def start_roles(world: World) -> Any:
    """Roles from their folders, as the command left them."""
    world.next_link = load_cloud(world.root / "cloud").next_keys
    world.next_registration = load_center(world.root / "center").next_keys
    return world.net()


def registers(net: Any, meter: PlainMeter) -> bool:
    meter.errors = []
    before = meter.tau
    meter.register()
    for _ in range(30):
        meter.unanswered = 0
        net.settle([meter])
    return not meter.errors and meter.tau > before


def test_both_keys_are_good_until_the_new_one_is_used(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = rotated(world, monkeypatch, START)
    old_meter = world.meters[2]
    net = start_roles(world)
    assert registers(net, old_meter)
    net = start_roles(world)  # a restart in between changes nothing
    assert registers(net, old_meter)
    moved = PlainMeter(new, world.record, boot=2)
    moved.tau = old_meter.tau
    assert registers(net, moved)
    for _ in range(2):
        frame = old_meter.link.seal(0x02, bytes(16))
        assert net.roles["cloud"].receive("port:2", frame) == []
        assert refused(net, "cloud")["forged"] == 1
        net = start_roles(world)
    assert registers(net, moved)


def test_the_deadline_ends_the_old_key(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    new = rotated(world, monkeypatch, START)
    world.clock.utc = START + 86400
    net = start_roles(world)
    frame = world.meters[2].link.seal(0x02, bytes(16))
    assert net.roles["cloud"].receive("port:2", frame) == []
    assert refused(net, "cloud") == {"forged": 1}
    assert registers(net, PlainMeter(new, world.record, boot=2))


# --- theft ---------------------------------------------------------------------------------------


def test_a_stolen_meter_opens_only_itself(world: World) -> None:
    """All secrets of meter 1: no frame as another meter, none as a role, no other registration."""
    net = world.net()
    thief = world.secrets[0]
    for number in (2, 3, 4):
        link = PlainMeter(
            Secrets(world.roster[number - 1], number, *_keys(thief)), world.record
        ).link
        for type in (0x01, 0x02, 0x03, 0x04, 0x06, 0x07):
            assert net.roles["cloud"].receive("port:1", link.seal(type, bytes(16))) == []
    assert refused(net, "cloud") == {"forged": 18}
    for name, me in (("center", 0xFFFFFFFE), ("dealer", 0xFFFFFFFD)):
        link = PlainMeter(Secrets("x", me, *_keys(thief)), world.record).link
        assert net.roles["cloud"].receive(name, link.seal(0x52, b"")) == []
    for name in ("center", "dealer"):  # nor as the cloud, to those that answer only the cloud
        link = PlainMeter(Secrets("x", 0, *_keys(thief)), world.record).link
        assert net.roles[name].receive("in:1", link.seal(0x20, b"\x0f", START)) == []
        assert refused(net, name) == {"forged": 1}
    # registering another meter through its own link needs that meter's registration key
    liar = PlainMeter(Secrets("meter-02", 1, *_keys(thief)), world.record).register()
    net.settle([liar])
    assert liar.errors
    assert "tau" not in {kind for kind, _ in _rows(world, "center")}


def _keys(secrets: Secrets) -> tuple[bytes, bytes, bytes, bytes]:
    return secrets.link, secrets.registration, secrets.dealer_seed, secrets.center_seed


def _rows(world: World, name: str) -> set[tuple[str, str]]:
    return {(kind, key) for kind, key, _ in world.stores[name].snapshot()}


def test_a_clone_is_refused_as_replayed(world: World) -> None:
    """Two devices with one package: whoever has the lower boot number is refused, by name."""
    net = world.net()
    original, clone = (PlainMeter(world.secrets[0], world.record, boot) for boot in (7, 6))
    assert registers(net, original)
    assert not registers(net, clone)
    assert refused(net, "cloud")["replayed"] > 0


def test_bad_rotation_entries(tmp_path: Path, world: World) -> None:
    from wattveil.roles.common import ConfigError

    world.write_folders()
    path = tmp_path / "cloud" / "meters.json"
    table = json.loads(path.read_text())
    for bad in (
        {"next_key": "00"},
        {"next_key": os.urandom(32).hex()},
        {"next_key": 5, "until": 1},
    ):
        path.write_text(json.dumps(table | {"meter-02": table["meter-02"] | bad}))
        with pytest.raises(ConfigError):
            load_cloud(tmp_path / "cloud")
