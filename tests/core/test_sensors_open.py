"""From config.json to pins and UARTs: what `make` asks of the hardware, with a `machine` that notes it."""

import sys
import time

from wattveil_meter.sensors import make
from wattveil_meter.store import Missing

CALLS = []


class Pin:
    IN, PULL_UP, IRQ_FALLING, IRQ_RISING = 0, 1, 4, 8
    level = 1

    def __init__(self, number, *modes):
        CALLS.append(("Pin", number) + modes)
        self.number = number

    def value(self):
        return Pin.level

    def irq(self, handler, trigger):
        CALLS.append(("irq", trigger))
        Pin.handler = handler


class ADC:
    def __init__(self, pin):
        self.pin = pin

    def read_u16(self):
        return 30000 + self.pin.number


class UART:
    INV_RX = 16
    answers = b""

    def __init__(self, number, baud, **keys):
        pins = {key: keys.pop(key).number for key in ("tx", "rx") if key in keys}
        CALLS.append(("UART", number, baud, pins, keys))

    def any(self):
        return len(UART.answers)

    def read(self, count=None):
        got, UART.answers = UART.answers, b""
        return got

    def write(self, data):
        CALLS.append(("write", data))


class Package:
    class record:
        period_s = 900
        lo = 0

        @staticmethod
        def start_of(utc):
            return utc - utc % 900


class Flash:
    def read(self, name):
        raise Missing(name)

    def write(self, name, value):
        pass


class Machine:
    Pin, ADC, UART = Pin, ADC, UART

    @staticmethod
    def disable_irq():
        return 5

    @staticmethod
    def enable_irq(state):
        assert state == 5


def build(config):
    """The sensor, and what was asked of `machine`."""
    before = sys.modules.get("machine")
    borrowed = not hasattr(time, "ticks_us")  # CPython
    if borrowed:
        time.ticks_us = lambda: time.perf_counter_ns() // 1000  # pyright: ignore
    sys.modules["machine"] = Machine  # pyright: ignore
    CALLS.clear()
    try:
        return make(config, Package, Flash()), list(CALLS)
    finally:
        if borrowed:
            del time.ticks_us
        del sys.modules["machine"]
        if before:
            sys.modules["machine"] = before


def refused(config):
    try:
        build(config)
    except ValueError as error:
        return str(error).replace("config.json: ", "")
    raise AssertionError(config)


def test_pzem004t():
    sensor, calls = build({"kind": "pzem004t", "tx": 4, "rx": 5, "address": 7})
    assert calls[-1] == ("UART", 1, 9600, {"tx": 4, "rx": 5}, {"timeout": 0})
    sensor.poll(None)
    assert CALLS[-1][0] == "write" and CALLS[-1][1][0] == 7
    assert (
        refused({"kind": "pzem004t", "tx": 4}) == "sensor key rx is missing or of the wrong type"
    )
    assert refused({"kind": "pzem004t", "tx": 4, "rx": 5, "address": 0}).endswith(
        "must be 1 to 248"
    )
    assert (
        refused({"kind": "pzem004t", "tx": 4, "rx": 5, "baud": 1})
        == "the sensor takes no key baud"
    )


def test_p1():
    _, calls = build({"kind": "p1", "uart": 2, "rx": 5})
    name, uart, baud, pins, keys = calls[-1]
    assert (name, uart, baud, pins) == ("UART", 2, 115200, {"rx": 5})
    assert (keys["bits"], keys["parity"], keys["stop"], keys["invert"]) == (8, None, 1, 16)
    assert keys["rxbuf"] >= 1024
    old = {"kind": "p1", "rx": 5, "baud": 9600, "seven_bits": True, "crc": False, "invert": False}
    keys = build(old)[1][-1][-1]
    assert (keys["bits"], keys["parity"], keys["invert"]) == (7, 0, 0)
    assert "crc is missing or of the wrong type" in refused({"kind": "p1", "rx": 5, "crc": 1})


def test_pulse_by_interrupt():
    sensor, calls = build({"kind": "pulse", "pin": 22, "imp_kwh": 1000, "debounce_ms": 0})
    assert calls == [("Pin", 22, 0, 1), ("irq", 12)]
    for level in (0, 1, 0, 1):
        Pin.level = level
        Pin.handler(Pin(22))  # pyright: ignore
    sensor.poll(None)
    assert sensor.register() == (2000, 0)
    assert build({"kind": "pulse", "pin": 1, "imp_kwh": 1, "pull_up": False})[1][0] == (
        "Pin",
        1,
        0,
    )
    assert "give the sensor imp_kwh" in refused({"kind": "pulse", "pin": 22})
    assert "0 to 16" in refused({"kind": "pulse", "pin": 22, "imp_kwh": 1, "debounce_ms": 17})


def test_adc_ct():
    config = {"kind": "adc_ct", "current_pin": 26, "mains_hz": 50, "i_gain": 1511}
    sensor, calls = build(config)
    assert calls == [("Pin", 26)]
    wish = 0
    while wish is not None:
        time.sleep(wish / 1000)
        wish = sensor.poll(None)
    assert not sensor.faults  # whether a busy machine kept up with 50 Hz is not the matter
    both = dict(config, voltage_pin=27, v_gain=20000, phase_us=-5, i_noise=3, min_w=2, volts=120)
    assert build(both)[1] == [("Pin", 26), ("Pin", 27)]
    assert "mains_hz must be 50 or 60" in refused(dict(config, mains_hz=55))
    assert "no v_gain: calibrate it" in refused(dict(config, voltage_pin=27))
    assert "i_gain is missing" in refused({"kind": "adc_ct", "current_pin": 26, "mains_hz": 50})
