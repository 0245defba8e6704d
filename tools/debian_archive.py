"""Packages of a Debian suite from the machine's own mirror, trusted by the archive's own chain.

InRelease must be signed by a key of the Debian archive keyring; it vouches for Packages by
SHA-256, and Packages for each .deb. No host is named here: the mirror is the one in apt's
configuration whose origin is Debian, reached through apt's own proxy. Standard library only.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

SUITE = "trixie"  # Debian 13
KEYRINGS = [Path(f"/usr/share/keyrings/debian-archive-keyring.{end}") for end in ("gpg", "pgp")]


class Unavailable(Exception):
    """Something cannot be had here; the text says why and what to do."""


class Refused(Unavailable):
    """Fetched data failed a check, so nothing of it is used."""


class Index(NamedTuple):
    """What a signed Release says: its date, and (SHA-256, size) of each index file."""

    date: datetime
    files: dict[str, tuple[str, int]]


class Deb(NamedTuple):
    version: str
    sha256: str
    data: bytes


def run(argv: list[str], timeout: float = 60) -> str:
    """Standard output of a command; empty when it fails or is not there."""
    env = {**os.environ, "LC_ALL": "C"}
    null = subprocess.DEVNULL
    with contextlib.suppress(OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return subprocess.check_output(
            argv, text=True, timeout=timeout, env=env, stdin=null, stderr=null
        )
    return ""


def write_whole(path: Path, data: bytes) -> None:
    """Write so that a reader sees the old file or the new one, never half of one."""
    part = path.with_name(f".new-{path.name}-{os.getpid()}")
    part.write_bytes(data)
    part.replace(path)


# --- which mirror --------------------------------------------------------------------------------


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """Debian control stanzas; a continued value keeps its lines; comments are dropped."""
    for block in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        key = ""
        for line in block.splitlines():
            if line[:1] in (" ", "\t") and key:
                fields[key] += "\n" + line.strip()
            elif line.strip() and line[0] != "#":
                key, _, value = line.partition(":")
                fields[key] = value.strip()
        if fields:
            yield fields


def parse_list(text: str) -> list[tuple[str, str]]:
    """(URI, suite) of each one-line `deb` entry that has the main component."""
    entry = re.compile(
        r"^[ \t]*deb[ \t]+(?:\[[^]\n]*\][ \t]*)?(\S+)[ \t]+(\S+)[ \t]([^#\n]*)", re.M
    )
    return [(uri, suite) for uri, suite, parts in entry.findall(text) if "main" in parts.split()]


def parse_deb822(text: str) -> list[tuple[str, str]]:
    """(URI, suite) of each enabled binary stanza that has the main component."""
    found = []
    for fields in stanzas(text):
        field = {key.lower(): value.split() for key, value in fields.items()}
        off = field.get("enabled", ["yes"])[0].lower() in {"no", "false", "off", "0", "disable"}
        if "deb" in field.get("types", []) and "main" in field.get("components", []) and not off:
            found += [(uri, s) for uri in field.get("uris", []) for s in field.get("suites", [])]
    return found


def parse_policy(text: str) -> list[str]:
    """The URIs of `apt-cache policy` whose origin and label are Debian."""
    pair = re.compile(r"^ *-?\d+ (\S+) \S+/main .*\n +release (.*)$", re.M)
    return [
        uri for uri, rel in pair.findall(text) if {"o=Debian", "l=Debian"} <= {*rel.split(",")}
    ]


def mirrors() -> list[str]:
    """The machine's Debian mirrors, from apt's lists or, where those are empty, its sources."""
    uris = parse_policy(run(["apt-cache", "policy"]))
    if not uris:  # no `apt-get update` yet; what a mirror serves must prove its origin anyway
        apt, known = Path("/etc/apt"), {"bookworm", SUITE, "stable", "testing", "unstable", "sid"}
        for path in filter(Path.is_file, [apt / "sources.list", *apt.glob("sources.list.d/*")]):
            parse = {".list": parse_list, ".sources": parse_deb822}.get(path.suffix)
            entries = parse(path.read_text(errors="replace")) if parse else []
            uris += [uri for uri, suite in entries if suite in known]
    plain: list[str] = []
    for uri in uris:
        if uri.startswith("mirror+file:"):  # Debian's cloud images keep their mirrors in a file
            with contextlib.suppress(OSError):
                lines = Path(urlsplit(uri[7:]).path).read_text().splitlines()
                plain += [line.split()[0] for line in lines if line.strip() and line[0] != "#"]
        elif uri.startswith(("http:", "https:", "file:")):
            plain.append(uri)
    return list(dict.fromkeys(uri.rstrip("/") for uri in plain))


@functools.cache
def _opener(scheme: str, host: str) -> urllib.request.OpenerDirector:
    """An opener with apt's proxy for this host, else with the environment's."""
    for key in (f"{scheme}::Proxy::{host}", f"{scheme}::Proxy", "http::Proxy"):
        words = shlex.split(run(["apt-config", "shell", "P", f"Acquire::{key}"]))
        if words and (value := words[0].removeprefix("P=")):
            proxies = {} if value == "DIRECT" else {scheme: value}
            return urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    return urllib.request.build_opener()


def download(url: str, limit: int) -> bytes:
    """At most `limit` bytes of a URL (and one more), so that a bad mirror cannot fill the disk."""
    parts = urlsplit(url)
    try:
        with _opener(parts.scheme, parts.hostname or "").open(url, timeout=60) as answer:
            return bytes(answer.read(limit + 1))
    except (OSError, ValueError) as error:
        raise Unavailable(f"{url}: {getattr(error, 'reason', error)}") from error


# --- what to trust -------------------------------------------------------------------------------


def signed_text(signed: bytes, keyring: Path) -> str:
    """The part of an InRelease that a key of the keyring signed; the rest of it is dropped."""
    with tempfile.TemporaryDirectory() as folder:
        source, plain = Path(folder, "InRelease"), Path(folder, "Release")
        source.write_bytes(signed)
        argv = ["gpgv", "--status-fd", "1", "--weak-digest", "SHA1", "--keyring", str(keyring)]
        argv += ["--output", str(plain), str(source)]
        # Its exit status is no help: it fails when any signer is unknown, as a newer key may be.
        # One known good key and no bad signature is apt's rule too.
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
        said = {words[1] for line in done.stdout.splitlines() if len(words := line.split()) > 1}
        if "GOODSIG" not in said or "BADSIG" in said or not plain.is_file():
            raise Refused("InRelease: no good signature by a key of the Debian archive keyring")
        return plain.read_text()


def release_index(text: str, now: datetime, not_before: datetime | None = None) -> Index:
    """The index of a signed Release, once it is the wanted suite's, valid, and not a step back."""
    fields = next(stanzas(text), {})
    origin, codename = fields.get("Origin"), fields.get("Codename")
    if (origin, codename) != ("Debian", SUITE):
        raise Refused(f"InRelease: not of Debian {SUITE} but of {origin} {codename}")
    date = parsedate_to_datetime(fields["Date"])
    if date > now + timedelta(hours=1):
        raise Refused(f"InRelease: dated {date}, in the future (is this machine's clock right?)")
    if "Valid-Until" in fields and parsedate_to_datetime(fields["Valid-Until"]) < now:
        raise Refused(f"InRelease: expired on {fields['Valid-Until']}")
    if not_before and date < not_before:
        raise Refused(f"InRelease: dated {date}, older than the one seen before ({not_before})")
    rows = (line.split() for line in fields["SHA256"].splitlines() if line)
    return Index(date, {path: (sha256, int(size)) for sha256, size, path in rows})


def checked(data: bytes, sha256: str, what: str) -> bytes:
    """The data, if it is what was signed for."""
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Refused(f"{what}: its SHA-256 is not the signed one")
    return data


def choose(packages: bytes, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """The stanzas of the named packages out of a Packages file."""
    packages, chosen = b"\n%s\n\n" % packages, {}
    for name in names:
        start = packages.find(b"\nPackage: %s\n" % name.encode())
        if start < 0:
            raise Unavailable(f"Debian {SUITE} has no package {name}")
        chosen[name] = next(stanzas(packages[start : packages.find(b"\n\n", start)].decode()))
    return chosen


def _kept(folder: Path, url: str, sha256: str) -> Path:
    return folder / f"{sha256[:16]}-{url.rsplit('/', 1)[-1]}"


def _fetch(folder: Path, urls: list[str], sha256: str, size: int) -> bytes:
    """A checked file: the kept one, or else from the first URL that has it."""
    kept = _kept(folder, urls[-1], sha256)
    with contextlib.suppress(OSError, Refused):
        return checked(kept.read_bytes(), sha256, kept.name)
    problem = Unavailable(kept.name)
    for url in urls:
        try:
            data = checked(download(url, size), sha256, url)
        except Unavailable as error:
            problem = error
        else:
            write_whole(kept, data)
            return data
    raise problem


def _expander() -> tuple[str, Callable[[bytes], bytes]]:
    try:
        import lzma
    except ImportError:  # a Python built without it
        return ".gz", gzip.decompress
    return ".xz", lzma.decompress


def debs(mirror: str, arch: str, names: Iterable[str], folder: Path) -> dict[str, Deb]:
    """The named packages from a mirror, checked; `folder` keeps what was fetched and passed."""
    keyring = next(filter(Path.is_file, KEYRINGS), None)
    if keyring is None or not shutil.which("gpgv"):
        raise Unavailable("install the packages gpgv and debian-archive-keyring")
    folder.mkdir(parents=True, exist_ok=True)
    now, kept, seen = datetime.now(UTC), folder / "InRelease", None
    with contextlib.suppress(OSError, Refused):
        seen = release_index(signed_text(kept.read_bytes(), keyring), now).date
    signed = download(f"{mirror}/dists/{SUITE}/InRelease", 4_000_000)
    index = release_index(signed_text(signed, keyring), now, seen)
    end, expand = _expander()
    path = f"main/binary-{arch}/Packages{end}"
    if path not in index.files:
        raise Unavailable(f"Debian {SUITE} has no {path}")
    sha256, size = index.files[path]
    base = f"{mirror}/dists/{SUITE}/{path}"
    by_hash = (
        f"{base.rpartition('/')[0]}/by-hash/SHA256/{sha256}"  # right even while a mirror syncs
    )
    packages = expand(_fetch(folder, [by_hash, base], sha256, size))
    found, last = {}, {*folder.iterdir()}
    last.discard(_kept(folder, base, sha256))
    for name, fields in choose(packages, names).items():
        sha256, url = fields["SHA256"], f"{mirror}/{fields['Filename']}"
        data = _fetch(folder, [url], sha256, int(fields["Size"]))
        found[name] = Deb(fields["Version"], sha256, data)
        last.discard(_kept(folder, url, sha256))
    for old in last:  # of an earlier set
        old.unlink()
    write_whole(kept, signed)
    return found
