#!/usr/bin/env python3
"""Find or fetch the two MicroPython runtimes on which wattveil runs its meters without a board.

`micropython` (64-bit) is the one on PATH, else the distribution's package, else Debian 13's
packages unpacked in the cache and run with their own loader: the system's libc stays as it is.
`micropython-arm` (32-bit, the boards' integer code) is Debian 13's armhf packages under qemu-arm.

For each, <cache>/runtimes/<name>.json says how to start it, or why it is missing and what to do.
A run that finds a good answer there only tries it. Standard library only: this runs before the
virtual environment exists.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import debian_archive
from debian_archive import SUITE, Unavailable, run, write_whole

TESTED = "1.25.0"
FLOOR = (1, 24)
PACKAGES = "micropython libc6 libffi8 libgcc-s1 libmbedcrypto16 libmbedtls21 libmbedx509-7".split()
BITS = {"micropython": 64, "micropython-arm": 32}
PROBE = "import sys; print(1 << 100, 64 if sys.maxsize >> 32 else 32, *sys.implementation[1][:3])"

Record = dict[str, Any]  # what <name>.json holds


def say(name: str, text: str) -> None:
    print(f"{name}: {text}", flush=True)


def cache_folder() -> Path:
    """Where the runtimes are kept; host/wattveil/fleet/runtime.py reads the same place."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("WATTVEIL_CACHE") or Path(home, "wattveil")).absolute() / "runtimes"


def probe(argv: list[str], bits: int) -> str | None:
    """The version of a runtime that answers rightly and has the wanted word size."""
    words = run([*argv, "-c", PROBE], timeout=20).split()
    return ".".join(words[2:]) if words[:2] == [str(1 << 100), str(bits)] else None


# --- where a runtime can come from ---------------------------------------------------------------


def on_path() -> Record:
    """A `micropython` that the user already has, if it is new enough."""
    program = shutil.which("micropython")
    version = probe([program], 64) if program else None
    if program is None or version is None:
        raise Unavailable("no 64-bit micropython on PATH")
    if tuple(map(int, version.split(".")[:2])) < FLOOR:
        raise Unavailable(f"{program} is {version}, older than {FLOOR[0]}.{FLOOR[1]}")
    return {"argv": [program], "version": version, "source": "PATH", "packages": {}}


def from_distribution(name: str) -> Record:
    """The distribution's own package (Debian 13 and Ubuntu have one), installed if need be."""
    if not shutil.which("apt-get"):
        raise Unavailable(
            f"install MicroPython {FLOOR[0]}.{FLOOR[1]} or newer so that it is on PATH"
        )
    program = "/usr/bin/micropython"
    if not Path(program).exists():
        if "VERSION_CODENAME=bookworm" in Path("/etc/os-release").read_text():
            raise Unavailable("Debian 12 has no micropython package")
        say(name, "installing the package micropython")
        root = [] if os.geteuid() == 0 else ["sudo"] if sys.stdin.isatty() else ["sudo", "-n"]
        apt = [*root, "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0"]
        install = [*apt, "install", "-y", "--no-install-recommends", "micropython"]
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for argv in (install, [*apt, "update"], install):  # the lists may be empty or stale
            with contextlib.suppress(OSError):
                subprocess.run(argv, env=env, stdout=subprocess.DEVNULL, check=False)
            if Path(program).exists():
                break
    version = probe([program], 64)
    if version is None:
        raise Unavailable("the distribution's package micropython is not to be had")
    package = run(["dpkg-query", "-W", "-f", "${Version}", "micropython"])
    known = debian_archive.stanzas(run(["apt-cache", "show", f"micropython={package}"]))
    sha256 = next(known, {}).get("SHA256", "")
    packages = {"micropython": {"version": package, "sha256": sha256}}
    return {"argv": [program], "version": version, "source": "package", "packages": packages}


def unpacked_argv(name: str, root: Path) -> list[str]:
    """How to start an unpacked runtime: by its own loader, or under qemu with its own root."""
    program = str(root / "usr/bin/micropython")
    if name == "micropython-arm":
        qemu = shutil.which("qemu-arm") or shutil.which("qemu-arm-static")
        if qemu is None:
            raise Unavailable("install the package qemu-user (it has qemu-arm)")
        return [Path(qemu).name, "-L", str(root), program]
    loader = next(root.glob("usr/lib/*-linux-gnu/ld-linux-*.so.*"))
    return [str(loader), "--library-path", str(loader.parent), program]


def unpacked(name: str, arch: str, folder: Path) -> Record:
    """Debian 13's packages: checked, unpacked beside the cache's other sets, and tried out."""
    problem = Unavailable("needs Debian 12 or 13: no Debian mirror is in apt's configuration here")
    mirrors = debian_archive.mirrors()
    if mirrors and name == "micropython-arm":
        unpacked_argv(name, folder)  # no qemu: say so before fetching anything
    for mirror in mirrors:
        try:
            debs = debian_archive.debs(mirror, arch, PACKAGES, folder / "archive" / arch)
            break
        except Unavailable as error:
            problem = error
    else:
        raise problem
    facts = {
        package: {"version": deb.version, "sha256": deb.sha256} for package, deb in debs.items()
    }
    digest = hashlib.sha256(json.dumps([arch, facts]).encode()).hexdigest()[:12]
    final, new = folder / f"{name}-{digest}", Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
    new.chmod(0o755)
    new.joinpath("lib").symlink_to("usr/lib")  # programs name their loader by the short path
    for package, deb in debs.items():
        # Unpacked as a stream, from the very bytes that were checked.
        argv = ["dpkg-deb", "-x", "/dev/stdin", str(new)]
        if subprocess.run(argv, input=deb.data, check=False).returncode:
            raise Unavailable(f"dpkg-deb cannot unpack {package}")
    version = probe(unpacked_argv(name, new), BITS[name])
    if version is None:
        raise Unavailable(f"Debian {SUITE}'s {arch} packages were unpacked but do not run here")
    source = f"Debian {SUITE} {arch} packages, unpacked"
    argv = [part.replace(str(new), str(final)) for part in unpacked_argv(name, new)]
    record = {"argv": argv, "version": version, "source": source, "packages": facts}
    new.joinpath("record.json").write_text(json.dumps(record))
    if final.exists():  # the same packages, damaged since
        final.rename(folder / f".new-damaged-{os.getpid()}")
    new.rename(final)
    return record


def find(name: str, folder: Path) -> Record:
    """A runtime from the first source that has it."""
    if name == "micropython-arm":
        return unpacked(name, "armhf", folder)
    reasons = []
    arch = run(["dpkg", "--print-architecture"]).strip()
    for source in (on_path, lambda: from_distribution(name), lambda: unpacked(name, arch, folder)):
        try:
            return source()
        except Unavailable as error:
            reasons.append(str(error))
    raise Unavailable("; ".join(reasons))


# --- the cache -----------------------------------------------------------------------------------


def answering(name: str, path: Path) -> Record | None:
    """A record, if what it names still answers as it says."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        record: Record = json.loads(path.read_text())
        if probe(record["argv"], BITS[name]) == record["version"]:
            return record
    return None


def last_good(name: str, folder: Path) -> Record | None:
    """The recorded runtime, or else the newest unpacked set that answers."""
    sets = sorted(folder.glob(f"{name}-{'[0-9a-f]' * 12}/record.json"), key=os.path.getmtime)
    paths = (folder / f"{name}.json", *reversed(sets))
    return next(filter(None, (answering(name, path) for path in paths)), None)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One run at a time; what a killed run left behind is swept away."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            for path in folder.glob(".new-*"):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()


def provide(name: str, folder: Path, refresh: bool = False) -> bool:
    """See to it that <name>.json is true; whether the runtime is there."""
    path = folder / f"{name}.json"
    record = answering(name, path)
    if refresh or record is None or record["version"] != TESTED:
        with locked(folder):
            record = last_good(name, folder)  # perhaps of a run that held the lock until now
            if refresh or record is None or record["version"] != TESTED:
                record = renew(name, folder, record)
            write_whole(path, json.dumps(record, indent=1).encode())
    if "missing" in record:
        say(name, f"missing: {record['missing']}")
        return False
    say(name, f"{record['version']} ({record['source']})")
    if record["version"] != TESTED:
        say(name, f"warning: tested with {TESTED}, not with {record['version']}")
    return True


def renew(name: str, folder: Path, old: Record | None) -> Record:
    """A newly found runtime; where there is none, the last good one; else why there is none."""
    try:
        return find(name, folder)
    except Unavailable as error:
        if old is None:
            return {"missing": str(error)}
        say(name, f"keeping the cached one: {error}")
        return old


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--refresh", action="store_true", help="look again even if all is well")
    parser.add_argument("names", nargs="*", metavar="RUNTIME", help=f"default: {' '.join(BITS)}")
    args = parser.parse_args()
    if unknown := set(args.names) - set(BITS):
        parser.error(f"no runtime is called {', '.join(sorted(unknown))}")
    have = [provide(name, cache_folder(), args.refresh) for name in args.names or BITS]
    if not have[0]:
        print(
            "Put a 64-bit `micropython` 1.24 or newer on PATH and run this again.", file=sys.stderr
        )
    return 0 if have[0] else 1


if __name__ == "__main__":
    sys.exit(main())
