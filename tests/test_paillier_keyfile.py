"""Key files: modes, atomic writing, refusal of open, damaged and dishonest files."""

import json
import os
import stat
from pathlib import Path

import pytest
from gmpy2 import is_prime, next_prime

from wattveil.paillier import keyfile
from wattveil.paillier.keys import InvalidKey, PrivateKey, PublicKey, generate

KEY = generate(512, insecure_test_key=True)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def rewrite(path: Path, **changes: object) -> None:
    record = json.loads(path.read_text())
    for name, value in changes.items():
        if value is None:
            del record[name]
        else:
            record[name] = value
    path.write_text(json.dumps(record))


@pytest.fixture
def private(tmp_path: Path) -> Path:
    path = tmp_path / "key.json"
    keyfile.save_private(KEY, path)
    return path


@pytest.fixture
def public(tmp_path: Path) -> Path:
    path = tmp_path / "public.json"
    keyfile.save_public(KEY.public, path)
    return path


def test_round_trip(private: Path, public: Path) -> None:
    assert keyfile.load_private(private) == KEY
    assert keyfile.load_public(str(public)) == KEY.public
    assert sorted(path.name for path in private.parent.iterdir()) == ["key.json", "public.json"]


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        keyfile.save_private(KEY, tmp_path / "p")
        keyfile.save_public(KEY.public, tmp_path / "q")
    finally:
        os.umask(before)
    assert mode(tmp_path / "p") == 0o600
    assert mode(tmp_path / "q") == 0o644


def test_the_public_file_holds_no_secret(public: Path) -> None:
    text = public.read_text()
    assert f"{KEY.p:x}" not in text
    assert f"{KEY.q:x}" not in text
    assert set(json.loads(text)) == {"format", "version", "bits", "fingerprint", "n"}


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666])
def test_private_files_open_to_others_are_refused(private: Path, bits: int) -> None:
    private.chmod(bits)
    with pytest.raises(keyfile.InsecureKeyFile, match="chmod 600"):
        keyfile.load_private(private)
    private.chmod(0o400)
    assert keyfile.load_private(private) == KEY


def test_nothing_is_overwritten_unasked(private: Path) -> None:
    other = generate(256, insecure_test_key=True)
    with pytest.raises(FileExistsError, match="exists already"):
        keyfile.save_private(other, private)
    assert keyfile.load_private(private) == KEY
    keyfile.save_private(other, private, overwrite=True)
    assert keyfile.load_private(private) == other
    assert mode(private) == 0o600


def test_a_failed_write_leaves_the_old_file_and_no_other(
    private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        keyfile.save_private(KEY, private, overwrite=True)
    monkeypatch.undo()
    assert list(private.parent.iterdir()) == [private]
    assert keyfile.load_private(private) == KEY


CHANGES: list[dict[str, object]] = [
    {"p": f"{KEY.q:x}"},
    {"p": f"{KEY.p + 2:x}"},
    {"q": f"{KEY.q:X}"},
    {"q": "0" + f"{KEY.q:x}"},
    {"q": f"-{KEY.q:x}"},
    {"q": ""},
    {"q": int(KEY.q)},
    {"q": f" {KEY.q:x}"},
    {"n": f"{KEY.public.n + 2:x}"},
    {"n": None},
    {"bits": 2048},
    {"fingerprint": "00" * 32},
    {"fingerprint": None},
    {"version": 2},
    {"version": "1"},
    {"format": "something else"},
    {"format": keyfile.PUBLIC},
    {"comment": "hello"},
    {"p": f"{KEY.q:x}", "q": f"{KEY.p:x}", "bits": 511},
]


@pytest.mark.parametrize("changes", CHANGES)
def test_tampered_private_files_are_refused(private: Path, changes: dict[str, object]) -> None:
    rewrite(private, **changes)
    with pytest.raises(InvalidKey) as caught:
        keyfile.load_private(private)
    assert f"{KEY.p:x}"[:20] not in str(caught.value)
    assert f"{KEY.q:x}"[:20] not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 65_536])
def test_files_that_are_no_key_are_refused(private: Path, public: Path, content: bytes) -> None:
    private.write_bytes(content)
    public.write_bytes(content)
    with pytest.raises(InvalidKey, match="not a wattveil key file"):
        keyfile.load_private(private)
    with pytest.raises(InvalidKey, match="not a wattveil key file"):
        keyfile.load_public(public)


def test_a_cut_file_never_shows_its_contents(private: Path) -> None:
    private.write_bytes(private.read_bytes()[:-5])
    with pytest.raises(InvalidKey) as caught:
        keyfile.load_private(private)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_overlong_files_are_refused(private: Path) -> None:
    private.write_bytes(private.read_bytes() + b" " * keyfile.MAX_BYTES)
    with pytest.raises(InvalidKey):
        keyfile.load_private(private)


def test_the_two_kinds_are_not_confused(private: Path, public: Path) -> None:
    with pytest.raises(InvalidKey, match="holds a wattveil private key"):
        keyfile.load_public(private)
    public.chmod(0o600)
    with pytest.raises(InvalidKey, match="holds a wattveil public key"):
        keyfile.load_private(public)


@pytest.mark.parametrize("changes", [{"n": f"{KEY.public.n - 2:x}"}, {"bits": 1}, {"n": "7"}])
def test_tampered_public_files_are_refused(public: Path, changes: dict[str, object]) -> None:
    rewrite(public, **changes)
    with pytest.raises(InvalidKey):
        keyfile.load_public(public)


def test_a_consistent_file_with_a_prime_that_is_not_safe_is_refused(private: Path) -> None:
    q = KEY.q  # then the next prime 3 mod 4 that is not safe
    while True:
        q = next_prime(q)
        if q % 4 == 3 and not is_prime(q >> 1):
            try:
                key = PrivateKey(KEY.p, q)
            except InvalidKey:
                continue
            break
    assert isinstance(key.public, PublicKey)
    keyfile.save_private(key, private, overwrite=True)
    with pytest.raises(InvalidKey, match="not a safe prime"):
        keyfile.load_private(private)
