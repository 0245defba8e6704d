"""bench.toml: the boards on a bench, by name, shared by `wattveil board` and hil_tests.

fleet = "fleet"                  # folder of wattveil keygen, relative to this file
[[board]]
name = "kitchen"                 # also the meter's id, unless `meter` says another
serial = "E66038B713876A31"      # USB serial number; or port = "/dev/...", a path or URL
board = "rpi_pico"               # folder of boards/
settings = ["kitchen.toml"]      # sensor and link, as for `board provision --settings`
power_off = "uhubctl -l 1-1 -p 2 -a off"  # shell commands, for hil_tests to cut its power with
power_on = "uhubctl -l 1-1 -p 2 -a on"
[broker]                         # this machine, as boards with Wi-Fi reach it, for hil_tests
address = "192.168.1.10"
port = 8883
"""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from wattveil.boards.schema import Board, find_board
from wattveil.links.serial import ports

Text = Annotated[str, Meta(min_length=1)]


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One board of a bench. Paths are relative to bench.toml's folder."""

    name: Text
    serial: str = ""
    port: str = ""
    board: str = ""
    meter: str = ""
    settings: tuple[str, ...] = ()
    power_off: str = ""
    power_on: str = ""

    @property
    def port_id(self) -> str:
        """What `find_port` takes."""
        return self.port or self.serial

    @property
    def kind(self) -> Board | None:
        """Its entry in boards/, None when it is not said; ValueError."""
        return find_board(self.board) if self.board else None


class BrokerPlace(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the boards of a bench reach the broker that hil_tests starts on this machine."""

    address: Text
    port: Annotated[int, Meta(ge=1, le=65535)] = 8883


class Bench(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole bench.toml."""

    board: tuple[Place, ...]
    fleet: str = ""
    broker: BrokerPlace | None = None


def load_bench(path: Path) -> Bench:
    """A bench.toml, checked; ValueError names file and reason."""
    try:
        bench = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Bench)
        for place in bench.board:
            if bool(place.serial) == bool(place.port):
                raise ValueError(f"{place.name}: give either serial or port")
            if bool(place.power_off) != bool(place.power_on):
                raise ValueError(f"{place.name}: give both power_off and power_on, or neither")
            place.kind  # noqa: B018 - a board there is none of
        for what in ("name", "port_id"):
            counts = Counter(getattr(place, what) for place in bench.board)
            for value, count in counts.items():
                if count > 1:
                    raise ValueError(f"{value!r} is there {count} times")
    except FileNotFoundError:
        raise ValueError(
            f"{path}: there is no such file; docs/BENCH_WIRING.md shows one"
        ) from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    return bench


def by_serial(number: str) -> Place:
    """A board by its USB serial number alone; ValueError unless exactly one has it."""
    found = [port for port in ports() if port.serial_number == number.removeprefix("id:")]
    if len(found) > 1:
        devices = ", ".join(port.device for port in found)
        raise ValueError(f"{devices} all have the serial number {number}: give --port")
    if not found:
        seen = "; ".join(map(str, ports())) or "none"
        raise ValueError(f"no board has the USB serial number {number!r}; plugged in now: {seen}")
    return Place(name=number, serial=number)
