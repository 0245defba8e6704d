"""The folders provisioning makes for the roles (roster order everywhere, secrets out of reprs)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wattveil import sealed
from wattveil.paillier.keyfile import load_private
from wattveil.paillier.keys import PrivateKey
from wattveil.privacy.ledger import Limits
from wattveil.roles.common import ConfigError, Record, parse_record
from wattveil_meter.fields import pack

# Marks a folder of a renewed fleet: its role must not start without the store it had before.
CONTINUES = "continues"

# By meter number: the key a meter is being moved to, and until when (UTC s) the old one is taken.
NextKeys = dict[int, tuple[bytes, int]]


@dataclass(frozen=True)
class CenterConfig:
    """A centre's folder: secrets of the meters in roster order."""

    record: Record
    roster: tuple[str, ...]
    key: PrivateKey = field(repr=False)
    seeds: list[bytes] = field(repr=False)
    registration_keys: list[bytes] = field(repr=False)
    cloud: bytes = field(repr=False)  # link key
    dealer_mac: bytes = field(repr=False)  # for certificates
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
    secrets = meter_secrets(folder, roster, ["seed", "registration_key"])
    cloud, dealer = (secret(links, name, path) for name in ("cloud", "dealer_mac"))
    common = (record, roster, key, secrets["seed"], secrets["registration_key"])
    limits, coming = load_limits(folder / "limits.json"), next_keys(folder, roster)
    return CenterConfig(*common, cloud, dealer, limits, coming)


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
    seeds: list[bytes] = field(repr=False)
    cloud: bytes = field(repr=False)  # link key
    center_mac: bytes = field(repr=False)  # for certificates


def load_dealer(folder: Path) -> DealerConfig:
    """Read <root>/dealer; ConfigError."""
    record, roster = load_record(folder)
    path = folder / "links.json"
    links = load_json(path)
    seeds = meter_secrets(folder, roster, ["seed"])["seed"]
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
