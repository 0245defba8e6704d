"""After a whole run no log, store, status or answer holds a key or a seed in any plain form."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plainmeter import PERIOD, START
from processfleet import fleet


def forms(secret: bytes) -> Iterator[bytes]:
    """How it might be written down."""
    yield secret
    yield secret[::-1]
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield base64.b64encode(secret).rstrip(b"=")
    yield repr(secret).encode()[2:-1]


def secrets(root: Path) -> dict[str, bytes]:
    """All secrets in the roles' folders."""
    found: dict[str, bytes] = {}
    for role in ("center", "cloud", "dealer"):
        links = json.loads((root / role / "links.json").read_text())
        found |= {f"{role} {name}": bytes.fromhex(key) for name, key in links.items()}
        tables = [json.loads((root / role / "meters.json").read_text())]
        if (root / role / "seeds.json").exists():  # the roles that have seeds have started
            tables.append(json.loads((root / role / "seeds.json").read_text()))
        for meter, entry in (item for table in tables for item in table.items()):
            for name, value in entry.items():
                if isinstance(value, str):
                    found[f"{role} {meter} {name}"] = bytes.fromhex(value)
    key = json.loads((root / "center" / "key.json").read_text())
    for name in "pq":
        found[name] = int(key[name], 16).to_bytes(32, "big")
    assert len(found) == 6 + 4 * 4 + 2
    return found


def search(data: bytes, keys: dict[str, bytes]) -> list[str]:
    return [name for name, secret in keys.items() for form in forms(secret) if form in data]


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    key = bytes(range(32))
    for form in forms(key):
        assert search(b"x" + form + b"y", {"key": key})


@pytest.mark.parametrize("tls", [False, True])
def test_logs_stores_and_status(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], tls: bool
) -> None:
    seen: dict[str, bytes] = {}
    with fleet(tmp_path, "tcp" if tls else "unix", tls=tls) as running:
        keys = secrets(tmp_path)
        for i, start in enumerate((START, START + PERIOD)):
            running.set_clock(start + 10)
            running.prepare(start)
            running.set_clock(start + PERIOD)
            running.report(start)
            running.check(start)
            if i == 0:  # restarts log too
                for name in running.processes:
                    running.processes[name].kill()
                    running.start(name)
        for name, role in running.processes.items():
            status: Any = role.status()
            seen[f"{name} status"] = json.dumps(status).encode()
    out, err = capfd.readouterr()
    assert "released" in err
    seen |= {"stdout": out.encode(), "stderr": err.encode()}
    for path in tmp_path.rglob("state.db*"):
        seen[str(path)] = path.read_bytes()
    assert sum(name.endswith("state.db") for name in seen) == 3
    for name, data in seen.items():
        assert search(data, keys) == [], name
