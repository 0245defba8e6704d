"""The vault in PostgreSQL, at a real size, and while somebody writes."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import pgserver
import vaultkit
from vaultkit import (
    DAY,
    DAY0,
    T0,
    held,
    readings,
    take,
    total,
    write_csv,
)
from wattveil import cli
from wattveil.privacy.state import State
from wattveil.privacy.vault import ingest as ingesting
from wattveil.privacy.vault import vault as vault_module
from wattveil.privacy.vault.ingest import ingest
from wattveil.privacy.vault.retention import expire
from wattveil.privacy.vault.rotate import rotate_keys
from wattveil.privacy.vault.vault import Vault, VaultDamaged

LCL = Path(__file__).parents[2] / "shared" / "data" / "lcl_dev_30min_winter4w.csv.gz"
_names = (f"vault_{i}" for i in itertools.count())
vault, impatient = vaultkit.vault, vaultkit.impatient


def _sum(vault: Vault) -> int:
    return total(vault, T0, T0 + 3 * DAY)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with pgserver.server() as url:
        yield url


def test_the_same_in_postgresql(server: str, tmp_path: Path) -> None:
    url = pgserver.schema(server, next(_names))
    assert cli.main(["vault", "init", "--store", url, "--state-dir", str(tmp_path / "s")]) == 0
    vault = State.open(tmp_path / "s").vault()
    first = readings(20, 0, 100)
    take(vault, "a.csv", first)
    take(vault, "b.csv", readings(20, 100, 30))
    assert held(vault) == readings(20, 0, 130)
    assert not (tmp_path / "s" / "usage.db").exists() and vault.usage.size() > 0
    rotate_keys(vault, data=True)
    assert held(vault) == readings(20, 0, 130)
    expire(vault, DAY0 + 1)
    assert total(vault, T0 + DAY, T0 + 2 * DAY) > 0
    vault.usage._db.execute("UPDATE sealed SET day = day + 1000 WHERE day = %s", (DAY0 + 1,))  # type: ignore[attr-defined]
    with pytest.raises(VaultDamaged):
        _sum(vault)
    vault.state.close()


_MEASURE = """
import sys
import tempfile
import threading
from pathlib import Path
sys.path[:0] = [sys.argv[4]]
from vaultkit import make
from wattveil.privacy.vault.ingest import ingest
from wattveil.privacy.vault.meters import read_meters
vault = make(Path(sys.argv[1]))
print(ingest(vault, [Path(sys.argv[2])], Path(sys.argv[3]))[0].added)
"""


@pytest.mark.skipif(not LCL.exists(), reason="the LCL files are not here")
def test_lcl_goes_in(vault: Vault) -> None:
    (report,) = ingest(vault, [LCL], vault.state.path / "r.csv")
    assert (report.added, report.rejected) == (903_255, 0)
    assert total(vault, T0, T0 + 28 * DAY) == 224_470_724  # awk '{s+=$3}' of the file
    assert ingest(vault, [LCL], vault.state.path / "r.csv")[0].known


def test_memory_is_bounded(tmp_path: Path) -> None:
    """Ten times the rows take hardly more memory: the file is never in it."""
    peaks = []
    for homes in (20, 200):
        file = tmp_path / f"{homes}.csv"
        write_csv(file, readings(homes, 0, 1440))
        code = _MEASURE + (
            "print([s.split()[1] for s in open('/proc/self/status') if s.startswith('VmHWM')][0])"
        )
        run = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / f"s{homes}"), str(file),
             str(tmp_path / "r.csv"), str(Path(__file__).parent)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        added, peak = run.stdout.split()
        assert int(added) == homes * 1440
        peaks.append(int(peak))
    assert peaks[1] - peaks[0] < 60_000  # KiB


def test_reading_while_another_process_writes(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader in the midst of a batch sees each day before or after it, and no damage."""
    monkeypatch.setattr(vault_module, "_TRIES", 2000)
    monkeypatch.setattr(vault_module, "_AGAIN_S", 0.005)
    monkeypatch.setattr(ingesting, "LINES", 60)
    take(vault, "a.csv", readings(6, 0, 20))
    later = write_csv(vault.state.path / "b.csv", readings(6, 20, 124))
    failed: list[BaseException] = []

    def write() -> None:
        state = State.open(vault.state.path)
        try:
            ingest(state.vault(), [later], state.path / "r.csv")
            rotate_keys(state.vault(), data=True)
        except BaseException as error:
            failed.append(error)
        finally:
            state.close()

    writer = threading.Thread(target=write)
    writer.start()
    seen = [_sum(vault)]
    while writer.is_alive():
        seen.append(_sum(vault))
    writer.join()
    assert not failed and seen == sorted(seen) and len(seen) > 2
    assert held(vault) == readings(6, 0, 144)
