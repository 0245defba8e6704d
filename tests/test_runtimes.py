"""The MicroPython runtimes are what they claim to be, and what is kept of them is kept well."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import get_micropython
from debian_archive import Unavailable
from wattveil.fleet.runtime import NAMES, Runtime, RuntimeMissing, find_runtime


def runtime(name: str) -> Runtime:
    try:
        return find_runtime(name)
    except RuntimeMissing as missing:
        pytest.skip(str(missing))


def answer(argv: tuple[str, ...], *arguments: str) -> str:
    done = subprocess.run(
        [*argv, *arguments], capture_output=True, text=True, timeout=240, check=True
    )
    return done.stdout.strip()


# --- the runtimes found on this machine ----------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_found_runtime_computes_and_is_the_claimed_version(name: str) -> None:
    found = runtime(name)
    script = (
        "import sys; print(pow(7, 65537, 1 << 100), '.'.join(map(str, sys.implementation[1][:3])))"
    )
    assert answer(found.argv, "-c", script) == f"{pow(7, 65537, 1 << 100)} {found.version}"


@pytest.mark.parametrize(("name", "bits"), [("micropython", 64), ("micropython-arm", 32)])
def test_word_size(name: str, bits: int) -> None:
    assert (
        int(answer(runtime(name).argv, "-c", "import sys; print(sys.maxsize)"))
        == (1 << bits - 1) - 1
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_heap_is_as_small_as_told(name: str, tmp_path: Path) -> None:
    argv = runtime(name).argv
    script = tmp_path / "heap.py"
    script.write_text(
        "import gc\n"
        "print(gc.mem_free() + gc.mem_alloc())\n"
        "try:\n    bytearray(200_000)\nexcept MemoryError:\n    print('no room')\n"
    )
    size, room = answer(argv, "-X", "heapsize=192k", str(script)).split("\n")
    assert 180_000 < int(size) <= 192 * 1024
    assert room == "no room"
    assert "no room" not in answer(argv, "-X", "heapsize=1m", str(script))


@pytest.mark.skipif(
    sys.platform != "linux", reason="the 64-bit runtime is sure to be there on Linux"
)
def test_a_second_run_only_tries_what_is_there() -> None:
    """So it takes 0.2 s: whatever looked further would write the record anew."""
    runtime("micropython")
    record = get_micropython.cache_folder() / "micropython.json"
    before = record.stat().st_ino
    subprocess.run([sys.executable, get_micropython.__file__], check=True, capture_output=True)
    assert record.stat().st_ino == before


# --- the record ----------------------------------------------------------------------------------


def fake_runtime(folder: Path, version: str) -> list[str]:
    """A command that answers as a MicroPython of this version would."""
    program = folder / f"fake-{version}"
    program.write_text(f"#!/bin/sh\necho {1 << 100} 64 {version.replace('.', ' ')}\n")
    program.chmod(0o755)
    return [str(program)]


def test_a_good_record_is_kept_without_looking_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {
        "argv": fake_runtime(tmp_path, get_micropython.TESTED),
        "version": get_micropython.TESTED,
    }
    good |= {"source": "test", "packages": {}}
    tmp_path.joinpath("micropython.json").write_text(json.dumps(good))
    monkeypatch.setattr(get_micropython, "find", lambda *_: pytest.fail("it looked"))
    assert get_micropython.provide("micropython", tmp_path)


def test_a_lost_record_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = {"argv": fake_runtime(tmp_path, get_micropython.TESTED)}
    good |= {"version": get_micropython.TESTED, "source": "test", "packages": {}}
    kept = tmp_path / "micropython-0123456789ab"
    kept.mkdir()
    kept.joinpath("record.json").write_text(json.dumps(good))
    monkeypatch.setattr(get_micropython, "find", lambda *_: pytest.fail("it looked"))
    assert get_micropython.provide("micropython", tmp_path)
    assert json.loads(tmp_path.joinpath("micropython.json").read_text()) == good


def test_another_version_warns_and_survives_a_dead_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = {
        "argv": fake_runtime(tmp_path, "1.24.9"),
        "version": "1.24.9",
        "source": "test",
        "packages": {},
    }
    kept = tmp_path / "micropython-0123456789ab"  # the set is there though its record was lost
    kept.mkdir()
    kept.joinpath("record.json").write_text(json.dumps(old))

    def no_network(*_: object) -> None:
        raise Unavailable("no route to host")

    monkeypatch.setattr(get_micropython, "find", no_network)
    assert get_micropython.provide("micropython", tmp_path)
    said = capsys.readouterr().out
    assert "keeping the cached one: no route to host" in said
    assert f"warning: tested with {get_micropython.TESTED}" in said
    assert json.loads(tmp_path.joinpath("micropython.json").read_text()) == old


def test_a_missing_runtime_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise Unavailable("install the package x")

    folder = tmp_path / "runtimes"
    monkeypatch.setattr(get_micropython, "find", none)
    monkeypatch.setenv("WATTVEIL_CACHE", str(tmp_path))
    monkeypatch.delenv("WATTVEIL_MICROPYTHON_ARM", raising=False)
    assert get_micropython.cache_folder() == folder
    with pytest.raises(RuntimeMissing, match="make setup"):
        find_runtime("micropython-arm")
    assert not get_micropython.provide("micropython-arm", folder)
    with pytest.raises(RuntimeMissing, match="install the package x"):
        find_runtime("micropython-arm")


def test_a_command_line_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "my micropython"
    program.write_text("#!/bin/sh\necho 1 30 0\n")
    program.chmod(0o755)
    monkeypatch.setenv("WATTVEIL_MICROPYTHON", f"'{program}' -v")
    assert find_runtime("micropython") == Runtime("micropython", (str(program), "-v"), "1.30.0")
    monkeypatch.setenv("WATTVEIL_MICROPYTHON", "/nowhere/micropython")
    with pytest.raises(RuntimeMissing, match="WATTVEIL_MICROPYTHON"):
        find_runtime("micropython")
