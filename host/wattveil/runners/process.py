"""One role in a process of its own.

    python -m wattveil.runners.process ROLE --state-dir DIR [--listen ADDR] [--peer NAME=ADDR]...
        [--port PORT]... [--control] [--deadline S] [--synchronous FULL|NORMAL]

ADDR is unix:/path or tcp:host:port. What a peer sends is never trusted: garbage, huge lengths and
half frames cost a counter or the connection, never the process or another peer. A store that
fails ends the process, because then the role's memory is ahead of its disk.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from wattveil.links.serial import open_serial
from wattveil.paillier.keyfile import InsecureKeyFile
from wattveil.paillier.keys import InvalidKey
from wattveil.roles.center import Center
from wattveil.roles.cloud import DEADLINE_S, Cloud
from wattveil.roles.common import Clock, ConfigError, Role
from wattveil.roles.dealer import Dealer
from wattveil.roles.effects import Effect
from wattveil.roles.folders import load_center, load_cloud, load_dealer
from wattveil.runners.clocks import ControlledClock, SystemClock
from wattveil.runners.control import Control
from wattveil.runners.loop import Runner
from wattveil.runners.sockets import parse_address
from wattveil.store import Store, StoreError

ROLES = ("center", "cloud", "dealer")
UNUSABLE = 2  # exit status: configuration or store, with a message


def build(
    name: str, folder: Path, store: Store, clock: Clock, deadline_s: float = DEADLINE_S
) -> tuple[Role, list[Effect]]:
    """A role from its folder and its store, and what it wants done first. ConfigError, StoreError."""
    role: Role
    if name == "center":
        config = load_center(folder)
        role = Center(config, store.boot(), clock, os.urandom)
    elif name == "cloud":
        role = Cloud(load_cloud(folder), store.boot(), clock, os.urandom, deadline_s)
    elif name == "dealer":
        role = Dealer(load_dealer(folder), store.boot(), clock)
    else:
        raise ConfigError(f"{name} is no role; roles are {', '.join(ROLES)}")
    return role, role.restore(store.load)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(prog="wattveil")
    parse.add_argument("role", choices=ROLES)
    parse.add_argument("--state-dir", type=Path, help="the role's folder, from wattveil keygen")
    parse.add_argument("--config", type=Path, help="TOML file with any of these options")
    parse.add_argument("--listen", help="unix:/path or tcp:host:port")
    parse.add_argument("--peer", action="append", default=[], help="center=ADDR, dealer=ADDR")
    parse.add_argument("--port", action="append", default=[], help="a meter's serial port")
    parse.add_argument("--control", action="store_true", help="JSON lines on stdin (demo)")
    parse.add_argument("--deadline", type=float, default=DEADLINE_S, help="seconds for reports")
    parse.add_argument("--synchronous", choices=("FULL", "NORMAL"), default="FULL")
    parse.add_argument("--log", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    return parse


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, after the options in the file --config names; ConfigError."""
    parse = parser()
    arguments = parse.parse_args(argv)
    if arguments.config is not None:
        given = list(sys.argv[1:] if argv is None else argv)
        role = given.index(arguments.role)
        given[role + 1 : role + 1] = _options_of(arguments.config)
        arguments = parse.parse_args(given)
    if arguments.state_dir is None:
        raise ConfigError("--state-dir is missing: the role's folder, from wattveil keygen")
    return arguments


def _options_of(path: Path) -> list[str]:
    """A TOML file as the options it stands for: `listen = "unix:/x"`, `peer = ["center=…"]`."""
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    options = []
    for name, value in table.items():
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, (str, int, float)) or isinstance(one, bool):
                raise ConfigError(f"{path}: {name}: a text, a number or a list of them, please")
            options.append(f"--{name}={one}")
    return options


def _check_address(text: str) -> None:
    try:
        parse_address(text)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _peer(role: str, text: str) -> tuple[str, str]:
    name, _, address = text.partition("=")
    if role != "cloud" or name not in ("center", "dealer"):
        raise ConfigError(
            f"--peer {text}: the cloud connects to center and dealer, others to none"
        )
    _check_address(address)
    return name, address


def run(arguments: argparse.Namespace) -> None:
    """Run one role until SIGTERM, SIGINT or a stop command."""
    peers = [_peer(arguments.role, peer) for peer in arguments.peer]
    if arguments.listen:
        _check_address(arguments.listen)
    clock = ControlledClock() if arguments.control else SystemClock()
    with Store(arguments.state_dir / "state.db", arguments.synchronous) as store:
        role, first = build(arguments.role, arguments.state_dir, store, clock, arguments.deadline)
        runner = Runner(role, store, open_serial)
        with contextlib.closing(runner):
            for sign in (signal.SIGTERM, signal.SIGINT):
                signal.signal(sign, lambda *_: runner.stop())
            for name, address in peers:
                runner.dial(name, address)
            for port in arguments.port:
                runner.attach(port)
            runner.carry_out(first)
            if arguments.listen:
                runner.listen(arguments.listen)
            if isinstance(clock, ControlledClock):
                Control(runner, clock)
            runner.run()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit status."""
    try:
        arguments = parse_arguments(argv)
        logging.basicConfig(
            level=arguments.log, format=f"%(asctime)s {arguments.role} %(levelname)s %(message)s"
        )
        run(arguments)
    except (ConfigError, StoreError, InvalidKey, InsecureKeyFile, OSError) as error:
        print(f"wattveil: {error}", file=sys.stderr)
        return UNUSABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
