"""A machine-code kernel on micropython-arm, whose packaged build has no inline assembler.

The code is taken from the firmware's source (every instruction is a number there) and called through
ffi, by hil_tests/armkernel.py. What runs is exactly what a board runs.
"""

from __future__ import annotations

import ast
from typing import Any

from wattveil.fleet.emulated import firmware_folder

KERNELS = ("thumb1", "thumb2")


def shim(kernel: str) -> tuple[dict[str, bytes], dict[str, Any]]:
    """(files to put beside a program, entries of its job). ValueError when it is not a checkout."""
    source = firmware_folder() / "wattveil_meter" / "kernels" / f"{kernel}.py"
    loader = firmware_folder().parent / "hil_tests" / "armkernel.py"
    if not source.exists() or not loader.exists():
        raise ValueError(f"kernel {kernel} on micropython-arm needs a wattveil checkout")
    code, scratch = machine_code(source.read_text())
    files = {"armkernel.py": loader.read_bytes(), "kernel.bin": code}
    return files, {"kernel": kernel, "code": "kernel.bin", "scratch": scratch}


def machine_code(source: str) -> tuple[bytes, int]:
    """(the bytes of `multiply`, SCRATCH) of a kernel's file; ValueError when there is more in it."""
    code, scratch = b"", 0
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SCRATCH":
            scratch = int(ast.literal_eval(node.value))
        if isinstance(node, ast.FunctionDef) and node.name == "multiply":
            for statement in node.body:
                size, *halfwords = _data(statement)
                if size != 2:
                    raise ValueError("a kernel is given in halfwords")
                code += b"".join(half.to_bytes(2, "little") for half in halfwords)
    if not code or not scratch:
        raise ValueError("no kernel in this source")
    return code, scratch


def _data(statement: ast.stmt) -> list[int]:
    """Arguments of data(...)."""
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        raise ValueError("a kernel is data(...) only")
    call = statement.value
    if ast.unparse(call.func) != "data":
        raise ValueError(f"a kernel is data(...) only, not {ast.unparse(call.func)}")
    return [int(ast.literal_eval(argument)) for argument in call.args]
