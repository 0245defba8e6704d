"""The gateway's config.toml: limits, group minima, purposes, stores. Amounts are exact, as text."""

from __future__ import annotations

import tomllib
from fractions import Fraction
from pathlib import Path

import msgspec

from wattveil.fleet.settings import exact

DEFAULT = """\
# The privacy gateway's settings. Amounts of epsilon and delta are text, so that they are exact.
dataset = "meters"           # name of the one data set of this vault, in ledger and log
interval_s = 1800            # length of a stored interval, seconds
connection_limit_w = 23000   # what a connection can draw: the default bound of one reading

[budgets]                    # of epsilon, each over all answers ever given; "none": no limit
dataset = "10"
analyst = "4"                # each person's; `wattveil budget set` changes one by one
public = "1"                 # answers for publication, all together
subject_lifetime = "10"      # one household's, over all releases, the control centre's included
subject_day = "none"         # one household's, in the releases of one day
delta = "0.0001"             # sum of the deltas of all answers

[release]
group_min = 15               # industry rule "15/15", not the CPUC's
dominance = "0.15"           # largest share of one member, technique `aggregate` only

[purposes]
primary = ["primary", "billing", "operations", "grid-operations", "planning", "grid-planning",
  "customer-service", "demand-response", "energy-efficiency", "own-data", "compliance", "audit"]
secondary = ["secondary", "research", "publication", "statistics", "marketing",
  "product-development"]

[retention]
months = 18                  # granular data; aggregates stay

[stores]
vault = "usage.db"           # path in this folder, or postgresql://USER@HOST/DATABASE
ledger = "ledger.db"         # path of, or URL of, the control centre's store, to share its ledger
accountant_key = "keys/accountant.key"  # path: a shared ledger's is the centre's accountant.key
"""


class ConfigError(ValueError):
    """config.toml cannot be used; the message says which entry and why."""


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Budgets(_Strict, frozen=True):
    """Limits as text, see DEFAULT."""

    dataset: str = "10"
    analyst: str = "4"
    public: str = "1"
    subject_lifetime: str = "10"
    subject_day: str = "none"
    delta: str = "0.0001"

    def amount(self, name: str) -> Fraction | None:
        """A limit exactly; None: there is none."""
        text: str = getattr(self, name)
        return None if text == "none" else amount(text, f"budgets.{name}")


class Release(_Strict, frozen=True):
    """What a group must be like."""

    group_min: int = 15
    dominance: str = "0.15"


class Purposes(_Strict, frozen=True):
    """What data may be asked for, by class."""

    primary: tuple[str, ...] = ("primary", "billing", "operations")
    secondary: tuple[str, ...] = ("secondary", "research", "publication")

    def kind(self, purpose: str) -> str | None:
        """ "primary", "secondary", or None for one that is not listed."""
        if purpose in self.primary:
            return "primary"
        return "secondary" if purpose in self.secondary else None


class Retention(_Strict, frozen=True):
    """How long granular data stay."""

    months: int = 18


class Stores(_Strict, frozen=True):
    """Where vault and ledger are."""

    vault: str = "usage.db"
    ledger: str = "ledger.db"
    accountant_key: str = "keys/accountant.key"


class Config(_Strict, frozen=True):
    """config.toml; intervals in seconds, the connection limit in W."""

    dataset: str = "meters"
    interval_s: int = 1800
    connection_limit_w: int = 23_000
    budgets: Budgets = Budgets()
    release: Release = Release()
    purposes: Purposes = Purposes()
    retention: Retention = Retention()
    stores: Stores = Stores()

    @property
    def clip_wh(self) -> int:
        """The largest reading the connection allows, Wh, rounded up."""
        return -(-self.connection_limit_w * self.interval_s // 3600)


def load(path: Path) -> Config:
    """Read and check; ConfigError."""
    try:
        config = msgspec.convert(tomllib.loads(path.read_text()), Config)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    try:
        _check(config)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    return config


def _check(config: Config) -> None:
    for name in Budgets.__struct_fields__:
        config.budgets.amount(name)
    if not 0 < amount(config.release.dominance, "release.dominance") <= 1:
        raise ValueError("release.dominance is a share: above 0, at most 1")
    if config.release.group_min < 2:
        raise ValueError("release.group_min: a group has at least 2 members")
    if config.interval_s < 1 or 86_400 % config.interval_s:
        raise ValueError("interval_s must divide a day of 86,400 s")
    if not 1 <= config.connection_limit_w <= 10_000_000:
        raise ValueError("connection_limit_w: between 1 W and 10 MW")
    if config.retention.months < 1:
        raise ValueError("retention.months: at least 1")
    both = set(config.purposes.primary) & set(config.purposes.secondary)
    if both:
        raise ValueError(
            f"purposes cannot be both primary and secondary: {', '.join(sorted(both))}"
        )


def amount(text: str, name: str) -> Fraction:
    """A positive exact number, "0.5" or "1/3"; ValueError."""
    try:
        value = exact(text, name) if text.isascii() else Fraction(0)
    except ValueError:
        value = Fraction(0)
    if value <= 0:
        raise ValueError(f'{name}: {text!r} is not a positive number like "0.5" or "1/3"')
    return value


def show(value: Fraction) -> str:
    """Exact text: a decimal where one ends, else a fraction. `Fraction` reads both."""
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    places = max(twos, fives)
    if rest != 1 or places > 30:
        return str(value)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    whole, part = (digits[:-places], digits[-places:]) if places else (digits, "")
    return ("-" if value < 0 else "") + whole + (f".{part}" if part else "")
