"""`wattveil feeders`: totals of a tree of feeders, from what each feeder's centre has released.

Every leaf is a fleet of its own, with its own record: roster, quorum, noise, epsilon, centre. A node
above is the sum of the leaves below that released the period. Nothing is decrypted for it, so
it costs no privacy (post-processing), and a household pays for its own feeder only, which is why
no household may be in two (docs/SCALE.md, "Feeders"). It reads beside the running centres.
"""

from __future__ import annotations

import argparse
import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypedDict

from rich.console import Console
from rich.table import Table

from wattveil.privacy.law import noise_band, noise_sd, shape
from wattveil.roles.common import Record, decode_members
from wattveil.roles.folders import load_record
from wattveil.roles.releases import Releases
from wattveil.store import open_store

LEVEL = 0.9


class Total(TypedDict):
    """One node in one period. total_wh None: no feeder below has released it.

    meters: that are in it. missing: leaves below that are not. band_wh: half-width of the central
    band that holds the noise with chance `level`, or a little more.
    """

    node: str
    start: int
    total_wh: int | None
    meters: int
    sd_wh: float
    band_wh: float
    level: float
    missing: list[str]


@dataclass(frozen=True)
class Leaf:
    """A feeder: its record as it is now, and what its centre has released."""

    record: Record
    roster: tuple[str, ...]
    releases: Releases


@dataclass(frozen=True)
class Tree:
    """children: names by node, none for a leaf. Roots first, then as they stand in the file."""

    children: Mapping[str, tuple[str, ...]]
    leaves: Mapping[str, Leaf]

    def below(self, node: str) -> list[str]:
        """Names of the leaves of a node, itself if it is one."""
        if node in self.leaves:
            return [node]
        return [leaf for child in self.children[node] for leaf in self.below(child)]

    def starts(self) -> list[int]:
        """Periods that any leaf has closed, UTC s."""
        return sorted({start for leaf in self.leaves.values() for start in leaf.releases.requests})

    def total(self, node: str, start: int, level: float = LEVEL) -> Total:
        """A node's total of the period that begins at `start`."""
        names = self.below(node)
        there = [name for name in names if self._answer(name, start) is not None]
        parts = [_Part.of(self.leaves[name].releases, start) for name in there]
        return Total(
            node=node,
            start=start,
            total_wh=sum(part.total for part in parts) if parts else None,
            meters=sum(part.size for part in parts),
            sd_wh=math.sqrt(sum(part.sd**2 for part in parts)),
            band_wh=_band(parts, level),
            level=level,
            missing=[name for name in names if name not in there],
        )

    def _answer(self, name: str, start: int) -> int | None:
        answer = self.leaves[name].releases.answers.get(start)
        return None if answer is None else answer.total


@dataclass(frozen=True)
class _Part:
    """A released total and the law of its noise, by the record it was closed under."""

    total: int
    size: int
    record: Record

    @classmethod
    def of(cls, releases: Releases, start: int) -> _Part:
        record = releases.closed_under(start)
        numbers = decode_members(releases.requests[start].members, record.roster_size) or []
        total = releases.answers[start].total
        assert total is not None
        return cls(total, len(numbers), record)

    @property
    def law(self) -> tuple[int, int, Fraction, int, bool]:
        """What the functions of `privacy.law` take."""
        record = self.record
        epsilon = Fraction(record.epsilon_num, record.epsilon_den)
        return self.size, record.a, epsilon, record.delta, bool(record.own_noise)

    @property
    def sd(self) -> float:
        return noise_sd(*self.law)


def _band(parts: list[_Part], level: float) -> float:
    """Independent noises of one scale add to one whose shape is the sum of theirs. Of several
    scales: each within its own band at a level at which all are, with chance `level` or more."""
    if not parts:
        return 0.0
    scales = {(epsilon, delta) for _, _, epsilon, delta, _ in (part.law for part in parts)}
    if len({epsilon / delta for epsilon, delta in scales}) == 1:
        epsilon, delta = scales.pop()
        shapes = [shape(size, a, own) for size, a, _, _, own in (part.law for part in parts)]
        return noise_band(sum(shapes, Fraction(0)), 1, epsilon, delta, False, level)
    each = 1 - (1 - level) / len(parts)
    return sum(noise_band(*part.law, each) for part in parts)


def load_tree(path: Path) -> Tree:
    """A tree from its TOML file, paths relative to that. ValueError, OSError, ConfigError, StoreError.

    Each table is a node, with `children = [names]`, or `center = "folder"` (and `store = "URL"`
    where that is not the folder's state.db).
    """
    nodes = tomllib.loads(path.read_text())
    children, leaves = {}, {}
    for name, node in nodes.items():
        if not isinstance(node, dict) or ("children" in node) == ("center" in node):
            raise ValueError(f'{path}: [{name}] needs either "children" or "center"')
        if unknown := set(node) - {"children", "center", "store"}:
            raise ValueError(f"{path}: [{name}]: unknown: {', '.join(sorted(unknown))}")
        children[name] = tuple(node.get("children", ()))
    _check_tree(path, children)
    for name, node in nodes.items():
        if "center" in node:
            folder = path.parent / node["center"]
            record, roster = load_record(folder)
            releases = Releases(record)
            with open_store(node.get("store", folder / "state.db"), shared=True) as store:
                releases.restore(store.load)
            leaves[name] = Leaf(record, roster, releases)
    _check_leaves(path, leaves)
    return Tree(children, leaves)


def _check_tree(path: Path, children: Mapping[str, tuple[str, ...]]) -> None:
    parent: dict[str, str] = {}
    for name, below in children.items():
        for child in below:
            if child not in children:
                raise ValueError(f"{path}: [{name}]: there is no [{child}]")
            if child in parent:
                raise ValueError(f"{path}: [{child}] has two parents: it would count twice")
            parent[child] = name
    for name in children:
        seen = {name}
        while (above := parent.get(name)) is not None:
            if above in seen:
                raise ValueError(f"{path}: [{above}] is below itself")
            seen.add(above)
            name = above


def _check_leaves(path: Path, leaves: Mapping[str, Leaf]) -> None:
    """One grid of periods, and no household in two feeders."""
    homes: dict[str, str] = {}
    grids = {leaf.record.start_of(1 << 40) for leaf in leaves.values()}
    if len(grids) > 1 or len({leaf.record.period_s for leaf in leaves.values()}) > 1:
        raise ValueError(f"{path}: the feeders' periods do not begin and end together")
    for name, leaf in leaves.items():
        for home in leaf.roster:
            if home in homes:
                raise ValueError(
                    f"{path}: {home} is in {homes[home]} and in {name}: it would be counted twice,"
                    " and pay both epsilons"
                )
            homes[home] = name


def options(parse: argparse.ArgumentParser) -> None:
    """The command line."""
    parse.add_argument("tree", type=Path, help="TOML file of the tree (docs/SCALE.md)")
    parse.add_argument("--last", type=int, default=4, metavar="N", help="periods; default 4")
    parse.add_argument("--level", type=float, default=LEVEL, help="of the band; default 0.9")
    parse.add_argument("--json", action="store_true", help="a list of records, nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Print the totals; the exit status."""
    if arguments.last < 1 or not 0 < arguments.level < 1:
        raise ValueError("--last: at least 1; --level: between 0 and 1")
    tree = load_tree(arguments.tree)
    totals = [
        tree.total(node, start, arguments.level)
        for start in tree.starts()[-arguments.last :]
        for node in tree.children
    ]
    if arguments.json:
        print(json.dumps(totals, indent=1))
    else:
        Console().print(_table(totals))
    return 0


def _table(totals: list[Total]) -> Table:
    table = Table(title="feeders")
    for name in ("period", "node", "total, Wh", "noise, Wh", "meters", "missing"):
        table.add_column(name)
    for row in _rows(totals):
        table.add_row(*row)
    return table


def _rows(totals: list[Total]) -> Iterator[tuple[str, ...]]:
    for one in totals:
        shown: Any = one["total_wh"]
        band = f"± {one['band_wh']:,.0f} ({one['level']:.0%})"
        yield (
            str(one["start"]),
            one["node"],
            "none" if shown is None else f"{shown:,}",
            "" if shown is None else band,
            str(one["meters"]),
            ", ".join(one["missing"]),
        )
