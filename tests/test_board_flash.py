"""Flashing as far as a machine without boards goes: the commands, the images, a bootloader's drive."""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattveil.boards import flash as module
from wattveil.boards.flash import Step, check_image, copy_uf2, find_drive, flash, plan
from wattveil.boards.repl import BoardError
from wattveil.boards.schema import FAMILIES, boards, find_board
from wattveil.cli import main

PICO, PICO2, S3 = (find_board(name) for name in ("rpi_pico", "rpi_pico2", "esp32_s3"))


def uf2(family: int, blocks: int = 3, flags: int = 0x2000) -> bytes:
    """An image in Microsoft's format: 256 bytes of payload in blocks of 512."""
    data = b""
    for number in range(blocks):
        head = (0x0A324655, 0x9E5D5157, flags, 0x10000000 + 256 * number, 256, number, blocks)
        data += struct.pack("<8I", *head, family) + bytes(476) + struct.pack("<I", 0x0AB16F30)
    return data


def esp(chip: int) -> bytes:
    """The head of an image as esptool writes it."""
    return bytes((0xE9, 3, 2, 0x20)) + bytes(8) + chip.to_bytes(2, "little") + bytes(100)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "RPI_PICO.uf2"
    path.write_bytes(uf2(FAMILIES["rp2040"]))
    return path


def drive(folder: Path, board_id: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "INFO_UF2.TXT").write_text(
        f"UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: {board_id}\r\n"
    )
    return folder


def test_dry_run_prints_the_exact_commands(tmp_path, capsys, image):
    python = sys.executable
    port = tmp_path / "ttyACM0"
    port.touch()

    def shown(*words: object) -> list[str]:
        assert main(["board", "flash", "--port", str(port), "--dry-run", *map(str, words)]) == 0
        return capsys.readouterr().out.splitlines()

    assert shown("--board", "rpi_pico_w") == [
        f"mpflash flash --serial {port} --board RPI_PICO_W --version stable"
    ]
    assert shown("--board", "esp32_c3", "--version", "1.28.0", "--erase") == [
        f"mpflash flash --serial {port} --board ESP32_GENERIC_C3 --version 1.28.0 --erase"
    ]
    assert shown("--board", "rpi_pico", "--image", image) == [
        f"{python} -m mpremote connect {port} bootloader",
        f"cp {image} DRIVE/",
    ]
    erase = shown("--board", "rpi_pico", "--image", image, "--erase")
    assert erase[0].startswith(f"mpremote connect {port} exec ") and "f.ioctl(6, i)" in "".join(
        erase
    )
    for name, chip, offset in (
        ("esp32", 0, "0x1000"),
        ("esp32_s3", 9, "0x0"),
        ("esp32_c3", 5, "0x0"),
    ):
        path = tmp_path / "micropython.bin"
        path.write_bytes(esp(chip))
        chip_name = find_board(name).flash.chip
        assert shown("--board", name, "--image", path) == [
            f"{python} -m esptool --chip {chip_name} --port {port} --baud 460800 write-flash {offset} {path}"
        ]
        assert "write-flash --erase-all" in shown("--board", name, "--image", path, "--erase")[0]
    assert main(["board", "flash", "--port", str(port), "--dry-run"]) == 2
    assert "say which board it is with --board" in capsys.readouterr().err


def test_a_board_in_its_bootloader_needs_no_port(tmp_path, capsys, image):
    there = drive(tmp_path / "media" / "RPI-RP2", "RPI-RP2")
    words = ["board", "flash", "--board", "rpi_pico", "--image", str(image), "--drive", str(there)]
    assert main([*words, "--dry-run"]) == 0
    assert capsys.readouterr().out == f"cp {image} {there}/\n"
    assert not (there / image.name).exists()
    assert main(words) == 0
    assert (there / image.name).read_bytes() == image.read_bytes()


@pytest.mark.parametrize("name", boards())
def test_an_image_for_another_chip_is_refused(tmp_path, name):
    board = find_board(name)
    path = tmp_path / "image"
    chips = {"esp32": 0, "esp32s3": 9, "esp32c3": 5}
    for chip, data in {
        **{chip: uf2(family) for chip, family in FAMILIES.items()},
        **{chip: esp(number) for chip, number in chips.items()},
    }.items():
        path.write_bytes(data)
        if chip == board.flash.chip:
            check_image(board, path)
            continue
        with pytest.raises(ValueError, match=r"another chip|not a UF2|not an image|damaged"):
            check_image(board, path)


def test_damaged_images_are_refused(tmp_path):
    path = tmp_path / "x.uf2"
    good = uf2(FAMILIES["rp2040"])
    for data, message in (
        (b"", "no multiple of 512"),
        (good[:-1], "no multiple of 512"),
        (good[:512] + b"\0" + good[513:], "damaged at byte 512"),
        (good[:-4] + b"\0\0\0\0", "damaged at byte 1024"),
        (good[:1024], "3 blocks are announced, 2 are there"),
        (uf2(FAMILIES["rp2040"], flags=0), "for another chip"),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=message):
            check_image(PICO, path)
    # an RP2350 image may begin with a block of its own for the boot ROM (erratum E10)
    path.write_bytes(uf2(0xE48BFF57, 1) + uf2(FAMILIES["rp2350"]))
    check_image(PICO2, path)


@given(st.binary(max_size=1600))
def test_any_bytes_are_an_image_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any"
    for board in (PICO, S3):
        path.write_bytes(data)
        with contextlib.suppress(ValueError):
            check_image(board, path)


def test_a_real_image(capsys):
    path = os.environ.get("WATTVEIL_PICO_UF2")
    if not path:
        pytest.skip(
            "set WATTVEIL_PICO_UF2 to the path of a MicroPython UF2 for the board RPI_PICO"
        )
    check_image(PICO, Path(path))
    with pytest.raises(ValueError, match="for another chip"):
        check_image(PICO2, Path(path))


def test_the_drive_is_found_by_what_it_says_it_is(tmp_path):
    mounts = (f"{tmp_path}/media/*/*", f"{tmp_path}/Volumes/*")
    drive(tmp_path / "media" / "me" / "A CARD", "SOMETHING-ELSE")
    with pytest.raises(BoardError, match="no drive RPI-RP2: hold BOOTSEL"):
        find_drive(PICO, mounts, timeout=0.01)
    first = drive(tmp_path / "media" / "me" / "RPI-RP2", "RPI-RP2")
    drive(tmp_path / "media" / "me" / "RP2350", "RP2350")
    assert find_drive(PICO, mounts, timeout=0.01) == first
    assert find_drive(PICO2, mounts, timeout=0.01).name == "RP2350"
    drive(tmp_path / "Volumes" / "RPI-RP2", "RPI-RP2")
    with pytest.raises(BoardError, match="several boards are in their bootloader"):
        find_drive(PICO, mounts, timeout=0.01)


def test_only_a_bootloaders_drive_is_written(tmp_path, image):
    with pytest.raises(BoardError, match="no bootloader's drive"):
        copy_uf2(image, tmp_path)
    there = drive(tmp_path / "d", "RPI-RP2")
    flash(PICO, [Step(copy=(image, None))], say=lambda _: None, mounts=(f"{tmp_path}/*",))
    assert (there / image.name).read_bytes() == image.read_bytes()


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_what_mpflash_says_counts(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    steps = plan(S3, "/dev/ttyACM7")
    program(tmp_path, "mpflash", f'echo "$@" >{tmp_path}/said')
    flash(S3, steps, say=lambda _: None)
    words = "flash --serial /dev/ttyACM7 --board ESP32_GENERIC_S3 --version stable\n"
    assert (tmp_path / "said").read_text() == words
    program(tmp_path, "mpflash", "echo no such port >&2; exit 3")
    with pytest.raises(BoardError, match="mpflash ended with status 3"):
        flash(S3, steps, say=lambda _: None)
    assert "no such port" in capfd.readouterr().err


def test_missing_programs_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(BoardError, match=r"mpflash is missing: pip install 'wattveil\[boards\]'"):
        flash(S3, plan(S3, "/dev/x"), say=lambda _: None)
    program(tmp_path, "python", "echo python: No module named esptool >&2; exit 1")
    path = tmp_path / "x.bin"
    path.write_bytes(esp(9))
    with pytest.raises(BoardError, match=r"esptool is missing: pip install 'wattveil\[boards\]'"):
        flash(S3, plan(S3, "/dev/x", image=path), say=lambda _: None)


def test_what_cannot_be_flashed(image):
    with pytest.raises(ValueError, match="name the board"):
        plan(PICO, None)
    with pytest.raises(ValueError, match="has no drive"):
        plan(S3, None, image=image, drive=Path("/x"))
    with pytest.raises(ValueError, match="--erase needs the board's port"):
        plan(PICO, None, image=image, drive=Path("/x"), erase=True)
