"""Role processes of the demo, and the control lines on which their clocks are set."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

STOP_S = 10.0


class RoleFailed(RuntimeError):
    """A role's process ended or does not answer; the message has its last words."""


class RoleProcess:
    """One role behind its control lines (`--control`): a JSON object a line, one answer each."""

    def __init__(self, role: str, folder: Path, *arguments: str) -> None:
        self.role = role
        self.log = folder / "log.txt"
        self._command = [sys.executable, "-m", "wattveil.runners.process", role]
        self._command += ["--state-dir", str(folder), "--control", *arguments]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self, clock: int | None = None) -> None:
        """Start the process, also again after `kill`; clock: UTC s, where it is frozen from the start."""
        command = self._command + ([] if clock is None else ["--clock", str(clock)])
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is ours: we stop them in order
            )

    @property
    def pid(self) -> int:
        """Of the process; 0 when it is not running."""
        return self._process.pid if self._process else 0

    def ask(self, **request: Any) -> dict[str, Any]:
        """One control line and its answer; RoleFailed."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise RoleFailed(f"{self.role}: not running")
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = b""
        if not line:
            words = self.log.read_text(errors="replace").splitlines()[-8:]
            raise RoleFailed(f"{self.role} ended by itself:\n  " + "\n  ".join(words))
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RoleFailed(f"{self.role}: {answer['error']}")
        return answer

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """Power cut: no goodbye."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            self._close_pipes(process)

    def stop(self) -> None:
        """Clean end; killed when it takes longer than STOP_S."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._close_pipes(process)

    def _close_pipes(self, process: subprocess.Popen[bytes]) -> None:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # it ended with our words unread
                    pipe.close()
