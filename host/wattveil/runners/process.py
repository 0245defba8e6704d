"""One role in a process of its own.

`wattveil ROLE --help` lists the options; --control, for the demo, is explained in control.py.
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

WHAT = {
    "center": "It holds the private key and opens one noisy total a period.",
    "cloud": "It holds the meters' links and multiplies what it cannot read.",
    "dealer": "It holds the meters' masks and closes each period once.",
}
ROLES = tuple(WHAT)
log = logging.getLogger("wattveil.runner")
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


def parser(role: str) -> argparse.ArgumentParser:
    """The command line of one role."""
    parse = argparse.ArgumentParser(
        prog=f"wattveil {role}",
        description=f"Run the {role} of a fleet. {WHAT[role]}",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        argument_default=None,
    )
    add = parse.add_argument
    add("--state-dir", type=Path, help=f"the {role}'s folder, from wattveil keygen")
    add("--config", type=Path, help="TOML file with any of these options, by their names")
    if role == "cloud":
        add("--peer", action="append", default=[], metavar="NAME=ADDR",
            help="where to find center and dealer; give it twice")  # fmt: skip
        add("--port", action="append", default=[], metavar="ID",
            help="a meter's serial port, by USB serial number or path (repeatable)")  # fmt: skip
        add("--deadline", type=float, default=DEADLINE_S, metavar="S",
            help="seconds after a period's end until missing meters are given up")  # fmt: skip
    who = "meters that come by socket" if role == "cloud" else "the cloud"
    add("--listen", metavar="ADDR", help=f"unix:/path or tcp:host:port, for {who}")
    add("--synchronous", choices=("FULL", "NORMAL"), default="FULL",
        help="of the store: NORMAL may lose the last moments in a power cut")  # fmt: skip
    add("--log", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"), help="to stderr")
    add("--control", action="store_true", help=argparse.SUPPRESS)  # JSON lines on stdin: the demo
    parse.set_defaults(role=role, listen=None, peer=[], port=[], deadline=DEADLINE_S)
    return parse


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """ROLE and its command line, after the options in the file --config names; ConfigError."""
    role, *given = argv
    if role not in ROLES:
        raise ConfigError(f"{role} is no role; roles are {', '.join(ROLES)}")
    parse = parser(role)
    arguments = parse.parse_args(given)
    if arguments.config is not None:
        arguments = parse.parse_args([*_options_of(arguments.config), *given])
    folder = arguments.state_dir
    if folder is None:
        raise ConfigError("--state-dir is missing: the role's folder, from wattveil keygen")
    if not (folder / "record.bin").exists() or not (folder / "links.json").exists():
        raise ConfigError(f"{folder} is no role's folder: wattveil keygen makes them")
    if (role == "center") != (folder / "key.json").exists():
        raise ConfigError(f"{folder} is not the folder of a {role}")
    if arguments.control:
        return arguments
    if role == "cloud" and len(arguments.peer) != 2:
        raise ConfigError("the cloud needs --peer center=ADDR and --peer dealer=ADDR")
    if role != "cloud" and not arguments.listen:
        raise ConfigError(f"the {role} needs --listen ADDR, where the cloud finds it")
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


def _peer(text: str) -> tuple[str, str]:
    name, _, address = text.partition("=")
    if name not in ("center", "dealer"):
        raise ConfigError(f"--peer {text}: the cloud connects to center=ADDR and dealer=ADDR")
    _check_address(address)
    return name, address


def run(arguments: argparse.Namespace) -> None:
    """Run one role until SIGTERM, SIGINT or a stop command."""
    peers = [_peer(peer) for peer in arguments.peer]
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
                log.info("listening on %s", arguments.listen)
            if isinstance(clock, ControlledClock):
                Control(runner, clock)
            runner.run()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit status."""
    try:
        arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
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
