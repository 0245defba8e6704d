"""Debian's archive: where apt's configuration says it is, and that a tampered one gives nothing."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import debian_archive
import get_micropython
from debian_archive import Refused, Unavailable

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MIRROR = "http://mirror.example.org/debian"

# --- apt's configuration -------------------------------------------------------------------------


def test_one_line_sources() -> None:
    text = f"""
# deb {MIRROR} commented main
deb {MIRROR} bookworm main contrib # a remark
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] https://apt.example.org/ bookworm main
deb-src {MIRROR} bookworm main
deb {MIRROR}/ bookworm-updates non-free
deb mirror+file:/etc/apt/mirrors/example.list trixie main
"""
    assert debian_archive.parse_list(text) == [
        (MIRROR, "bookworm"),
        ("https://apt.example.org/", "bookworm"),
        ("mirror+file:/etc/apt/mirrors/example.list", "trixie"),
    ]


def test_deb822_sources() -> None:
    text = f"""
Types: deb deb-src
# a remark
URIs: {MIRROR} http://other.example.org/debian
Suites: bookworm
 bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 URIs: http://not-a-field.example.org

Enabled: no
Types: deb
URIs: http://off.example.org
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source.example.org
Suites: bookworm
Components: main
"""
    suites = ("bookworm", "bookworm-updates")
    hosts = (MIRROR, "http://other.example.org/debian")
    assert debian_archive.parse_deb822(text) == [(uri, suite) for uri in hosts for suite in suites]


def test_the_policy_names_the_mirror_whose_origin_is_debian() -> None:
    text = f"""Package files:
 100 /var/lib/dpkg/status
     release a=now
 500 https://tools.example.org/apt stable/main amd64 Packages
     release o=Tools,a=stable,n=stable,l=Debian,c=main,b=amd64
     origin tools.example.org
 500 {MIRROR}-security bookworm-security/main amd64 Packages
     release v=12,o=Debian,n=bookworm-security,l=Debian-Security,c=main,b=amd64
     origin mirror.example.org
  -1 {MIRROR} bookworm/main amd64 Packages
     release v=12.1,o=Debian,a=oldstable,n=bookworm,l=Debian,c=main,b=amd64
     origin mirror.example.org
"""
    assert debian_archive.parse_policy(text) == [MIRROR]


@pytest.mark.parametrize(
    ("setting", "proxies"),
    [
        (
            {"http::Proxy": "http://proxy.example.org:3128"},
            {"http": "http://proxy.example.org:3128"},
        ),
        (
            {"http::Proxy": "http://proxy.example.org", "http::Proxy::near.example.org": "DIRECT"},
            {},
        ),
        ({}, {"http": "http://environment.example.org"}),
    ],
)
def test_apts_proxy_goes_before_the_environments(
    setting: dict[str, str],
    proxies: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    config = tmp_path / "apt.conf"
    config.write_text("".join(f'Acquire::{k} "{v}";\n' for k, v in setting.items()))
    monkeypatch.setenv("APT_CONFIG", str(config))
    monkeypatch.setenv("http_proxy", "http://environment.example.org")
    if not shutil.which("apt-config") or "Acquire" not in debian_archive.run(
        ["apt-config", "dump"]
    ):
        pytest.skip("no apt here")
    opener = debian_archive._opener.__wrapped__("http", "near.example.org")
    handlers = [h for h in opener.handlers if isinstance(h, urllib.request.ProxyHandler)]
    assert (handlers[0].proxies if handlers else {}).get("http") == proxies.get("http")


# --- the chain of trust --------------------------------------------------------------------------


RELEASE = f"""Origin: Debian
Suite: stable
Codename: {debian_archive.SUITE}
Date: Wed, 31 Dec 2025 10:00:00 UTC
Valid-Until: Wed, 07 Jan 2026 10:00:00 UTC
MD5Sum:
 {"0" * 32} 12 main/binary-amd64/Packages.xz
SHA256:
 {"a" * 64} 12 main/binary-amd64/Packages.xz
"""


def test_a_release_gives_its_index() -> None:
    index = debian_archive.release_index(RELEASE, NOW)
    assert index.files == {"main/binary-amd64/Packages.xz": ("a" * 64, 12)}


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("Origin: Debian", "Origin: Elsewhere", "Elsewhere"),
        (f"Codename: {debian_archive.SUITE}", "Codename: bookworm", "bookworm"),
        ("Date: Wed, 31 Dec 2025", "Date: Wed, 07 Jan 2026", "future"),
        ("Wed, 07 Jan 2026", "Wed, 31 Dec 2025", "expired"),
    ],
)
def test_a_wrong_or_stale_release_is_refused(old: str, new: str, reason: str) -> None:
    assert old in RELEASE
    with pytest.raises(Refused, match=reason):
        debian_archive.release_index(RELEASE.replace(old, new), NOW)


def test_a_release_older_than_the_one_seen_is_refused() -> None:
    with pytest.raises(Refused, match="older"):
        debian_archive.release_index(RELEASE, NOW, NOW - timedelta(hours=1))


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A mirror made of the files that were fetched and passed on this machine."""
    kept = get_micropython.cache_folder() / "archive/armhf"
    if not kept.joinpath("InRelease").exists():
        pytest.skip("nothing was fetched on this machine: the 32-bit runtime is missing")
    suite = tmp_path / "dists" / debian_archive.SUITE
    suite.mkdir(parents=True)
    shutil.copy(kept / "InRelease", suite)
    (packages,) = kept.glob("*-Packages.xz")
    suite.joinpath("main/binary-armhf").mkdir(parents=True)
    shutil.copy(packages, suite / "main/binary-armhf/Packages.xz")
    chosen = debian_archive.choose(
        lzma.decompress(packages.read_bytes()), get_micropython.PACKAGES
    )
    for fields in chosen.values():
        path = tmp_path / fields["Filename"]
        path.parent.mkdir(parents=True, exist_ok=True)
        (deb,) = kept.glob(f"*-{path.name}")
        shutil.copy(deb, path)
    return tmp_path


def fetched(mirror: Path) -> dict[str, debian_archive.Deb]:
    uri = mirror.as_uri()
    return debian_archive.debs(uri, "armhf", get_micropython.PACKAGES, mirror / "kept")


def flip(path: Path, old: bytes = b"") -> None:
    """Change one bit: of the given text, or of the middle of the file."""
    data = bytearray(path.read_bytes())
    data[data.index(old) if old else len(data) // 2] ^= 1
    path.write_bytes(data)


def test_an_untouched_mirror_is_taken(mirror: Path) -> None:
    debs = fetched(mirror)
    assert set(debs) == set(get_micropython.PACKAGES)
    assert all(hashlib.sha256(deb.data).hexdigest() == deb.sha256 for deb in debs.values())
    shutil.rmtree(mirror / "pool")  # a second time, what was kept will do
    assert fetched(mirror) == debs


def test_a_changed_inrelease_is_refused(mirror: Path) -> None:
    flip(mirror / "dists" / debian_archive.SUITE / "InRelease", b"main/binary-armhf/Packages.xz")
    with pytest.raises(Refused, match="signature"):
        fetched(mirror)


def test_text_outside_of_the_signature_is_dropped(mirror: Path) -> None:
    inrelease = mirror / "dists" / debian_archive.SUITE / "InRelease"
    inrelease.write_bytes(b"Origin: Evil\n\n" + inrelease.read_bytes())
    keyring = next(filter(Path.is_file, debian_archive.KEYRINGS))
    try:
        text = debian_archive.signed_text(inrelease.read_bytes(), keyring)
    except Refused:
        return
    assert "Evil" not in text


def test_an_inrelease_signed_by_nobody_known_is_refused(mirror: Path, tmp_path: Path) -> None:
    nobody = tmp_path / "empty.gpg"
    nobody.write_bytes(b"")
    data = mirror.joinpath("dists", debian_archive.SUITE, "InRelease").read_bytes()
    with pytest.raises(Refused, match="signature"):
        debian_archive.signed_text(data, nobody)


def test_a_changed_packages_file_is_refused(mirror: Path) -> None:
    flip(mirror / "dists" / debian_archive.SUITE / "main/binary-armhf/Packages.xz")
    with pytest.raises(Refused, match=r"Packages\.xz"):
        fetched(mirror)


@pytest.mark.parametrize("package", ["micropython", "libgcc-s1"])
def test_a_changed_deb_is_refused(mirror: Path, package: str) -> None:
    (deb,) = mirror.glob(f"pool/main/*/*/{package}_*.deb")
    flip(deb)
    with pytest.raises(Refused, match=package):
        fetched(mirror)
    assert not mirror.joinpath("kept/InRelease").exists()


def test_a_damaged_kept_file_is_fetched_again(mirror: Path) -> None:
    debs = fetched(mirror)
    flip(next(mirror.glob("kept/*libffi8*.deb")))
    assert fetched(mirror) == debs


def test_a_package_that_is_not_there() -> None:
    packages = b"Package: a\nVersion: 1\n\nPackage: ab\nVersion: 2\n"
    assert debian_archive.choose(packages, ["ab"])["ab"]["Version"] == "2"
    with pytest.raises(Unavailable, match="no package b"):
        debian_archive.choose(packages, ["b"])
