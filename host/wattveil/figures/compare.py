"""The schemes of Table 1 and Fig. 7 side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from wattveil.baselines import wav
from wattveil.figures.schemes import Times
from wattveil.figures.sheet import prose
from wattveil.figures.study import FIG5_GAMMA, Study

BASELINES = ("aggregation", "dg_aped", "plain")

CHOICES = tuple(
    map(
        prose,
        (
            f"""WAV-like: mode B, {wav.READINGS} readings in {wav.LEVELS} levels, one Paillier key
            for each of {wav.LEVELS + 1} sub-bands; times are per reading. Mode A (AES, no
            aggregation) is what was most likely cited; Table 1 shows it.""",
            """DG-APED-like: squares modulo a safe prime (ffdhe2048 at 2048 bits), 256-bit keys,
            groups of 16, two partitions of which one is opened while nothing fails.""",
            f"""Paper's formulas: γ = {FIG5_GAMMA}, plain powers, the cloud's rows included. These
            three are formulas only; our suites (`yan2024`, `compact`) are the whole product:
            frames, MACs, checks, masks.""",
            """Time is everybody's processor time for one sum, added up as on one core: all
            meters, cloud or aggregator, dealer and centre. Of WAV-like and the paper's formulas
            the work of some users is timed (`timed_users` in the CSV) and taken for each;
            products are over all users. Every sum is opened and checked.""",
            """The paper states neither a key size nor what was timed: absolute values cannot
            agree but by chance.""",
        ),
    )
)


@dataclass(frozen=True)
class Compared:
    """Times of one scheme, ms: of one user (mean and standard deviation over users), of everybody."""

    scheme: str
    bits: int
    users: int
    timed: int
    user_ms: float
    user_sd_ms: float
    rest_ms: float
    whole_ms: float
    checked: bool


def compared(study: Study, bits: int, users: int) -> list[Compared]:
    """All schemes at this key size and number of users."""
    formulas = [study.scheme(name, bits, users) for name in BASELINES]
    return [
        *map(of_times, formulas),
        *(product(study, s, bits, users) for s in study.sizes.suites),
    ]


def of_times(times: Times) -> Compared:
    """Of a scheme by formulas."""
    user = times.user
    return Compared(
        times.scheme, times.bits, times.users, len(user), mean(user), spread(user), times.rest,
        times.whole, times.checked,
    )  # fmt: skip


def product(study: Study, suite: str, bits: int, users: int) -> Compared:
    """Of the product."""
    one = study.fleet(bits, suite, users, FIG5_GAMMA)
    rest = one.rows + one.uploads + one.total + one.dealer + one.center
    return Compared(
        f"ours, {suite}, γ = {FIG5_GAMMA}", bits, users, len(one.meter), mean(one.meter),
        spread(one.meter), rest, sum(one.meter) + rest, one.checked,
    )  # fmt: skip


def spread(values: Sequence[float]) -> float:
    """Sample standard deviation; 0 of a single value."""
    return stdev(values) if len(values) > 1 else 0.0
