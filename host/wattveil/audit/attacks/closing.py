"""The two who hold the keys to a set: a dealer asked to close, a centre asked to open, more than they should.

Cloud + centre ask the honest dealer for two sets that differ by one meter, or for a set of one: the
difference of the shares is that meter's k and u, and the private key does the rest. Dealer + cloud ask the
honest centre: for a second set, for one meter, or for one meter's ciphertexts passed off as those of many.
Roles, links and stores are the product's.
"""

from __future__ import annotations

from gmpy2 import invert, mpz, powmod

from wattveil.audit.attacks.score import Score
from wattveil.audit.bench import drbg
from wattveil.audit.world import Asker, World, starts, world
from wattveil_meter import masks
from wattveil_meter.fields import pack, read_uint, unpack
from wattveil_meter.wire import CLOSE, OPEN, SHARE

Given = tuple[list[mpz], mpz]  # what one meter sent: slots, report


def _upload(fleet: World, number: int, start: int, reading: int, noise: int) -> Given:
    play = fleet.play(number, start, [noise, 5, -5])
    slots = play.answer(fleet.bench.one_hot(("row", number, start)))
    return slots, play.report(reading)


def _share(fleet: World, dealer: Asker, numbers: list[int], start: int) -> tuple[int, int] | None:
    """(K', U) of a SHARE, None when the dealer refused."""
    answer = dealer(CLOSE, fleet.members(numbers), start)
    if answer.type != SHARE:
        return None
    if fleet.record.suite == "compact":
        u, _ = unpack(answer.payload, 2)
        return 0, int.from_bytes(u, "little")
    k, u, _ = unpack(answer.payload, 3)
    return read_uint(k), int.from_bytes(u, "little")


def _open_one(fleet: World, given: Given, k: int, u: int, start: int) -> int:
    """Cloud + centre with one meter's k and u."""
    slots, report = given
    bench, key = fleet.bench, fleet.key
    h = 1 if fleet.record.suite == "compact" else powmod(bench.h, bench.n + k, bench.n2)
    opened = key.decrypt(bench.product(slots)) + key.decrypt(
        report * invert(h, bench.n2) % bench.n2
    )
    v = masks.mask_v(fleet.record, fleet.seeds(1, start)[1], start)
    return bench.signed(opened - u - v - fleet.record.offset)


def dealer_twice(suite: str, tries: int) -> Score:
    """CLOSE over {1, 2, 3}, then over {2, 3}: meter 1 is what lies between."""
    outcomes, source = [], drbg("dealer twice")
    with world(suite) as fleet:
        dealer = fleet.ask("dealer")
        for start in starts(fleet.record, tries):
            fleet.clock.set(start + fleet.record.period_s)
            reading, noise = source.below(1001), source.below(401) - 200
            given = _upload(fleet, 1, start, reading, noise)
            both = [_share(fleet, dealer, numbers, start) for numbers in ([1, 2, 3], [2, 3])]
            if both[0] is None or both[1] is None:
                outcomes.append(False)
                continue
            k, minus_u = (a - b for a, b in zip(*both, strict=True))
            outcomes.append(_open_one(fleet, given, k, -minus_u, start) == reading + noise)
    return Score.of(outcomes)


def dealer_for_one(suite: str, tries: int) -> Score:
    """CLOSE over {1}."""
    outcomes, source = [], drbg("dealer for one")
    with world(suite) as fleet:
        dealer = fleet.ask("dealer")
        for start in starts(fleet.record, tries):
            fleet.clock.set(start + fleet.record.period_s)
            reading, noise = source.below(1001), source.below(401) - 200
            given = _upload(fleet, 1, start, reading, noise)
            share = _share(fleet, dealer, [1], start)
            outcomes.append(
                share is not None
                and _open_one(fleet, given, share[0], -share[1], start) == reading + noise
            )
    return Score.of(outcomes)


def _opening(
    fleet: World, numbers: list[int], given: list[tuple[int, Given]], start: int
) -> bytes:
    """OPEN over `numbers` with the ciphertexts `given`, by a dealer and a cloud that work together."""
    bench, record = fleet.bench, fleet.record
    c1 = c2 = mpz(1)
    for number, (slots, report) in given:
        seed = fleet.seeds(number, start)[0]
        k = 0 if record.suite == "compact" else masks.mask_k(record, seed, start)
        u = masks.mask_u(record, seed, start)
        c1 = c1 * bench.product(slots) % bench.n2
        c2 = c2 * report * powmod(bench.h, -mpz(k), bench.n2) * (1 - u * bench.n) % bench.n2
    members = fleet.members(numbers)
    mac = fleet.links("dealer")["center_mac"]
    certificate = masks.closing_certificate(mac, record, start, members)
    pairs = [c2] if record.suite == "compact" else [c1, c2]
    return bytes(pack(members, certificate, *map(fleet.pair, pairs)))


def _total(center: Asker, start: int) -> int | None:
    """What the centre releases: it is public."""
    release = center.role.status()["releases"].get(start)
    return release["total_wh"] if release else None


def center_twice(suite: str, tries: int) -> Score:
    """OPEN over {1, 2, 3}, then over {2, 3}: the difference of the totals is d_1 + xi_1."""
    outcomes, source = [], drbg("center twice")
    with world(suite) as fleet:
        center = fleet.ask("center")
        for start in starts(fleet.record, tries):
            fleet.clock.set(start + fleet.record.period_s)
            plain = [(source.below(1001), source.below(401) - 200) for _ in range(3)]
            given = [(i, _upload(fleet, i, start, *plain[i - 1])) for i in (1, 2, 3)]
            totals = []
            for numbers in ([1, 2, 3], [2, 3]):
                inside = [one for one in given if one[0] in numbers]
                center(OPEN, _opening(fleet, numbers, inside, start), start)
                totals.append(_total(center, start))
            first, second = totals
            outcomes.append(
                first is not None and second is not None and first - second == sum(plain[0])
            )
    return Score.of(outcomes)


def center_for_one(suite: str, tries: int) -> Score:
    """OPEN over {1}."""
    outcomes, source = [], drbg("center for one")
    with world(suite) as fleet:
        center = fleet.ask("center")
        for start in starts(fleet.record, tries):
            fleet.clock.set(start + fleet.record.period_s)
            reading, noise = source.below(1001), source.below(401) - 200
            given = [(1, _upload(fleet, 1, start, reading, noise))]
            center(OPEN, _opening(fleet, [1], given, start), start)
            outcomes.append(_total(center, start) == reading + noise)
    return Score.of(outcomes)


def one_as_many(suite: str, tries: int) -> Score:
    """Meter 1's ciphertexts, twice, under a certificate for {1, 2}: the total is 2 (d_1 + xi_1)."""
    outcomes, source = [], drbg("one as many")
    for _ in range(tries):  # a fleet each: three invalid sums would stop one
        with world(suite) as fleet:
            center, start = fleet.ask("center"), starts(fleet.record, 1)[0]
            fleet.clock.set(start + fleet.record.period_s)
            reading, noise = source.below(1001), source.below(401) - 200
            one = (1, _upload(fleet, 1, start, reading, noise))
            center(OPEN, _opening(fleet, [1, 2], [one, one], start), start)
            outcomes.append(_total(center, start) == 2 * (reading + noise))
    return Score.of(outcomes)
