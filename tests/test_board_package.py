"""package.json: what `mip install` fetches is what is in the tree."""

from __future__ import annotations

import json
from pathlib import Path

import make_package
from wattveil.boards.deploy import firmware_files

ROOT = Path(__file__).parent.parent


def test_package_json_is_up_to_date():
    assert make_package.TARGET.read_text() == make_package.package(), "run tools/make_package.py"


def test_it_installs_what_deploy_copies():
    package = json.loads(make_package.package())
    for target, source in package["urls"]:
        assert (ROOT / source).read_bytes()
        assert source == f"firmware/{target}"
    targets = {target.replace(".py", ".mpy") for target, _ in package["urls"]}
    assert targets == set(firmware_files(8)) - {"main.py"}


def test_a_new_file_is_noticed(tmp_path, monkeypatch, capsys):
    (tmp_path / "firmware" / "wattveil_meter").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1"\n')
    (tmp_path / "firmware" / "wattveil_meter" / "a.py").touch()
    monkeypatch.setattr(make_package, "TARGET", tmp_path / "package.json")
    text = make_package.package(tmp_path)
    monkeypatch.setattr(make_package, "package", lambda: text)
    assert make_package.main(["--check"]) == 1
    assert "run tools/make_package.py" in capsys.readouterr().err
    assert make_package.main([]) == 0 == make_package.main(["--check"])
