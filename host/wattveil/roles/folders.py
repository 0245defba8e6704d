"""The folders provisioning makes for the roles (roster order everywhere, secrets out of reprs)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wattveil import sealed
from wattveil.paillier.keyfile import load_private
from wattveil.paillier.keys import PrivateKey
from wattveil.privacy import subjects
from wattveil.privacy.ledger import Limits
from wattveil.privacy.subjects import Subjects
from wattveil.roles.common import ConfigError, Record, parse_record
from wattveil.roles.seeds import Seed, Seeds
from wattveil_meter.fields import pack

# Marks a folder of a renewed fleet: its role must not start without the store it had before.
CONTINUES = "continues"

# The ratcheted seeds of a role: {id: {"day", "seed"}}. Provisioning brings them in meters.json, from
# where they come here when the role starts.
SEEDS = "seeds.json"

# By meter number: the key a meter is being moved to, and until when (UTC s) the old one is taken.
NextKeys = dict[int, tuple[bytes, int]]


@dataclass(frozen=True)
class CenterConfig:
    """A centre's folder: secrets of the meters in roster order."""

    record: Record
    roster: tuple[str, ...]
    key: PrivateKey = field(repr=False)
    seeds: Seeds = field(repr=False)
    registration_keys: list[bytes] = field(repr=False)
    cloud: bytes = field(repr=False)  # link key
    dealer_mac: bytes = field(repr=False)  # for certificates
    subjects: Subjects  # who names the households in the ledger
    limits: Limits = field(default_factory=Limits)
    next_keys: NextKeys = field(default_factory=dict, repr=False)  # of registration


def load_center(folder: Path) -> CenterConfig:
    """Read <root>/center; ConfigError, or what `keyfile.load_private` raises."""
    record, roster = load_record(folder)
    key = load_private(folder / "key.json")
    if key.public.n != record.n:
        raise ConfigError(f"{folder / 'key.json'}: not the key of the provisioning record")
    path = folder / "links.json"
    links = load_json(path)
    keys = meter_secrets(folder, roster, ["registration_key"])["registration_key"]
    cloud, dealer = (secret(links, name, path) for name in ("cloud", "dealer_mac"))
    common = (record, roster, key, load_seeds(folder, roster), keys)
    limits, coming = load_limits(folder / "limits.json"), next_keys(folder, roster)
    return CenterConfig(*common, cloud, dealer, load_subjects(folder), limits, coming)


def load_subjects(folder: Path) -> Subjects:
    """The accountant's names, from its key in a centre's folder; ConfigError."""
    path = folder / subjects.FILE
    try:
        return Subjects.read(path)
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is missing: the ledger's names are made with it; bring it, no other will do"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(str(error)) from None


def load_limits(path: Path) -> Limits:
    """The privacy limits of a centre's folder; without the file there are none. ConfigError."""
    if not path.exists():
        return Limits()
    try:
        return Limits.parse(load_json(path))
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


@dataclass(frozen=True)
class CloudConfig:
    """A cloud's folder: link keys in roster order."""

    record: Record
    roster: tuple[str, ...]
    link_keys: list[bytes] = field(repr=False)
    center: bytes = field(repr=False)
    dealer: bytes = field(repr=False)
    next_keys: NextKeys = field(default_factory=dict, repr=False)  # of the meters' links


def load_cloud(folder: Path) -> CloudConfig:
    """Read <root>/cloud; ConfigError."""
    record, roster = load_record(folder)
    path = folder / "links.json"
    links = load_json(path)
    keys = meter_secrets(folder, roster, ["link_key"])["link_key"]
    center, dealer = (secret(links, name, path) for name in ("center", "dealer"))
    return CloudConfig(record, roster, keys, center, dealer, next_keys(folder, roster))


@dataclass(frozen=True)
class DealerConfig:
    """A dealer's folder: seeds in roster order."""

    record: Record
    roster: tuple[str, ...]
    seeds: Seeds = field(repr=False)
    cloud: bytes = field(repr=False)  # link key
    center_mac: bytes = field(repr=False)  # for certificates


def load_dealer(folder: Path) -> DealerConfig:
    """Read <root>/dealer; ConfigError."""
    record, roster = load_record(folder)
    path = folder / "links.json"
    links = load_json(path)
    seeds = load_seeds(folder, roster)
    keys = [secret(links, name, path) for name in ("cloud", "center_mac")]
    return DealerConfig(record, roster, seeds, *keys)


def check_roster(record: Record, roster: tuple[str, ...]) -> None:
    """ConfigError unless `roster` is the one the record names."""
    ids = [name.encode() for name in roster]
    digest = hashlib.sha256(pack(*ids)).digest()
    if ids != sorted(set(ids)) or any(not 1 <= len(i) <= 32 for i in ids):
        raise ConfigError("meter ids are 1..32 bytes, sorted and different from each other")
    if len(ids) != record.roster_size or digest != record.roster_digest:
        raise ConfigError("the roster is not the one in the provisioning record")


def load_json(path: Path) -> dict[str, Any]:
    """A JSON object; ConfigError (never quoting the contents, which may be secret)."""
    try:
        value = json.loads(sealed.read(path))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not JSON"
        raise ConfigError(f"{path}: {reason}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: not a JSON object")
    return value


def load_record(folder: Path) -> tuple[Record, tuple[str, ...]]:
    """Record and roster of a role's folder."""
    try:
        record = parse_record((folder / "record.bin").read_bytes())
    except OSError as error:
        raise ConfigError(f"{folder / 'record.bin'}: {error.strerror}") from None
    names = load_json(folder / "roster.json").get("meters")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f'{folder / "roster.json"}: "meters" is not a list of ids')
    roster = tuple(names)
    check_roster(record, roster)
    return record, roster


def secret(table: Mapping[str, Any], name: str, path: Path) -> bytes:
    """A 32-byte secret from its hexadecimal form; ConfigError."""
    try:
        value = bytes.fromhex(table[name])
    except (KeyError, TypeError, ValueError):
        raise ConfigError(f'{path}: "{name}" is missing or not hexadecimal') from None
    if len(value) != 32:
        raise ConfigError(f'{path}: "{name}" is not 32 bytes')
    return value


def meter_secrets(
    folder: Path, roster: tuple[str, ...], names: Iterable[str]
) -> dict[str, list[bytes]]:
    """For each name of a secret in meters.json: its values, in roster order; ConfigError."""
    path = folder / "meters.json"
    table = load_json(path)
    if set(table) != set(roster):
        raise ConfigError(f"{path}: not exactly the meters of the roster")
    secrets = {name: [secret(table[i], name, path) for i in roster] for name in names}
    for name, values in secrets.items():
        if len(set(values)) < len(values):
            raise ConfigError(f"{path}: two meters have the same {name}: provision again")
    return secrets


def load_seeds(folder: Path, roster: tuple[str, ...]) -> Seeds:
    """The seeds of the roster's meters, those that provisioning has just brought first; ConfigError."""
    inbox, path = folder / "meters.json", folder / SEEDS
    fresh = load_json(inbox)
    kept = load_json(path) if path.exists() else {}
    if set(fresh) != set(roster):
        raise ConfigError(f"{inbox}: not exactly the meters of the roster")
    held, new = [], {}
    for name in roster:
        where = inbox
        try:
            if (seed := Seed.read(fresh[name])) is not None:
                new[name] = seed
            else:
                where = path
                seed = Seed.read(kept.get(name, {}))
        except ValueError as error:
            raise ConfigError(f"{where}: seed of meter {name!r}: {error}") from None
        if seed is None:
            raise ConfigError(
                f"{path}: no seed of meter {name!r}: bring the {SEEDS} this role had before, or draw"
                " new ones by wattveil board provision --rekey"
            )
        held.append(seed)
    if len({seed.secret for seed in held}) < len(held):
        raise ConfigError(f"{folder}: two meters have the same seed: provision again")

    def keep(seeds: Sequence[Seed]) -> None:
        pairs = zip(roster, seeds, strict=True)  # no table of them all: it may be a city's
        lines = (f"{json.dumps(name)}: {json.dumps(seed.entry())}" for name, seed in pairs)
        try:
            sealed.replace(path, ("{" + ",\n".join(lines) + "}\n").encode(), like=inbox)
        except sealed.SealError as error:
            raise OSError(str(error)) from None

    def taken() -> None:
        """From a seed left in meters.json all later ones could be computed."""
        table = load_json(inbox)
        for name, seed in new.items():
            if Seed.read(table[name]) == seed:  # not one that came meanwhile
                del table[name]["seed"], table[name]["day"]
        sealed.replace(inbox, (json.dumps(table, indent=1) + "\n").encode())

    return Seeds(held, keep, taken if new else None)


def next_keys(folder: Path, roster: tuple[str, ...]) -> NextKeys:
    """What `wattveil meter rotate` wrote into meters.json: "next_key", "until"; ConfigError."""
    path = folder / "meters.json"
    table = load_json(path)
    keys = {}
    for number, name in enumerate(roster, 1):
        if "next_key" in table[name]:
            until = table[name].get("until")
            if not isinstance(until, int) or until < 0:
                raise ConfigError(f'{path}: "until" of a rotated key is not a time in UTC seconds')
            keys[number] = secret(table[name], "next_key", path), until
    return keys
