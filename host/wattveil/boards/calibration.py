"""`wattveil board calibrate`: samples from the board, two known values, the sensor's settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wattveil.boards.deploy import PACKAGE
from wattveil.boards.repl import BoardError, RawRepl
from wattveil.boards.schema import Board
from wattveil.calibrate import Samples, calibrate

Ask = Callable[[str], None]  # shows a text, and comes back when the person has done it


def calibrated(
    port_id: str,
    ask: Ask,
    *,
    board: Board | None,
    pins: dict[str, int],
    amps: float,
    volts: float | None,
    mains_hz: int,
) -> dict[str, Any]:
    """The table `sensor` of config.json for `adc_ct` on this board.

    pins: what is wired otherwise than board.toml says. amps, volts: RMS of the load and, with a
    voltage channel, of the mains. The board needs the meter's program (`wattveil board deploy`). It
    is a meter again afterwards. BoardError, CalibrationError.
    """
    sensor: dict[str, Any] = {"kind": "adc_ct", "mains_hz": mains_hz}
    sensor |= (board.sensors.get("adc_ct", {}) if board else {}) | pins
    if "current_pin" not in sensor:
        raise BoardError(f"{port_id}: which pin has the current transformer? --current-pin")
    if (volts is None) != (sensor.get("voltage_pin", -1) < 0):
        raise BoardError(
            f"{port_id}: --volts goes with a voltage channel (--voltage-pin), and one with the other"
        )
    with RawRepl(port_id) as repl:
        if repl.ask(f"_size({PACKAGE!r})") < 0:
            raise BoardError(f"{port_id}: there is no meter program: wattveil board deploy")
        ask(f"Switch the load of {amps:g} A on.")
        loaded = _samples(repl, sensor)
        ask("Switch it off.")
        idle = _samples(repl, sensor)
    return sensor | calibrate(loaded, idle, amps=amps, volts=volts, mains_hz=mains_hz).config()


def _samples(repl: RawRepl, sensor: dict[str, Any]) -> Samples:
    return Samples.parse(
        repl.run(f"from {PACKAGE}.sensors.adc_ct import dump\ndump({sensor!r})\ngc.collect()")
    )
