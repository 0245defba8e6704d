"""Seeds change at midnight, UTC: real meters and roles over the day's end, skipped days, late closings."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from fieldfleet import START, Field
from wattveil_meter.fields import read_uint, unpack
from wattveil_meter.store import FileStorage

DAY = 86_400
MIDNIGHT = (START // DAY + 1) * DAY
PERIOD = 1800


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory, runtimes: tuple[str, ...]) -> Iterator[Field]:
    """Four meters, two half hours before midnight."""
    root = tmp_path_factory.mktemp("midnight")
    with Field(root, runtimes=runtimes, start=MIDNIGHT - 2 * PERIOD) as field:
        yield field.up()


def meter_day(field: Field, number: int) -> int:
    return int(read_uint(unpack(FileStorage(str(field.folder(number))).read("seeds.bin"), 3)[0]))


def role_seeds(field: Field, name: str) -> dict[str, Any]:
    while True:
        text = (field.fleet.role_folder(name) / "seeds.json").read_text()
        with contextlib.suppress(ValueError):  # one that was opened and replaced is overwritten
            table: dict[str, Any] = json.loads(text)
            return table


def test_over_midnight_with_power_cuts_on_both_sides(field: Field) -> None:
    everybody = [1, 2, 3, 4]
    first = (field.folder(1) / "seeds.bin").read_bytes()
    assert {meter_day(field, n) for n in everybody} == {MIDNIGHT // DAY - 1}
    field.whole()
    start = field.begin()  # the day's last period
    assert start + PERIOD == MIDNIGHT
    field.prepared(start, everybody)
    # made are its masks: nothing on a meter's flash can make them again
    assert {meter_day(field, n) for n in everybody} == {MIDNIGHT // DAY}
    field.meters[2].restart()
    field.wait("the meter says so", lambda: 2 in field.period(start)["absent"])
    for name in ("dealer", "center"):
        field.roles[name].kill()
        field.start_role(name)
    field.end(start, [1, 3, 4])  # closed after midnight, with the seeds of the day before
    field.meters[3].restart()
    start = field.begin(skip=1)  # it may have begun the next one already, and sit it out
    field.prepared(start, everybody)
    field.end(start, everybody)
    field.whole()
    assert first not in b"".join(
        path.read_bytes() for path in field.folder(1).rglob("*") if path.is_file()
    )


def test_a_day_without_a_period(field: Field) -> None:
    start = field.begin(skip=DAY // PERIOD + 3)
    field.prepared(start, [1, 2, 3, 4])
    field.end(start, [1, 2, 3, 4])
    assert {meter_day(field, n) for n in (1, 2, 3, 4)} == {MIDNIGHT // DAY + 1}


def test_closed_three_days_later(field: Field) -> None:
    """The dealer was away for too long: the period is lost, by name, and the day's seeds are gone."""
    start = field.begin()
    day = start // DAY
    field.prepared(start, [1, 2, 3, 4])
    field.roles["dealer"].kill()
    field.now = start + PERIOD
    for name in ("cloud", "center"):
        field.roles[name].ask(clock=field.now, running=False)
    field.wait("reports", lambda: field.period(start)["reported"] == [1, 2, 3, 4])
    field.now = (day + 3) * DAY
    field.start_role("dealer")
    field.wait("the outcome", lambda: field.period(start)["outcome"])
    assert field.period(start)["outcome"] == "refused"
    assert field.roles["dealer"].ask(status=True)["refused"] == {"expired": 1}
    field.roles["center"].ask(clock=field.now, running=False)
    for name in ("dealer", "center"):
        field.wait(
            "the next tick",
            lambda name=name: (
                {one["day"] for one in role_seeds(field, name).values()} == {day + 1}
            ),
        )
