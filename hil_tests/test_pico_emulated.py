"""Real MicroPython for a Raspberry Pi Pico, emulated: the board's own floats, flash, USB and clock.

A skip unless WATTVEIL_PICO_UF2 and WATTVEIL_PICO_BOOTROM name the images (docs/PICO.md).
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mpremote.transport_serial import SerialTransport

from wattveil.boards.deploy import firmware_files
from wattveil.demo.plan import DemoOptions, make_plan
from wattveil.demo.run import run_demo
from wattveil.fleet import pico
from wattveil.fleet.pico import PicoEmulator, find_emulator, find_images
from wattveil.fleet.runtime import RuntimeMissing

CORE = Path(__file__).parent.parent / "tests" / "core"
# The others read 200 kB of vectors or take minutes here; they run on the other tiers.
MODULES = ("test_noise", "test_drbg", "test_wire", "test_cipher", "test_record", "test_store")
ANSWER_S = 240  # of a PC that has much else to do


class Repl:
    """The raw REPL of an emulated board, by mpremote; a soft reset at every `enter`."""

    def __init__(self, board: PicoEmulator) -> None:
        self.board = board
        self._transport: Any = None

    def enter(self) -> None:
        if self._transport is None:
            self._transport = SerialTransport(self.board.port, timeout=10)
        with contextlib.redirect_stdout(io.StringIO()):  # mpremote prints what it got
            self._transport.enter_raw_repl(timeout_overall=60)

    def run(self, source: str) -> str:
        """What the source prints; an exception there is one here."""
        printed, error = self._transport.exec_raw(source, timeout=ANSWER_S)
        assert not error, error.decode()
        return printed.decode()

    def start(self, source: str) -> None:
        """The same without waiting for an end."""
        self._transport.exec_raw_no_follow(source)

    def put(self, name: str, data: bytes) -> None:
        folders = name.split("/")[:-1]
        for depth in range(1, len(folders) + 1):
            with contextlib.suppress(OSError):
                self._transport.fs_mkdir("/".join(folders[:depth]))
        self._transport.fs_writefile(name, data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None


def powered(folder: Path) -> PicoEmulator:
    try:
        return PicoEmulator(folder)
    except RuntimeMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def board(tmp_path: Path) -> Iterator[PicoEmulator]:
    """A new board, its flash empty but for MicroPython."""
    with powered(tmp_path) as emulator:
        yield emulator


@pytest.fixture
def repl(board: PicoEmulator) -> Iterator[Repl]:
    """Its raw REPL."""
    repl = Repl(board)
    repl.enter()
    yield repl
    repl.close()


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repl]:
    """A board with the firmware's sources and the core's tests."""
    with powered(tmp_path_factory.mktemp("pico")) as emulator:
        repl = Repl(emulator)
        repl.enter()
        for name, data in firmware_files().items():
            if name != "main.py":
                repl.put(name, data)
        for name in ("run", "support", *MODULES):
            repl.put(f"core/{name}.py", (CORE / f"{name}.py").read_bytes())
        yield repl
        repl.close()


def test_the_chip_is_a_pico(repl):
    printed = repl.run(
        "import sys, machine\n"
        "print(sys.platform, machine.freq(), sys.implementation._mpy >> 10, 2**24 + 1.0 == 2**24)"
    )
    assert printed.split() == ["rp2", "125000000", "4", "True"]  # armv6m, single precision


def test_time_is_a_picos(repl):
    """Stock rp2040js, which interrupts the firmware without pause, takes 9.7 ms for this loop."""
    printed = repl.run(
        "import time\n"
        "def loop():\n"
        "    start = time.ticks_us()\n"
        "    for _ in range(1000): pass\n"
        "    return time.ticks_diff(time.ticks_us(), start)\n"
        "print(min(loop() for _ in range(5)))"
    )
    assert 2500 < int(printed) < 3800


def test_an_idle_board_keeps_the_pcs_time(repl):
    began = time.monotonic()
    repl.run("import time; time.sleep(2)")
    assert 1.9 < time.monotonic() - began < 30


def test_random_bytes_differ(repl, board):
    ask = "import os; print(os.urandom(16))"
    seen = {repl.run(ask), repl.run(ask)}
    repl.close()
    board.restart()
    repl.enter()
    assert len(seen | {repl.run(ask)}) == 3


def test_files_survive_a_power_cut(repl, board):
    """Whatever write the cut comes into: one of the two files is whole, as littlefs promises."""
    repl.run("with open('old', 'wb') as f: f.write(bytes(9000))")
    repl.start(
        "import os\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1\n"
        "    with open('new', 'wb') as f: f.write(bytes([n & 255]) * 600)\n"
        "    os.rename('new', 'state')\n"
    )
    for wait in (1.5, 0.3):
        time.sleep(wait)
        board.kill()
        repl.close()
        board.start()
        repl.enter()
        checks = "len(d), len(set(d)), open('old', 'rb').read() == bytes(9000)"
        printed = repl.run(f"d = open('state', 'rb').read()\nprint({checks})")
        assert printed.split() == ["600", "1", "True"]
        repl.start("while True:\n with open('state', 'wb') as f: f.write(bytes(600))")


def test_resets_keep_files_and_port(repl):
    repl.run("open('kept', 'w').close()")
    ask = "import machine, os; print(machine.reset_cause() == machine.WDT_RESET, os.listdir())"
    assert repl.run(ask).strip() == "False ['kept']"
    repl.start("import machine, time; machine.WDT(timeout=500); time.sleep(30)")
    time.sleep(1.5)
    repl.enter()
    assert repl.run(ask).strip() == "True ['kept']"
    repl.start("import machine; machine.reset()")
    time.sleep(1)
    repl.enter()
    assert repl.run(ask).strip() == "True ['kept']"  # so MicroPython resets this chip


def test_speed_is_reported(repl, board, record_property):
    repl.run("for _ in range(400_000): pass")
    end = time.monotonic() + 10
    while not board.mhz and time.monotonic() < end:
        time.sleep(0.1)
    record_property("emulated MHz", round(board.mhz, 1))
    assert 0.5 < board.mhz < 1000
    assert board.emulated_s > 1


def test_what_nobody_reads_is_lost(repl, board):
    """A host that does not read loses output; the board goes on."""
    repl.start("for _ in range(9000): print('x' * 50)")
    time.sleep(3)
    repl.close()
    assert board.alive()
    repl.enter()
    assert repl.run("print(1)").strip() == "1"


def test_the_firmware_leaves_heap(stocked):
    stocked.enter()
    printed = stocked.run(
        "import gc; gc.collect(); print(gc.mem_free())\n"
        "from wattveil_meter import app; gc.collect(); print(gc.mem_free())"
    )
    before, after = map(int, printed.split())
    assert before > 190_000 and after > 150_000


@pytest.mark.parametrize("module", MODULES)
def test_core_with_single_floats(module, stocked):
    stocked.enter()
    printed = stocked.run(
        "import sys\n"
        "sys.path.append('/core')\n"
        f"sys.argv[:] = ['run.py', {module!r}]\n"
        "try:\n"
        "    import run\n"
        "except SystemExit:\n"
        "    pass\n"
    )
    tree = ast.parse((CORE / f"{module}.py").read_text())
    count = sum(isinstance(n, ast.FunctionDef) and n.name.startswith("test_") for n in tree.body)
    assert printed.splitlines()[-1] == f"{count} passed, 0 failed", printed


def test_a_board_joins_the_demo(board, tmp_path):
    options = DemoOptions(
        meters=2, periods=1, bits=1024, gamma=2, quorum="0.5", drop="0", ports=(board.port,)
    )
    plan = make_plan(options)
    (row,) = run_demo(plan, root=tmp_path / "demo")["periods"]
    assert (row["reported"], row["refused"]) == (2, None)


# --- without the emulator ----------------------------------------------------------------------


def test_missing_images_are_named(monkeypatch, tmp_path):
    monkeypatch.delenv(pico.UF2, raising=False)
    with pytest.raises(RuntimeMissing, match="set WATTVEIL_PICO_UF2 to the path of a MicroPython"):
        find_images()
    uf2 = tmp_path / "x.uf2"
    monkeypatch.setenv(pico.UF2, str(uf2))
    with pytest.raises(RuntimeMissing, match=r"WATTVEIL_PICO_UF2 names .*x.uf2, which is not"):
        find_images()
    uf2.write_bytes(b"no UF2")
    with pytest.raises(RuntimeMissing, match="is not a UF2 file"):
        find_images()
    uf2.write_bytes(b"UF2\nWQ]\x9e")
    monkeypatch.delenv(pico.BOOTROM, raising=False)
    with pytest.raises(RuntimeMissing, match="set WATTVEIL_PICO_BOOTROM to the path of the"):
        find_images()
    rom = tmp_path / "rom.bin"
    rom.write_bytes(bytes(100))
    monkeypatch.setenv(pico.BOOTROM, str(rom))
    with pytest.raises(RuntimeMissing, match="has 100 bytes"):
        find_images()
    rom.write_bytes(bytes(16_384))
    assert find_images() == (uf2, rom)


def test_missing_programs_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeMissing, match="node 18 or newer is not installed"):
        find_emulator()
    node = tmp_path / "node"
    node.write_text("#!/bin/sh\necho v16.1.0\n")
    node.chmod(0o755)
    with pytest.raises(RuntimeMissing, match=r"node is v16\.1\.0, 18 or newer"):
        find_emulator()
    node.write_text("#!/bin/sh\necho v20.1.0\n")
    monkeypatch.setenv("WATTVEIL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(RuntimeMissing, match="npm, to install rp2040js, is not on this machine"):
        find_emulator()
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    npm.chmod(0o755)
    with pytest.raises(RuntimeMissing, match="failed: no network"):
        find_emulator()
    assert os.listdir(tmp_path / "cache") == []
