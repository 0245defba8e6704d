"""The core's tests once more, on both MicroPythons: the same files, the same number of tests."""

import ast
import os
import subprocess
from pathlib import Path

import pytest

from wattveil.fleet.runtime import RuntimeMissing, find_runtime

CORE = Path(__file__).parent / "core"
FIRMWARE = CORE.parent.parent / "firmware"
MODULES = sorted(path.stem for path in CORE.glob("test_*.py"))


def count_tests(module: str) -> int:
    tree = ast.parse((CORE / f"{module}.py").read_text())
    return sum(isinstance(n, ast.FunctionDef) and n.name.startswith("test_") for n in tree.body)


@pytest.mark.parametrize(
    ("runtime", "heap"), [("micropython", "512k"), ("micropython-arm", "192k")]
)
@pytest.mark.parametrize("module", MODULES)
def test_core_on_micropython(module: str, runtime: str, heap: str) -> None:
    try:
        found = find_runtime(runtime)
    except RuntimeMissing as missing:
        pytest.skip(str(missing))
    done = subprocess.run(
        [*found.argv, "-X", f"heapsize={heap}", "run.py", module],
        cwd=CORE,
        env={**os.environ, "MICROPYPATH": f"{CORE}:{FIRMWARE}"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == [f"{count_tests(module)} passed, 0 failed"], (
        done.stdout + done.stderr
    )
