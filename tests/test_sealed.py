"""Secrets at rest: sealed folders work with their passphrase and are noise without it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plainworld import World
from test_no_secrets import search, secrets
from wattveil import cli, sealed
from wattveil.operate import meters as command
from wattveil.roles.folders import load_center, load_cloud, load_dealer
from wattveil.runners import process
from wattveil.sealed import SealError


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "passphrase"
    path.touch(0o600)
    path.write_text("correct horse battery staple\n")
    monkeypatch.setattr(sealed, "COST", 1 << 10)
    monkeypatch.setenv(sealed.VARIABLE, "")  # the commands set it: undone at the end
    return path


def test_folders(tmp_path: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    world.write_folders()
    keys = secrets(tmp_path)
    for role in ("center", "cloud", "dealer"):
        for _ in range(2):  # again: nothing changes
            arguments = ["store", "seal", str(tmp_path / role), "--key-file", str(key_file)]
            assert cli.main(arguments) == 0
    files = [path for path in tmp_path.rglob("*.json") if path.name != "roster.json"]
    assert len(files) == 7
    for path in files:
        assert path.stat().st_mode & 0o777 == 0o600
        assert search(path.read_bytes(), keys) == []
    loaders = {"center": load_center, "cloud": load_cloud, "dealer": load_dealer}
    for role, load in loaders.items():
        assert load(tmp_path / role).roster == world.roster
    assert load_center(tmp_path / "center").key.p == world.key.p
    assert load_cloud(tmp_path / "cloud").link_keys == [s.link for s in world.secrets]
    monkeypatch.setenv(sealed.VARIABLE, "")
    for role, load in loaders.items():
        with pytest.raises(SealError, match="--key-file or"):
            load(tmp_path / role)
    key_file.write_text("some other passphrase")
    monkeypatch.setenv(sealed.VARIABLE, str(key_file))
    for role, load in loaders.items():
        with pytest.raises(SealError, match="another passphrase"):
            load(tmp_path / role)


def test_a_rotation_seals_what_was_sealed(
    tmp_path: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_roles_keys import rotated

    world = World(tmp_path)
    monkeypatch.setattr(command.time, "time", lambda: 0)
    world.write_folders()
    monkeypatch.setattr(World, "write_folders", lambda self: None)
    assert cli.main(["store", "seal", str(tmp_path / "cloud"), "--key-file", str(key_file)]) == 0
    new = rotated(world, monkeypatch, 0)
    data = (tmp_path / "cloud" / "meters.json").read_bytes()
    assert sealed.is_sealed(data)
    assert new.link.hex().encode() not in data
    assert load_cloud(tmp_path / "cloud").next_keys[2][0] == new.link


def test_what_was_changed_is_refused(key_file: Path) -> None:
    secret = b"correct horse battery staple"
    data = sealed.seal(b"{}", "links.json", secret)
    assert sealed.unseal(data, "links.json", secret) == b"{}"
    assert sealed.seal(b"{}", "links.json", secret) != data
    for at in range(len(sealed.MAGIC), len(data)):
        with pytest.raises(SealError):
            sealed.unseal(
                data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :], "links.json", secret
            )
        with pytest.raises(SealError):
            sealed.unseal(data[:at], "links.json", secret)
    with pytest.raises(SealError):  # one file in the place of another
        sealed.unseal(data, "meters.json", secret)


@pytest.mark.parametrize(
    ("mode", "text", "message"),
    [(0o644, "long enough, but open", "chmod 600"), (0o600, "short\n", "fewer than 12")],
)
def test_passphrase_files(
    tmp_path: Path, key_file: Path, mode: int, text: str, message: str
) -> None:
    key_file.write_text(text)
    key_file.chmod(mode)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(sealed.VARIABLE, str(key_file))
        with pytest.raises(SealError, match=message):
            sealed.passphrase()
        patch.setenv(sealed.VARIABLE, str(tmp_path / "none"))
        with pytest.raises(SealError, match="No such file"):
            sealed.passphrase()


def test_a_role_says_what_it_needs(
    tmp_path: Path, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    World(tmp_path).write_folders()
    folder = tmp_path / "dealer"
    assert cli.main(["store", "seal", str(folder), "--key-file", str(key_file)]) == 0
    key_file.write_text("some other passphrase")
    command = ["dealer", "--state-dir", str(folder), "--listen", f"unix:{tmp_path}/s"]
    assert process.main([*command, "--key-file", str(key_file)]) == process.UNUSABLE
    told = capsys.readouterr().err
    assert "another passphrase" in told
    assert "correct horse" not in told
    assert json.loads((folder / "roster.json").read_text())["meters"]
