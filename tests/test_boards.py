"""boards/: every folder is right and complete; bench.toml, config.json and the console's monitor."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattveil.boards import deploy, inventory, schema
from wattveil.boards.console import Monitor, describe
from wattveil.boards.inventory import by_serial, load_bench
from wattveil.boards.provision import make_config
from wattveil.boards.repl import BoardError
from wattveil.boards.schema import InvalidBoard, board_of, boards, find_board, load_board
from wattveil.cli import main
from wattveil.links.serial import Port
from wattveil_meter import sensors
from wattveil_meter.wire import CLOUD, HELLO, WELCOME, Channel, stuff

ROOT = Path(__file__).parent.parent
NAMES = ("esp32", "esp32_c3", "esp32_s3", "rpi_pico", "rpi_pico2", "rpi_pico2_w", "rpi_pico_w")


@pytest.fixture(params=NAMES)
def board(request: pytest.FixtureRequest) -> schema.Board:
    return find_board(request.param)


def test_the_boards_are_all_there():
    assert tuple(sorted(boards())) == tuple(sorted(NAMES))


def test_a_board_is_complete(board):
    folder = ROOT / "boards" / board.id
    tree = ElementTree.parse(folder / "wiring.svg")
    drawn = " ".join(tree.getroot().itertext())
    prefix = "GP" if board.micropython.port == "rp2" else "GPIO"
    for kind in ("adc_ct", "pulse", "pzem004t", "p1"):
        for option, value in board.sensors[kind].items():
            if schema._is_pin(option):
                assert re.search(rf"\b{prefix}{value}\b", drawn), (kind, option)
    assert len((folder / "wiring.svg").read_bytes()) < 8_192
    notes = (folder / "README.md").read_text()
    assert "wiring.svg" in notes and board.name in notes
    setup = (ROOT / "tools" / "setup.sh").read_text()
    assert f"{board.micropython.stubs}==" in setup  # pyright checks the firmware with its stubs


def test_sensor_options_are_those_the_firmware_takes(board):
    """What is missing is calibration or the meter's own constant: never a misspelt key."""
    for kind, options in board.sensors.items():
        source = (Path(sensors.__file__).parent / f"{kind}.py").read_text()
        for option in options:
            assert re.search(rf"\b{option}=", source), (kind, option)


def test_the_kernel_is_one_the_processor_gets(board):
    architecture = {"thumb1": 4, "thumb2": 7, "portable": 10}[board.kernel]
    sent = deploy.firmware_files(architecture)
    assert f"wattveil_meter/kernels/{board.kernel}.mpy" in sent
    if board.kernel == "portable":
        assert not [name for name in sent if "thumb" in name]
    deploy.check_mpy(sent, 6 | 3 << 8 | architecture << 10, "MicroPython 1.28")


def test_limits_of_the_datasheets():
    for name in ("rpi_pico", "rpi_pico_w"):
        board = find_board(name)
        assert (board.reset.watchdog_max_ms, board.entropy.grade) == (8388, "weak")
        assert board.pins.adc == (26, 27, 28)
    for name in ("rpi_pico2", "rpi_pico2_w"):
        assert find_board(name).reset.watchdog_max_ms == 16777
    esp32 = find_board("esp32").pins
    assert esp32.input_only == (34, 35, 36, 39) and not set(range(6, 12)) & set(esp32.gpio)
    assert set(esp32.adc_with_wifi) == {32, 33, 34, 35, 36, 39}
    for name in ("esp32", "esp32_c3", "esp32_s3"):
        board = find_board(name)
        assert board.entropy.grade == "conditional"
        taken = set(board.pins.strapping) | set(board.pins.reserved)
        for options in board.sensors.values():
            pins = {v for k, v in options.items() if schema._is_pin(k)}
            assert not pins & taken


def test_who_says_what_it_is_is_known():
    assert board_of("RPI_PICO2_W").id == "rpi_pico2_w"
    assert board_of("ESP32_GENERIC_S3-SPIRAM_OCT").id == "esp32_s3"
    assert board_of("", "Raspberry Pi Pico W with RP2040").id == "rpi_pico_w"
    assert board_of("", "Raspberry Pi Pico2 with RP2350").id == "rpi_pico2"
    assert board_of("standard", "linux") is None
    with pytest.raises(ValueError, match="no board 'pico': there are esp32"):
        find_board("pico")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    folder = tmp_path / "rpi_pico"
    folder.mkdir()
    for name in schema.FILES:
        (folder / name).write_bytes((ROOT / "boards" / "rpi_pico" / name).read_bytes())
    return folder


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('chip = "rp2040"\n', "", r"missing required field `chip`"),
        ("mhz = 125", 'mhz = "125"', r"Expected `int`, got `str` - at `\$.mhz`"),
        ("mhz = 125", "mhz = 125\nwatts = 3", "unknown field `watts`"),
        ('grade = "weak"', 'grade = "fine"', r"Invalid enum value 'fine' - at `\$.entropy.grade`"),
        ("tables_kib = 384", "tables_kib = 300", "Invalid enum value 300"),
        ("tables_kib = 384", "tables_kib = 512", ""),
        ("filesystem_kib = 1408", "filesystem_kib = 600", "less than 256 KiB"),
        ("watchdog_ms = 8000", "watchdog_ms = 9000", "above reset.watchdog_max_ms"),
        ("current_pin = 26", "current_pin = 22", "22 has no ADC"),
        ("pin = 22", "pin = 29", "29 is not a free pin"),
        ("tx = 4, rx = 5 },", "tx = 4, rx = 29 },", r"uart 1: \[29\] are not among"),
        ("adc = [26, 27, 28]", "adc = [26, 27]", "adc_with_wifi: is a part"),
        ("pulse = {", "geiger = {", "sensors.geiger: the firmware has"),
        ('name = "', "name = ", "Invalid"),
    ],
)
def test_a_wrong_board_toml_is_refused_with_the_reason(copied, old, new, message):
    path = copied / "board.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    if not message:
        load_board(copied)
        return
    with pytest.raises(InvalidBoard, match=message) as refused:
        load_board(copied)
    assert "board.toml" in str(refused.value)


def test_an_incomplete_folder_is_refused(copied):
    (copied / "wiring.svg").unlink()
    with pytest.raises(InvalidBoard, match=r"wiring\.svg is missing"):
        load_board(copied)


def test_boards_of_an_installed_package(tmp_path, monkeypatch):
    monkeypatch.setattr(schema, "firmware_folder", lambda: tmp_path / "site-packages")
    monkeypatch.setattr(schema, "__file__", str(tmp_path / "boards" / "schema.py"))
    with pytest.raises(InvalidBoard, match="reinstall wattveil"):
        schema.boards_folder()
    data = tmp_path / "boards" / "data" / "boards" / "x"
    data.mkdir(parents=True)
    (data / "board.toml").write_text("")
    assert schema.boards_folder() == data.parent
    packaged = (ROOT / "pyproject.toml").read_text()
    for source in ('"boards" = "wattveil/boards/data/boards"', '"firmware/main.py" ='):
        assert source in packaged


def test_the_list(capsys):
    assert main(["board", "list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in NAMES)
    assert main(["board", "list", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert msgspec.convert(table["esp32"], schema.Board) == find_board("esp32")


# --- bench.toml ----------------------------------------------------------------------------------


def test_a_bench(tmp_path):
    path = tmp_path / "bench.toml"
    path.write_text(
        'fleet = "f"\n[[board]]\nname = "a"\nserial = "E6"\nboard = "rpi_pico"\n'
        '[[board]]\nname = "b"\nport = "/dev/x"\nmeter = "m"\nsettings = ["b.toml"]\n'
        'power_off = "x"\npower_on = "y"\n[broker]\naddress = "192.168.1.10"\n'
    )
    bench = load_bench(path)
    assert bench.broker is not None and bench.broker.port == 8883
    assert [place.port_id for place in bench.board] == ["E6", "/dev/x"]
    assert bench.board[0].kind is find_board("rpi_pico") and bench.board[1].kind is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[board]]\nname = "a"', "give either serial or port"),
        ('[[board]]\nname = "a"\nserial = "1"\nport = "2"', "give either serial or port"),
        ('[[board]]\nname = "a"\nserial = "1"\nboard = "arduino"', "no board 'arduino'"),
        ('[[board]]\nname = "a"\nserial = "1"\npassword = "x"', "unknown field `password`"),
        (
            '[[board]]\nname = "a"\nserial = "1"\npower_off = "x"',
            "power_off and power_on, or neither",
        ),
        ('board = []\n[broker]\naddress = "x"\nport = 0', "broker.port"),
        ('[[board]]\nserial = "1"', "missing required field `name`"),
        ('[[board]]\nname = "a"\nserial = "1"\n' * 2, "'a' is there 2 times"),
        ("[[board", "bench.toml: "),
    ],
)
def test_a_wrong_bench_is_refused(tmp_path, text, message):
    path = tmp_path / "bench.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as refused:
        load_bench(path)
    assert "bench.toml" in str(refused.value)


def test_a_board_is_named_by_its_serial_number(monkeypatch, capsys, tmp_path):
    found = [
        Port("/dev/a", "1", "x"),
        Port("/dev/b", "0001", "CP2102"),
        Port("/dev/c", "0001", ""),
    ]
    monkeypatch.setattr(inventory, "ports", lambda: found)
    assert by_serial("id:1").port_id == "id:1"
    with pytest.raises(ValueError, match="/dev/b, /dev/c all have the serial number 0001"):
        by_serial("0001")
    with pytest.raises(ValueError, match="no board has the USB serial number '/dev/a'"):
        by_serial("/dev/a")  # a path only by --port
    monkeypatch.chdir(tmp_path)
    assert main(["board", "deploy"]) == 2
    assert "name a board" in capsys.readouterr().err
    assert main(["board", "deploy", "--all"]) == 2
    assert "there is no such file" in capsys.readouterr().err


# --- config.json ---------------------------------------------------------------------------------


def test_config_comes_from_board_and_settings(tmp_path):
    pico = find_board("rpi_pico")
    assert make_config(pico, [], None)[0] == {
        "sensor": {"kind": "simulated"},
        "link": {"kind": "serial"},
        "poll_ms": 1000,
        "watchdog_ms": 8000,
    }
    assert make_config(None, [], None)[0]["watchdog_ms"] == 0
    sensor = make_config(pico, [], "pzem004t")[0]["sensor"]
    assert sensor == {"kind": "pzem004t", "uart": 1, "tx": 4, "rx": 5}

    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "ca.der").write_bytes(b"CA")
    (tmp_path / "pw").write_text("secret")
    path = tmp_path / "s.toml"
    path.write_text(
        'watchdog_ms = 0\n[sensor]\nkind = "adc_ct"\ncurrent_pin = 28\nmains_hz = 50\n'
        '[link]\nkind = "mqtt"\nhost = "h"\nca = ["keys/ca.der"]\npassword_file = "pw"\n'
    )
    config, files = make_config(pico, [path], None)
    assert config["sensor"] == {"kind": "adc_ct", "current_pin": 28, "mains_hz": 50}
    assert config["link"]["ca"] == ["ca.der"] and config["watchdog_ms"] == 0
    assert files == {"ca.der": b"CA", "pw": b"secret"}
    other = make_config(pico, [path], "pulse")[0][
        "sensor"
    ]  # the kind asked for, not that of the file
    assert other == {"kind": "pulse", "pin": 22}
    second = tmp_path / "link.toml"
    second.write_text('[link]\nkind = "serial"\n')
    with pytest.raises(ValueError, match="'link' is in another settings file too"):
        make_config(pico, [path, second], None)
    path.write_text('[sensor]\nkind = "p1"\n')
    config = make_config(pico, [path, second], None)[0]
    assert (config["sensor"]["rx"], config["link"]) == (1, {"kind": "serial"})
    path.write_text("[sensors]\n")
    with pytest.raises(ValueError, match="no setting is called 'sensors'"):
        make_config(pico, [path], None)
    path.write_text("[")
    with pytest.raises(ValueError, match=r"s\.toml"):
        make_config(pico, [path], None)


# --- .mpy files ------------------------------------------------------------------------------------


def test_an_interpreter_that_would_not_load_them_is_refused():
    files = deploy.firmware_files(4)
    deploy.check_mpy(files, 6 | 3 << 8 | 4 << 10, "x")
    with pytest.raises(BoardError, match=r"loads .mpy files of version 6\.1.* made 6\.3"):
        deploy.check_mpy(files, 6 | 1 << 8 | 4 << 10, "MicroPython 1.20")
    deploy.check_mpy(deploy.firmware_files(10), 6 | 1 << 8 | 10 << 10, "x")  # bytecode only
    with pytest.raises(BoardError, match="flash MicroPython"):
        deploy.check_mpy(deploy.firmware_files(10), 5, "MicroPython 1.18")


# --- monitor ---------------------------------------------------------------------------------------


def frames() -> tuple[bytes, bytes]:
    meter = Channel(bytes(32), b"fleet id", 3, CLOUD, True, bytes(32), 7)
    cloud = Channel(bytes(32), b"fleet id", CLOUD, 3, False, bytes(32), 2)
    hello = meter.seal(HELLO, b"who I am")
    return hello, cloud.seal(WELCOME, b"", 0, meter.counter)


def test_the_monitor_shows_frames_and_text():
    hello, welcome = frames()
    data = (
        b"booting\r\n" + stuff(hello) + b"Trace\nback" + stuff(welcome) + b"\x7ebroken\x7e>>> \n"
    )
    shown = list(Monitor().feed(data))
    assert [line.split()[0] for line in shown] == [
        *("booting", "HELLO", "Trace", "back", "WELCOME", "broken", ">>>")
    ]
    assert "from meter 3  boot 7 #1" in shown[1] and b"fleet id".hex() in shown[1]
    assert "from cloud  boot 2 #1  answers #1" in shown[4]
    assert "who I am" not in " ".join(shown)
    assert describe(b"x") == "frame, 1 bytes: too short"
    assert "not of version 1" in describe(b"XX" + hello[2:])


@given(st.lists(st.binary(max_size=300), max_size=12), st.integers(1, 40))
def test_the_monitor_takes_anything_in_any_pieces(noise, size):
    hello, _ = frames()
    data = b"\n".join(noise) + b"\n" + stuff(hello) + stuff(hello)
    monitor = Monitor()
    shown = [
        line for at in range(0, len(data), size) for line in monitor.feed(data[at : at + size])
    ]
    assert shown[-1].startswith("HELLO")
    assert all(len(line) < 1000 and line.isprintable() for line in shown)
