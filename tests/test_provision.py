"""Provisioning: who holds which secret, the quorum count from exact decimals, all or nothing."""

from __future__ import annotations

import hashlib
import json
import stat
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattveil.fleet import provision as module
from wattveil.fleet.packages import LIVING, SEEDS_BIN, MeterKeys, MeterSeeds, load_package
from wattveil.fleet.provision import Fleet, load_fleet, provision
from wattveil.fleet.replay import write_readings
from wattveil.fleet.settings import SETS_KIB, FleetSettings, exact, quorum_count, share_of
from wattveil.fleet.tables import fleet_tables
from wattveil.paillier.group import group_element, group_nonresidue
from wattveil.paillier.keyfile import load_private
from wattveil.paillier.keys import generate
from wattveil.paillier.tables import parse
from wattveil_meter.fields import pack
from wattveil_meter.package import Package
from wattveil_meter.record import Record
from wattveil_meter.wire import CLOUD, HELLO, Channel

KEY = generate(256, insecure_test_key=True)
N = KEY.public.n
IDS = ["zoë", "cloud", "10", "9"]
ROSTER = ("10", "9", "cloud", "zoë")  # byte order
SETTINGS = FleetSettings(delta=4000, epsilon="0.5", quorum="0.7", gamma=5, phase_s=60)
SECRET_FILES = {"key.json", "links.json", "meters.json", "meter.bin"}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return provision(tmp_path_factory.mktemp("x") / "fleet", KEY, IDS, SETTINGS, day=20_000)


def table(fleet: Fleet, role: str, name: str) -> dict:
    return json.loads((fleet.role_folder(role) / f"{name}.json").read_text())


def test_the_record(fleet):
    record = fleet.record
    assert fleet.roster == ROSTER
    assert (record.roster_size, record.quorum_count, record.a) == (4, 3, 3)
    assert record.roster_digest == hashlib.sha256(pack(*(i.encode() for i in ROSTER))).digest()
    assert (record.lo, record.hi, record.epsilon_num, record.epsilon_den) == (0, 4000, 1, 2)
    assert record.offset == 60 * 4000 * 2
    assert (record.unit, record.row_check, record.own_noise) == ("Wh", 1, 0)
    assert record.n == N
    assert record.h == group_element(N, record.fleet, 1)
    assert record.h_s == group_nonresidue(N, record.fleet, 1)
    folders = [fleet.role_folder(role) for role in module.ROLES]
    for folder in [*folders, *map(fleet.meter_folder, ROSTER)]:
        assert (folder / "record.bin").read_bytes() == record.raw
    for folder in folders:
        assert json.loads((folder / "roster.json").read_text()) == {"meters": list(ROSTER)}


def test_the_tables(fleet):
    record = fleet.record
    files = fleet.meters["9"].files
    h, s = parse(files["h.tab"], N), parse(files["s.tab"], N)
    assert (h.exponent_bits, h.teeth, h.blocks) == (256, 6, 4)
    assert (s.exponent_bits, s.teeth, s.blocks) == (256, 8, 2)
    n2 = N * N
    assert h.constant == pow(record.h, int(N), int(n2))
    assert h.power(3**160) == pow(record.h, 3**160, int(n2))
    assert s.power(3**160) == pow(record.h_s, 3**160, int(n2))
    digests = [
        hashlib.sha256(tables[name]).digest()
        for tables in (files, fleet.tables[2])  # portable, and in the ARM kernels' form
        for name in ("h.tab", "s.tab")
    ]
    assert record.tables == b"".join(digests)


@pytest.mark.parametrize("suite", ["yan2024", "compact"])
@pytest.mark.parametrize("kib", SETS_KIB)
def test_table_sets_fit_their_flash(suite, kib):
    key, fleet = generate(1024), bytes(8)
    tables, _ = fleet_tables(key.public, fleet, 1, suite, "short", kib)
    for files in tables.values():
        size = sum(len(data) for data in files.values())
        assert (
            kib * 1024 // 4 < size <= kib * 1024 // 2 + 1000
        )  # a 1024-bit key's are half as large


@pytest.mark.parametrize(("level", "bits"), [("short", 256), ("half", 128), ("full", 336)])
def test_randomiser_levels(tmp_path, level, bits):
    settings = FleetSettings(delta=10, level=level)
    fleet = provision(tmp_path / "f", KEY, ["a", "b"], settings, emulated=True)
    assert fleet.record.randomiser_bits == bits
    assert parse(fleet.meters["a"].files["s.tab"], N).exponent_bits == bits


def test_each_pair_shares_its_keys_and_nobody_else_does(fleet):
    center, cloud, dealer = (table(fleet, role, "links") for role in module.ROLES)
    assert center["cloud"] == cloud["center"]
    assert cloud["dealer"] == dealer["cloud"]
    assert center["dealer_mac"] == dealer["center_mac"]
    assert len({center["cloud"], cloud["dealer"], center["dealer_mac"]}) == 3
    meters = {role: table(fleet, role, "meters") for role in module.ROLES}
    seen = []
    for number, name in enumerate(ROSTER, start=1):
        package = Package(
            (fleet.meter_folder(name) / "record.bin").read_bytes(),
            (fleet.meter_folder(name) / "meter.bin").read_bytes(),
        )
        assert (package.id, package.number) == (name.encode(), number)
        seeds = MeterSeeds.read((fleet.meter_folder(name) / SEEDS_BIN).read_bytes())
        dealer, center = seeds.at(20_000)
        assert meters["cloud"][name] == {"link_key": package.link_key.hex()}
        assert meters["dealer"][name] == {"day": 20_000, "seed": dealer.hex()}
        assert meters["center"][name] == {
            "registration_key": package.registration_key.hex(),
            "day": 20_000,
            "seed": center.hex(),
        }
        seen += [package.link_key, package.registration_key, package.drbg_secret]
        seen += [dealer, center]
    assert len(set(seen)) == 5 * len(ROSTER)
    everything = {p: p.read_bytes() for p in fleet.root.rglob("*") if p.is_file()}
    holders = [p for p, data in everything.items() if f"{KEY.p:x}".encode() in data]
    assert holders == [fleet.role_folder("center") / "key.json"]
    assert load_private(holders[0]) == KEY


def test_what_is_written_works_on_the_wire(fleet):
    secrets = Package(*(fleet.meters["zoë"].files[name] for name in ("record.bin", "meter.bin")))
    record = fleet.record
    key = bytes.fromhex(table(fleet, "cloud", "meters")["zoë"]["link_key"])
    meter = Channel(secrets.link_key, record.fleet, 4, CLOUD, True, record.fingerprint, 1)
    cloud = Channel(key, record.fleet, CLOUD, 4, False, record.fingerprint, 1)
    assert cloud.open(meter.seal(HELLO, b"payload")).payload == b"payload"


def kept(fleet: Fleet, name: str) -> dict[str, bytes]:
    """A meter's files without its counters and seeds: what another device must not start from."""
    files = fleet.meters[name].files
    return {file: data for file, data in files.items() if file not in LIVING}


def test_permissions_and_links(fleet):
    inodes = set()
    for path in [fleet.root, *fleet.root.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.is_dir():
            assert mode == 0o700, path
        elif path.name in SECRET_FILES:
            assert mode == 0o600, path
        elif path.suffix == ".tab":
            inodes.add(path.stat().st_ino)
    assert len(inodes) == 2  # one h.tab and one s.tab, whatever the number of meters
    assert {p.name for p in fleet.meter_folder("9").iterdir()} == {
        *("record.bin", "meter.bin", "h.tab", "s.tab", "config.json", *LIVING)
    }


def test_without_hard_links_tables_are_copied(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr(module.os, "link", refuse)
    fleet = provision(tmp_path / "f", KEY, IDS, SETTINGS)
    for name in ROSTER:
        assert load_package(fleet.meter_folder(name)).files == kept(fleet, name)


def test_nothing_prints_a_secret(fleet):
    secrets = [m["link_key"] for m in table(fleet, "cloud", "meters").values()]
    shown = repr(fleet) + repr(fleet.meters["9"]) + repr(MeterKeys.draw(20_000))
    assert not any(text in shown for text in secrets)
    assert "link_key" not in shown
    assert "\\x" not in shown
    assert repr(fleet.meters["9"]) == "MeterPackage(id='9', number=2)"


def test_loading_gives_the_same_fleet(fleet):
    loaded = load_fleet(fleet.root)
    assert (loaded.record.raw, loaded.roster) == (fleet.record.raw, fleet.roster)
    assert {i: m.files for i, m in loaded.meters.items()} == {i: kept(fleet, i) for i in ROSTER}
    assert [m.number for m in loaded.meters.values()] == [1, 2, 3, 4]


def test_emulated_meters_stay_in_memory(tmp_path):
    ids = [f"m{i}" for i in range(700)]
    fleet = provision(tmp_path / "f", KEY, ids, SETTINGS, emulated=True)
    assert sorted(p.name for p in fleet.root.iterdir()) == ["center", "cloud", "dealer"]
    assert len(fleet.meters) == 700
    assert len({id(m.files["s.tab"]) for m in fleet.meters.values()}) == 1
    last = fleet.meters[fleet.roster[-1]]
    assert Package(last.files["record.bin"], last.files["meter.bin"]).number == last.number == 700
    assert last.tables()["h"].read(4) == b"WVT1"
    assert load_fleet(fleet.root).meters == {}


def test_two_fleets_share_nothing(tmp_path):
    one, two = (provision(tmp_path / i, KEY, IDS, SETTINGS, emulated=True) for i in "ab")
    assert one.record.fleet != two.record.fleet
    assert one.record.h != two.record.h
    assert one.meters["9"].files["meter.bin"] != two.meters["9"].files["meter.bin"]


def test_all_or_nothing(tmp_path, monkeypatch):
    root = tmp_path / "f"
    root.mkdir()  # an empty folder is fine

    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_private", fail)
        with pytest.raises(OSError, match="disk full"):
            provision(root, KEY, IDS, SETTINGS)
    assert list(tmp_path.iterdir()) == [root]
    provision(root, KEY, IDS, SETTINGS)
    with pytest.raises(FileExistsError, match="provisioned once"):
        provision(root, KEY, IDS, SETTINGS)
    Record.parse((root / "cloud" / "record.bin").read_bytes())


def test_a_key_is_made_when_none_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "generate", lambda bits, progress: (bits, progress) and KEY)
    fleet = provision(tmp_path / "f", None, ["a", "b"], FleetSettings(delta=1))
    assert fleet.record.n == N


@pytest.mark.parametrize(
    ("ids", "change", "message"),
    [
        (["a"], {}, "hides nobody"),
        ([], {}, "hides nobody"),
        (["a", "b", "a"], {}, "'a' is there twice"),
        (["a", ""], {}, "0 bytes"),
        (["a", "é" * 17], {}, "34 bytes"),
        (["a", "../b"], {}, "no name for a folder"),
        (["a", ".."], {}, "no name for a folder"),
        (["a", "b\n"], {}, "no name for a folder"),
        (["a", "\ud800"], {}, "not valid Unicode"),
        (IDS, {"quorum": "1.01"}, "asks for 5 of 4 meters"),
        (IDS, {"quorum": "0"}, "quorum: 0 is not above 0"),
        (IDS, {"quorum": 0.5}, "floats are not exact"),
        (IDS, {"quorum": "most"}, "'most' is not a decimal number"),
        (IDS, {"quorum": "nan"}, "'nan' is not a decimal number"),
        (IDS, {"quorum": "1e999999999"}, "is not a decimal number"),
        (IDS, {"colluding": 4}, "raise the quorum or lower colluding"),
        (IDS, {"colluding": -1}, "less than none"),
        (IDS, {"epsilon": "0"}, "epsilon: 0 is not above 0"),
        (IDS, {"epsilon": "-1"}, "epsilon: -1 is not above 0"),
        (IDS, {"delta": 0}, "delta: 0 Wh"),
        (IDS, {"gamma": 0}, "gamma: 0 slots"),
        (IDS, {"gamma": 256}, "gamma: 256 slots"),
        (IDS, {"suite": "rot13"}, "suite: 'rot13' is not one of yan2024"),
        (IDS, {"noise": "white"}, "noise: 'white'"),
        (IDS, {"level": "none"}, "level: 'none'"),
        (IDS, {"period_s": 0}, "phase_s: must"),
        (IDS, {"phase_s": 900}, "phase_s: must"),
        (IDS, {"key_epoch": -1}, "key_epoch: -1"),
        (IDS, {"poll_ms": 0}, "poll_ms: 0"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, ids, change, message):
    settings = FleetSettings(**{"delta": 100} | change)
    with pytest.raises(ValueError, match=message):
        provision(tmp_path / "f", KEY, ids, settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("quorum", "roster", "count"),
    [
        ("0.7", 10, 7),
        ("0.1", 30, 3),
        ("0.07", 100, 7),
        ("0.2", 6, 2),
        ("0.01", 50, 2),
        ("1", 600, 600),
        ("0.501", 1000, 501),
        (Fraction(2, 3), 10, 7),
    ],
)
def test_quorum_counts_are_exact(quorum, roster, count):
    assert quorum_count(quorum, roster) == count


@given(st.integers(0, 1000), st.integers(0, 5000))
def test_shares_round_halves_up(thousandths, total):
    got = share_of(f"{thousandths / 1000:.3f}", total)
    below, rest = divmod(thousandths * total, 1000)
    assert got == below + (rest >= 500)


def test_shares_out_of_range():
    assert [share_of("0.25", 2), share_of("0.5", 5), share_of("0.05", 10)] == [1, 3, 1]
    with pytest.raises(ValueError, match=r"drop: 1\.5 is not between 0 and 1"):
        share_of("1.5", 10)
    assert exact("1e-3", "x") == Fraction(1, 1000)


def test_readings_for_the_replay_sensor(tmp_path):
    readings = [(1800, 7), (900, 0), (2700, None)]
    assert write_readings(tmp_path, readings) == 2
    path: Path = tmp_path / "readings.csv"
    assert path.read_text() == "900,0\n1800,7\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match="starts at 900"):
        write_readings(tmp_path, [(900, 1), (900, None), (900, 1)])
