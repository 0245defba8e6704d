"""boards/: one folder a board, described by its board.toml. A new board is one more folder.

The types below are the schema: `msgspec` refuses unknown names, wrong types and values out of range
with the path of what is wrong. What else must hold is in `_check`. docs/ADDING_A_BOARD.md explains.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from wattveil.fleet.emulated import firmware_folder
from wattveil.fleet.settings import SETS_KIB

Text = Annotated[str, Meta(min_length=1)]
Kib = Annotated[int, Meta(ge=1)]
Number = Annotated[int, Meta(ge=0, le=48)]

FILES = ("board.toml", "wiring.svg", "README.md")
SENSORS = ("adc_ct", "demo", "p1", "pulse", "pzem004t", "replay", "simulated")
FAMILIES = {"rp2040": 0xE48BFF56, "rp2350": 0xE48BFF59}  # of UF2 files, Arm


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of board.toml."""


class MicroPython(_Table, frozen=True, kw_only=True):
    """board: as MicroPython's own build calls it; stubs: the package with its type stubs."""

    port: Literal["rp2", "esp32"]
    board: Annotated[str, Meta(pattern=r"^[A-Z0-9_]+$")]
    at_least: Annotated[str, Meta(pattern=r"^1\.\d+$")]
    stubs: Text


class Memory(_Table, frozen=True, kw_only=True):
    """KiB. filesystem: of the stock build. heap: what MicroPython has at the prompt, roughly.

    tables_kib: the largest table set this board should get (one of the sets of `keygen --tables`).
    """

    flash_kib: Kib
    filesystem_kib: Kib
    ram_kib: Kib
    heap_kib: Kib
    tables_kib: Literal[SETS_KIB]  # type: ignore[valid-type]


class Reset(_Table, frozen=True, kw_only=True):
    """wiring: how a host resets it. watchdog_max_ms: the longest time-out machine.WDT takes."""

    wiring: Literal["usb", "dtr-rts"]
    watchdog_max_ms: Annotated[int, Meta(ge=1000)]
    watchdog_ms: Annotated[int, Meta(ge=1000)]
    bootloader: Text


class Entropy(_Table, frozen=True, kw_only=True):
    """os.urandom of this chip: how far it can be trusted, and why."""

    grade: Literal["good", "conditional", "weak"]
    source: Text


class Uart(_Table, frozen=True, kw_only=True):
    """A UART at pins that are free on this board."""

    id: Annotated[int, Meta(ge=0, le=2)]
    tx: Number
    rx: Number


class Pins(_Table, frozen=True, kw_only=True):
    """GPIO numbers. gpio: what the board brings out. strapping: read at reset; adc_with_wifi: ADC
    pins that work while Wi-Fi is on."""

    gpio: tuple[Number, ...]
    adc: tuple[Number, ...]
    adc_with_wifi: tuple[Number, ...]
    input_only: tuple[Number, ...] = ()
    strapping: tuple[Number, ...] = ()
    reserved: tuple[Number, ...] = ()  # USB, flash, the console: not for sensors
    uart: tuple[Uart, ...]
    led: Text
    max_volt: Annotated[float, Meta(gt=0, le=5)] = 3.3


class Flash(_Table, frozen=True, kw_only=True):
    """How MicroPython gets on it. offset: of the image in an ESP32's flash."""

    method: Literal["uf2", "esptool"]
    chip: Text
    volume: str = ""
    offset: Annotated[int, Meta(ge=0)] = 0


class Board(_Table, frozen=True, kw_only=True):
    """One board.toml. sensors: by kind, the options of config.json that follow from the wiring."""

    name: Text
    chip: Text
    core: Text
    mhz: Annotated[int, Meta(ge=1)]
    wifi: bool
    kernel: Literal["thumb1", "thumb2", "portable"]
    micropython: MicroPython
    memory: Memory
    reset: Reset
    entropy: Entropy
    pins: Pins
    flash: Flash
    sensors: dict[str, dict[str, str | int]]
    id: str = ""


class InvalidBoard(ValueError):
    """A folder of boards/ that is not as it should be; the message names file and reason."""


def boards_folder() -> Path:
    """boards/ of the checkout, or the copy in the installed package; InvalidBoard."""
    for folder in (firmware_folder().parent / "boards", Path(__file__).parent / "data" / "boards"):
        if folder.is_dir() and any(folder.glob("*/board.toml")):
            return folder
    raise InvalidBoard("the folder boards/ is missing: reinstall wattveil")


@cache
def boards() -> Mapping[str, Board]:
    """All boards by the name of their folder; InvalidBoard."""
    folders = sorted(p.parent for p in boards_folder().glob("*/board.toml"))
    return {folder.name: load_board(folder) for folder in folders}


def find_board(name: str) -> Board:
    """A board by its folder's name; ValueError lists them."""
    try:
        return boards()[name]
    except KeyError:
        raise ValueError(f"no board {name!r}: there are {', '.join(boards())}") from None


def board_of(build: str, machine: str = "") -> Board | None:
    """The board that calls itself so (sys.implementation._build, or ._machine before 1.25)."""
    build, name = build.split("-")[0], machine.split(" with ")[0].replace(" ", "")
    for board in boards().values():
        if build == board.micropython.board or (not build and name == board.name.replace(" ", "")):
            return board
    return None


def load_board(folder: Path) -> Board:
    """One folder, checked; InvalidBoard."""
    path = folder / "board.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        board = msgspec.convert({"id": folder.name, **table}, Board)
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InvalidBoard(f"{path}: {error}") from None
    for reason in _check(board, folder):
        raise InvalidBoard(f"{path}: {reason}")
    return board


def _check(board: Board, folder: Path) -> list[str]:
    """What types cannot say; the reasons, if any."""
    pins, memory, wrong = board.pins, board.memory, []
    for name in FILES:
        if not (folder / name).is_file():
            wrong.append(f"{name} is missing beside it")
    if board.id != folder.name:
        wrong.append("id: is the folder's name, and not written in the file")
    usable = set(pins.gpio) - set(pins.reserved)
    lists = {"adc": pins.adc, "input_only": pins.input_only, "strapping": pins.strapping}
    lists |= {f"uart {u.id}": (u.tx, u.rx) for u in pins.uart}
    for name, numbers in lists.items():
        if missing := sorted(set(numbers) - set(pins.gpio)):
            wrong.append(f"pins.{name}: {missing} are not among pins.gpio")
    if not set(pins.adc_with_wifi) <= set(pins.adc):
        wrong.append("pins.adc_with_wifi: is a part of pins.adc")
    wrong += [f"pins.uart {u.id}: tx {u.tx} is input only" for u in pins.uart
              if u.tx in pins.input_only]  # fmt: skip
    if memory.tables_kib + 256 > memory.filesystem_kib:  # program, logs, the meter's own files
        wrong.append("memory.tables_kib: leaves less than 256 KiB of the file system")
    if board.reset.watchdog_ms > board.reset.watchdog_max_ms:
        wrong.append("reset.watchdog_ms: is above reset.watchdog_max_ms")
    if board.flash.method == "uf2" and board.flash.chip not in FAMILIES:
        wrong.append(f"flash.chip: UF2 families are {', '.join(FAMILIES)}")
    for kind, options in board.sensors.items():
        if kind not in SENSORS:
            wrong.append(f"sensors.{kind}: the firmware has {', '.join(SENSORS)}")
        for option, value in options.items():
            if _is_pin(option) and value not in usable:
                wrong.append(f"sensors.{kind}.{option}: {value} is not a free pin")
            if kind == "adc_ct" and _is_pin(option) and value not in pins.adc_with_wifi:
                wrong.append(f"sensors.{kind}.{option}: {value} has no ADC beside Wi-Fi")
    return wrong


def _is_pin(option: str) -> bool:
    return option in ("pin", "tx", "rx") or option.endswith("_pin")
