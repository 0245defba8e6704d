"""The figures that were promised, from the records of a run: each with its target and whether it was met.

They hold for n = 2048, gamma = 20, level short and noise exponents of 24 bits, which is what the
benchmark's fleets have (a larger offset costs more). Others get a figure without a target, or none.
"""

from __future__ import annotations

from collections.abc import Sequence

from wattveil.bench.figures import Figure, figure
from wattveil.bench.records import Measured

BITS, GAMMA = 2048, 20
HEAP_KIB = 64
TABLES_KIB = 512
TEXTBOOK = "Eq. 18 and 22 by pow() mod n^2, full-size r, 1 + x n"
RATIO = {"yan2024": 40, "compact": 200}  # on unix MicroPython, portable kernel
PREPARE_S = {("compact", True): 1.2, ("compact", False): 0.95, ("yan2024", True): 6.5}
REPORT_MS = 60
MODMUL_MS = {"times_us": 3.6, "square_us": 3.1}
REPORT_BYTES = 600
PICO = "pico-emulated"


def figures(measured: Sequence[Measured]) -> list[Figure]:
    """Of all records, by runtime."""
    made: list[Figure] = []
    largest: dict[tuple[str, str, int], Measured] = {}
    for one in measured:
        record = one.record
        at = record["runtime"], record["suite"], record["bits"]
        if at not in largest or largest[at].record["gamma"] < record["gamma"]:
            largest[at] = one
    seen: set[tuple[str, int]] = set()
    for (runtime, suite, bits), one in largest.items():
        if (runtime, bits) not in seen:
            seen.add((runtime, bits))
            made += _arithmetic(one)
        group = [
            other
            for other in measured
            if (other.record["runtime"], other.record["suite"], other.record["bits"])
            == (runtime, suite, bits)
        ]
        made += _times(one) + _sizes(one, group)
    return made


def _defined(one: Measured) -> bool:
    record = one.record
    defined = (record["bits"], record["gamma"], record["level"]) == (BITS, GAMMA, "short")
    return defined and one.exponent_bits <= 24


def _arithmetic(one: Measured) -> list[Figure]:
    """One multiplication and one squaring of the kernel, beside a plain one."""
    record, probe = one.record, one.probe
    made = []
    for name, what in (("times_us", "pair product"), ("square_us", "pair square")):
        pico = (
            record["runtime"] == PICO and record["bits"] == BITS and record["kernel"] != "portable"
        )
        made.append(
            figure(f"{what}, {record['kernel']}", record["runtime"], record["bits"], "ms",
                   probe[name] / 1000, bool(probe["right"]), baseline=probe["plain_us"] / 1000,
                   baseline_is="a * b % n^2", at_most=MODMUL_MS[name] if pico else None)
        )  # fmt: skip
    return made


def _times(one: Measured) -> list[Figure]:
    record = one.record
    suite, runtime = record["suite"], record["runtime"]
    bits, gamma = record["bits"], record["gamma"]
    check = f"row check {'on' if one.row_check else 'off'}"
    setting = f"level {record['level']}, {check}, exponents of {one.exponent_bits} bits"
    kernel = record["kernel"]
    at_least = None
    if runtime == "micropython" and kernel == "portable" and _defined(one) and one.row_check:
        at_least = RATIO[suite]
    pico = runtime == PICO and kernel != "portable" and _defined(one)

    def made(name: str, value: float, **more: object) -> Figure:
        more = {"gamma": gamma} | more
        return figure(f"{suite}: {name}", runtime, bits, "ms", value, record["checked"], **more)  # type: ignore[arg-type]

    whole = record["prepare_ms"] + record["report_ms"]
    return [
        made("prepare and report", whole, baseline=record["textbook_ms"], baseline_is=TEXTBOOK,
             at_least=at_least, extrapolated=record["textbook_extrapolated"],
             note=f"{setting}; {record['modmuls']} multiplications; the paper says 42 ms"),
        made("prepare", record["prepare_ms"],
             at_most=PREPARE_S.get((suite, one.row_check), 0) * 1000 or None if pico else None,
             note=f"{one.draw_ms:.3g} ms of it draws of noise"),
        made("report step", record["report_ms"], at_most=REPORT_MS if pico else None,
             note=f"multiply, MAC, frame; and {one.store_ms:.3g} ms to store it first, by the file"
                  " system"),
        made("start", one.start_ms, note="imports, kernel choice and checks, self-test"),
    ]  # fmt: skip


def _sizes(one: Measured, group: Sequence[Measured]) -> list[Figure]:
    """Heap (the largest of all gammas), flash and bytes."""
    record = one.record
    suite, runtime, bits = record["suite"], record["runtime"], record["bits"]
    checked = all(other.record["checked"] for other in group)
    made = []
    peaks = [(other.record["heap_peak_bytes"] or 0, other.record["gamma"]) for other in group]
    if max(peaks)[0]:
        peak, gamma = max(peaks)
        idle = (record["heap_firmware_bytes"] or 0) / 1024
        small = bits <= BITS and record["gamma"] <= GAMMA and one.arm
        made.append(
            figure(f"{suite}: heap peak above idle", runtime, bits, "KiB", peak / 1024, checked,
                   gamma=gamma, at_most=HEAP_KIB if small else None, baseline=idle,
                   baseline_is="held by the idle firmware, imported from .mpy", same_work=False,
                   note="the largest of all row lengths")
        )  # fmt: skip
    made.append(
        figure(f"{suite}: flash for tables", runtime, bits, "KiB", one.tables_bytes / 1024, checked,
               at_most=TABLES_KIB if bits <= BITS else None,
               note=f"set {record['tables']}; with the firmware's .mpy files"
                    f" {record['flash_bytes'] / 1024:.0f} KiB")
    )  # fmt: skip
    up = record["bytes_up"]
    target = REPORT_BYTES if suite == "compact" and bits <= BITS else None
    made.append(
        figure(f"{suite}: bytes up, report", runtime, bits, "B", up, checked, gamma=record["gamma"],
               at_most=target, note=f"frames; down {record['bytes_down']}; requests and acknowledgements"
                                    f" {one.bytes_other}; a serial line adds 5 %")
    )  # fmt: skip
    return made
