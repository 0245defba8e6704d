"""Calibrating a current transformer: the board's own sampling and printing, a load that is known."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import test_sensors_adc as bench
from wattveil.calibrate import CalibrationError, Samples, calibrate
from wattveil.fleet.runtime import RuntimeMissing, find_runtime
from wattveil_meter.sensors.adc_ct import POINTS, AdcCt, Cycle


def dump(mains: bench.Mains, *, voltage: bool = True) -> str:
    """What adc_ct.dump prints, from the virtual converter."""
    cycle = Cycle(
        mains.hz, mains.read_i, mains.read_v if voltage else None, mains.ticks, 10 * POINTS, 10
    )
    fault = cycle.sample()
    v = cycle.v if cycle.v is not None else [0] * cycle.count
    rows = [f"{cycle.at[k]} {cycle.i[k]} {v[k]}" for k in range(cycle.count)]
    return "\n".join([*rows, f"end {fault or 'ok'}"])


@pytest.mark.parametrize("hz", [50, 60])
@pytest.mark.parametrize("reversed_", [False, True])
def test_a_calibrated_board_reads_right(hz: int, reversed_: bool) -> None:
    kettle = bench.Mains(hz, 9.5, bench.SINE)
    if reversed_:
        kettle.i = [(n, -a, phase) for n, a, phase in kettle.i]
    made = calibrate(
        Samples.parse(dump(kettle)),
        Samples.parse(dump(bench.Mains(hz, 0.0, bench.SINE))),
        amps=kettle.amps(),
        volts=230.25,  # of the wave with its harmonics
        mains_hz=hz,
    )
    assert abs(abs(made.i_gain) / bench.I_GAIN - 1) < 0.003
    assert (made.i_gain < 0) == reversed_
    assert abs(made.v_gain / bench.V_GAIN - 1) < 0.003
    assert abs(made.phase_us - (bench.CT_US - bench.MUX_US)) <= 10
    assert 28 <= made.i_noise <= 40
    motor = bench.Mains(hz, 4.0, bench.LAGGING)
    if reversed_:
        motor.i = [(n, -a, phase) for n, a, phase in motor.i]
    keys = made.config()
    assert set(keys) == {"i_gain", "v_gain", "phase_us", "i_noise"}
    adc = AdcCt(
        motor.cycle(), keys["i_gain"], keys["i_noise"], 0, keys["phase_us"], keys["v_gain"], 230
    )
    loop = bench.Loop(adc, motor)
    for _ in range(4):
        loop.cycle()
    watts = motor.watts() * (-1 if reversed_ else 1)
    assert adc.power is not None and abs(adc.power / 1000 / watts - 1) < 0.015


def test_without_voltage() -> None:
    made = calibrate(
        Samples.parse(dump(bench.Mains(50, 9.5, bench.SINE), voltage=False)),
        Samples.parse(dump(bench.Mains(50, 0.0, bench.SINE), voltage=False)),
        amps=9.5,
        volts=None,
        mains_hz=50,
    )
    assert (made.v_gain, made.phase_us) == (0, 0)
    assert abs(made.i_gain / bench.I_GAIN - 1) < 0.003


def test_what_no_calibration_can_be_made_of() -> None:
    good = Samples.parse(dump(bench.Mains(50, 9.5, bench.SINE)))
    idle = Samples.parse(dump(bench.Mains(50, 0.0, bench.SINE)))
    motor = Samples.parse(dump(bench.Mains(50, 9.5, ((1, 1.0, -0.9),))))
    flat = Samples(good.us, good.i, tuple(30000 for _ in good.us))
    for loaded, empty, values, says in (
        (idle, idle, {}, "use a larger load"),
        (motor, idle, {}, "is the load resistive"),
        (flat, idle, {}, "is it wired"),
        (good, idle, {"amps": 0.0}, "above 0"),
        (good, idle, {"mains_hz": 16}, "50 or 60"),
    ):
        arguments = {"amps": 9.5, "volts": 230.0, "mains_hz": 50} | values
        with pytest.raises(CalibrationError, match=says):
            calibrate(loaded, empty, **arguments)  # type: ignore[arg-type]


def test_prints_that_are_not_whole() -> None:
    text = dump(bench.Mains(50, 9.5, bench.SINE))
    for bad, says in (
        (text.rsplit("\n", 1)[0], "no end"),
        (text.replace("end ok", "end clipped"), "smaller load"),
        (text.replace("end ok", "end stalled"), "run it again"),
        (text + "\n" + text, "more than one dump"),
        ("1 2 3\nend ok", "no ten cycles"),
        ("\n".join(reversed(text.splitlines()[:-1])) + "\nend ok", "no ten cycles"),
        (text.replace("\nend", "\n999999 70000 1\nend"), "above 65535"),
    ):
        with pytest.raises(CalibrationError, match=says):
            Samples.parse(bad)


@given(st.text(alphabet="0123456789 \nendok-", max_size=400))
def test_any_print_is_refused_by_name(text: str) -> None:
    with pytest.raises(CalibrationError):
        Samples.parse(text)


def test_the_board_prints_what_the_host_reads(tmp_path: Path) -> None:
    """adc_ct.dump itself, on MicroPython, over a `machine` module that has two converters."""
    try:
        runtime = find_runtime("micropython")
    except RuntimeMissing as missing:
        pytest.skip(str(missing))
    (tmp_path / "machine.py").write_text(
        "class Pin:\n    def __init__(self, n): self.n = n\n"
        "class ADC:\n    def __init__(self, pin): self.x = 30000 + 100 * pin.n\n"
        "    def read_u16(self):\n        self.x = 60000 - self.x\n        return self.x\n"
    )
    config = {"kind": "adc_ct", "current_pin": 26, "voltage_pin": 27, "mains_hz": 50}
    firmware = Path(__file__).parent.parent / "firmware"
    (tmp_path / "run.py").write_text(
        f"from wattveil_meter.sensors.adc_ct import dump\ndump({config})\n"
    )
    done = subprocess.run(
        [*runtime.argv, "run.py"],
        cwd=tmp_path,
        env={**os.environ, "MICROPYPATH": f"{tmp_path}:{firmware}"},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    if done.stdout.endswith("end stalled\n"):  # a busy machine
        with pytest.raises(CalibrationError, match="stalled"):
            Samples.parse(done.stdout)
        return
    samples = Samples.parse(done.stdout)
    assert {27400, 32600} == set(samples.i) and {27300, 32700} == set(samples.v)
    assert 199_000 < samples.us[-1] < 230_000
