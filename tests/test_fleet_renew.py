"""A fleet's newer record: who stays keeps keys and counters, and no period is opened twice."""

from __future__ import annotations

import json
import os
import stat
from contextlib import ExitStack
from pathlib import Path

import pytest
from gmpy2 import mpz

from wattveil.cli import main
from wattveil.demo.memory import VirtualClock
from wattveil.fleet import renew as module
from wattveil.fleet.packages import BEGUN, LIVING, SEEDS_BIN, MeterKeys, MeterSeeds, load_package
from wattveil.fleet.provision import ROLES, check_registered, load_fleet, provision, rekey
from wattveil.fleet.renew import renew
from wattveil.fleet.settings import FleetSettings
from wattveil.fleet.tables import table_set
from wattveil.paillier.keys import generate
from wattveil.roles.common import ConfigError
from wattveil.roles.folders import load_record
from wattveil.runners.memory import MemoryNet
from wattveil.runners.process import build
from wattveil.store import Store, StoreError
from wattveil_meter.fields import read_uint, unpack
from wattveil_meter.kernels.portable import Portable
from wattveil_meter.meter import Meter
from wattveil_meter.package import Package
from wattveil_meter.store import FileStorage

KEY = generate(256, insecure_test_key=True)
OTHER = generate(256, insecure_test_key=True)
IDS = ["b", "d", "f"]
SETTINGS = FleetSettings(delta=1000, epsilon="2000", quorum="0.6", gamma=2, period_s=900)
START = 1_699_999_200
DAY = START // 86_400
PERIOD = 900


class World:
    """The roles and meters of one folder in this process, stores and counters on disk."""

    def __init__(self, root: Path, now: int) -> None:
        self.fleet = load_fleet(root)
        self.clock = VirtualClock(now)
        self.stack = ExitStack()
        stores = {n: self.stack.enter_context(Store(root / n / "state.db")) for n in ROLES}
        built = {n: build(n, root / n, store, self.clock) for n, store in stores.items()}
        self.roles = {n: role for n, (role, _) in built.items()}
        self.net = MemoryNet(*(self.roles[n] for n in ("center", "cloud", "dealer")), stores)
        for name, (_, effects) in built.items():
            self.net.carry_out(name, effects)
        self.meters = {n: self._meter(root / "meters" / n) for n in self.fleet.roster}

    def _meter(self, folder: Path) -> Meter:
        package = load_package(folder)
        held = Package(package.files["record.bin"], package.files["meter.bin"])
        ring, about = Portable(mpz(held.record.n)), ("test", "0", "")
        storage = FileStorage(str(folder))
        return Meter(
            held, package.tables(), storage, Sensor(), self.clock, os.urandom(64), about, ring
        )

    def period(self, start: int) -> dict:
        """Let all meters report 100 Wh for a period; the centre's release."""
        self.clock.set(start)
        self.net.settle([Polled(m) for m in self.meters.values()])
        self.clock.set(start + PERIOD)
        self.net.settle([Polled(m) for m in self.meters.values()])
        return self.roles["center"].status()["releases"][start]

    def close(self) -> None:
        self.stack.close()


class Sensor:
    remote = False
    why = ""

    def poll(self, utc):
        pass

    def energy(self, start, length):
        return 100


class Polled:
    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.receive = meter.receive

    def poll(self):
        while True:
            out = self.meter.poll()
            if isinstance(out, bytes):
                return out
            if out:
                return None


def boot(folder: Path) -> int:
    return read_uint(unpack(FileStorage(str(folder)).read("boot.bin"), 2)[0])


@pytest.fixture
def old(tmp_path: Path) -> Path:
    provision(tmp_path / "old", KEY, IDS, SETTINGS, day=DAY)
    return tmp_path / "old"


@pytest.mark.parametrize("key", [None, OTHER], ids=["same key", "new key"])
def test_a_fleet_goes_on_after_a_meter_joined_and_one_left(old, tmp_path, key):
    world = World(old, START)
    before = world.period(START)
    assert before["members"] == [1, 2, 3] and abs(before["total_wh"] - 300) <= 60
    boots = {role: world.roles[role].boot for role in ROLES}
    world.close()

    new = tmp_path / "new"
    done = renew(old, new, roster=["d", "f", "a"], key=key, day=DAY)
    assert (done.stayed, done.joined, done.left) == (("d", "f"), ("a",), ("b",))
    assert done.stores == ROLES
    record = done.fleet.record
    first = load_fleet(old).record
    assert record.fleet == first.fleet and record.fingerprint != first.fingerprint
    assert (record.key_epoch, record.roster_epoch) == (1 + (key is not None), 2)
    assert (record.quorum_count, record.roster_size) == (2, 3)
    assert (record.n == first.n) == (key is None)
    # same base and tables unless the key is new: nothing to copy to a board then
    assert (record.tables == first.tables) == (key is None)

    # the meters had begun the next period under the old record: the cloud gives that one up
    world = World(new, START + PERIOD)
    lost = world.roles["cloud"].status()["periods"][START + PERIOD]
    assert lost["outcome"] == "wrong_record"
    assert {role: world.roles[role].boot for role in ROLES} == {r: n + 1 for r, n in boots.items()}
    after = world.period(START + 2 * PERIOD)
    assert after["members"] == [1, 2, 3] and abs(after["total_wh"] - 300) <= 60
    for name in ("d", "f"):
        assert boot(new / "meters" / name) == 2
    assert boot(new / "meters" / "a") == 1
    center = world.roles["center"].status()
    assert set(center["releases"]) == {START, START + 2 * PERIOD}  # one ledger
    assert center["releases"][START] == before
    refused = world.roles["cloud"].status()["refused"]
    assert not {"replayed", "forged", "wrong_record", "unknown_sender"} & set(refused)
    world.close()


def test_what_stays_and_what_is_new(old, tmp_path):
    keys = {n: MeterKeys.read(load_package(old / "meters" / n).files) for n in IDS}
    links = {role: json.loads((old / role / "links.json").read_text()) for role in ROLES}
    new = tmp_path / "new"
    done = renew(old, new, roster=["a", "d", "f"])
    for name in ("d", "f"):
        package = load_package(new / "meters" / name)
        held = MeterKeys.read(package.files)
        assert vars(held) == vars(keys[name])
        assert check_registered(new, package) == ROLES
        assert package.number == done.fleet.roster.index(name) + 1
    joined = MeterKeys.read(load_package(new / "meters" / "a").files)
    assert joined.link not in {k.link for k in keys.values()}
    for role in ROLES:
        fresh = json.loads((new / role / "links.json").read_text())
        assert not set(fresh.values()) & set(links[role].values())
        assert load_record(new / role)[1] == ("a", "d", "f")
        assert keys["b"].link.hex() not in (new / role / "meters.json").read_text()
    for path in new.rglob("*"):
        if path.name in ("meters.json", "links.json", "meter.bin", "key.json"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert table_set(done.fleet.record)[0] == SETTINGS.tables


def test_counters_are_in_one_place(old, tmp_path):
    for name in LIVING:  # d has been provisioned on a board: its counters and seeds are there
        (old / "meters" / "d" / name).unlink()
    (old / "meters" / "f" / "boot.bin").write_bytes(b"of f")
    new = tmp_path / "new"
    renew(old, new, roster=["d", "f", "g"])
    assert not any((new / "meters" / "d" / name).exists() for name in LIVING)
    assert (new / "meters" / "f" / "boot.bin").read_bytes() == b"of f"
    assert (new / "meters" / "g" / "boot.bin").read_bytes() == BEGUN["boot.bin"]
    for name in ("d", "f"):
        assert not any((old / "meters" / name / file).exists() for file in LIVING)
    for role in ROLES:  # the old folders start no role any more
        assert not (old / role / "links.json").exists()


def test_a_meter_whose_folder_is_gone_gets_new_keys(old, tmp_path):
    for path in (old / "meters" / "d").iterdir():
        path.unlink()
    done = renew(old, tmp_path / "new", roster=["d", "f"])
    assert (done.stayed, done.joined, done.left) == (("f",), ("d",), ("b",))
    assert (tmp_path / "new" / "meters" / "d" / "boot.bin").exists()


def test_a_role_does_not_start_without_the_store_it_had(old, tmp_path):
    new = tmp_path / "new"
    assert renew(old, new, roster=["b", "d"]).stores == ()  # its stores are elsewhere
    for role in ROLES:
        with (
            Store(tmp_path / f"{role}.db") as store,
            pytest.raises(ConfigError, match=r"bring its\s+state.db"),
        ):
            build(role, new / role, store, VirtualClock(START))
        with Store(tmp_path / f"{role}.db") as store:
            store.boot()
            build(role, new / role, store, VirtualClock(START))


def test_all_or_nothing(old, tmp_path, monkeypatch):
    for role in ROLES:
        Store(old / role / "state.db").close()
    before = {p: p.read_bytes() for p in old.rglob("*") if p.is_file()}

    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            renew(old, tmp_path / "new", roster=["b", "d"])
    assert not (tmp_path / "new").exists() and len(list(tmp_path.iterdir())) == 1
    assert {p: p.read_bytes() for p in old.rglob("*") if p.is_file()} == before
    with (
        Store(old / "center" / "state.db"),
        pytest.raises(StoreError, match="stop that one first"),
    ):
        renew(old, tmp_path / "new", roster=["b", "d"])
    assert {p: p.read_bytes() for p in old.rglob("*") if p.name in BEGUN} == {
        p: data for p, data in before.items() if p.name in BEGUN
    }
    renew(old, tmp_path / "new", roster=["b", "d"])
    with pytest.raises(FileExistsError, match="not empty"):
        renew(old, tmp_path / "new", roster=["b", "d"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "nothing to renew"),
        ({"roster": ["b", "d", "f"]}, "nothing to renew"),
        ({"roster": ["b"]}, "hides nobody"),
        ({"roster": ["b", "b"]}, "there twice"),
        ({"quorum": "1.5"}, "asks for 5 of 3"),
    ],
)
def test_what_cannot_be_is_refused(old, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        renew(old, tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists() and (old / "cloud" / "links.json").exists()


def test_new_keys_for_one_meter(old):
    before = MeterKeys.read(load_package(old / "meters" / "d").files)
    others = {n: MeterKeys.read(load_package(old / "meters" / n).files) for n in ("b", "f")}
    before_seeds = MeterSeeds.read((old / "meters" / "d" / SEEDS_BIN).read_bytes())
    for name in LIVING:
        (old / "meters" / "d" / name).unlink()
    rekey(old, "d")
    package = load_package(old / "meters" / "d")
    after = MeterKeys.read(package.files)
    secrets = ("link", "registration", "drbg")
    assert not {getattr(before, n) for n in secrets} & {getattr(after, n) for n in secrets}
    seeds = MeterSeeds.read((old / "meters" / "d" / SEEDS_BIN).read_bytes())
    assert len({seeds.dealer.secret, seeds.center.secret, *before_seeds.at(DAY)}) == 4
    assert check_registered(old, package) == ROLES
    assert all((old / "meters" / "d" / n).read_bytes() == data for n, data in BEGUN.items())
    for name, keys in others.items():
        assert vars(MeterKeys.read(load_package(old / "meters" / name).files)) == vars(keys)
    assert stat.S_IMODE((old / "cloud" / "meters.json").stat().st_mode) == 0o600
    (old / "dealer" / "meters.json").unlink()
    with pytest.raises(ValueError, match="change what is not here"):
        rekey(old, "d")


def test_a_package_the_roles_do_not_know(old):
    package = load_package(old / "meters" / "d")
    table = json.loads((old / "cloud" / "meters.json").read_text())
    table["d"] = table["f"]
    (old / "cloud" / "meters.json").write_text(json.dumps(table))
    with pytest.raises(ValueError, match="does not know meter 'd'"):
        check_registered(old, package)


def test_the_command(old, tmp_path, capsys):
    roster = tmp_path / "roster"
    roster.write_text("b\nd\nnew\n")
    command = ["fleet", "renew", str(old), "--out", str(tmp_path / "new"), "--roster", str(roster)]
    assert main([*command, "--new-key", "--insecure-test-key"]) == 0
    said = capsys.readouterr().out
    assert "epochs   key 2, roster 2" in said and "joined   new" in said and "left     f" in said
    assert (tmp_path / "new" / "public.json").exists()
    secret = load_package(tmp_path / "new" / "meters" / "new").files["meter.bin"]
    assert Package(load_package(tmp_path / "new" / "meters" / "b").files["record.bin"], secret)
    assert main(command) == 2
