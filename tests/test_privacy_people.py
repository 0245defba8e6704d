"""Who asks is proved by a secret of the person's own, of which the store keeps a hash."""

from __future__ import annotations

import stat

import pytest

from privacyworld import World
from wattveil.privacy import people
from wattveil.privacy.refusals import REASONS, Refused


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "gateway")


def test_a_token_and_a_key_file_prove_a_person(world, tmp_path):
    token = people.add(world.state, "analyst:ann")
    path = tmp_path / "ann.key"
    people.write_key_file(path, token)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for secret in (token, path):
        person = people.authenticate(world.state, "analyst:ann", secret)
        assert (person.role, person.name) == ("analyst", "ann")


@pytest.mark.parametrize("secret", [None, "", "wattveil-x", "é"])
def test_nothing_else_does(world, secret):
    people.add(world.state, "analyst:ann")
    for who in ("analyst:ann", "analyst:bob", "privacy-officer:ann"):
        with pytest.raises(Refused) as no:
            world.gateway.authenticate(who, secret)
        assert no.value.reason == "not_authenticated"
    assert [entry["kind"] for entry in world.logged()] == ["refusal"] * 3


def test_a_person_is_not_another_in_another_role(world):
    token = people.add(world.state, "analyst:ann")
    people.add(world.state, "privacy-officer:ann")
    with pytest.raises(Refused, match="not_authenticated"):
        people.authenticate(world.state, "privacy-officer:ann", token)


def test_a_key_file_that_others_can_read_is_refused(world, tmp_path):
    path = tmp_path / "ann.key"
    people.write_key_file(path, people.add(world.state, "analyst:ann"))
    path.chmod(0o640)
    with pytest.raises(Refused, match="key_file_readable_by_others"):
        people.authenticate(world.state, "analyst:ann", path)


def test_revoked_and_renewed(world):
    old = people.add(world.state, "analyst:ann")
    assert people.revoke(world.state, "analyst:ann")
    assert not people.revoke(world.state, "analyst:ann")
    with pytest.raises(Refused, match="revoked_person"):
        people.authenticate(world.state, "analyst:ann", old)
    new = people.add(world.state, "analyst:ann")
    assert people.authenticate(world.state, "analyst:ann", new)
    with pytest.raises(Refused, match="not_authenticated"):
        people.authenticate(world.state, "analyst:ann", old)


def test_the_folder_holds_no_token(world):
    token = people.add(world.state, "analyst:ann")
    for path in world.path.rglob("*"):
        assert path.is_dir() or token.encode() not in path.read_bytes()
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize("who", ["ann", "analyst", "boss:ann", "analyst:", "analyst:a b", ":x"])
def test_bad_names_say_what_to_write(world, who):
    with pytest.raises(ValueError, match="roles are customer, billing"):
        people.add(world.state, who)


def test_a_customer_has_a_meter_and_nobody_else(world):
    with pytest.raises(ValueError, match="--meter"):
        people.add(world.state, "customer:carl")
    with pytest.raises(ValueError, match="--meter"):
        people.add(world.state, "analyst:ann", "subject")
    carl = world.person("customer:carl", "meter-7")
    assert carl.subject and "meter-7" not in str(carl.subject)
    assert carl.logged.startswith("customer:") and "carl" not in carl.logged


def test_only_documented_refusals():
    with pytest.raises(KeyError):
        Refused("because")
    assert all(text and text[-1] not in ".;" for text in REASONS.values())
