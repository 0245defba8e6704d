"""What cloud, centre and dealer cost on this machine, beside baselines that run in turns with them.

Each piece of work is a module with one function; another one needs a line in `RUNS` and, if it
was promised something, in `show.TARGETS`.
"""

from __future__ import annotations

from wattveil.bench.host.city import run_city
from wattveil.bench.host.dealer import run_dealer
from wattveil.bench.host.decrypt import run_decrypt
from wattveil.bench.host.ingest import run_ingest
from wattveil.bench.host.keygen import run_keygen
from wattveil.bench.host.period import run_period
from wattveil.bench.host.product import run_product
from wattveil.bench.host.record import HostPlan, HostRecord, Progress, Run
from wattveil.bench.host.rows import run_rows
from wattveil.bench.rig import make_key

RUNS: dict[str, Run] = {
    "rows": run_rows,
    "period": run_period,
    "product": run_product,
    "ingest": run_ingest,
    "city": run_city,
    "decrypt": run_decrypt,
    "dealer": run_dealer,
    "keygen": run_keygen,
}


def run_host(plan: HostPlan, progress: Progress) -> list[HostRecord]:
    """All records of the plan. ValueError for work that nobody knows."""
    if unknown := sorted(set(plan.what) - set(RUNS)):
        raise ValueError(f"--what: {', '.join(unknown)} is none of {', '.join(RUNS)}")
    records: list[HostRecord] = []
    for bits in plan.bits:
        progress(f"{bits} bits: key generation")
        key = make_key(bits)
        for what in plan.what or RUNS:
            progress(f"{bits} bits: {what}")
            records += RUNS[what](key, plan, progress)
    return records
