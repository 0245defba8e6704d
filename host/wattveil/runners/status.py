"""A role's status for whoever connects: one JSON object, then the end of the stream.

Nothing is read from a connection, so nobody can ask for anything. The centre's status has the
totals and the ledger's sums in it: give it a Unix socket (mode 0600), or an address only those reach
who may see them.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import Any

from wattveil.runners.loop import Runner
from wattveil.runners.sockets import listen, parse_address

SEND_S = 5.0
LIMIT = 64 << 20  # bytes
WAITING = 8  # connections being answered; beyond, a new one is closed
PUBLIC = (
    "suite noise roster_size gamma quorum_count colluding lo hi delta a epsilon_num epsilon_den "
    "period_s phase_s own_noise row_check nb"
).split()


class StatusServer:
    """Answers at `address` from the runner's own loop; sending is left to a thread each."""

    def __init__(self, runner: Runner, address: str) -> None:
        self._runner = runner
        self._server = listen(address)
        self._sending = threading.BoundedSemaphore(WAITING)
        runner.watch(self._server.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            sock, _ = self._server.accept()
        except OSError:  # gone again, or out of descriptors
            return
        if not self._sending.acquire(blocking=False):
            sock.close()
            return
        record: Any = getattr(self._runner.role, "record", None)
        status = {
            **self._runner.status(),
            "record": {name: getattr(record, name) for name in PUBLIC},
        }
        data = json.dumps(status).encode()
        threading.Thread(target=self._send, args=(sock, data), daemon=True).start()

    def _send(self, sock: socket.socket, data: bytes) -> None:
        try:
            with sock, contextlib.suppress(OSError):
                sock.settimeout(SEND_S)
                sock.sendall(data)
        finally:
            self._sending.release()

    def close(self) -> None:
        """Close the listening socket."""
        self._server.close()


def ask(address: str, timeout: float = SEND_S) -> dict[str, Any]:
    """A role's status; OSError, ValueError."""
    kind, where = parse_address(address)
    family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
    if kind == "tcp" and ":" in where[0]:
        family = socket.AF_INET6
    data = bytearray()
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        sock.connect(where)
        while piece := sock.recv(1 << 16):
            data += piece
            if len(data) > LIMIT:
                raise ValueError(f"{address}: more than a status")
    status = json.loads(data)
    if not isinstance(status, dict) or "role" not in status or "record" not in status:
        raise ValueError(f"{address}: not a role's status")
    return status
