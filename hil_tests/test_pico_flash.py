"""What storing a report costs at the deadline, on the emulated Pico's littlefs with a board's own files.

A skip unless WATTVEIL_PICO_UF2 and WATTVEIL_PICO_BOOTROM name the images (docs/PICO.md).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from test_pico_emulated import Repl
from wattveil.boards.deploy import firmware_files
from wattveil.fleet.pico import PicoEmulator
from wattveil.fleet.runtime import RuntimeMissing

PERIODS = 50
PROGRAM = f"""
import time
from wattveil_meter.store import FRESH, FileStorage
storage = FileStorage()
for name in FRESH:
    storage.write(name, FRESH[name])
def ms(call, *arguments):
    begun = time.ticks_us()
    call(*arguments)
    return time.ticks_diff(time.ticks_us(), begun) / 1000
prepare, report = [], []
for k in range({PERIODS}):
    storage.write('period.bin', bytes([k + 1]) * 50)
    if k % 7 == 3:
        storage.write('boot.bin', bytes([k]) * 9)
    if k % 2:
        storage.write('sensor.bin', bytes([k]) * 20)
    prepare.append(ms(storage.prepare, 'period.bin'))
    value = bytes([k + 100]) * 600
    report.append(ms(storage.write, 'period.bin', value))
    assert storage.read('period.bin') == FileStorage().read('period.bin') == value
print(max(prepare), max(report))
"""


def test_a_report_is_stored_without_erasing(tmp_path: Path, record_property) -> None:
    """Erasing a sector takes 45 ms: no report waits for one, whatever littlefs has to tidy up."""
    try:
        board = PicoEmulator(tmp_path)
    except RuntimeMissing as missing:
        pytest.skip(str(missing))
    with board:
        repl = Repl(board)
        repl.enter()
        for name, data in firmware_files().items():
            if any(part in name for part in ("__init__", "fields", "store")):
                repl.put(name, data)
        for name in ("h.tab", "s.tab"):
            repl.put(name, bytes(60_000))
        prepare, report = map(float, repl.run(PROGRAM).split())
        repl.close()
    record_property("longest prepare, report ms", [prepare, report])
    assert prepare > 45  # it is there that the erasing is done
    assert report < 30
