"""Budgets: exact, shared by all who spend, charged before anything is seen, never given back."""

from __future__ import annotations

import math
import multiprocessing
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budgetrace import race
from plainmeter import PERIOD, START, material
from plainworld import Asker, combine, opening
from plainworld import World as Fleet
from privacyworld import World
from wattveil.planning.compose import optimal
from wattveil.privacy import ledger, tighter
from wattveil.privacy.accountant import GRID, Accountant, parse_limit
from wattveil.privacy.config import ConfigError, show
from wattveil.privacy.ledger import Limits
from wattveil.privacy.people import Person
from wattveil.privacy.query.noise import Norms, calibrate
from wattveil.privacy.refusals import Refused
from wattveil.privacy.state import State
from wattveil.privacy.techniques import Cost
from wattveil_meter.wire import CODES, OPEN, RELEASED

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
    """Four of the gateway's, four that charge as the centre does; one account of each home."""
    world = World(tmp_path / "gateway", subject_lifetime='"1.25"', dataset='"none"')
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
    store = world.state.ledger()
    assert ledger.spending(store.load) == {"a": Fraction(5, 4), "b": Fraction(5, 4)}
    spent = Fraction(world.gateway.accountant.table()["dataset:meters"]["spent"])
    periods = sum(c.note == "total of a period" for c in ledger.entries(store.load))
    assert spent + Fraction(periods, 10) == Fraction(5, 4)
    assert world.gateway.accountant.audit() == []


def test_the_centre_and_the_gateway_draw_on_one_account(tmp_path):
    """A centre's store by path: what its periods cost a home, the home's queries may not spend."""
    fleet = Fleet(tmp_path, limits=Limits(lifetime=Fraction(2)))  # epsilon 1/2 a period
    fleet.write_folders()
    folder, cloud = tmp_path / "center", Asker(fleet, "center")
    accountant = books(
        tmp_path, ledger=f'"{folder}/state.db"', subject_lifetime='"2"', analyst='"100"',
        accountant_key=f'"{folder}/accountant.key"',
    )  # fmt: skip
    one, two, three = accountant.subjects(fleet.roster[:3])
    assert (one, two, three) == fleet.subjects.names(fleet.roster[:3])

    def release(period, *numbers):
        start = START + period * PERIOD
        fleet.end(start)
        given_ = [(n, material(fleet.meters[n], start, 100)) for n in numbers]
        return cloud(OPEN, opening(fleet, numbers, combine(fleet, given_, start), start), start)

    assert release(0, 1, 2)[0] == RELEASED
    with pytest.raises(Refused, match="over_lifetime_limit"):
        spend(accountant, 1, "1.6", homes=(one, three))
    spend(accountant, 2, "1.5", homes=(one, three))
    assert release(1, 1, 2)[1][0] == CODES["over_limit"]
    assert cloud.role.refusals.counts["over_lifetime_limit"] == 1
    assert release(1, 2, 3)[0] == RELEASED
    with pytest.raises(Refused, match="over_lifetime_limit"):
        spend(accountant, 3, "0.1", homes=(three,))
    held = ledger.spending(accountant._state.ledger().load)
    assert held == {one: 2, two: 1, three: 2} and accountant.audit() == []
    fleet.close()
    assert b"meter-0" not in (folder / "state.db").read_bytes()


def test_a_ledger_is_spent_from_under_its_own_key_only(tmp_path):
    """Other names would be other accounts: refused by the centre, by the gateway, and both ways."""
    fleet = Fleet(tmp_path)
    fleet.write_folders()
    path = tmp_path / "center" / "state.db"
    fleet.role("center")
    accountant = books(tmp_path, ledger=f'"{path}"')
    with pytest.raises(ConfigError, match=r"accountant\.key in its folder"):
        spend(accountant, 1, "0.1")
    key = tmp_path / "gateway" / "keys" / "accountant.key"
    key.touch(0o600)
    key.write_bytes(bytes(32))
    with pytest.raises(ConfigError, match="named with another key"):
        spend(accountant, 1, "0.1")
    key.write_bytes(fleet.subjects.key)
    key.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        spend(accountant, 1, "0.1")
    key.chmod(0o600)
    spend(accountant, 1, "0.1")
    fleet.close()


def test_a_lost_key_gives_no_fresh_budget(tmp_path):
    accountant = books(tmp_path)
    (home,) = accountant.subjects(["meter-1"])
    spend(accountant, 1, "0.5", homes=(home,))
    key = tmp_path / "gateway" / "keys" / "accountant.key"
    kept = key.read_bytes()
    key.unlink()
    (other,) = accountant.subjects(["meter-1"])
    with pytest.raises(ConfigError, match="another key"):
        spend(accountant, 2, "0.1", homes=(other,))
    key.write_bytes(kept)
    assert accountant.subjects(["meter-1"]) == [home]
    spend(accountant, 2, "0.1", homes=(home,))


def test_subjects_are_stable_and_tell_nothing(tmp_path):
    accountant = books(tmp_path)
    first = accountant.subjects(["meter-1", "meter-2"])
    assert first == Accountant(State.open(tmp_path / "gateway")).subjects(["meter-1", "meter-2"])
    assert len(set(first)) == 2 and all(len(name) == 32 for name in first)
    spend(accountant, 1, "0.1", homes=first)
    for file in (tmp_path / "gateway").rglob("*.db*"):
        assert b"meter-1" not in file.read_bytes()


@pytest.mark.parametrize(
    ("epsilon", "delta"),
    [
        (Fraction(-1, 2), Fraction(0)),
        (Fraction(0), Fraction(1, 10**6)),
        (Fraction(1, 2), Fraction(-1, 10**6)),
        (Fraction(1, 2), Fraction(1)),
        (0.5, Fraction(0)),
        (1, Fraction(0)),
        (math.nan, Fraction(0)),
        (Fraction(1, 2), 1e-6),
        (Fraction(1, 999_983), Fraction(0)),
    ],
)
def test_no_refunds_no_floats_and_no_denominators_of_ones_own(tmp_path, epsilon, delta):
    accountant = books(tmp_path)
    with pytest.raises(ValueError, match=r"epsilon|delta"):
        accountant.spend("gateway:x", ANN, "research", Cost(epsilon, delta), ("a",), NOW)
    assert accountant._state.ledger().load("entry") == {}


def test_sums_stay_short_whatever_is_asked_for(tmp_path):
    """Every amount that is taken keeps the sum's denominator within the grid."""
    accountant = books(tmp_path, dataset='"none"', analyst='"none"', subject_lifetime='"none"')
    amounts = ["1/3", "1/7", "0.000001", "1/13", "0.123456789012345678", "1/27", "1/11", "1/64"]
    for n, amount in enumerate(amounts):
        spend(accountant, n, amount, homes=("a",))
    total = ledger.spending(accountant._state.ledger().load)["a"]
    assert total == sum(map(Fraction, amounts)) and GRID % total.denominator == 0


@pytest.mark.parametrize("damage", [b"1e999999999", b"-5", b"1/0", b"0.5", b"nan", b"", b"\xff"])
def test_a_damaged_sum_stops_the_spending(tmp_path, damage):
    """An amount nobody wrote refunds nothing: nothing is granted on it, and `audit` names it."""
    accountant = books(tmp_path)
    spend(accountant, 1, "0.5")
    store = accountant._state.ledger()
    for kind, name in ((ledger.SPENT, "a"), ("account", "analyst:ann")):
        kept = store.get(kind, name)
        store.apply([ledger.Row(kind, name, damage)])
        with pytest.raises(ConfigError, match="damaged"):
            spend(accountant, 2, "0.1")
        assert accountant.audit() == [f"{kind} of {name}: damaged, 1/2 entered"]
        store.apply([ledger.Row(kind, name, kept)])
    spend(accountant, 2, "0.1")


def test_a_limit_is_not_raised_by_who_may_only_lower_it(tmp_path):
    """Two officers at once: what one saw as lowering is a raise after the other's."""
    accountant = books(tmp_path)
    accountant.set_limit("analyst:ann", Fraction(2), raising=False)
    with pytest.raises(Refused, match="approval_needed"):
        accountant.set_limit("analyst:ann", Fraction(3), raising=False)
    with pytest.raises(Refused, match="approval_needed"):
        accountant.set_limit("analyst:ann", None, raising=False)
    accountant.set_limit("analyst:ann", Fraction(3), raising=True)
    assert accountant.limit("analyst:ann") == 3


def test_an_account_has_one_name(tmp_path):
    accountant = books(tmp_path)
    accountant.set_limit("privacy_officer:pam", Fraction(1, 2), raising=False)
    officer = Person("privacy-officer", "pam")
    with pytest.raises(Refused, match="over_analyst_budget"):
        spend(accountant, 1, "0.6", who=officer)
    for name in ("\u0430nalyst:ann", "analyst:\u0430nn", "analyst:", "analyst:a b", "Public", ""):
        with pytest.raises(ValueError, match="no account"):
            accountant.limit(name)
    for text in ("1e999999", "1/0", "-1", "0", "nan", "inf", "\u0661", "1_0e9999", "9" * 60, ""):
        with pytest.raises(ValueError, match="positive number"):
            parse_limit(text)


def test_a_tampered_sum_shows(tmp_path):
    accountant = books(tmp_path)
    spend(accountant, 1, "0.5")
    store = accountant._state.ledger()
    store.transact(lambda rows: [ledger.Row("account", "analyst:ann", b"1/10")])
    store.transact(lambda rows: [ledger.Row(ledger.SPENT, "a", b"1/10")])
    wrong = accountant.audit()
    assert len(wrong) == 2 and any("analyst:ann" in line for line in wrong)
    event = store.get("account event", "gateway:1").replace(b'"1/2"', b'"1/4"')
    store.apply([ledger.Row("account event", "gateway:1", event)])
    assert "gateway:1: another epsilon for accounts than for households" in accountant.audit()


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
    huge = tighter.compose([{"epsilon": "1000000", "delta": "0"}], 1e-6)
    assert (huge["sum"], huge["rdp"], huge["pld"]) == (1_000_000, None, None)
