"""Budgets: exact, shared by all who spend, charged before anything is seen, never given back."""

from __future__ import annotations

import math
import multiprocessing
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budgetrace import race
from privacyworld import World
from wattveil.planning.compose import optimal
from wattveil.privacy import ledger, tighter
from wattveil.privacy.accountant import Accountant
from wattveil.privacy.config import ConfigError, show
from wattveil.privacy.ledger import Charge, Ledger, Limits
from wattveil.privacy.people import Person
from wattveil.privacy.query.noise import Norms, calibrate
from wattveil.privacy.refusals import Refused
from wattveil.privacy.state import State
from wattveil.privacy.techniques import Cost
from wattveil.store import open_store

ANN, BOB = Person("analyst", "ann"), Person("analyst", "bob")
NOW = 1_800_000_000


def books(tmp_path, **changes):
    return World(tmp_path / "gateway", **changes).gateway.accountant


def spend(accountant, name, epsilon, *, who=ANN, purpose="research", homes=("a", "b"), delta="0"):
    cost = Cost(Fraction(epsilon), Fraction(delta))
    return accountant.spend(f"gateway:{name}", who, purpose, cost, homes, NOW)


def test_sums_are_exact_and_the_tightest_account_is_named(tmp_path):
    accountant = books(tmp_path, analyst='"1"')
    for n in range(9):
        spend(accountant, n, "0.1")
    balance = spend(accountant, 9, "1/20").fields()
    assert balance == {"spent": "0.95", "remaining": "0.05", "budget": "analyst:ann"}
    assert spend(accountant, 10, "1/20").fields()["remaining"] == "0"
    with pytest.raises(Refused, match="over_analyst_budget"):
        spend(accountant, 11, "1/1000000000")
    assert accountant.audit() == []


@pytest.mark.parametrize(
    ("limit", "reason", "rest"),
    [
        ({"dataset": '"1"'}, "over_dataset_budget", {"who": BOB, "homes": ("x",)}),
        ({"analyst": '"1"'}, "over_analyst_budget", {"homes": ("x",)}),
        ({"public": '"1"'}, "over_public_budget", {"who": BOB, "homes": ("x",)}),
        ({"subject_lifetime": '"1"'}, "over_lifetime_limit", {"who": BOB, "homes": ("x", "b")}),
        ({"subject_day": '"1"'}, "over_day_limit", {"who": BOB, "homes": ("b", "x")}),
    ],
)
def test_every_budget_refuses_by_itself_and_nobody_pays(tmp_path, limit, reason, rest):
    accountant = books(tmp_path, **limit)
    purpose = "publication" if "public" in limit else "research"
    spend(accountant, 1, "0.6", purpose=purpose)
    before = accountant.table()
    with pytest.raises(Refused) as no:
        spend(accountant, 2, "0.5", purpose=purpose, **rest)
    assert no.value.reason == reason
    assert accountant.table() == before and accountant.audit() == []
    assert "x" not in ledger.spending(accountant._state.ledger().load)
    spend(accountant, 3, "0.4", purpose=purpose, **rest)  # what fits is granted


def test_deltas_have_a_limit_of_their_own(tmp_path):
    accountant = books(tmp_path, delta='"0.000002"')
    spend(accountant, 1, "0.1", delta="1e-6")
    spend(accountant, 2, "0.1", delta="1e-6")
    with pytest.raises(Refused, match="over_delta_budget"):
        spend(accountant, 3, "0.1", delta="1e-9")
    spend(accountant, 4, "0.1")
    assert accountant.table()["analyst:ann"]["delta"] == "0.000002"


def test_a_charge_is_made_once(tmp_path):
    accountant = books(tmp_path)
    spend(accountant, 1, "0.1")
    with pytest.raises(ValueError, match="charged before"):
        spend(accountant, 1, "0.1")
    assert accountant.table()["analyst:ann"]["spent"] == "0.1"


def test_eight_processes_are_granted_exactly_the_remainder(tmp_path):
    world = World(tmp_path / "gateway", dataset='"1.25"')
    spend(world.gateway.accountant, "before", "0.25")
    context = multiprocessing.get_context("spawn")
    start, granted = context.Barrier(8), context.Value("i", 0)
    racers = [context.Process(target=race, args=(world.path, n, start, granted)) for n in range(8)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(timeout=240)
    assert [racer.exitcode for racer in racers] == [0] * 8
    assert granted.value == 10
    row = world.gateway.accountant.table()["dataset:meters"]
    assert (row["spent"], row["remaining"]) == ("1.25", "0")
    assert world.gateway.accountant.audit() == []


def test_the_centre_and_the_gateway_draw_on_one_account(tmp_path):
    """A centre's store by path: what its periods cost a home, the home's queries may not spend."""
    path = tmp_path / "center" / "state.db"
    open_store(path).close()  # as the centre makes it; it may run meanwhile
    accountant = books(
        tmp_path, ledger=f'"{path}"', subjects='"ids"', subject_lifetime='"2"', analyst='"100"'
    )
    limits = Limits(lifetime=Fraction(2))
    with open_store(path, shared=True) as store:
        centre = Ledger(store, limits)
        names = ("meter-1", "meter-2")
        period = Charge("fleet:0", 0, Fraction(1), names, b"\x01", "total of a period")
        centre.debit(period)
        assert accountant.subjects(["meter-1"]) == ["meter-1"]
        with pytest.raises(Refused, match="over_lifetime_limit"):
            spend(accountant, 1, "1.5", homes=names)
        spend(accountant, 2, "1", homes=names)
        again = Charge("fleet:1800", 0, Fraction(1), names, b"\x01", "total of a period")
        with pytest.raises(ledger.OverLimit):
            centre.debit(again)
        other = Charge("fleet:1800", 0, Fraction(1), names, b"\x02", "total of a period")
        centre.debit(other)
        assert centre.spent("meter-1") == 2 and accountant.audit() == []


def test_a_centres_ledger_under_other_names_is_not_used(tmp_path):
    path = tmp_path / "center" / "state.db"
    with open_store(path) as store:
        store.transact(lambda rows: [ledger.Row("record", "00", b"")])
    accountant = books(tmp_path, ledger=f'"{path}"')
    with pytest.raises(ConfigError, match='subjects = "ids"'):
        spend(accountant, 1, "0.1")


def test_subjects_are_stable_and_tell_nothing(tmp_path):
    accountant = books(tmp_path)
    first = accountant.subjects(["meter-1", "meter-2"])
    assert first == Accountant(State.open(tmp_path / "gateway")).subjects(["meter-1", "meter-2"])
    assert len(set(first)) == 2 and all(len(name) == 64 for name in first)
    spend(accountant, 1, "0.1", homes=first)
    for file in (tmp_path / "gateway").rglob("*.db*"):
        assert b"meter-1" not in file.read_bytes()


def test_a_tampered_sum_shows(tmp_path):
    accountant = books(tmp_path)
    spend(accountant, 1, "0.5")
    store = accountant._state.ledger()
    store.transact(lambda rows: [ledger.Row("account", "analyst:ann", b"1/10")])
    store.transact(lambda rows: [ledger.Row(ledger.SPENT, "a", b"1/10")])
    wrong = accountant.audit()
    assert len(wrong) == 2 and any("analyst:ann" in line for line in wrong)


@given(st.fractions(max_denominator=10**9))
@settings(max_examples=200, deadline=None)
def test_shown_amounts_are_exact(value):
    assert Fraction(show(value)) == value


def test_composition_is_shown_beside_the_sum():
    """Twenty-four of epsilon 1/2: PLD gives the optimum of Kairouz, Oh and Viswanath."""
    events = [{"epsilon": "1/2", "delta": "0"}] * 24
    shown = tighter.compose(events, 1e-6)
    best = optimal(0.5, 24, 1e-6)
    assert shown["sum"] == 12 and shown["pld"] == pytest.approx(best, rel=1e-4)
    assert best <= shown["rdp"] <= 12 * 1.001
    gaussian = calibrate(Norms(10, 10), Fraction(1, 2), Fraction(1, 10**7)).event
    ten = [gaussian | {"epsilon": "1/2", "delta": "1/10000000"}] * 10
    rho = 10 * gaussian["rho"]
    by_hand = rho + 2 * math.sqrt(rho * math.log(1e6))  # Bun and Steinke 2016, looser
    assert tighter.compose(ten, 1e-6)["rdp"] <= by_hand < 5
    assert tighter.compose([], 1e-6)["rdp"] == 0
