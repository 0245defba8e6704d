"""One role in a process of its own.

`wattveil ROLE --help` lists the options; --control, for the demo, is explained in control.py.
ADDR is unix:/path or tcp:host:port. What a peer sends is never trusted: garbage, huge lengths and
half frames cost a counter or the connection, never the process or another peer. A store that
fails ends the process, because then the role's memory is ahead of its disk.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import logging
import os
import signal
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wattveil import sealed
from wattveil.links.serial import open_serial
from wattveil.paillier.factory import RowPool
from wattveil.paillier.keyfile import InsecureKeyFile
from wattveil.paillier.keys import InvalidKey
from wattveil.paillier.rows import InlineRows, RowSource
from wattveil.roles.center import Center
from wattveil.roles.cloud import DEADLINE_S, Cloud
from wattveil.roles.common import Clock, ConfigError, Role
from wattveil.roles.dealer import Dealer
from wattveil.roles.effects import Effect
from wattveil.roles.folders import (
    CONTINUES,
    CloudConfig,
    load_center,
    load_cloud,
    load_dealer,
    load_record,
)
from wattveil.roles.uploads import row_recipe
from wattveil.roles.worker import CloudWorker
from wattveil.runners.clocks import ControlledClock, SystemClock
from wattveil.runners.control import Control
from wattveil.runners.loop import Runner
from wattveil.runners.observe import JsonLines, Observer
from wattveil.runners.sockets import parse_address
from wattveil.runners.status import StatusServer
from wattveil.runners.tls import FOLDER, Tls
from wattveil.sealed import SealError
from wattveil.store import BaseStore, StoreError, open_store

if TYPE_CHECKING:  # imported only where used
    from wattveil.links.mqtt import MqttLink

WHAT = {
    "center": "It holds the private key and opens one noisy total a period.",
    "cloud": "It holds the meters' links and multiplies what it cannot read.",
    "dealer": "It holds the meters' masks and closes each period once.",
}
ROLES = tuple(WHAT)
log = logging.getLogger("wattveil.runner")
ROW_WORKERS, PERIODS_AHEAD = 1, 2  # of the row factory
UNUSABLE = 2  # exit status: configuration or store, with a message


def begin(store: BaseStore, period_s: int, clock: Clock) -> None:
    """Treat a store on which no role ever started as a restored one: the old one may be lost.

    No period that has ended is closed or opened, and no nonce of an earlier life is used again.
    Not for a demonstration, whose clock is not the time.
    """
    if store.fresh() and clock.running and not isinstance(clock, ControlledClock):
        store.restored(clock.now() - period_s, clock.now())


def _rows_inline(fleet: CloudConfig) -> RowSource:
    return InlineRows(row_recipe(fleet.record))


def build(
    name: str,
    folder: Path,
    store: BaseStore,
    clock: Clock,
    deadline_s: float = DEADLINE_S,
    rows: Callable[[CloudConfig], RowSource] = _rows_inline,
    cloud: type[Cloud] = Cloud,
) -> tuple[Role, list[Effect]]:
    """A role from its folder and its store, and what it wants done first. ConfigError, StoreError."""
    role: Role
    if (folder / CONTINUES).exists() and not store.load("boot"):
        raise ConfigError(
            f"{folder}: of a renewed fleet, but the store of the folder before is missing: bring its"
            " state.db, or counters and ledger would begin anew"
        )
    begin(store, load_record(folder)[0].period_s, clock)
    if name == "center":
        config = load_center(folder)
        role = Center(config, store.boot(), clock, os.urandom)
    elif name == "cloud":
        fleet = load_cloud(folder)
        role = cloud(fleet, store.boot(), clock, rows(fleet), deadline_s)
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
        add("--row-workers", type=int, default=ROW_WORKERS, metavar="N",
            help="idle-time processes that make rows ahead; 0: when a meter asks")  # fmt: skip
        add("--mqtt", metavar="URL", help="broker of the meters, mqtts://host:port")
        add("--mqtt-ca", type=Path, metavar="FILE", help="authority of its certificate, PEM")
        add("--mqtt-user", metavar="NAME", help="the cloud's account there")
        add("--mqtt-password-file", type=Path, metavar="FILE", help="one line, mode 0600")
        add("--group", metavar="NAME",
            help="this is one of several processes that are the cloud: they share --mqtt's"
            " requests under that name, and a postgresql:// store")  # fmt: skip
    who = "meters that come by socket" if role == "cloud" else "the cloud"
    add("--listen", metavar="ADDR", help=f"unix:/path or tcp:host:port, for {who}")
    add("--status", metavar="ADDR", help="unix:/path or tcp:host:port, for wattveil web")
    add("--store", metavar="URL",
        help="postgresql://USER@HOST/DATABASE instead of state.db in --state-dir")  # fmt: skip
    add("--synchronous", choices=("FULL", "NORMAL"), default="FULL",
        help="of the store: NORMAL may lose the last moments in a power cut")  # fmt: skip
    add("--log", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"), help="to stderr")
    add("--key-file", type=Path, metavar="FILE",
        help=f"passphrase of sealed secrets, mode 0600; or {sealed.VARIABLE}")  # fmt: skip
    add("--log-format", default="text", choices=("text", "json"), help="json: one object a line")
    add("--observe", metavar="[HOST:]PORT",
        help="serve /metrics, /healthz and /status over HTTP; on this machine without HOST")  # fmt: skip
    add("--control", action="store_true", help=argparse.SUPPRESS)  # JSON lines on stdin: the demo
    add("--clock", type=int, help=argparse.SUPPRESS)  # with --control: frozen at this UTC s
    parse.set_defaults(role=role, listen=None, peer=[], port=[], deadline=DEADLINE_S, mqtt=None)
    return parse


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """ROLE and its command line; before it, and weaker, environment and --config file; ConfigError."""
    role, *given = argv
    if role not in ROLES:
        raise ConfigError(f"{role} is no role; roles are {', '.join(ROLES)}")
    parse = parser(role)
    given = [*_environment(parse, role), *given]
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
    if role == "cloud" and arguments.group:
        if arguments.listen or arguments.port or not arguments.mqtt:
            raise ConfigError("--group: such a cloud meets its meters at --mqtt, and nowhere else")
        if not (arguments.store or "").startswith(("postgresql:", "postgres:")):
            raise ConfigError("--group needs --store postgresql://…, which the others use too")
    if role != "cloud" and not arguments.listen:
        raise ConfigError(f"the {role} needs --listen ADDR, where the cloud finds it")
    return arguments


def _environment(parse: argparse.ArgumentParser, role: str) -> list[str]:
    """WATTVEIL_CENTER_LISTEN=… as --listen=…; options that may come often: divided by blanks."""
    options = []
    for name, default in vars(parse.parse_args([])).items():
        value = os.environ.get(f"WATTVEIL_{role}_{name}".upper())
        if value and name not in ("role", "control"):
            often = isinstance(default, list)
            option = name.replace("_", "-")
            options += [f"--{option}={one}" for one in (value.split() if often else [value])]
    return options


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


def _broker(arguments: argparse.Namespace, folder: Path) -> MqttLink | None:
    """The cloud's broker, if it has one; ConfigError, OSError."""
    if arguments.mqtt is None:
        return None
    given = {name: getattr(arguments, f"mqtt_{name}") for name in ("ca", "user", "password_file")}
    for name, value in given.items():
        if value is None:
            raise ConfigError(f"--mqtt needs --mqtt-{name.replace('_', '-')}")
    from wattveil.links.mqtt import Account, MqttLink, parse_url

    try:
        account = Account(*parse_url(arguments.mqtt), **given)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    config = load_cloud(folder)
    return MqttLink(account, config.record.fleet, len(config.roster), arguments.group)


def _runner(role: Role, store: BaseStore, tls: Tls | None) -> Runner:
    if isinstance(role, CloudWorker):
        from wattveil.runners.shared import WorkerRunner
        from wattveil.store.postgres import SharedStore

        assert isinstance(store, SharedStore)
        return WorkerRunner(role, store, open_serial, tls)
    return Runner(role, store, open_serial, tls)


def _tls(arguments: argparse.Namespace, peers: list[tuple[str, str]]) -> Tls | None:
    """TLS for tcp: addresses where the folder has certificates; ConfigError where it must have."""
    serves = arguments.role != "cloud"
    addresses = [address for _, address in peers]
    addresses += [arguments.listen] if serves and arguments.listen else []
    if (arguments.state_dir / FOLDER).is_dir():
        return Tls(arguments.state_dir / FOLDER, serves)
    for address in addresses:
        kind, where = parse_address(address)
        if kind == "tcp" and not _on_this_machine(str(where[0])):
            raise ConfigError(
                f"{address}: roles on other machines are reached by TLS only; "
                "wattveil tls issue makes the certificates"
            )
    return None


def _on_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _observe(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) >= 1 << 16:
        raise ConfigError(f"--observe {text}: a port, or host:port")
    return host.strip("[]") or "127.0.0.1", int(port)


def run(arguments: argparse.Namespace) -> bool:
    """Run one role until SIGTERM, SIGINT or a stop command; True after SIGHUP: run it again."""
    peers = [_peer(peer) for peer in arguments.peer]
    for address in filter(None, (arguments.listen, arguments.status)):
        _check_address(address)
    if arguments.key_file:
        os.environ[sealed.VARIABLE] = str(arguments.key_file)
    tls = _tls(arguments, peers)
    again = False

    def hang_up(*_: object) -> None:
        nonlocal again
        again = True
        runner.stop()

    broker = _broker(arguments, arguments.state_dir)
    clock = ControlledClock(arguments.clock) if arguments.control else SystemClock()
    where = arguments.store or arguments.state_dir / "state.db"
    group = arguments.role == "cloud" and arguments.group is not None
    opened = open_store(where, arguments.synchronous, group=group)
    with opened as store, contextlib.ExitStack() as stack:

        def rows(fleet: CloudConfig) -> RowSource:
            if arguments.row_workers < 1:
                return _rows_inline(fleet)
            ahead = PERIODS_AHEAD * len(fleet.roster)
            return stack.enter_context(
                RowPool(row_recipe(fleet.record), arguments.row_workers, ahead)
            )

        folder, deadline = arguments.state_dir, arguments.deadline
        kind = CloudWorker if group else Cloud
        role, first = build(arguments.role, folder, store, clock, deadline, rows, kind)
        runner = _runner(role, store, tls)
        with contextlib.closing(runner):
            for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                act = hang_up if sign == signal.SIGHUP else lambda *_: runner.stop()
                # Given back at the end: between two runs nobody would hear what a stopped runner is told.
                stack.callback(signal.signal, sign, signal.signal(sign, act))
            if arguments.observe:
                observer = Observer(_observe(arguments.observe), runner.status)
                stack.callback(observer.close)
                runner.watch(observer.fileno(), observer.turn)
                log.info("observed on port %d", observer.port)
            for name, address in peers:
                runner.dial(name, address)
            for port in arguments.port:
                runner.attach(port)
            runner.carry_out(first)
            if arguments.listen:
                runner.listen(arguments.listen)
                log.info("listening on %s", arguments.listen)
            if arguments.status:
                stack.callback(StatusServer(runner, arguments.status).close)
            if broker is not None:
                runner.join(broker)
                broker.start()
            if isinstance(clock, ControlledClock):
                Control(runner, clock)
            runner.run()
    return again


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit status."""
    try:
        arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
        logging.basicConfig(
            level=arguments.log, format=f"%(asctime)s {arguments.role} %(levelname)s %(message)s"
        )
        if arguments.log_format == "json":
            logging.getLogger().handlers[0].setFormatter(JsonLines(arguments.role))
        while run(arguments):
            log.info("starting again")
    except (ConfigError, StoreError, InvalidKey, InsecureKeyFile, SealError, OSError) as error:
        print(f"wattveil: {error}", file=sys.stderr)
        return UNUSABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
