"""New pseudonyms, new keys, readings that go after their time; a customer's own."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

import vaultkit
from vaultkit import (
    DAY,
    DAY0,
    HALF,
    T0,
    held,
    merge,
    readings,
    take,
    total,
)
from wattveil.importers.files import read_file
from wattveil.importers.series import gather
from wattveil.privacy import people
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.refusals import Refused
from wattveil.privacy.vault import exports
from wattveil.privacy.vault.actions import day_before
from wattveil.privacy.vault.retention import expire, kept, months_before
from wattveil.privacy.vault.rotate import relink, rotate_keys, rotate_pseudonyms
from wattveil.privacy.vault.vault import Vault, VaultDamaged

vault, filled, impatient = vaultkit.vault, vaultkit.filled, vaultkit.impatient


def _usage(vault: Vault) -> sqlite3.Connection:
    return sqlite3.connect(vault.state.path / "usage.db", isolation_level=None)


def _sum(vault: Vault) -> int:
    return total(vault, T0, T0 + 3 * DAY)


def test_rotation_unlinks_and_a_range_across_is_refused(vault: Vault) -> None:
    first, later = readings(3, 0, 96), readings(4, 96, 96)
    take(vault, "a.csv", first)
    old = vault.members({}, T0, T0 + DAY)
    done = rotate_pseudonyms(vault)
    assert done["from"] == "2013-01-16" and done["epoch"] == 2
    take(vault, "b.csv", later)
    new = vault.members({}, T0 + 2 * DAY, T0 + 4 * DAY)
    assert len(old) == 3 and len(new) == 4 and not set(old) & set(new)
    with pytest.raises(Refused, match="epoch_boundary"):
        vault.members({}, T0 + DAY, T0 + 3 * DAY)
    with pytest.raises(Refused, match="epoch_boundary"):
        list(vault.blocks(new, T0 + DAY, T0 + 3 * DAY))
    late = {"canary-001": {T0 - HALF: 7, T0 - 2 * HALF: 8}}  # for the old epoch
    take(vault, "late.csv", late)
    assert held(vault) == merge(first, later, late)
    other = relink(vault, old[0], 2)
    assert vault.meter_ids([other]) == vault.meter_ids([old[0]])
    with pytest.raises(ValueError, match="earliest"):
        rotate_pseudonyms(vault, DAY0)


def test_relinking_takes_two_roles(vault: Vault) -> None:
    take(vault, "a.csv", readings(2, 0, 48))
    pseudonym = vault.members({}, T0, T0 + DAY)[0]
    rotate_pseudonyms(vault)
    gateway = Gateway(vault.state)
    pia, bob, ann = (
        gateway.authenticate(who, people.add(vault.state, who))
        for who in ("privacy-officer:pia", "billing:bob", "analyst:ann")
    )
    from wattveil.privacy import approvals

    with pytest.raises(Refused):
        exports.ask_relink(gateway, ann, pseudonym, 2)
    number = exports.ask_relink(gateway, pia, pseudonym, 2)["approval"]
    with pytest.raises(Refused, match="approval_needed"):
        exports.do_relink(gateway, pia, pseudonym, 2, number)
    with pytest.raises(Refused, match=r"same_person|same_role"):
        approvals.approve(gateway, pia, number)
    approvals.approve(gateway, bob, number)
    with pytest.raises(Refused, match="approval_needed"):
        exports.do_relink(gateway, pia, vault.members({}, T0, T0 + DAY)[1], 2, number)
    found = exports.do_relink(gateway, pia, pseudonym, 2, number)["pseudonym"]
    assert vault.meter_ids([found]) == vault.meter_ids([pseudonym])
    with pytest.raises(Refused, match="approval_needed"):  # once
        exports.do_relink(gateway, pia, pseudonym, 2, number)


def test_new_keys_keep_the_readings(filled: Vault) -> None:
    before, sealed = held(filled), _usage(filled).execute("SELECT * FROM sealed").fetchall()
    done = rotate_keys(filled)
    assert done["rows_sealed_anew"] == 0 and held(filled) == before
    assert _usage(filled).execute("SELECT * FROM sealed").fetchall() == sealed
    done = rotate_keys(filled, data=True)
    assert done["rows_sealed_anew"] == len(sealed) and held(filled) == before
    keys = {row[2] for row in _usage(filled).execute("SELECT * FROM sealed")}
    assert keys.isdisjoint(row[2] for row in sealed)
    db = _usage(filled)  # rows under the destroyed key open nothing
    db.executemany("INSERT OR REPLACE INTO sealed VALUES(?,?,?,?)", sealed)
    with pytest.raises(VaultDamaged):
        _sum(filled)


def test_expiry_deletes_readings_and_keeps_large_sums(vault: Vault) -> None:
    data = readings(40, 0, 144)
    take(vault, "a.csv", data)
    done = expire(vault, DAY0 + 2)
    assert done["readings"] == 40 * 96 and done["aggregates_kept"] == 2
    left = {m: {t: wh for t, wh in row.items() if t >= T0 + 2 * DAY} for m, row in data.items()}
    assert held(vault) == left
    db = _usage(vault)
    assert db.execute("SELECT count(*) FROM sealed WHERE day<?", (DAY0 + 2,)).fetchone() == (0,)
    first, _ = kept(vault, DAY0, DAY0 + 2)
    want = [sum(row[T0 + i * HALF] for row in data.values()) for i in range(48)]
    assert first.wh.tolist() == want and first.homes.tolist() == [40] * 48
    leaf = (
        vault.state.gateway()
        .execute("SELECT leaf FROM log_leaves ORDER BY idx DESC LIMIT 1")
        .fetchone()
    )
    assert '"deletion"' in leaf[0]
    report = take(vault, "b.csv", {"late": {T0: 5, T0 + HALF: 6}})
    assert report.added == 0 and report.reasons == {"older than the retention limit": 2}
    assert held(vault) == left


def test_expiry_keeps_no_sum_of_few_or_of_one_large_home(vault: Vault) -> None:
    data = readings(14, 0, 48)
    take(vault, "few.csv", data)
    assert expire(vault, DAY0 + 1)["aggregates_kept"] == 0
    big = {f"h-{i}": {T0 + DAY + s * HALF: 100 for s in range(48)} for i in range(16)}
    big["h-3"] = {t: 10_000 if t == T0 + DAY else wh for t, wh in big["h-3"].items()}
    take(vault, "big.csv", big)
    expire(vault, DAY0 + 2)
    (row,) = kept(vault, DAY0 + 1, DAY0 + 2)
    assert row.wh.tolist() == [-1] + [1600] * 47


def test_months_and_ages() -> None:
    day = (2024 - 1970) * 365 + 13 + 90  # 2024-03-31, a leap year
    assert np.datetime64(day, "D") == np.datetime64("2024-03-31")
    assert np.datetime64(months_before(day, 1), "D") == np.datetime64("2024-02-29")
    assert day_before("1", day) == day_before("1m", day) == day_before("1 month", day)
    assert day_before("90d", day) == day - 90 and day_before("2013-01-14", day) == DAY0
    assert day_before("2y", day) == months_before(day, 24)
    for bad in ("", "soon", "0d", "-3", "2013-13-01"):
        with pytest.raises(ValueError, match=r"date|least"):
            day_before(bad, day)


def test_green_button_reads_back(vault: Vault, tmp_path: Path) -> None:
    data = readings(2, 5, 200)
    del data["canary-001"][T0 + 50 * HALF]  # a gap
    take(vault, "a.csv", data)
    rotate_pseudonyms(vault)
    take(vault, "b.csv", {"canary-001": {T0 + 6 * DAY + i * HALF: i for i in range(5)}})
    data = merge(data, {"canary-001": {T0 + 6 * DAY + i * HALF: i for i in range(5)}})
    gateway = Gateway(vault.state)
    (subject,) = gateway.accountant.subjects(["canary-001"])
    own = people.Person("customer", "ann", subject)
    xml, result = exports.export_greenbutton(gateway, own, "canary-001", "own-data")
    assert result["readings"] == len(data["canary-001"]) and "canary" not in xml
    file = tmp_path / "x.xml"
    file.write_text(xml)
    found = read_file(str(file))
    back = gather(found.intervals, found.notes)
    assert back is not None and not found.notes
    (meter,) = back.meters
    assert dict(back.values[meter]) == data["canary-001"]
    with pytest.raises(Refused, match="own_data_only"):
        exports.export_greenbutton(gateway, own, "canary-000", "own-data")
    for who in ("analyst:ann", "vendor:vic", "researcher:rik"):
        role, name = people.parse(who)
        with pytest.raises(Refused):
            exports.export_greenbutton(
                gateway, people.Person(role, name), "canary-001", "research"
            )
