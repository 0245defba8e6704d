"""Frames, telegrams and pulses: the datasheet's, constructed ones, damaged ones, and contacts that bounce."""

from wattveil_meter.sensors import pulse
from wattveil_meter.sensors.follow import Follow
from wattveil_meter.sensors.p1 import P1, Telegrams, crc16, mwh
from wattveil_meter.sensors.pulse import Debounce, Pulse, energy
from wattveil_meter.sensors.pzem004t import Pzem, parse, request

FOLDER = __file__[: -len("test_sensors_wire.py")] + "../fixtures/dsmr/"
# Peacefair's own example answer: 225.7 V, 108 mA, 24.4 W, 38 Wh, 50.0 Hz, power factor 1.00
FRAME = bytes([0x01, 0x04, 0x14, 0x08, 0xD1, 0x00, 0x6C, 0, 0, 0x00, 0xF4, 0, 0, 0x00, 0x26, 0, 0,
               0x01, 0xF4, 0x00, 0x64, 0, 0, 0x51, 0x34])  # fmt: skip


class Uart:
    """A line with what the test put into it; read(n) gives n bytes at most."""

    def __init__(self):
        self.waiting = b""
        self.written = []

    def any(self):
        return len(self.waiting)

    def read(self, count=1000):
        got, self.waiting = self.waiting[:count], self.waiting[count:]
        return got or None

    def write(self, data):
        self.written.append(data)


def read(name):
    with open(FOLDER + name + ".telegram", "rb") as file:
        return file.read()


def telegrams(data, step=None):
    """(telegrams, refusals) of bytes, fed `step` at a time."""
    refused = []
    reader = Telegrams(refused.append)
    out = []
    for at in range(0, len(data), step or len(data)):
        out += reader.feed(data[at : at + (step or len(data))])
    return out, refused


# --- PZEM-004T


def test_pzem_frame_of_the_datasheet():
    assert parse(FRAME, 1) == (2257, 108, 244, 38, 500, 100, 0)
    assert parse(FRAME, 248) == (2257, 108, 244, 38, 500, 100, 0)
    assert request(1) == bytes([0x01, 0x04, 0, 0, 0, 0x0A, 0x70, 0x0D])


def test_pzem_32_bit_values_have_their_low_word_first():
    body = (
        bytes([1, 4, 20])
        + bytes([8, 0, 0x12, 0x34, 0, 1, 0x56, 0x78, 0, 2, 0x9A, 0xBC, 0, 3])
        + bytes(6)
    )
    frame = body + crc16(body, 0xFFFF).to_bytes(
        2, "little"
    )  # the other table's CRC, begun as Modbus does
    assert parse(frame, 1)[1:4] == (0x11234, 0x25678, 0x39ABC)


def test_pzem_refuses():
    for k in range(len(FRAME)):
        for bit in (1, 0x80):
            damaged = bytearray(FRAME)
            damaged[k] ^= bit
            assert parse(bytes(damaged), 1) == "crc", k
    assert parse(FRAME, 2) == "address"
    assert parse(FRAME + b"\0", 1) == "trailing"
    for length in range(25):
        assert parse(FRAME[:length], 1) == "short"
    assert parse(bytes([1, 0x84, 2, 0xC2, 0xC1]), 1) == "exception"
    body = bytes([1, 3, 20]) + bytes(20)
    assert parse(body + crc16(body, 0xFFFF).to_bytes(2, "little"), 1) == "malformed"


def test_pzem_asks_every_second_and_follows_the_register():
    uart = Uart()
    source = Pzem(uart, 1)
    source.poll(0)
    assert uart.written == [request(1)] and source.read() is None and source.why == "sensor_fault"
    uart.waiting = FRAME[:10]
    source.poll(100)
    uart.waiting = FRAME[10:]
    source.poll(200)
    assert source.read() == (38000, 0) and source.last[2] == 244
    source.poll(900)
    assert len(uart.written) == 1
    source.poll(1000)
    assert len(uart.written) == 2
    source.poll(1600)  # it did not answer
    source.poll(2000)
    uart.waiting = FRAME[:24] + b"\0"
    source.poll(2100)
    uart.waiting = FRAME * 3  # someone else talks
    source.poll(3000)
    source.poll(3100)
    assert source.faults["silent"] == 1 and source.faults["crc"] == 1
    for ms in range(3200, 15000, 250):
        source.poll(ms)
        assert len(source._got) <= 51
    assert source.read() is None and source.why == "sensor_fault"  # too old


def test_a_register_that_was_reset_goes_on():
    source = Follow(1000)
    source.follow(0, 5000, 700)
    assert source.read() == (5000, 700) and source.gaps == 0
    source.follow(1, 6000, 700)
    source.follow(2, 100, 700)  # exchanged, or reset, if the next one says so too
    assert source.read() == (6000, 700) and source.gaps == 0
    source.follow(3, 350, 701)
    assert (
        source.read() == (6250, 701) and source.gaps == 1 and source.faults == {"register_back": 1}
    )
    source.follow(1000, 900000350, 701)  # another exchange, for one that had counted more
    source.follow(2000, 900000450, 701)
    assert source.read() == (6350, 701) and source.gaps == 2
    assert source.faults == {"register_back": 1, "register_jump": 1}


def test_damage_in_one_telegram_moves_no_register():
    """Without a CRC a digit may flip, or a line be missing: a tariff, or all of export."""
    source = Follow(30000)
    source.follow(0, 5000000, 700000)
    ms = 0
    for wrong in ((9005000000, 700000), (5000000, 0), (2000000, 700000), (5000000, 70000000)):
        source.follow(ms + 10000, *wrong)
        assert source.read() == (5000000, 700000)
        ms = source.now = ms + 20000
        source.follow(ms, 5000000, 700000)
        assert source.read() == (5000000, 700000) and source.gaps == 0
    source.follow(90000, 9005000000, 700000)
    source.follow(100000, 5000, 700000)  # two that do not agree
    source.follow(110000, 5300000, 700100)
    assert source.read() == (5300000, 700100) and source.gaps == 0
    assert source.faults == {"register_back": 3, "register_jump": 3}
    source.follow(24 * 3600000, 305300000, 700100)  # a day with the cable out: 300 kWh can be
    assert source.read()[0] == 305300000 and source.gaps == 0


# --- P1


def test_crc_check_values():
    assert crc16(b"123456789") == 0xBB3D  # CRC-16/ARC
    assert crc16(b"123456789", 0xFFFF) == 0x4B37  # CRC-16/MODBUS


def test_values():
    for text, expected in (
        (b"000004.426*kWh", 4426000),
        (b"12345.678*kWh", 12345678000),
        (b"00052185.7825309*kWh", 52185782530),
        (b"006545766*Wh", 6545766000),
        (b"58.5*Wh", 58500),
        (b"1*kWh", 1000000),
        (b"00.244*kW", None),
        (b"000000747*varh", None),
        (b"", None),
        (b"*kWh", None),
        (b".5*kWh", None),
        (b"1.*kWh", None),
        (b"-1.0*kWh", None),
        (b"1.5", None),
        (b"1_0.0*kWh", None),
        (b"1.0*kWh*kWh", None),
        (b"1234567890123*kWh", None),
    ):
        assert mwh(text) == expected, text


def test_telegrams_of_all_versions():
    for name, checked, imported, exported in (
        ("v2_2", False, 2000000000, 23000),
        ("v3", False, 2000000000, 23000),
        ("v4", True, 3016829000, 0),
        ("v5", True, 6825000, 2444000),
        ("totals_wh", True, 6545766000, 58000),
        ("belgian", True, 571562000, 5000),
        ("decimals", False, 52185782530, 19949322149),
    ):
        for step in (None, 1, 7):
            found, refused = telegrams(read(name), step)
            assert not refused and len(found) == 1
            assert found[0].checked == checked and found[0].measures()
            assert (found[0].register(b"1.8."), found[0].register(b"2.8.")) == (imported, exported)
    found, refused = telegrams(read("heat"))
    assert not refused and found[0].checked and not found[0].measures()


def test_every_damaged_byte_is_refused():
    for name in ("v4", "heat"):
        good = read(name)
        for k in range(len(good)):
            damaged = bytearray(good)
            damaged[k] ^= 0x10 if k % 2 else 0x01
            found, refused = telegrams(bytes(damaged))
            assert not found, k
            if 0 < k < good.rindex(b"!") - 2:  # later ones look like a telegram still to be ended
                assert len(refused) == 1, k


def test_what_is_in_no_form_is_refused_and_the_next_one_taken():
    good = read("v4")
    for bad, reason in (
        (good[: good.index(b"1-0:2.8.1")], "cut"),
        (good.replace(b"\r\n!", b"\n!"), "malformed"),
        (good[:-6] + b"0_AB\r\n", "malformed"),
        (good[:-6] + b"+0AB\r\n", "malformed"),
        (good[:-2] + b"0\r\n", "malformed"),
        (good[:-2] + b"\n", "malformed"),
        (good[:-6] + b"0000\r\n", "crc"),
        (b"/" + b"x" * 200 + b"\r\n", "malformed"),
        (good.replace(b"1-0:1.8.2(", b"1-0:1.8.1("), "malformed"),
        (good.replace(b"1-0:1.8.2(", b"1-0:1.8.2["), "malformed"),
        (good[:30] + b"0-0:96.1.1(1)\r\n" * 700, "malformed"),
        (good[:30] + b"0-0:17.0.0(1)\r\n" * 700, "oversized"),
    ):
        found, refused = telegrams(b"noise\r\n" + bad + b"\r\n" + good)
        assert [t.register(b"1.8.") for t in found] == [3016829000], bad[:40]
        assert refused == [reason], (refused, reason)


def test_endless_input_takes_no_memory():
    refused = []
    reader = Telegrams(refused.append)
    reader.feed(read("v4")[:40])
    for _ in range(200):
        reader.feed(b"A" * 100)
    assert len(reader._line) <= 100 and refused == ["oversized"]
    reader.feed(b"\r\n")
    assert len(reader.feed(read("v4"))) == 1


def test_p1_source():
    uart = Uart()
    source = P1(uart, True)
    uart.waiting = read("v5")
    source.poll(0)
    assert source.read() is None
    source.poll(10)
    assert source.read() == (6825000, 2444000)
    uart.waiting = read("v2_2") + read("heat")
    for ms in (20, 30, 40):
        source.poll(ms)
    assert source.faults == {"no_crc": 1, "no_register": 1}
    source.poll(40000)
    assert source.read() is None and source.why == "sensor_fault"
    old = P1(uart, False)
    uart.waiting = read("v2_2")
    old.poll(0)
    assert old.read() == (2000000000, 23000)


# --- pulses


def bounce(debounce, at, active, seed):
    """Edges of a contact that changes to `active` at `at` us and bounces for up to 4 ms."""
    level, us = active, at
    debounce.edge(level, us & pulse._MASK)
    for k in range(2 * (seed % 5)):
        us += 100 + (seed * 37 + k * 211) % 300
        level = not level
        debounce.edge(level, us & pulse._MASK)


def test_a_contact_that_bounces():
    debounce = Debounce(15000)
    source = Pulse(lambda: debounce.count, *energy(1000, 0, 0))
    us = (1 << 30) - 2000000  # ticks wrap on the way
    for k in range(200):
        bounce(debounce, us, True, k)
        us += 40000
        bounce(debounce, us, False, k + 3)
        us += 30000 + k * 1000
        if k % 3 == 0:
            debounce.settle(us & pulse._MASK)
        source.poll(0)
    debounce.settle(us & pulse._MASK)
    source.poll(0)
    assert source.state() == (200, 0) and source.read() == (200000, 0)


def test_spikes_are_no_pulses_and_split_none():
    debounce = Debounce(15000)
    for us in range(100000, 2000000, 100000):  # spikes of 10 ms in silence
        debounce.edge(True, us)
        debounce.edge(False, us + 10000)
    assert debounce.count == 0
    debounce.edge(True, 2000000)  # a pulse of 60 ms with a drop-out of 5 ms in the middle
    debounce.edge(False, 2030000)
    debounce.edge(True, 2035000)
    debounce.edge(False, 2060000)
    debounce.settle(2080000)
    assert debounce.count == 1


def test_pulse_energy():
    assert energy(1000, 0, 0) == (1000000, 1000)
    num, den = energy(0, 1000, 2351)  # BL0937, 1 mOhm, 2351:1, as in sockets: 2.026 J a pulse
    assert 2025000 < num * 3600000 // den < 2027000
    for bad in ((0, 0, 0), (1000, 1000, 0), (0, 1000, 0), (0, 0, 5), (-1, 0, 0)):
        try:
            energy(*bad)
        except ValueError:
            continue
        raise AssertionError(bad)


def test_no_energy_is_lost_between_pulses_and_counter_wraps():
    counter = [(1 << 30) - 3]
    source = Pulse(lambda: counter[0], *energy(3000, 0, 0))  # 333.33 mWh each
    for _ in range(9):
        counter[0] = (counter[0] + 1) & ((1 << 30) - 1)
        source.poll(0)
    assert source.read() == (3000, 0)
    counter[0] = (counter[0] + 1000000) & ((1 << 30) - 1)
    source.poll(0)
    assert source.read() == (1000009 * 1000000 // 3000, 0)
    again = Pulse(lambda: 0, *energy(3000, 0, 0))
    again.restore(*source.state())
    assert again.read() == source.read()
