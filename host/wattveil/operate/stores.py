"""`wattveil store`: back-ups that cannot bring a spent period back, whatever the database.

A back-up is an SQLite file of the same rows. A restored role refuses every period that began up to
the moment of the restoration, since what it did after the back-up was made is forgotten; its boot
number jumps, so that no nonce is used twice.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from wattveil import sealed
from wattveil.privacy import subjects
from wattveil.roles.folders import SEEDS
from wattveil.roles.releases import restart_fleet
from wattveil.store import BaseStore, Row, Store, StoreError, open_store

STORE_FILE = "state.db"
SECRETS = ("meters.json", "links.json", "key.json", subjects.FILE, SEEDS)


def add_store_options(parse: argparse.ArgumentParser, role: str = "role") -> None:
    """How a command is told which store it is about."""
    which = parse.add_mutually_exclusive_group(required=True)
    which.add_argument("--state-dir", type=Path, help=f"the {role}'s folder")
    which.add_argument("--store", metavar="URL", help="postgresql://USER@HOST/DATABASE")


def store_of(arguments: argparse.Namespace, *, shared: bool = False) -> BaseStore:
    """The store that --state-dir or --store names; StoreError."""
    where = arguments.store or arguments.state_dir / STORE_FILE
    return open_store(where, shared=shared)


def options(parse: argparse.ArgumentParser) -> None:
    """The sub-commands and their options."""
    commands = parse.add_subparsers(required=True, metavar="ACTION")
    backup = commands.add_parser("backup", help="copy a store into a file; the role may run")
    backup.add_argument("file", type=Path, help="new file, made with mode 0600")
    restore = commands.add_parser(
        "restore", help="put a back-up back; every period up to now is given up"
    )
    restore.add_argument("file", type=Path)
    start = commands.add_parser(
        "unstop", help="let a fleet go on that three invalid sums have stopped; the centre is down"
    )
    start.add_argument("--reason", required=True, help="what was found; kept in the store")
    lock = commands.add_parser("seal", help="encrypt the secrets in a role's folder")
    lock.add_argument("folder", type=Path)
    lock.add_argument("--key-file", type=Path, required=True, help="passphrase, mode 0600")
    lock.set_defaults(action=_seal)
    for action, run in ((backup, _backup), (restore, _restore), (start, _unstop)):
        add_store_options(action)
        action.set_defaults(action=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out one; the exit status."""
    status: int = arguments.action(arguments)
    return status


def _backup(arguments: argparse.Namespace) -> int:
    with store_of(arguments, shared=True) as store:
        count = copy(store, arguments.file)
    print(f"{count} rows in {arguments.file}: it holds what the store holds, keep it as secret")
    return 0


def copy(store: BaseStore, path: Path) -> int:
    """Write all rows, as they are at one moment, into a new file; how many. StoreError."""
    if path.exists():
        raise StoreError(f"{path} exists already; move it away or choose another name")
    rows = store.snapshot()
    # The folder stays as it is: a back-up is often put into one of somebody else's.
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        with Store(path, private_folder=False) as target:
            target.apply([Row(*row) for row in rows])
    except BaseException:
        path.unlink()
        raise
    finally:
        Path(f"{path}.lock").unlink(missing_ok=True)
    return len(rows)


def _restore(arguments: argparse.Namespace) -> int:
    now = int(time.time())
    with _existing(arguments.file) as source, store_of(arguments) as store:
        if not store.fresh():
            raise StoreError(
                f"{store.name} is in use since its start {_boot(store)}: a back-up goes into a new "
                "store; move the old one away, it may be needed"
            )
        boot = store.restored(now, now, [Row(*row) for row in source.snapshot()])
    Path(f"{arguments.file}.lock").unlink(missing_ok=True)
    print(f"restored; periods that began up to now ({now}) are given up; boot number {boot}")
    return 0


def _existing(path: Path) -> Store:
    if not path.exists():
        raise StoreError(f"{path} does not exist")
    return Store(path, private_folder=False)


def _boot(store: BaseStore) -> int:
    return int.from_bytes(store.get("boot", "") or b"", "little")


def _seal(arguments: argparse.Namespace) -> int:
    """Sealing again is changing nothing; with another passphrase it is refused."""
    os.environ[sealed.VARIABLE] = str(arguments.key_file)
    secret = sealed.passphrase()
    paths = [arguments.folder / name for name in SECRETS if (arguments.folder / name).exists()]
    if not paths:
        raise ValueError(f"{arguments.folder}: no secrets of a role here")
    for path in paths:
        sealed.replace(path, sealed.read(path), secret)
    print(f"sealed: {', '.join(path.name for path in paths)}; start the role with --key-file")
    return 0


def _unstop(arguments: argparse.Namespace) -> int:
    with store_of(arguments) as store:
        store.apply(restart_fleet(arguments.reason, int(time.time()), store.load))
    print("the fleet goes on when its centre is started")
    return 0
