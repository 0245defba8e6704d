"""DG-APED-like: exact sums, faults found and located, and what its noise is worth."""

from __future__ import annotations

import math
import random
from itertools import product

import numpy as np
import pytest

from wattveil.baselines import dg_aped
from wattveil.baselines.dg_aped import Center, Opened, Setup, groupings, report
from wattveil.baselines.group import Group, SmallLog, ffdhe2048
from wattveil.paillier.primes import is_safe_prime

SLOT = b"2026-01-05T18:00:00Z"
X_MAX = 400


@pytest.fixture(scope="module")
def group() -> Group:
    return Group.of(128)


def test_rfc_7919_prime() -> None:
    """The first and last words as the RFC prints them, and that it is a safe prime."""
    p = ffdhe2048()
    text = f"{int(p):0512X}"
    assert text.startswith("FFFFFFFFFFFFFFFFADF85458A2BB4A9AAFDC5620273D3CF1")
    assert text.endswith("886B423861285C97FFFFFFFFFFFFFFFF")
    assert is_safe_prime(p)


def test_small_logarithms(group: Group) -> None:
    for limit in (0, 1, 2, 3, 10, 99, 100, 101):
        log = SmallLog(group, limit)
        found = [log.find(group.power(group.g, x)) for x in range(limit + 1)]
        assert found == list(range(limit + 1))
        assert log.find(group.power(group.g, limit + 1)) is None
        assert log.find(group.power(group.g, -1)) is None


@pytest.mark.parametrize("users", [6, 7, 9, 10, 16, 17, 30, 100, 256, 257, 1000, 2000])
def test_groupings(users: int) -> None:
    partitions = groupings(users)
    assert len(partitions) == dg_aped.PARTITIONS
    for partition in partitions:
        assert sorted(i for members in partition for i in members) == list(range(users))
        assert min(map(len, partition)) >= 2
    for a, b in product(*partitions):
        assert len(set(a) & set(b)) <= 1


@pytest.mark.parametrize("users", [6, 7, 10, 16, 30, 60])
def test_no_combination_of_group_sums_isolates_a_meter(users: int) -> None:
    sums = np.zeros((sum(map(len, groupings(users))), users))
    for row, members in enumerate(m for partition in groupings(users) for m in partition):
        sums[row, list(members)] = 1
    rank = np.linalg.matrix_rank(sums)
    for user in range(users):
        alone = np.zeros(users)
        alone[user] = 1
        assert np.linalg.matrix_rank(np.vstack([sums, alone])) == rank + 1


def test_too_few_users() -> None:
    for users, size in ((5, 2), (16, 1)):
        with pytest.raises(ValueError, match="groups of two"):
            groupings(users, size)


class Fleet:
    """Setup, readings, coins and the honest ciphertexts of one slot."""

    def __init__(self, group: Group, users: int, seed: int) -> None:
        chance = random.Random(seed)
        self.setup = Setup.draw(group, users, X_MAX)
        self.readings = [chance.randrange(X_MAX + 1) for _ in range(users)]
        self.noise = [chance.choice((-1, 1)) * self.setup.s for _ in range(users)]
        self.sent = {
            i: report(self.setup, SLOT, i, self.readings[i], self.noise[i]) for i in range(users)
        }
        self.center = Center(self.setup)

    def true(self, covered: frozenset[int]) -> int:
        return sum(self.readings[i] + self.noise[i] for i in covered)

    def open(self, **options: bool) -> Opened:
        opened = self.center.open(SLOT, self.sent, **options)
        assert opened.total == self.true(opened.covered)  # exact, whatever is covered
        return opened


def test_sums_are_exact(group: Group) -> None:
    fleet = Fleet(group, 30, 1)
    for detect in (False, True):
        opened = fleet.open(detect=detect)
        assert opened.covered == frozenset(range(30)) and not opened.suspects
        assert len(opened.groups) == (2 if detect else 1)
    for partition, sums in zip(fleet.setup.partitions, opened.groups, strict=True):
        assert sums == [fleet.true(frozenset(members)) for members in partition]


def test_extremes_open(group: Group) -> None:
    fleet = Fleet(group, 16, 2)
    for reading, noise in ((0, -fleet.setup.s), (X_MAX, fleet.setup.s)):
        sent = {i: report(fleet.setup, SLOT, i, reading, noise) for i in range(16)}
        assert fleet.center.open(SLOT, sent).total == 16 * (reading + noise)


@pytest.mark.parametrize("user", [0, 7, 29])
def test_an_injected_error_is_found_and_located(group: Group, user: int) -> None:
    """A ciphertext out of range, garbage, one of another slot, or none: the same meter each time."""
    fleet, setup = Fleet(group, 30, 3), None
    setup = fleet.setup
    far = group.power(group.g, 10**6)
    other = report(setup, b"another slot", user, fleet.readings[user], 0)
    for bad in (fleet.sent[user] * far % group.p, group.hash(b"garbage"), other, None):
        fleet.sent.pop(user)
        if bad is not None:
            fleet.sent[user] = bad
        opened = fleet.open(detect=False)  # the first partition fails, so the second is opened
        assert opened.suspects == {user}
        row = next(m for m in setup.partitions[0] if user in m)
        assert opened.covered >= frozenset(range(30)) - set(row) and user not in opened.covered
        fleet.sent[user] = report(setup, SLOT, user, fleet.readings[user], fleet.noise[user])


def test_two_faults_and_who_is_suspected_with_them(group: Group) -> None:
    fleet = Fleet(group, 16, 4)  # a grid of 4 by 4
    del fleet.sent[0], fleet.sent[5]
    opened = fleet.open()
    assert opened.suspects == {0, 1, 4, 5}  # the corners of their rectangle: tests, not proofs
    assert len(opened.covered) == 8


def test_plausible_lies_are_not_found(group: Group) -> None:
    fleet = Fleet(group, 16, 5)
    fleet.readings[3] = 0
    fleet.sent[3] = report(fleet.setup, SLOT, 3, 0, fleet.noise[3])
    assert not fleet.open().suspects


def test_out_of_range_is_refused_at_the_meter(group: Group) -> None:
    setup = Setup.draw(group, 16, X_MAX)
    for reading, noise in ((-1, 0), (X_MAX + 1, 0), (0, setup.s + 1)):
        with pytest.raises(ValueError, match="range"):
            report(setup, SLOT, 0, reading, noise)


@pytest.mark.parametrize("users", [1, 2, 3, 10, 501])
def test_spread_of_coins(users: int) -> None:
    chances = [math.comb(users, k) / 2**users for k in range(users + 1)]
    square = sum(p * (2 * k - users) ** 2 for k, p in enumerate(chances))
    assert dg_aped.noise_sd(users, 3) == pytest.approx(3 * math.sqrt(square))


def test_delta_by_hand() -> None:
    # two coins of +-s: P = 1/4, 1/2, 1/4; a change of 2 s moves it by one step. At epsilon 0, the
    # total variation: 1/4 + 1/4 = 1/2 of what is not overlapped
    assert dg_aped.delta_of(2, 5, 10, 0.0) == pytest.approx(0.5)
    # at epsilon log 2: max(0, 1/4) + max(0, 1/2 - 2/4) + max(0, 1/4 - 1)
    assert dg_aped.delta_of(2, 5, 10, math.log(2)) == pytest.approx(0.25)
    assert dg_aped.delta_of(2000, 5750, 1, 1.0) == 1.0  # off the lattice: seen with certainty
    assert dg_aped.delta_of(1, 1, 2, 50.0) == pytest.approx(0.5)  # never pure
