"""MicroPython on a board: which commands put it there, and the copy to a UF2 drive.

mpflash downloads and flashes by a board's name; an image at hand goes on with esptool (ESP32) or by
copying it to the drive that an RP2040 or RP2350 shows in its bootloader. esptool and mpflash run as
programs of their own.
"""

from __future__ import annotations

import os
import shlex
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from wattveil.boards.repl import BoardError, RawRepl
from wattveil.boards.schema import FAMILIES, Board

DRIVE_S = 20.0  # for the bootloader's drive to be mounted
INFO = "INFO_UF2.TXT"
_MOUNTS = ("/media/*/*", "/run/media/*/*", "/media/*", "/mnt/*", "/Volumes/*")
_BAUD = "460800"
_UF2 = struct.Struct("<IIIIIIII")  # of each block of 512 bytes (Microsoft, "USB Flashing Format")
_UF2_MAGIC, _UF2_END = (0x0A324655, 0x9E5D5157), 0x0AB16F30
_HAS_FAMILY = 0x2000
_ABSOLUTE = 0xE48BFF57  # the family of blocks that the RP2350's boot ROM takes for erratum E10
_CHIP_IDS = {"esp32": 0, "esp32s3": 9, "esp32c3": 5}  # esptool, extended image header
# Files of a board with an rp2 port, by its block device: also what files were deleted there.
_ERASE = """\
import rp2
f = rp2.Flash()
for i in range(f.ioctl(4, 0)):
    f.ioctl(6, i)
    _feed()
"""


@dataclass(frozen=True)
class Step:
    """One step: a command, or, with `copy`, an image and the drive it goes to (None: to be found)."""

    argv: tuple[str, ...] = ()
    copy: tuple[Path, Path | None] | None = None
    erase: str = ""  # port of a board whose files are erased

    def __str__(self) -> str:
        if self.copy:
            image, drive = self.copy
            return f"cp {shlex.quote(str(image))} {shlex.quote(str(drive)) if drive else 'DRIVE'}/"
        if self.erase:
            return f"mpremote connect {shlex.quote(self.erase)} exec {shlex.quote(_ERASE)}"
        return shlex.join(self.argv)


def plan(
    board: Board,
    port: str | None,
    *,
    image: Path | None = None,
    version: str = "stable",
    drive: Path | None = None,
    erase: bool = False,
) -> list[Step]:
    """What `flash` would do. image: None downloads `version`. drive: of a board already in its
    bootloader. erase: its files too, provisioned secrets included. ValueError for a wrong image."""
    uf2 = board.flash.method == "uf2"
    if port is None and (drive is None or image is None):
        raise ValueError(
            "name the board: USB serial number, or --port; or give --drive and --image"
        )
    if drive is not None and not uf2:
        raise ValueError(f"{board.name} has no drive: it is flashed through its port")
    steps = []
    if uf2 and erase:
        if port is None:
            raise ValueError("--erase needs the board's port: its MicroPython erases the files")
        steps.append(Step(erase=port))
    if image is None:
        argv = ["mpflash", "flash", "--serial", str(port), "--board", board.micropython.board]
        argv += ["--version", version, *(["--erase"] if erase and not uf2 else [])]
        return [*steps, Step(tuple(argv))]
    check_image(board, image)
    if uf2:
        if drive is None:
            steps.append(Step((*_python("mpremote"), "connect", str(port), "bootloader")))
        return [*steps, Step(copy=(image, drive))]
    argv = [*_python("esptool"), "--chip", board.flash.chip, "--port", str(port), "--baud", _BAUD]
    argv += ["write-flash", *(["--erase-all"] if erase else []), f"{board.flash.offset:#x}"]
    return [Step((*argv, str(image)))]


def flash(
    board: Board,
    steps: Iterable[Step],
    say: Callable[[str], None] = print,
    mounts: Iterable[str] = _MOUNTS,
) -> None:
    """Carry out a plan; BoardError."""
    for step in steps:
        say(str(step))
        if step.copy:
            image, drive = step.copy
            copy_uf2(image, drive or find_drive(board, mounts))
        elif step.erase:
            with RawRepl(step.erase) as repl:
                repl.run(_ERASE)
        else:
            _call(step.argv)


def _python(module: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module)


def _call(argv: tuple[str, ...]) -> None:
    beside = Path(sys.executable).parent / argv[0]  # of this environment, active or not
    program = shutil.which(argv[0]) or shutil.which(beside)
    if program is None:
        raise BoardError(f"{argv[0]} is missing: pip install 'wattveil[boards]'")
    done = subprocess.run([program, *argv[1:]], stderr=subprocess.PIPE, text=True, check=False)
    if "-m" in argv and f"No module named {argv[2]}" in done.stderr:
        raise BoardError(f"{argv[2]} is missing: pip install 'wattveil[boards]'")
    sys.stderr.write(done.stderr)
    if done.returncode:
        raise BoardError(f"{argv[0]} ended with status {done.returncode}: see above")


def check_image(board: Board, image: Path) -> None:
    """ValueError unless this file is an image for this board's chip."""
    data = image.read_bytes()
    if board.flash.method == "uf2":
        _check_uf2(image, data, FAMILIES[board.flash.chip], board.name)
        return
    if len(data) < 16 or data[0] != 0xE9:
        raise ValueError(f"{image}: not an image for an ESP32 (a .bin file of MicroPython's)")
    chip = int.from_bytes(data[12:14], "little")
    if chip != _CHIP_IDS[board.flash.chip]:
        raise ValueError(f"{image}: is for another chip (id {chip}) than {board.flash.chip}")


def _check_uf2(image: Path, data: bytes, family: int, name: str) -> None:
    if not data or len(data) % 512:
        raise ValueError(f"{image}: not a UF2 file: its size is no multiple of 512 bytes")
    total = announced = 0
    for at in range(0, len(data), 512):
        first, second, flags, _, size, _, count, kind = _UF2.unpack_from(data, at)
        end = struct.unpack_from("<I", data, at + 508)[0]
        if (first, second) != _UF2_MAGIC or end != _UF2_END or size > 476:
            raise ValueError(f"{image}: damaged at byte {at}: download it again")
        if flags & _HAS_FAMILY and kind == _ABSOLUTE:
            continue
        if not flags & _HAS_FAMILY or kind != family:
            raise ValueError(f"{image}: is for another chip (family {kind:#x}) than {name}")
        total, announced = total + 1, count
    if total != announced:
        raise ValueError(f"{image}: {announced} blocks are announced, {total} are there")


def find_drive(board: Board, mounts: Iterable[str] = _MOUNTS, timeout: float = DRIVE_S) -> Path:
    """The one drive of a bootloader of this chip; BoardError when there is none, or more than one."""
    end = time.monotonic() + timeout
    while True:
        found = {p.resolve() for pattern in mounts for p in _drives(pattern, board.flash.volume)}
        if len(found) == 1:
            return found.pop()
        if found:
            names = ", ".join(sorted(map(str, found)))
            raise BoardError(f"several boards are in their bootloader ({names}): give --drive")
        if time.monotonic() >= end:
            raise BoardError(
                f"no drive {board.flash.volume}: {board.reset.bootloader}, mount it if your system"
                " does not, then repeat with --drive"
            )
        time.sleep(0.2)


def _drives(pattern: str, volume: str) -> Iterable[Path]:
    root, _, rest = pattern.partition("*")
    for info in Path(root).glob(f"*{rest}/{INFO}") if Path(root).is_dir() else ():
        try:
            lines = info.read_text(errors="replace").splitlines()
        except OSError:
            continue
        if f"Board-ID: {volume}" in [line.strip() for line in lines]:
            yield info.parent


def copy_uf2(image: Path, drive: Path) -> None:
    """Copy an image to a bootloader's drive and wait until it is written; BoardError."""
    if not (drive / INFO).exists():
        raise BoardError(f"{drive} is no bootloader's drive: there is no {INFO} on it")
    try:
        with image.open("rb") as source, (drive / image.name).open("wb") as target:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())
    except OSError as error:
        if not drive.exists():  # the board has it all and has restarted
            return
        raise BoardError(f"{drive}: {error.strerror}: unplug the board, then repeat") from error
