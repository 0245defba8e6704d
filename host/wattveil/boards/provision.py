"""A board becomes a meter of a fleet, by cable; or takes up a newer record, and stays the same meter.

Counters guard the keys: a boot number used twice under one link key is a nonce used twice, and a
period begun twice is two readings under one mask (PROTOCOL.md, 7 and 12); and of a seed that stays
behind all later ones can be computed (6). So counters and seeds are in one place only. They come into
being with the keys, in the meter's folder; provisioning *moves* them to the board, where they stay,
whatever record or number the meter gets later. A package whose counters are gone goes to no other
board: its keys are drawn anew (`rekey`).
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wattveil.boards.deploy import (
    PACKAGE,
    Deployed,
    Progress,
    bring_up_to_date,
    deploy,
    write,
)
from wattveil.boards.repl import BoardError, RawRepl
from wattveil.boards.schema import Board
from wattveil.fleet.packages import LIVING, METER_MAGIC, SEEDS_BIN, MeterPackage, load_package
from wattveil.fleet.tables import table_set
from wattveil_meter.fields import Malformed, pack, unpack
from wattveil_meter.record import Record
from wattveil_meter.store import READY

SECRETS, STAGED = "meter.bin", "meter.new"  # a meter starts with the former only
POLL_MS, DEMO_POLL_MS = 1000, 200  # the demo's clock stands until told otherwise
# Everything a meter's life leaves in flash; what its config.json names comes on top.
LEFT = (
    *(SECRETS, STAGED, *LIVING, "starts.bin", "sensor.bin"),
    *("record.bin", "h.tab", "s.tab", "readings.csv", "log.txt", "log.old"),
    *(f"{READY}/{name}" for name in LIVING),
)
FILE_KEYS = ("ca", "cert", "file", "key", "password_file")  # of config.json: names of files
_IDENTITY = f"""
def _identity(name):
    from hashlib import sha256
    from {PACKAGE}.fields import pack, unpack
    d = _read(name)
    try:
        p = unpack(d, 6)
    except Exception:
        return None
    return p[1], int.from_bytes(p[2], 'little'), sha256(pack(p[1], p[3], p[4], p[5])).digest()
"""
_FORM = f"""
def _form(n):
    from {PACKAGE}.kernels import choose
    return choose(n, 'auto', _feed).form
"""
_VALUE = f"""
def _value(name):
    from {PACKAGE}.store import Damaged, FileStorage
    try:
        value = FileStorage().read(name)
    except Damaged:
        return None
    return b'' if name == '{SEEDS_BIN}' else value
"""
_SELFTEST = f"""
def _selftest(secrets):
    import gc
    from {PACKAGE} import selftest
    from {PACKAGE}.cipher import table_digest
    from {PACKAGE}.kernels import choose
    from {PACKAGE}.package import Package
    p = Package(_read('record.bin'), _read(secrets))
    r = choose(p.record.n, 'auto', _feed)
    wrong = selftest.run(r)
    gc.collect()
    allowed = [p.record.tables[i:i + 32] for i in range(0, len(p.record.tables), 32)]
    for name in ('h.tab', 's.tab'):
        if _size(name) >= 0:
            _feed()
            with open(name, 'rb') as f:
                if table_digest(f) not in allowed:
                    wrong = wrong or name
    return r.name, wrong
"""


@dataclass(frozen=True)
class Identity:
    """Which meter a board is: id, number, and a digest of the keys that its counters guard."""

    id: str
    number: int
    keys: bytes

    def __repr__(self) -> str:
        return f"Identity({self.id!r}, {self.number}, keys {self.keys[:8].hex()})"


@dataclass(frozen=True)
class Joined:
    """port: to hand to the cloud runner. copied: files that differed. kernel: of the self-test.

    fresh: the keys are new to the board, and its counters begin; else they went on.
    """

    port: str
    copied: tuple[str, ...]
    bytes_copied: int
    fresh: bool
    kernel: str
    deployed: Deployed


def identity_of(secrets: bytes) -> Identity:
    """The identity in a meter.bin; Malformed."""
    parts = unpack(secrets, 6)
    if parts[0] != METER_MAGIC:
        raise Malformed("not a meter's secrets")
    digest = hashlib.sha256(pack(parts[1], *parts[3:])).digest()
    return Identity(parts[1].decode(), int.from_bytes(parts[2], "little"), digest)


def board_identity(repl: RawRepl) -> Identity | None:
    """The identity a board holds, ready or half provisioned; the firmware must be on it."""
    repl.run(_IDENTITY)
    for name in (SECRETS, STAGED):
        answer = repl.ask(f"_identity({name!r})")
        if answer:
            meter_id, number, keys = answer
            return Identity(meter_id.decode("utf-8", "replace"), number, keys)
    return None


def stored_values(repl: RawRepl, names: Iterable[str]) -> dict[str, bytes | None]:
    """What the meter itself stored under these names, None where it is lost or damaged; no seeds."""
    repl.run(_VALUE)
    return {name: repl.ask(f"_value({name!r})") for name in names}


def board_record(repl: RawRepl) -> Any:
    """The provisioning record a board holds (public), None when it holds none that is one."""
    try:
        return Record.parse(repl.ask("_read('record.bin')"))
    except Malformed:
        return None


def join_board(
    port_id: str,
    package: Mapping[str, bytes],
    progress: Progress | None = None,
    *,
    main: Path | None = None,
) -> Joined:
    """For the demo: make the board the meter of `package` whatever it was, with readings of the bench.

    package: as MeterPackage.files of a fleet that was made for this. BoardError.
    """
    wanted = identity_of(package[SECRETS])
    files = {name: data for name, data in package.items() if name in LIVING}
    config = {"sensor": {"kind": "demo"}, "link": {"kind": "serial"}, "poll_ms": DEMO_POLL_MS}
    with RawRepl(port_id) as repl:
        deployed = deploy(repl, progress, main=main)
        return _join(repl, wanted, package, files, lambda: None, config, {}, progress, deployed)


def provision_board(
    port_id: str,
    folder: Path,
    *,
    board: Board | None = None,
    settings: Sequence[Path] = (),
    sensor: str | None = None,
    erase: bool = False,
    progress: Progress | None = None,
) -> Joined:
    """Make a board the meter of `folder` (<fleet>/meters/<id>), program and all; BoardError.

    A board that is this meter already gets record, number, tables and program, and goes on counting.
    erase: allow that a board gives up another meter's keys. settings: TOML files with the tables
    `sensor` and `link` of config.json. sensor: a kind, wired as board.toml says. Without either, a
    board keeps the config.json it has.
    """
    package = load_package(folder)
    counters = {n: (folder / n).read_bytes() for n in LIVING if (folder / n).exists()}
    wanted = identity_of(package.files[SECRETS])

    def move() -> None:
        for name in counters:
            (folder / name).unlink()

    with RawRepl(port_id) as repl:
        deployed = deploy(repl, progress, board=board)
        held, record = board_identity(repl), board_record(repl)
        _check(repl.name, folder, wanted, held, record, package, counters, erase)
        same = held is not None and held.keys == wanted.keys
        config: dict[str, Any] | None = None
        extra: dict[str, bytes] = {}
        if not same or settings or sensor is not None:
            config, extra = make_config(deployed.board, settings, sensor)
        files = package.files
        return _join(repl, wanted, files, counters, move, config, extra, progress, deployed)


def _check(
    name: str,
    folder: Path,
    wanted: Identity,
    held: Identity | None,
    record: Any,
    package: MeterPackage,
    counters: Mapping[str, bytes],
    erase: bool,
) -> None:
    """What must not be done; BoardError says what to do instead."""
    new = Record.parse(package.files["record.bin"])
    if held is not None and held.keys == wanted.keys:
        epochs = (new.key_epoch, new.roster_epoch)
        if record is not None and (record.key_epoch, record.roster_epoch) > epochs:
            raise BoardError(
                f"{name}: has a newer record of this fleet (key epoch {record.key_epoch}, roster"
                f" epoch {record.roster_epoch}): provision it from the renewed fleet's folder"
            )
        return
    if held is not None and not erase:
        whose = f"fleet {record.fleet.hex()}" if record is not None else "an unknown fleet"
        raise BoardError(
            f"{name}: is meter {held.id!r} of {whose}: --erase makes it give up those keys, its"
            " stored period and its counters for good"
        )
    if set(counters) != set(LIVING):
        raise BoardError(
            f"{folder}: the counters and seeds of meter {wanted.id!r} are on the board that was provisioned"
            " from here. Provision that board, or draw new keys with --rekey: the old board is"
            " then refused, and the roles must be restarted with their folders as changed here"
        )


def make_config(
    board: Board | None, settings: Sequence[Path], sensor: str | None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """config.json for a board, and the files it names; ValueError.

    What `settings` say comes before what board.toml says. A file's name in one is relative to it; the
    board gets the file under its last name.
    """
    chosen: dict[str, Any] = {}
    extra: dict[str, bytes] = {}
    for path in settings:
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{path}: {error}") from None
        for name in table:
            if name not in ("sensor", "link", "poll_ms", "watchdog_ms"):
                raise ValueError(f"{path}: no setting is called {name!r}")
            if name in chosen:
                raise ValueError(f"{path}: {name!r} is in another settings file too")
        _take_files(table, path.parent, extra)
        chosen |= table
    given = dict(chosen.get("sensor", {}))
    kind = sensor or given.get("kind", "simulated")
    wired: dict[str, Any] = dict(board.sensors.get(kind, {})) if board else {}
    own = given if given.get("kind", kind) == kind else {}
    config: dict[str, Any] = {
        "sensor": {"kind": kind, **wired, **own},
        "link": chosen.get("link", {"kind": "serial"}),
        "poll_ms": chosen.get("poll_ms", POLL_MS),
        "watchdog_ms": chosen.get("watchdog_ms", board.reset.watchdog_ms if board else 0),
    }
    return config, extra


def _take_files(table: dict[str, Any], folder: Path, extra: dict[str, bytes]) -> None:
    for key, value in table.items():
        if isinstance(value, dict):
            _take_files(value, folder, extra)
        elif key in FILE_KEYS:
            names = value if isinstance(value, list) else [value]
            for name in names:
                extra[Path(name).name] = (folder / name).read_bytes()
            last = [Path(name).name for name in names]
            table[key] = last if isinstance(value, list) else last[0]


def _join(
    repl: RawRepl,
    wanted: Identity,
    package: Mapping[str, bytes],
    counters: Mapping[str, bytes],
    move: Callable[[], None],
    config: Mapping[str, Any] | None,
    extra: Mapping[str, bytes],
    progress: Progress | None,
    deployed: Deployed,
) -> Joined:
    """Write the meter's files in an order in which half a meter neither starts nor loses count."""
    held = board_identity(repl)
    fresh = held is None or held.keys != wanted.keys
    record = Record.parse(package["record.bin"])
    repl.run(_FORM)
    form = repl.ask(f"_form({record.n:#x})")
    files = {"record.bin": package["record.bin"], **table_set(record)[1][form], **extra}
    if config is not None:
        files["config.json"] = (json.dumps(config) + "\n").encode()
    names: list[str] = []
    size = 0
    if fresh:
        erase_meter(repl)
        size += bring_up_to_date(repl, counters, None).size
        names += counters
        move()  # from here on the board has them, or nobody
    elif None in stored_values(repl, LIVING).values():
        raise BoardError(
            f"{repl.name}: the counters or seeds of meter {wanted.id!r} are lost or damaged: draw new keys"
            " for it with --rekey"
        )
    secrets = package[SECRETS]
    renewed = fresh or repl.ask(f"_hash({SECRETS!r})") != hashlib.sha256(secrets).digest()
    if renewed:
        for _ in write(repl, STAGED, secrets):
            pass
        repl.run(f"_remove({SECRETS!r})")
    else:
        repl.run(f"_remove({STAGED!r})")  # half of one, when a renewal broke off
        if repl.ask("_read('record.bin')") != package["record.bin"]:
            repl.run(f"os.rename({SECRETS!r}, {STAGED!r})")
    copied = bring_up_to_date(repl, files, progress)
    held_now = STAGED if repl.ask(f"_size({STAGED!r})") >= 0 else SECRETS
    repl.run(_SELFTEST)
    kernel, wrong = repl.ask(f"_selftest({held_now!r})")
    if wrong:
        raise BoardError(
            f"{repl.name}: fails its self-test ({wrong}): it is not started as a meter"
        )
    if held_now == STAGED:
        repl.run(f"os.rename({STAGED!r}, {SECRETS!r})")
    names += [*copied.names, *[SECRETS] * renewed]
    all_names = (*deployed.copied.names, *names)
    size += deployed.copied.size + copied.size + len(secrets) * renewed
    return Joined(repl.port, all_names, size, fresh, kernel, deployed)


def erase_meter(repl: RawRepl) -> None:
    """Remove a meter's keys, then all else it left, and the files its config.json names.

    Flash keeps old blocks until they are erased for something new: whoever takes the chip apart may
    still find them. `wattveil board flash --erase` erases them all.
    """
    try:
        config = json.loads(repl.ask("_read('config.json')") or b"{}")
    except ValueError:
        config = {}
    for name in (*LEFT, *(f"{n}.new" for n in LEFT), *_named(config), "config.json"):
        repl.run(f"_remove({name!r})")


def _named(table: Any) -> list[str]:
    """The files a config.json names."""
    found: list[str] = []
    if isinstance(table, dict):
        for key, value in table.items():
            if key in FILE_KEYS:
                found += [n for n in (value if isinstance(value, list) else [value])
                          if isinstance(n, str)]  # fmt: skip
            found += _named(value)
    return found
