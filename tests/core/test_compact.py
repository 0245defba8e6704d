"""Suite `compact`: one ciphertext up, the same released value, the same work whatever the noise."""

import support
from support import PERIOD, START, Peers, drive, make_meter
from wattveil_meter import wire


class Given:
    """A sampler of given shares."""

    def __init__(self, shares):
        self.shares = list(shares)

    def share(self, drbg):
        return self.shares.pop(0) if self.shares else 0


def period(record, shares, hot=1, reading=777):
    """A whole period; (peers, meter)."""
    peers = Peers(record, hot)
    meter, _, clock = make_meter(record, readings={START: reading})
    meter._sampler = Given(shares)
    drive(meter, peers)
    assert meter.state == "prepared"
    peers.now = START + PERIOD
    clock.value += 1000
    drive(meter, peers, until=lambda m: peers.reports)
    return peers, meter


def test_totals_for_every_size_of_a_last_group():
    for gamma in (1, 2, 3, 4, 5, 8, 9):
        record = support.record(suite="compact", gamma=gamma)
        shares = [100 * (j + 1) * (-1) ** j for j in range(gamma)]
        for hot in {1, gamma}:
            peers, _ = period(record, shares, hot)
            assert peers.total(START) == 777 + shares[hot - 1]
            assert peers.slots == {}


def test_both_suites_release_the_same_value_for_the_same_draws():
    for changes in ({}, {"own_noise": 1}, {"row_check": 0}, {"gamma": 6}):
        shares = [-321, 45, 999, -1, 0, 7, 12][: changes.get("gamma", 3)] + [1000]
        totals = []
        for suite in ("yan2024", "compact"):
            peers, _ = period(support.record(suite=suite, **changes), shares, hot=2)
            totals.append(peers.total(START))
        own = 1000 if changes.get("own_noise") else 0
        assert totals == [777 + 45 + own] * 2


def test_the_whole_range_of_shares():
    record = support.record(suite="compact")
    for share in (-record.offset, record.offset, 0, 10 * record.offset):
        peers, _ = period(record, [share, 0, 0])
        assert peers.total(START) == 777 + min(share, record.offset)


def test_the_work_does_not_depend_on_the_noise():
    record = support.record(suite="compact", gamma=5)
    counts = set()
    for shares in ([0] * 5, [record.offset] * 5, [1, -1, 500, -record.offset, 3]):
        counts.add(period(record, shares)[1].ring.modmuls)
    assert len(counts) == 1


def test_a_row_that_does_not_sum_to_one_spoils_the_total():
    for row_check in (1, 0):
        record = support.record(suite="compact", row_check=row_check)
        peers, _ = period(record, [5, 6, 7], hot=99)
        opened = peers.total(START) + record.offset
        if row_check:
            assert abs(opened) > 1 << 20
        else:
            assert opened == 777  # the attack that ran


def test_the_randomiser_and_the_sign_are_fresh():
    record = support.record(suite="compact")
    reports = set()
    for seed in (b"1", b"2", b"3"):
        peers = Peers(record)
        meter, _, clock = make_meter(record, seed=seed)
        drive(meter, peers)
        peers.now = START + PERIOD
        clock.value += 1000
        drive(meter, peers, until=lambda m, p=peers: p.reports)
        reports.add(peers.reports[0][1])
    assert len(reports) == 3


def test_restart_before_the_report_sits_the_period_out():
    record = support.record(suite="compact")
    peers = Peers(record)
    meter, storage, clock = make_meter(record)
    drive(meter, peers)
    again, _, _ = make_meter(record, storage, clock=clock)
    assert wire.ROW not in drive(again, peers)
    assert peers.absent == [(START, wire.RESTARTED)]


def test_no_table_of_h_is_needed():
    record = support.record(suite="compact")
    table_h, support.TABLE_H = support.TABLE_H, None
    try:
        meter, _, _ = make_meter(record)
        assert list(meter._combs) == ["s"]
    finally:
        support.TABLE_H = table_h
