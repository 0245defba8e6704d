"""Calibration of a meter's current transformer (sensor `adc_ct`) from samples and two known values.

Procedure, in docs/SENSORS.md too: connect a resistive load (kettle, heater) of at least a fifth of
the transformer's range; read current and voltage on an instrument that shows true RMS; let the board
print ten cycles (`adc_ct.dump(config)`); switch the load off and print ten more.  `calibrate` turns
the two prints and the two values into the configuration keys.

A resistive load draws its current in phase with the voltage, so whatever angle the samples show is
that of transformer and sampling: `phase_us`.  More than 90 degrees means that the transformer is
clipped on the wrong way round; the gain then becomes negative instead.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

CYCLES = 10
MAX_PHASE_US = 1500
_MIN_RMS = 500  # counts; below, the converter's noise is more than 1 % of the load


class CalibrationError(ValueError):
    """Samples that no calibration can be made of, and what to do about it."""


@dataclass(frozen=True)
class Samples:
    """What `adc_ct.dump` printed: us since the first point, counts 0..65535; v all 0 without voltage."""

    us: tuple[int, ...]
    i: tuple[int, ...]
    v: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> Samples:
        """The board's print; CalibrationError when it is not whole or the board saw a fault."""
        rows: list[tuple[int, int, int]] = []
        verdict = ""
        for line in text.splitlines():
            words = line.split()
            if verdict:
                raise CalibrationError("the board printed more than one dump: take one at a time")
            if words[:1] == ["end"] and len(words) == 2:
                verdict = words[1]
            elif len(words) == 3 and all(w.isascii() and w.isdigit() for w in words):
                rows.append((int(words[0]), int(words[1]), int(words[2])))
        if not verdict:
            raise CalibrationError("the board's print has no end: run it again")
        if verdict != "ok":
            todo = {"clipped": "use a smaller load, or a smaller burden"}.get(
                verdict, "run it again"
            )
            raise CalibrationError(f"the board says that sampling was {verdict[:20]}: {todo}")
        if len(rows) < 20 * CYCLES or any(b[0] <= a[0] for a, b in pairwise(rows)):
            raise CalibrationError(f"{len(rows)} points in a row are no ten cycles: run it again")
        if any(max(i, v) > 65535 for _, i, v in rows):
            raise CalibrationError("counts above 65535: this is no dump of adc_ct")
        us, i, v = zip(*rows, strict=True)
        return cls(us, i, v)


@dataclass(frozen=True)
class Calibration:
    """The keys of config.json's sensor, and what was seen on the way."""

    i_gain: int  # uA per count
    v_gain: int  # uV per count, 0 without voltage
    phase_us: int
    i_noise: int  # counts, RMS

    def config(self) -> dict[str, int]:
        """To be merged into config.json's `sensor`."""
        return dict(vars(self))


def _integral(us: Sequence[int], values: Sequence[complex]) -> complex:
    """Trapezium rule over the times."""
    points = zip(pairwise(us), pairwise(values), strict=True)
    return sum(((a + b) * (t - s) / 2 for (s, t), (a, b) in points), 0j)


def _rms(us: Sequence[int], counts: Sequence[int]) -> float:
    """Of the counts about their mean."""
    length = us[-1] - us[0]
    mean = _integral(us, counts).real / length
    return math.sqrt(_integral(us, [(x - mean) ** 2 for x in counts]).real / length)


def _angle(us: Sequence[int], counts: Sequence[int], hz: int) -> float:
    """Of the fundamental, radians."""
    mean = sum(counts) / len(counts)
    turn = [cmath.exp(-2j * math.pi * hz * t / 1e6) for t in us]
    return cmath.phase(_integral(us, [(x - mean) * w for x, w in zip(counts, turn, strict=True)]))


def calibrate(
    loaded: Samples, idle: Samples, *, amps: float, volts: float | None, mains_hz: int
) -> Calibration:
    """The keys for one board.

    loaded, idle: with the load on and off; amps: RMS of the load, A; volts: RMS of the mains, V, or
    None when the board has no voltage channel; mains_hz: 50 or 60. CalibrationError says what is wrong.
    """
    if mains_hz not in (50, 60):
        raise CalibrationError("mains_hz must be 50 or 60")
    if not 0 < amps < 1000 or (volts is not None and not 0 < volts < 1000):
        raise CalibrationError("give RMS values above 0: A of the load, V of the mains")
    noise = _rms(idle.us, idle.i)
    load = _rms(loaded.us, loaded.i)
    if load < _MIN_RMS or load < 5 * noise:
        raise CalibrationError(
            f"the load shows as {load:.0f} counts, no load as {noise:.0f}: use a larger load, and "
            "clip the transformer around one wire only"
        )
    i_gain = amps * 1e6 / math.sqrt(load * load - noise * noise)
    if volts is None:
        return Calibration(round(i_gain), 0, 0, round(noise))
    voltage = _rms(loaded.us, loaded.v)
    if voltage < _MIN_RMS:
        raise CalibrationError(
            f"the voltage shows as {voltage:.0f} counts: is it wired to its pin?"
        )
    lead = _angle(loaded.us, loaded.i, mains_hz) - _angle(loaded.us, loaded.v, mains_hz)
    lead = math.remainder(lead, 2 * math.pi)
    if abs(lead) > math.pi / 2:
        i_gain, lead = -i_gain, math.remainder(lead - math.pi, 2 * math.pi)
    phase_us = round(lead / (2 * math.pi * mains_hz) * 1e6)
    if abs(phase_us) > MAX_PHASE_US:
        raise CalibrationError(
            f"current and voltage are {phase_us} us apart, more than {MAX_PHASE_US}: is the load "
            "resistive, and on the phase whose voltage is measured?"
        )
    return Calibration(round(i_gain), round(volts * 1e6 / voltage), phase_us, round(noise))
