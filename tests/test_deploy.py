"""What deploy/ says to others: units that systemd takes, and a compose file that hangs together.

No container engine is needed, so none of this starts a container.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from wattveil.runners import process

yaml = pytest.importorskip("yaml", reason="pip install pyyaml")

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
PROGRAM = "/opt/wattveil/bin/wattveil"
COMPOSE_TEXT = (DEPLOY / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
OURS = {name: s for name, s in COMPOSE["services"].items() if s["image"] == "wattveil"}


def starts() -> Iterator[list[str]]:
    """The command lines in deploy/, without the program's name."""
    for unit in UNITS:
        (line,) = [s for s in unit.read_text().splitlines() if s.startswith("ExecStart=")]
        program, *words = line.removeprefix("ExecStart=").split()
        assert program == PROGRAM
        yield words
    for service in OURS.values():
        yield service["command"]


def test_what_is_deployed_can_be_started() -> None:
    seen = []
    for role, *words in starts():
        process.parser(role).parse_args(words)
        seen.append(role)
    assert sorted(seen) == ["center"] * 2 + ["cloud"] * 3 + ["dealer"] * 2
    text = "".join(path.read_text() for path in DEPLOY.rglob("*") if path.is_file())
    for name in re.findall(r"WATTVEIL_([A-Z]+_[A-Z_]+)", text):
        role, _, option = name.lower().partition("_")
        assert hasattr(process.parser(role).parse_args([]), option)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="apt-get install systemd")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_the_units(tmp_path: Path, unit: Path) -> None:
    def complaints(text: str) -> list[str]:
        path = tmp_path / unit.name.replace("@", "@1")
        path.write_text(text.replace(PROGRAM, "/bin/true"))
        command = ["systemd-analyze", "verify", "--man=no", str(path)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        # it reads what the unit is connected with, too, and that is the machine's own
        return [line for line in done.stdout.splitlines() if path.name in line]

    text = unit.read_text()
    wrong = complaints(text.replace("Restart=", "Restrat="))
    if not wrong:
        pytest.skip("systemd-analyze verifies nothing here")
    assert "Restrat" in wrong[0]
    assert complaints(text) == []
    assert "\nRestart=always\n" in text and "\nStartLimitIntervalSec=0\n" in text


def mounts(service: dict[str, Any]) -> dict[PurePosixPath, str]:
    """What is behind each mounted path: a named volume, or a path of the host."""
    found = {}
    for volume in service.get("volumes", ()):
        parts = re.sub(r"\$\{(\w+)[^}]*\}", r"/\1", volume).split(":")
        found[PurePosixPath(parts[1])] = parts[0]
    return found


def test_everything_a_service_names_is_there() -> None:
    named = {source for s in COMPOSE["services"].values() for source in mounts(s).values()}
    assert {source for source in named if "/" not in source} == set(COMPOSE["volumes"])
    asked = {secret for s in COMPOSE["services"].values() for secret in s.get("secrets", ())}
    assert asked == set(COMPOSE["secrets"])
    for service in COMPOSE["services"].values():
        assert set(service.get("depends_on", ())) <= set(COMPOSE["services"])
        secrets = {f"/run/secrets/{name}" for name in service.get("secrets", ())}
        for value in service.get("environment", {}).values():
            assert value in secrets or not value.startswith("/run/secrets")
    head = COMPOSE_TEXT.partition("name: wattveil")[0]
    assert set(re.findall(r"\$\{(\w+)", COMPOSE_TEXT)) == set(re.findall(r"([A-Z_]+)=/", head))
    assert not [v for v in re.findall(r"\$\{[^}]*\}", COMPOSE_TEXT) if ":?" not in v]


@pytest.mark.parametrize("name", OURS)
def test_every_path_of_a_role_is_mounted(name: str) -> None:
    service = OURS[name]
    role, *words = service["command"]
    arguments = process.parser(role).parse_args(words)
    there = mounts(service)
    paths = [arguments.state_dir, arguments.config]
    environment = service.get("environment", {})
    sockets = re.findall(r"unix:(\S+)", " ".join([*words, *environment.values()]))
    for path in [str(p) for p in paths if p] + [str(Path(p).parent) for p in sockets]:
        assert any(PurePosixPath(path).is_relative_to(mount) for mount in there), path
    assert there[PurePosixPath("/fleet")] == f"/FLEET/{role}"
    # a role that only listens on a Unix socket has no network; the other ends share its folder
    assert (service.get("network_mode") == "none") == (role != "cloud")
    assert there[PurePosixPath("/run/wattveil")] == "run"


def test_the_image() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert 'ENTRYPOINT ["wattveil"]' in text and "wattveil" in project["scripts"]
    assert "[scale]" in text and "scale" in project["optional-dependencies"]
    (uid,) = re.findall(r"--uid (\d+)", text)
    assert f"user {uid}" in COMPOSE_TEXT
    # what the build leaves out of a checkout it does not need: see pyproject.toml
    kept = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in kept
    assert all((ROOT / line[1:]).exists() for line in kept if line.startswith("!"))
