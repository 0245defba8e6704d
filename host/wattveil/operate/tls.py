"""`wattveil tls`: the certificates by which roles, and machines of a cluster, know each other.

An authority's key stays in its folder authority, on the provisioning machine. A cluster has one of
its own: Dask runs the code of whoever shows a certificate, and the fleet's has signed the meters'.
Broken off at any moment, a command is to be given again.
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from wattveil import sealed
from wattveil.fleet.certificates import Authority, Issued, write_new
from wattveil.fleet.provision import new_folder
from wattveil.roles.folders import load_json, load_record
from wattveil.runners.tls import CLIENT, FOLDER

ROLES = ("center", "cloud", "dealer")
REVOKED = "revoked.json"


def options(parse: argparse.ArgumentParser) -> None:
    """The sub-commands and their options."""
    commands = parse.add_subparsers(required=True, metavar="ACTION")
    issue = commands.add_parser("issue", help="new certificates for roles that have none")
    revoke = commands.add_parser("revoke", help="trust a role's certificate no more, make another")
    cluster = commands.add_parser("cluster", help="for the scheduler, workers and clients of Dask")
    cluster.add_argument("nodes", nargs="+", metavar="NAME", help="of a machine or program")
    cluster.add_argument(
        "--out", type=Path, required=True, help="folder for all, and the authority"
    )
    cluster.add_argument("--days", type=int, default=825, help="that they are good")
    cluster.set_defaults(action=_cluster)
    for action, run in ((issue, _issue), (revoke, _revoke)):
        action.add_argument("fleet", type=Path, help="a fleet's folder, from wattveil keygen")
        action.add_argument("--days", type=int, default=825, help="that new certificates are good")
        action.set_defaults(action=run)
    revoke.add_argument("role", choices=ROLES)


def run(arguments: argparse.Namespace) -> int:
    """Carry out one; the exit status."""
    status: int = arguments.action(arguments)
    return status


def issue(root: Path, days: int) -> list[str]:
    """Certificates for the roles whose folders are here and have none; their names."""
    home = root / "authority"
    if home.exists():
        authority = Authority.load(home)
    else:
        authority = Authority.create(load_record(root / "cloud")[0].fleet)
        with new_folder(home) as work:
            authority.save(work)
    made = []
    for role in ROLES:
        folder = root / role / FOLDER
        if not (root / role).is_dir() or folder.exists():
            continue
        issued = authority.device(role, days) if role == CLIENT else authority.server([role], days)
        _write(folder, "role", issued, authority)
        made.append(role)
    _spread(root)
    return made


def _write(folder: Path, name: str, issued: Issued, authority: Authority) -> None:
    with new_folder(folder) as work:
        write_new(work / f"{name}.key", issued.key, 0o600)
        write_new(work / f"{name}.pem", issued.certificate, 0o644)
        write_new(work / "ca.pem", authority.pem, 0o644)


def cluster(root: Path, names: Sequence[str], days: int) -> None:
    """Certificates for nodes that have none yet, from the cluster's own authority in `root`."""
    home = root / "authority"
    if not home.exists():
        with new_folder(home) as work:
            Authority.create(secrets.token_bytes(8), "cluster").save(work)
    authority = Authority.load(home)
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", name) or name == home.name:
            raise ValueError(f"{name}: a node is named by letters, digits, dots and hyphens")
        if not (root / name).exists():
            _write(root / name, "node", authority.node(name, days), authority)


def _spread(root: Path) -> None:
    """The list of what is revoked, into every role's folder; without any there is none."""
    crl = root / "authority" / "crl.pem"
    for role in ROLES:
        if crl.exists() and (root / role / FOLDER).is_dir():
            sealed.replace(root / role / FOLDER / "crl.pem", crl.read_bytes())


def revoke(root: Path, role: str, days: int) -> None:
    """Revoke the role's certificate and make another."""
    home, folder = root / "authority", root / role / FOLDER
    authority = Authority.load(home)
    certificate = x509.load_pem_x509_certificate((folder / "role.pem").read_bytes())
    known = load_json(home / REVOKED)["serials"] if (home / REVOKED).exists() else []
    serials = sorted({*known, certificate.serial_number})
    sealed.replace(home / REVOKED, (json.dumps({"serials": serials}) + "\n").encode())
    sealed.replace(home / "crl.pem", authority.revocations(serials))
    old = folder.with_name(".tls-revoked")
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    issue(root, days)
    shutil.rmtree(old)


def _cluster(arguments: argparse.Namespace) -> int:
    cluster(arguments.out, arguments.nodes, arguments.days)
    print(f"certificates in {arguments.out}/NAME: ca.pem, node.pem, node.key; "
          f"{arguments.out / 'authority'} stays here")  # fmt: skip
    return 0


def _issue(arguments: argparse.Namespace) -> int:
    made = issue(arguments.fleet, arguments.days)
    print(f"certificates for {', '.join(made) or 'nobody: all have one'}, {arguments.days} days")
    print(f"authority in {arguments.fleet / 'authority'}: ca.key stays here, and nowhere else")
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    revoke(arguments.fleet, arguments.role, arguments.days)
    print(f"revoked; {arguments.role} has a new one. Bring tls/ to every role and send SIGHUP")
    return 0
