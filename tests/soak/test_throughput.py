"""Ingestion and a city, each answer opened: in CI a few meters, under `make soak` the real sizes.

Times are printed, not asserted: whether a target is met is for an idle machine to say.
"""

from __future__ import annotations

import pytest

from soak.scale import SOAK, scale
from wattveil.bench.host import run_host
from wattveil.bench.host.record import HostPlan
from wattveil.bench.host.show import promised
from wattveil.fleet.broker import BrokerMissing, find_broker


@pytest.mark.timeout(scale(300, 7200))
@pytest.mark.parametrize("what", ["ingest", "city"])
def test_every_answer_is_right(what: str) -> None:
    try:
        find_broker()
    except BrokerMissing as missing:
        pytest.skip(str(missing))
    bits, meters = scale((512, 20), (2048, None))
    made = run_host(HostPlan(bits=(bits,), what=(what,), repeats=3, meters=meters), lambda _: None)
    assert made and all(one["checked"] for one in made)
    for one in made if SOAK else ():
        met = [f"{text} {'met' if kept else 'MISSED'}" for text, kept in promised(one)]
        print(one["meters"], one["suite"], one["stage"], one["value"], one["unit"], *met)
