"""The meter's benchmark on a board: a unix build behind rawrepl.py, or a real one (--port)."""

from __future__ import annotations

from wattveil.bench.meter import Plan, run_meter


def test_a_period_is_timed_on_a_board(board_console) -> None:
    port, flash = board_console
    if flash:
        (flash / "main.py").write_text("print('the meter that lives here')\n")
    plan = Plan(("compact",), (256,), (2,), (), (port,), repeats=1, heap_step=65536)
    said: list[str] = []
    (one,) = run_meter(plan, said.append)
    r = one.record
    assert (r["runtime"], r["checked"], r["periods"]) == (port, True, 1)
    assert r["prepare_ms"] > 0 and r["heap_peak_bytes"] in (65536, 131072)
    assert any("copying bench/wattveil_meter/meter.mpy" in text for text in said)
    if flash:  # what it brought is in a folder of its own; the meter there was left alone
        left = {path.name for path in flash.iterdir() if path.is_dir() or path.suffix != ".txt"}
        assert left == {"bench", "main.py"}
