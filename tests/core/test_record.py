"""The record: round trip, fingerprint, and everything it refuses."""

import support
from wattveil_meter.drbg import Drbg
from wattveil_meter.fields import Malformed, bit_length, pack, read_uint, uint, unpack
from wattveil_meter.record import Record


def refused(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except Malformed as error:
        return str(error)
    return None


def test_round_trip():
    made = support.record(lo=-500, hi=500)
    parsed = Record.parse(made.raw)
    assert parsed.fingerprint == made.fingerprint and parsed.lo == -500 and parsed.delta == 1000
    assert parsed.a == 3 and parsed.exponent_bits == 17 and parsed.nb == 32
    assert parsed.n == support.N and parsed.suite == "yan2024"
    assert parsed.start_of(support.START + 1799) == support.START
    assert parsed.start_of(support.START + 1800) == support.START + 1800


def test_phase_moves_the_grid():
    record = support.record(phase_s=600)
    assert record.start_of(support.START + 599) == support.START - 1200
    assert record.start_of(support.START + 600) == support.START + 600


def test_any_change_changes_the_fingerprint():
    prints = {support.record().fingerprint}
    for change in (
        {"gamma": 4},
        {"quorum_count": 2},
        {"epsilon_den": 2, "offset": 120000},
        {"own_noise": 1},
        {"row_check": 0},
        {"period_s": 900},
        {"key_epoch": 2},
        {"noise": "gamma"},
    ):
        prints.add(support.record(**change).fingerprint)
    assert len(prints) == 9


def test_bad_values_are_refused():
    for change in (
        {"suite": "other"},
        {"noise": "none"},
        {"level": "tiny"},
        {"fleet": b"short"},
        {"tables": b"x" * 31},
        {"tables": b""},
        {"n": support.N + 1},
        {"gamma": 0},
        {"gamma": 256},
        {"quorum_count": 1},
        {"quorum_count": 5},
        {"colluding": 3},
        {"hi": 0},
        {"epsilon_num": 0},
        {"epsilon_den": 0},
        {"offset": 59999},
        {"offset": 60001},
        {"epsilon_num": 2, "epsilon_den": 2},
        {"unit": "kWh"},
        {"h": 0},
        {"h": support.N * support.N},
        {"h_s": support.N},
        {"period_s": 1 << 31},
        {"key_epoch": 1 << 40},
        {"n": (1 << 127) + 1},
        {"row_check": 2},
        {"phase_s": 1800},
    ):
        assert refused(support.record, **change), change


def test_strict_parser():
    raw = support.record().raw
    assert refused(Record.parse, raw + b"\0") == "trailing bytes"
    assert refused(Record.parse, raw[:-1])
    assert refused(Record.parse, b"")
    for i in range(len(raw)):  # any one truncation
        if i % 17 == 0:
            assert refused(Record.parse, raw[:i])
    parts = unpack(raw, 26)
    parts[3] += b"\0"  # n not in shortest form
    assert refused(Record.parse, pack(*parts)) == "integer not in shortest form"


def test_damaged_records_never_crash():
    raw = support.record().raw
    drbg = Drbg(bytes(32))
    for _ in range(60):
        bad = bytearray(raw)
        for _ in range(1 + drbg.below(3)):
            bad[drbg.below(len(bad))] = drbg.below(256)
        try:
            Record.parse(bytes(bad))
        except Malformed:
            pass


def test_check_bits_cover_the_widest_total():
    for own in (0, 1):
        record = support.record(roster_size=1000, quorum_count=700, own_noise=own)
        width = 1000 * 1000 + 2 * 60 * 1000 * 1  # at least one Laplace of bounds
        assert record.check_bits >= max(40, 20 + bit_length(width))


def test_integers():
    for value in (0, 1, 127, 128, 255, 256, 1 << 64, (1 << 2048) - 1):
        assert read_uint(uint(value)) == value
        count = 0
        while value >> count:
            count += 1
        assert bit_length(value) == count
    assert refused(read_uint, b"\x01\x00")
    assert refused(unpack, b"\x05\0\0\0abc", 1)
