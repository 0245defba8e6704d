"""A tree of feeders: what its nodes say, of real releases, and which trees are refused."""

from __future__ import annotations

import hashlib
import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from plainmeter import PERIOD, START, PlainMeter, pack
from plainworld import SUITES, World
from wattveil import cli
from wattveil.operate.feeders import load_tree
from wattveil.privacy.law import noise_band, noise_sd
from wattveil_meter.record import FIELDS, Record


class Feeder(World):
    """A world whose meters are named after it."""

    def __init__(self, root: Path, name: str, size: int, **changes: Any) -> None:
        super().__init__(root, size, SUITES["compact"] | changes)
        self.roster = tuple(f"{name}-{i:02}" for i in range(1, size + 1))
        fields = {field: getattr(self.record, field) for field, _ in FIELDS}
        fields["roster_digest"] = hashlib.sha256(pack(*(i.encode() for i in self.roster))).digest()
        self.record = Record.make(**fields)
        for secrets, own in zip(self.secrets, self.roster, strict=True):
            secrets.id = own
        self.meters = {s.number: PlainMeter(s, self.record) for s in self.secrets}

    def period(self, start: int, wh: int, away: int = 0) -> None:
        """All meters but the last `away` report `wh`."""
        self.clock.utc = start + 10
        net = self.net()
        present = list(self.meters.values())[: self.size - away]
        for meter in present:
            meter.restart()
            meter.register().prepare(start)
        net.settle(present)
        self.end(start)
        for meter in present:
            meter.report(start, wh)
        net.settle(present)
        self.clock.seconds += 31
        for _ in range(4):
            net.tick()
        self.close()
        self.stores.clear()


@pytest.fixture
def feeders(tmp_path: Path) -> dict[str, Feeder]:
    made = {}
    for name, size, changes in (
        ("north", 4, {}),
        ("south", 3, {"fleet": b"fleet-09"}),
        ("mill", 5, {"fleet": b"fleet-10", "hi": 3000, "offset": 360_000}),
    ):
        (tmp_path / name).mkdir()
        made[name] = Feeder(tmp_path / name, name, size, **changes)
        made[name].write_folders()
    return made


def tree(tmp_path: Path, **more: str) -> Path:
    leaves = {name: f'center = "{name}/center"' for name in ("north", "south", "mill")}
    nodes = {"town": 'children = ["village", "mill"]', "village": 'children = ["north", "south"]'}
    path = tmp_path / "tree.toml"
    lines = [f"[{name}]\n{words}\n" for name, words in (nodes | leaves | more).items()]
    path.write_text("\n".join(lines))
    return path


def test_nodes_are_sums_of_what_was_released(
    feeders: dict[str, Feeder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    feeders["north"].period(START, 100)
    feeders["south"].period(START, 10)
    feeders["mill"].period(START, 1000, away=1)
    later = START + PERIOD
    feeders["north"].period(later, 200)
    feeders["south"].period(later, 10, away=2)  # one meter: below the quorum, no release
    feeders["mill"].period(later, 1)

    read = load_tree(tree(tmp_path))
    assert read.starts() == [START, later]
    town, village = (read.total(node, START) for node in ("town", "village"))
    assert (village["total_wh"], village["meters"], village["missing"]) == (430, 7, [])
    assert (town["total_wh"], town["meters"]) == (430 + 4000, 11)

    # one scale: shapes add, and so do variances
    half, a = Fraction(1, 2), 2
    assert village["sd_wh"] == pytest.approx(noise_sd(7, a, half, 1000, False))
    assert village["band_wh"] == pytest.approx(noise_band(7, a, half, 1000, False, 0.9))
    # the mill's scale is another: no less than either alone, no more than all of them added up
    mill = noise_sd(4, a, half, 3000, False)
    assert town["sd_wh"] == pytest.approx(math.hypot(village["sd_wh"], mill))
    assert town["band_wh"] > noise_band(4, a, half, 3000, False, 0.9)

    assert read.total("village", later)["missing"] == ["south"]
    town = read.total("town", later)
    assert (town["total_wh"], town["meters"], town["missing"]) == (800 + 5, 9, ["south"])
    south = read.total("south", later)
    assert (south["total_wh"], south["missing"]) == (None, ["south"])

    assert cli.main(["feeders", str(tmp_path / "tree.toml"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one for one in told if one["node"] == "town"] == [read.total("town", START), town]
    assert cli.main(["feeders", str(tmp_path / "tree.toml")]) == 0
    assert "south" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"village": 'children = ["north", "south", "east"]'}, r"no \[east\]"),
        ({"town": 'children = ["village", "north"]'}, "two parents"),
        ({"village": 'children = ["north", "town"]'}, "below itself"),
        ({"mill": ""}, 'either "children" or "center"'),
        ({"mill": 'center = "north/center"'}, "north-01 is in north and in mill"),
        ({"mill": 'center = "mill/center"\ncolour = "red"'}, "unknown: colour"),
    ],
)
def test_trees_that_cannot_be(
    feeders: dict[str, Feeder], tmp_path: Path, more: dict[str, str], said: str
) -> None:
    for feeder in feeders.values():
        feeder.net()
        feeder.close()
    with pytest.raises(ValueError, match=said):
        load_tree(tree(tmp_path, **more))
