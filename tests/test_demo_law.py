"""1,500 periods through every role: the noise of the released totals follows the law it should.

With full attendance and quorum 1 the summed shape is |S|/a = 1, (discrete) Laplace; at the default
quorum it is |S|/a > 1. All randomness is the meters' own DRBG, seeded by the system, so a p-value
below 1e-4 happens by chance once in 10,000 runs of a case: then another run decides (1e-8 for both).
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from test_noise_law import P_MIN, p_value, polya_difference, power, rounded_share
from wattveil.demo.plan import DemoOptions, Plan, make_plan
from wattveil.demo.run import run_demo

PERIODS = 1500
METERS = 4
DELTA = 300  # Wh; epsilon 1, so this is the scale too


@pytest.mark.parametrize("noise", ["gamma", "discrete"])
@pytest.mark.parametrize(("quorum", "a"), [("1", 4), (DemoOptions.quorum, 3)])
def test_law_of_released_noise(noise: str, quorum: str, a: int) -> None:
    options = DemoOptions(
        meters=METERS,
        periods=PERIODS,
        bits=512,
        insecure_test_key=True,
        gamma=2,
        quorum=quorum,
        noise=noise,
        link="memory",
        delta=DELTA,
    )
    plan = make_plan(options)
    assert plan.quorum_count == a
    assert any(least_p(plan, a, noise) > P_MIN for _ in range(2))


def least_p(plan: Plan, a: int, noise: str) -> float:
    """The least p-value of the tests of one run."""
    rows = run_demo(plan)["periods"]
    assert all(row["refused"] is None and row["reported"] == METERS for row in rows)
    samples = np.array([row["noise_wh"] for row in rows])
    reach = 40 * DELTA
    if noise == "discrete":
        return p_value(samples, polya_difference(METERS / a, DELTA, reach))
    law = power(rounded_share(a, DELTA, reach), METERS)
    below = np.cumsum(law)
    # rounded values: Kolmogorov-Smirnov is conservative on a discrete law
    ks = stats.kstest(samples, lambda x: below[np.asarray(x, dtype=int) + reach])
    return min(float(ks.pvalue), p_value(samples, law))
